from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from notifications.api import health


def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look on a page that names no icon, such as the API's."""
    return redirect(static("backoffice/favicon.svg"))


urlpatterns = [
    # Whoever opens the site finds the back office, with the slash or without it.
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("favicon.ico", favicon),
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
