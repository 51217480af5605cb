from django.apps import AppConfig


class BackofficeConfig(AppConfig):
    name = "helpdesk.backoffice"
    label = "backoffice"
