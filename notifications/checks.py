from typing import Any

from django.core.checks import CheckMessage, Error, register

from helpdesk.changes.signals import ModelSignal
from notifications import catalogue


@register("notifications")
def every_signal_has_a_row(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            f"The signal {signal.name} has no row in the notification catalogue.",
            hint="Add a Row to notifications/catalogue.py: what is told of this change, and to whom.",
            id="notifications.E001",
        )
        for signal in ModelSignal.declared
        if signal not in catalogue.BY_SIGNAL
    ]


@register("notifications")
def every_row_is_documented(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    undocumented = [signal.name for signal in ModelSignal.declared if not signal.description.strip()]
    undocumented += [
        rule.type for row in catalogue.ROWS for rule in row.rules if not (rule.description and rule.recipients)
    ]
    return [
        Error(f"{name} is not documented in the notification catalogue.", id="notifications.E002")
        for name in undocumented
    ]
