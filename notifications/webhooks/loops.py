"""Webhooks that go round in a circle: a webhook causes a change, which causes the webhook again.

Two ways to know one:

- **By the trace.** Every request names the deliveries that led to it (`helpdesk-trace`). An integrator that sends this
  header along with its API calls makes a circle plain: a delivery is stopped whose trace has one to the same endpoint
  about the same ticket, or about anything at all for the `MAX_PASSES`th time (a circle that opens a new ticket each
  time).
- **By the pace,** for integrators that send nothing along. A delivery is stopped when, in the minute before its change
  happened, `WEBHOOK_LOOP_LIMIT` webhooks had *arrived* at the same endpoint about the same ticket, all for changes that
  the same person made with an access token. What people do in the admin, what commands import, and what happens faster
  than webhooks arrive is never counted. A script that writes to one ticket looks just like a circle from here, so the
  limit lies above what scripts do, and a circle slower than that goes on until somebody looks: the header is the cure.

Neither lets a stranger suppress anything. Traces are sealed by us, so one that names a delivery was given to us by
somebody who got it, directly or along a chain of webhooks; and what is stopped is only ever what the sender of the
trace has done. The pace counts each person's changes apart. What was stopped is not lost: redelivered by hand, it goes
out.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings

from helpdesk.changes import trace
from notifications.models import Event, WebhookDelivery

WINDOW = timedelta(minutes=1)
# Times that one endpoint may stand in a trace, whatever its webhooks were about.
MAX_PASSES = 5
# A process asks the database when it has sent this part of the limit by itself: as many may share the work.
SHARE = 8
# Webhooks that one look reads at most; far beyond any limit somebody would set.
MAX_READ = 10_000

_PREFIX = "msg_"


def trace_of(delivery: WebhookDelivery) -> str:
    """The value of the header that goes out with a delivery: what led to it, and itself."""
    return trace.seal([*(delivery.notification.event.trace or ()), delivery.message_id])


def find(deliveries: Sequence[WebhookDelivery]) -> dict[UUID, str]:
    """Which of these must not be sent, and why (a sentence). Endpoint, notification and event are loaded.

    No query for what has neither a trace nor a suspicious pace, and one query each for what has.
    """
    asked = [
        delivery for delivery in deliveries if not delivery.by_hand and delivery.notification.event.action != "test"
    ]
    found = _too_fast([delivery for delivery in asked if _pace.is_suspicious(delivery)])
    return found | _traced([delivery for delivery in asked if delivery.notification.event.trace])


# --- By the trace ---------------------------------------------------------------------------------------------------


def _traced(deliveries: Sequence[WebhookDelivery]) -> dict[UUID, str]:
    ids = {id_ for delivery in deliveries for id_ in _ids(delivery.notification.event)}
    if not ids:
        return {}
    rows = WebhookDelivery.objects.filter(pk__in=ids).values_list(
        "pk", "endpoint_id", "notification__event__ticket_id", "notification__event__entity_id"
    )
    earlier = {pk: (endpoint_id, ticket_id or entity_id) for pk, endpoint_id, ticket_id, entity_id in rows}
    found = {}
    for delivery in deliveries:
        event = delivery.notification.event
        passes = [id_ for id_ in _ids(event) if id_ in earlier and earlier[id_][0] == delivery.endpoint_id]
        same = [id_ for id_ in passes if earlier[id_][1] == _subject(event)]
        if same:
            found[delivery.pk] = (
                f"It was caused by {_PREFIX}{same[-1].hex}, which this endpoint got about the same {_kind(event)}."
            )
        elif len(passes) >= MAX_PASSES:
            found[delivery.pk] = (
                f"It was caused by {_PREFIX}{passes[-1].hex}, and this endpoint is in that chain "
                f"{len(passes)} times already."
            )
    return found


def _ids(event: Event) -> list[UUID]:
    """The deliveries of a trace. Only we seal traces, but what is stored may be older than this code."""
    found = []
    for text in event.trace or ():
        try:
            found.append(UUID(str(text).removeprefix(_PREFIX)))
        except ValueError:
            continue
    return found


def _subject(event: Event) -> UUID:
    """What a circle turns about: a ticket with all that hangs on it, or the entity itself."""
    return event.ticket_id or event.entity_id


def _kind(event: Event) -> str:
    return "ticket" if event.ticket_id else event.entity


# --- By the pace ----------------------------------------------------------------------------------------------------


class Pace:
    """How often this process has sent about the same thing lately: a sieve, so that the database is seldom asked.

    Counts by a hash, in two generations of a window each. A hash that two share costs a look into the database and
    nothing else.
    """

    _SLOTS = 1 << 16

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._began = time.monotonic()
        self._now: Counter[int] = Counter()
        self._before: Counter[int] = Counter()

    def is_suspicious(self, delivery: WebhookDelivery) -> bool:
        """Count a delivery that is about to be sent; True when the database should be asked about it."""
        event, limit = delivery.notification.event, settings.WEBHOOK_LOOP_LIMIT
        if not limit or not event.by_token or event.actor_id is None:
            return False
        slot = hash((delivery.endpoint_id, _subject(event), event.actor_id)) % self._SLOTS
        with self._counting:
            age = time.monotonic() - self._began
            if age >= WINDOW.total_seconds():
                self._before = self._now if age < 2 * WINDOW.total_seconds() else Counter()
                self._now, self._began = Counter(), time.monotonic()
            self._now[slot] += 1
            return self._now[slot] + self._before[slot] >= max(1, limit // SHARE)


_pace = Pace()


def _too_fast(deliveries: Sequence[WebhookDelivery]) -> dict[UUID, str]:
    if not deliveries:
        return {}
    first = min(delivery.notification.event.occurred_at for delivery in deliveries)
    rows = WebhookDelivery.objects.filter(
        endpoint_id__in={delivery.endpoint_id for delivery in deliveries},
        created_at__gte=first - 2 * WINDOW,  # what the index goes by
        delivered_at__gte=first - WINDOW,
        notification__event__by_token=True,
        notification__event__actor_id__in={delivery.notification.event.actor_id for delivery in deliveries},
    ).values_list(
        "endpoint_id",
        "notification__event__ticket_id",
        "notification__event__entity_id",
        "notification__event__actor_id",
        "delivered_at",
    )
    arrivals: dict[tuple, list] = {}
    for endpoint_id, ticket_id, entity_id, actor_id, delivered_at in rows[:MAX_READ]:
        arrivals.setdefault((endpoint_id, ticket_id or entity_id, actor_id), []).append(delivered_at)
    found = {}
    for delivery in deliveries:
        event = delivery.notification.event
        key = (delivery.endpoint_id, _subject(event), event.actor_id)
        count = _between(arrivals.get(key, ()), event.occurred_at - WINDOW, event.occurred_at)
        if count >= settings.WEBHOOK_LOOP_LIMIT:
            found[delivery.pk] = (
                f"In the minute before this change, {count} webhooks about the same {_kind(event)} arrived here, "
                "all for changes that the same person's access token made."
            )
    return found


def _between(moments: Iterable, start: object, end: object) -> int:
    return sum(start <= moment <= end for moment in moments)
