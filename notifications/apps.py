from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        from notifications import checks, recording, sign_outs  # noqa: F401  (checks registers itself)

        recording.connect()
        sign_outs.connect()
