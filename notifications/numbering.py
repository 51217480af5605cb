"""Committed events get their place in the stream.

The publisher does it, and a webhook worker that is quicker than it: a webhook tells its event's position. Whoever does
it holds the stream's row, so positions rise in the order in which they become visible, and an event that commits late
gets a later one.
"""

from django.db import connection, transaction

from notifications.models import Event, EventStream

BATCH = 500


def number_events(limit: int = BATCH) -> int:
    """Give up to `limit` committed events their position; returns how many. One short transaction."""
    if not Event.objects.filter(position=None).exists():
        return 0
    with transaction.atomic():
        stream = EventStream.objects.select_for_update().get(pk=1)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                UPDATE notifications_event SET position = numbered.position
                FROM (
                    SELECT id, %s + ROW_NUMBER() OVER (ORDER BY id) AS position
                    FROM notifications_event WHERE position IS NULL ORDER BY id LIMIT %s
                ) AS numbered
                WHERE notifications_event.id = numbered.id
                """,
                [stream.last_position, limit],
            )
            count = cursor.rowcount
        stream.last_position += count
        stream.save(update_fields=["last_position"])
    return count
