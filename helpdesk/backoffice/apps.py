from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class BackofficeConfig(AppConfig):
    name = "helpdesk.backoffice"
    label = "backoffice"


class BackofficeAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our site in place of its own."""

    default = False
    default_site = "helpdesk.backoffice.site.BackofficeSite"
