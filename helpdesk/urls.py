from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from notifications.api import health

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", health.metrics),
    path("api/", include("helpdesk.accounts.api.urls")),
    path("api/", include("tickets.api.urls")),
    path("api/", include("comments.api.urls")),
    path("api/", include("knowledge.api.urls")),
    path("api/", include("notifications.api.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema")),
]

handler400 = "helpdesk.api.errors.bad_request"
handler403 = "helpdesk.api.errors.permission_denied"
handler404 = "helpdesk.api.errors.not_found"
handler500 = "helpdesk.api.errors.server_error"
