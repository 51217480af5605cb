"""Reading notifications, from wherever it is done, and telling the person's other tabs.

What was read is an event like any other, for its person alone: so it comes to every tab in its place among the
notifications, is replayed to those that were away, and can be told by a process that has no sockets. It costs one row
for each reading that changes anything (docs/adr/0008-reading-is-an-event.md).
"""

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from helpdesk.accounts.models import User
from notifications import bells
from notifications.models import Event, Notification, Visibility
from notifications.payloads import encode
from notifications.timestamps import iso

READ = "read"


def mark_read(user: User, ids: Collection[UUID] | None = None) -> int:
    """Mark these notifications of the person as read (None: all); returns how many are unread then.

    Ids of others, and what has been read before, change nothing and are not told.
    """
    with transaction.atomic():
        # One reading of a person at a time: each must count what the one before has left. (No key: whoever inserts a
        # row that refers to the person does not wait for us.)
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).values_list("pk").first()
        unread = Notification.objects.visible_to(user).unread()
        read_at = timezone.now()
        changed: list[UUID | None] = []
        if ids is None:
            if unread.update(read_at=read_at):
                changed = [None]
        elif found := list(unread.filter(pk__in=ids).order_by("pk").values_list("pk", flat=True)):
            unread.filter(pk__in=found).update(read_at=read_at)
            changed = [*found]
        left = unread.count()
        if changed:
            payload = {"read_at": iso(read_at), "unread": left}
            Event.objects.bulk_create([_event(user, id_, encode({"id": id_, **payload})) for id_ in changed])
            transaction.on_commit(bells.ring_publisher, robust=True)
    return left


def _event(user: User, notification_id: UUID | None, payload: str) -> Event:
    event = Event(
        entity="notification",
        action=READ,
        actor=user,
        visibility=Visibility.PERSON,
        person_id=user.pk,
        payload_staff=payload,
        payload_customer=payload,
    )
    # All of them is about none in particular, and about nothing that other events speak of.
    event.entity_id = notification_id or event.pk
    return event
