from functools import cache

from django.conf import settings

from notifications.webhooks.destination import Policy, networks


def current_policy() -> Policy:
    """What outbound webhooks may do in this installation, from the settings."""
    return _policy(
        tuple(settings.WEBHOOK_ALLOWED_NETWORKS),
        tuple(settings.WEBHOOK_OWN_ADDRESSES),
        tuple(settings.WEBHOOK_PORTS),
        settings.WEBHOOK_CA_BUNDLE,
        float(settings.WEBHOOK_DEADLINE_SECONDS),
    )


@cache
def _policy(
    allowed: tuple[str, ...], own: tuple[str, ...], ports: tuple[range, ...], ca_bundle: str | None, deadline: float
) -> Policy:
    return Policy(
        allowed_networks=networks(*allowed),
        own_addresses=networks(*own),
        ports=ports,
        ca_bundle=ca_bundle,
        deadline=deadline,
    )
