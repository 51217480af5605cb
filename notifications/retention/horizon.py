from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from helpdesk.changes.identifiers import uuid7_floor


@dataclass(frozen=True)
class Horizon:
    """What lies before it is past retention; None where it is kept for ever.

    Deliveries, notifications and events are as old as their ids. What was deleted is as old as its deletion.
    """

    deliveries: UUID | None
    events: UUID | None
    webhooks: datetime | None
    deleted: datetime | None

    @classmethod
    def at(cls, now: datetime) -> "Horizon":
        webhooks = _before(now, settings.WEBHOOK_RETENTION_DAYS)
        events = _before(now, settings.EVENT_RETENTION_DAYS)
        return cls(
            deliveries=uuid7_floor(webhooks) if webhooks else None,
            events=uuid7_floor(events) if events else None,
            webhooks=webhooks,
            deleted=_before(now, settings.DELETED_RETENTION_DAYS),
        )


def _before(now: datetime, days: int) -> datetime | None:
    # A hundred years are for ever, and a calendar has an end.
    return now - timedelta(days=min(days, 36500)) if days else None
