"""What one tab reads is read in the person's other tabs, wherever it was done."""

import pytest
from channels.db import database_sync_to_async

from comments.models import Comment
from helpdesk.changes.actor import acting_as
from notifications import reading
from notifications.models import Event, Notification

from .changes import do, told


@pytest.fixture
def notified(ticket, agent, customer) -> list[Notification]:
    with acting_as(agent):
        for number in range(3):
            Comment(ticket=ticket, author=agent, content=str(number)).post()
    return list(Notification.objects.filter(recipient=customer).order_by("created_at"))


async def test_a_tab_tells_the_other_tabs(connect, notified, customer, agent):
    here, there, colleague = await connect(customer), await connect(customer), await connect(agent)
    answer = await here.ask("notification.read", notification_id=str(notified[0].pk))
    assert answer == {"ok": True, "unread": 2}
    await here.ask("notification.read", notification_id=str(notified[0].pk))  # again: nothing to tell
    read_at = (await database_sync_to_async(Notification.objects.get)(pk=notified[0].pk)).read_at
    for tab in (here, there):
        [(name, payload)] = await told(tab)
        assert name == "notification.read"
        assert payload.pop("cursor") > 0
        assert payload == {
            "id": str(notified[0].pk),
            "read_at": read_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "unread": 2,
        }
    assert await told(colleague) == []


async def test_the_api_tells_the_tabs(connect, api, notified, customer):
    tab = await connect(customer)
    client = api(customer)
    await do(client.post, f"/api/notifications/{notified[1].pk}/read")
    await do(client.post, f"/api/notifications/{notified[1].pk}/read")
    await do(client.post, "/api/notifications/read-all")
    await do(client.post, "/api/notifications/read-all")
    found = [(name, payload["id"], payload["unread"]) for name, payload in await told(tab)]
    assert found == [("notification.read", str(notified[1].pk), 2), ("notification.read", None, 0)]


async def test_who_was_away_hears_of_it(connect, notified, customer):
    before = await connect(customer)
    cursor = (await before.ask("join", room="tickets"))["cursor"]
    await before.close()
    await do(reading.mark_read, customer, [notified[2].pk])
    back = await connect(customer, after=cursor)
    assert [(name, payload["id"]) for name, payload in await told(back)] == [("notification.read", str(notified[2].pk))]


@pytest.mark.django_db
def test_what_changes_nothing_is_no_event(notified, customer, other_customer, django_assert_num_queries):
    assert reading.mark_read(other_customer, [notified[0].pk]) == 0
    assert reading.mark_read(customer, []) == 3
    assert reading.mark_read(other_customer) == 0
    assert Event.objects.filter(entity="notification").count() == 0
    with django_assert_num_queries(7):  # BEGIN, the person, which, the change, how many are left, the event, COMMIT
        assert reading.mark_read(customer, [it.pk for it in notified[:2]]) == 1
    assert Event.objects.filter(entity="notification").count() == 2
