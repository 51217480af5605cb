"""The product's addresses, and those of what it is compared with."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from benchmarks.bare_drf import BareTickets

router = SimpleRouter(trailing_slash=False)
router.register("tickets", BareTickets)

urlpatterns = [
    path("", include("helpdesk.urls")),
    path("bare/", include(router.urls)),
]
