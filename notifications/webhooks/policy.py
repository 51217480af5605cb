from functools import cache

from django.conf import settings

from notifications.webhooks.destination import Policy, networks


def current_policy() -> Policy:
    """What outbound webhooks may do in this installation, from the settings."""
    return _policy(
        tuple(settings.WEBHOOK_ALLOWED_NETWORKS),
        tuple(settings.WEBHOOK_OWN_ADDRESSES),
        float(settings.WEBHOOK_DEADLINE_SECONDS),
    )


@cache
def _policy(allowed: tuple[str, ...], own: tuple[str, ...], deadline: float) -> Policy:
    return Policy(allowed_networks=networks(*allowed), own_addresses=networks(*own), deadline=deadline)
