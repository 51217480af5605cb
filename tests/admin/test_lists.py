"""Lists cost the same however long they are, and find what is searched for."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes import admin as base
from knowledge.models import Article
from notifications.models import Event, Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tests.admin.pages import page
from tickets.models import Attachment, Ticket, TicketTag


@pytest.fixture
def fill(admin, agent, customer) -> Callable[[int], None]:
    """Make `count` more rows of everything, without telling anyone."""

    def make(count: int) -> None:
        start = Ticket.objects.count()
        numbers = range(start + 1, start + count + 1)
        people = User.objects.bulk_create_without_signals(
            [User(username=f"person{n}", email=f"person{n}@example.com", name=f"Person {n}") for n in numbers]
        )
        tickets = Ticket.objects.bulk_create_without_signals(
            [
                Ticket(number=1000 + n, title=f"Ticket {n}", requester=person, assignee=agent)
                for n, person in zip(numbers, people, strict=True)
            ]
        )
        TicketTag.objects.bulk_create(
            [TicketTag(ticket=ticket, name=name) for ticket in tickets for name in ("red", "blue")]
        )
        Comment.objects.bulk_create_without_signals(
            [Comment(ticket=ticket, author=ticket.requester, content="Hello") for ticket in tickets]
        )
        Attachment.objects.bulk_create_without_signals(
            [
                Attachment(
                    ticket=ticket,
                    uploaded_by=ticket.requester,
                    file="x",
                    filename="x",
                    content_type="image/png",
                    size=1,
                )
                for ticket in tickets
            ]
        )
        Article.objects.bulk_create_without_signals([Article(title="A", body="B", author=person) for person in people])
        events = Event.objects.bulk_create(
            [
                Event(
                    entity="ticket",
                    action="created",
                    entity_id=ticket.pk,
                    ticket_id=ticket.pk,
                    actor=ticket.requester,
                    visibility="requester",
                    person_id=ticket.requester_id,
                    payload_staff="{}",
                )
                for ticket in tickets
            ]
        )
        notifications = Notification.objects.bulk_create(
            [
                Notification(
                    event=event,
                    recipient=admin,
                    type="new_ticket",
                    message="New",
                    related_type="ticket",
                    related_id=event.entity_id,
                )
                for event in events
            ]
        )
        endpoints = WebhookEndpoint.objects.bulk_create(
            [WebhookEndpoint(owner=person, url=f"https://{person.username}.example.com") for person in people]
        )
        deliveries = WebhookDelivery.objects.bulk_create(
            [
                WebhookDelivery(endpoint=endpoint, notification=notification)
                for endpoint, notification in zip(endpoints, notifications, strict=True)
            ]
        )
        WebhookAttempt.objects.bulk_create(
            [WebhookAttempt(delivery=delivery, number=1, succeeded=True) for delivery in deliveries]
        )

    return make


# The session, the person, and then: the count, the rows, and where there are tags, the tags of all rows.
LISTS = {
    "tickets_ticket": 5,
    "tickets_attachment": 4,
    "tickets_tickettag": 4,
    "comments_comment": 4,
    "knowledge_article": 4,
    "accounts_user": 4,
    "notifications_notification": 4,
    "notifications_event": 4,
    "notifications_webhookendpoint": 4,
    "notifications_webhookdelivery": 4,
    "notifications_webhookattempt": 4,
}


def queries_of(client, address: str, **data) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        response = client.get(address, data)
    assert response.status_code == 200
    return [query["sql"] for query in captured]


def test_lists_cost_the_same_at_10_and_at_1000_rows(browser, admin, fill):
    client = browser(admin)
    fill(10)
    few = {name: queries_of(client, page(f"{name}_changelist")) for name in LISTS}
    fill(990)
    many = {name: queries_of(client, page(f"{name}_changelist")) for name in LISTS}
    for name, expected in LISTS.items():
        assert len(few[name]) == expected, "\n".join(few[name])
        assert len(many[name]) == expected, "\n".join(many[name])


def test_the_front_page_costs_the_same_at_10_and_at_1000_rows(browser, admin, fill):
    client = browser(admin)
    fill(10)
    few = queries_of(client, page("index"))
    fill(990)
    many = queries_of(client, page("index"))
    assert len(few) == len(many) == 15, "\n".join(many)
    assert all(" LIMIT " in query for query in many), "\n".join(many)


def test_a_count_has_an_end(browser, admin, fill, monkeypatch):
    monkeypatch.setattr(base, "MAX_COUNT", 60)
    fill(70)
    html = browser(admin).get(page("tickets_ticket_changelist")).content.decode()
    assert "more than 60 tickets" in " ".join(html.split())
    assert "?p=2" in html
    assert "?p=3" not in html


def test_all_means_all_that_were_counted(browser, admin, fill, monkeypatch):
    monkeypatch.setattr(base, "MAX_COUNT", 60)
    fill(70)
    some = Ticket.objects.first()
    data = {"action": "assign_to_me", "select_across": "1", "index": "0", "_selected_action": [some.pk]}
    browser(admin).post(page("tickets_ticket_changelist"), data)
    assert Ticket.objects.filter(assignee=admin).count() == 60


@pytest.fixture
def found(browser, admin):
    """The ids a list shows: `found("tickets_ticket", q="fire")`."""
    client = browser(admin)

    def search(name: str, **query) -> set:
        response = client.get(page(f"{name}_changelist"), query)
        assert response.status_code == 200, response["Location"]
        return {row.pk for row in response.context["cl"].result_list}

    return search


def test_search_for_tickets(found, ticket, customer):
    other = Ticket.objects.create(title="No paper", description="The tray is empty", requester=customer)
    assert found("tickets_ticket", q="fire") == {ticket.pk}
    assert found("tickets_ticket", q="tray emp") == {other.pk}
    assert found("tickets_ticket", q=f"#{ticket.number}") == {ticket.pk}
    assert found("tickets_ticket", q="nothing like that") == set()
    assert found("tickets_ticket", q='" OR * )(') == set()


def test_filters_of_tickets(found, ticket, customer, admin, agent):
    solved = Ticket.objects.create(title="Done", requester=customer, status="solved", assignee=agent)
    mine = Ticket.objects.create(title="Mine", requester=customer, assignee=admin, priority="high")
    solved.set_tags(["red & blue"])
    everything = {ticket.pk, solved.pk, mine.pk}
    assert found("tickets_ticket") == everything
    assert found("tickets_ticket", open="yes") == {ticket.pk, mine.pk}
    assert found("tickets_ticket", open="no") == {solved.pk}
    assert found("tickets_ticket", assigned="me") == {mine.pk}
    assert found("tickets_ticket", assigned="nobody") == {ticket.pk}
    assert found("tickets_ticket", tag="red & blue") == {solved.pk}
    assert found("tickets_ticket", status__exact="solved") == {solved.pk}
    assert found("tickets_ticket", priority__exact="high") == {mine.pk}


def test_a_tag_in_the_list_leads_to_its_tickets(browser, admin, ticket):
    ticket.set_tags(["r&d"])
    assert "?tag=r%26d" in browser(admin).get(page("tickets_ticket_changelist")).content.decode()


def test_search_elsewhere(
    found, ticket, note, comment, admin, article, draft, make_attachment, endpoint, delivery, attempt
):
    assert found("comments_comment", q="arsonist") == {note.pk}
    assert found("comments_comment", q=f"#{ticket.number}") == {note.pk, comment.pk}
    assert found("accounts_user", q="admin@example") == {admin.pk}
    assert found("knowledge_article", q="fax") == {draft.pk}
    assert found("knowledge_article", status__exact="published") == {article.pk}
    attachment = make_attachment(ticket, admin, filename="plan.txt")  # told to nobody with an endpoint
    assert found("tickets_attachment", q="plan") == {attachment.pk}
    assert found("notifications_webhookdelivery", q=delivery.message_id) == {delivery.pk}
    assert found("notifications_webhookdelivery", q="hooks.example.com") == {delivery.pk}
    assert found("notifications_webhookdelivery", state__exact="exhausted") == {delivery.pk}
    assert found("notifications_webhookdelivery", state__exact="held") == set()
    assert found("notifications_webhookdelivery", notification__type="new_ticket") == {delivery.pk}
    assert found("notifications_webhookdelivery", endpoint__id__exact=str(endpoint.pk)) == {delivery.pk}
    assert found("notifications_webhookattempt", q=str(delivery.pk)) == {attempt.pk}
    assert found("notifications_webhookendpoint", failing="yes") == set()
    assert found("notifications_webhookendpoint", failing="no") == {endpoint.pk}


def test_search_for_events(found, ticket, note):
    of_ticket = set(Event.objects.filter(ticket_id=ticket.pk).values_list("pk", flat=True))
    assert len(of_ticket) == 2
    assert found("notifications_event", q=str(ticket.pk)) == of_ticket
    assert found("notifications_event", q=str(ticket.number)) == of_ticket
    assert found("notifications_event", q="words") == set()
    assert found("notifications_event", entity="comment") == {Event.objects.get(entity="comment").pk}
    assert found("notifications_event", entity="nonsense") == set()


def test_unread_notifications(found, admin, ticket):
    notification = Notification.objects.get(recipient=admin, type="new_ticket")
    assert notification.pk in found("notifications_notification", read="no")
    notification.read_at = timezone.now()
    notification.save()
    assert notification.pk not in found("notifications_notification", read="no")
    assert found("notifications_notification", read="yes") == {notification.pk}


def test_mark_as_read(browser, admin, agent, ticket):
    mine = Notification.objects.get(recipient=admin, type="new_ticket")
    theirs = Notification.objects.create(
        event=mine.event, recipient=agent, type="new_ticket", message="x", related_type="ticket", related_id=ticket.pk
    )
    data = {"action": "mark_as_read", "_selected_action": [mine.pk, theirs.pk]}
    browser(admin).post(page("notifications_notification_changelist"), data)
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert mine.read_at is not None
    assert theirs.read_at is None


@pytest.mark.parametrize("q", ["\x00", "%", "'", "<script>alert(1)</script>", "9" * 400, "#", " "])
@pytest.mark.parametrize("name", LISTS)
def test_no_search_breaks_a_list(browser, admin, name, q):
    response = browser(admin).get(page(f"{name}_changelist"), {"q": q})
    assert response.status_code == 200
    assert "<script>alert(1)" not in response.content.decode()
