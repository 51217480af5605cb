"""What a request may ask of the database, statement by statement, however large the tables are.

The contract's budgets: a list 4, a ticket with its conversation 6, creating a ticket or a comment 12, authentication
included. A failing list shows what came on top.
"""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from comments.models import Comment
from helpdesk.changes.identifiers import uuid7
from knowledge.models import Article
from notifications.models import Notification, WebhookDelivery
from notifications.webhooks import endpoints
from tickets.models import Attachment, Ticket, TicketTag

_TABLE = re.compile(r'(?:FROM|INTO|UPDATE) "(\w+)"')


def name_of(sql: str) -> str:
    """A statement in a few words: `SELECT tickets_ticket`, `BEGIN`, `COMMIT`; `number` takes a ticket number."""
    if "tickets_ticket_number" in sql:
        return "number"
    verb, table = sql.split(None, 1)[0].rstrip(";"), _TABLE.search(sql)
    return f"{verb} {table[1]}{' FOR UPDATE' * ('FOR UPDATE' in sql)}" if table else verb


def statements(captured: CaptureQueriesContext) -> list[str]:
    return [name_of(query["sql"]) for query in captured]


def locked(table: str) -> str:
    """SQLite has one writer at a time and locks no rows."""
    return f"SELECT {table}" + (" FOR UPDATE" if connection.vendor == "postgresql" else "")


def fill(count: int, people, agent) -> list[Ticket]:
    """`count` tickets in the database altogether, each with tags, the first with a conversation of 30."""
    tickets = [
        Ticket(
            number=1_000_000 + n, title=f"Ticket {n}", description="Text", requester=people[n % len(people)],
            assignee=agent if n % 2 else None,
        )
        for n in range(count - Ticket.objects.count())
    ]  # fmt: skip
    Ticket.objects.bulk_create_without_signals(tickets)
    TicketTag.objects.bulk_create([TicketTag(ticket=ticket, name=name) for ticket in tickets for name in ("a", "b")])
    return tickets


@pytest.fixture(params=[10, 1000])
def desk(request, db, make_user, agent):
    """A help desk with 10 tickets and one with 1,000; gives a ticket that has a conversation."""
    people = [make_user(f"person{n}") for n in range(5)]
    [ticket, *_] = fill(request.param, people, agent)
    for n in range(30):
        author = people[n % 5] if n % 3 else agent
        Comment.objects.bulk_create_without_signals([Comment(ticket=ticket, author=author, content=f"Comment {n}")])
    Attachment.objects.bulk_create_without_signals(
        [
            Attachment(ticket=ticket, uploaded_by=person, file=f"{uuid7()}", filename="a.txt", size=1)
            for person in people
        ]
    )
    Article.objects.bulk_create_without_signals(
        [Article(title=f"Article {n}", body="Text", author=agent, status="published") for n in range(request.param)]
    )
    return ticket


TOKEN = ["SELECT accounts_user"]
SESSION = ["SELECT django_session", "SELECT accounts_user"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/tickets", ["SELECT tickets_ticket", "SELECT tickets_tickettag"]),
        ("/api/tickets?limit=100&order=-updated_at", ["SELECT tickets_ticket", "SELECT tickets_tickettag"]),
        ("/api/tickets?order=priority&status=new&tag=a", ["SELECT tickets_ticket", "SELECT tickets_tickettag"]),
        ("/api/tickets?search=ticket", ["SELECT tickets_ticket", "SELECT tickets_tickettag"]),
        ("/api/tickets/{id}", ["SELECT tickets_ticket", "SELECT tickets_tickettag"]),
        (
            "/api/tickets/{id}?include=comments,attachments",
            [
                "SELECT tickets_ticket",
                "SELECT tickets_tickettag",
                "SELECT comments_comment",
                "SELECT tickets_attachment",
            ],
        ),
        ("/api/tickets/{id}/comments", ["SELECT tickets_ticket", "SELECT comments_comment"]),
        ("/api/tickets/{id}/attachments", ["SELECT tickets_ticket", "SELECT tickets_attachment"]),
        ("/api/comments", ["SELECT comments_comment"]),
        ("/api/kb/articles", ["SELECT knowledge_article"]),
        ("/api/users", ["SELECT accounts_user"]),
    ],
)
def test_reading(api, admin, desk, path, expected, django_assert_num_queries):
    client = api(admin)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path.format(id=desk.pk)).status_code == 200
    assert statements(captured) == [*TOKEN, *expected]

    client = api()
    client.force_login(admin)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path.format(id=desk.pk)).status_code == 200
    assert statements(captured) == [*SESSION, *expected]
    assert len(captured) <= (6 if "{id}" in path else 4)


def test_a_later_page_asks_what_the_first_one_asks(api, admin, desk):
    client = api(admin)
    url = client.get("/api/tickets?limit=3").json()["next"]
    with CaptureQueriesContext(connection) as captured:
        page = client.get(url).json()
    assert len(page["results"]) == 3
    assert statements(captured) == [*TOKEN, "SELECT tickets_ticket", "SELECT tickets_tickettag"]


def test_a_customer_asks_no_more_than_an_agent(api, desk):
    with CaptureQueriesContext(connection) as captured:
        response = api(desk.requester).get(f"/api/tickets/{desk.pk}?include=comments,attachments")
    assert len(response.json()["comments"]["results"]) == 30
    assert len(captured) == 5


# --- writing: in real transactions, so that BEGIN and COMMIT are counted, with a webhook for everyone who is told ----
RECORDING = [
    "SELECT accounts_user",  # who is told, with their endpoints
    "INSERT notifications_event",
    "INSERT notifications_notification",
    "INSERT notifications_webhookdelivery",
    "COMMIT",
]


@pytest.fixture
def bells(monkeypatch):
    """What rings after the commit is no part of the request's transaction; nothing may be asked there either."""
    rung = []
    monkeypatch.setattr("notifications.bells.ring_publisher", lambda: rung.append("publisher"))
    monkeypatch.setattr("notifications.bells.ring_deliveries", lambda: rung.append("deliveries"))
    return rung


@pytest.fixture
def listening(admin, agent, make_user, bells):
    """Two administrators, an agent and a customer with a webhook each."""
    people = [admin, agent, make_user("boss", "admin"), make_user("requester")]
    for person in people:
        endpoints.create(person, "http://127.0.0.1:9/hook")
    return people


@pytest.fixture(params=[10, 1000])
def busy_ticket(request, listening):
    """The requester's ticket, assigned to the agent, pending, among 10 or 1,000 others."""
    _, agent, _, requester = listening
    fill(request.param, [requester], agent)
    ticket = Ticket.objects.create(title="Printer", requester=requester, assignee=agent, status="pending")
    ticket.set_tags(["hardware"])
    Notification.objects.all().delete()
    return ticket


@pytest.mark.django_db(transaction=True)
class TestWriting:
    def test_a_comment(self, api, busy_ticket, admin, bells):
        bells.clear()
        client = api(admin)
        with CaptureQueriesContext(connection) as captured:
            response = client.post(f"/api/tickets/{busy_ticket.pk}/comments", {"content": "Is it plugged in?"})
        assert response.status_code == 201
        assert statements(captured) == [
            *TOKEN,
            "BEGIN",
            locked("tickets_ticket"),  # what the caller sees
            locked("tickets_ticket"),  # Comment.post() relies on nobody
            "INSERT comments_comment",
            *RECORDING,
        ]
        assert len(captured) <= 12
        assert Notification.objects.count() == 2
        assert WebhookDelivery.objects.filter(notification__type="comment_on_ticket").count() == 2
        assert bells == ["publisher", "deliveries"]

    def test_a_reply_of_the_requester_that_reopens_the_ticket(self, api, busy_ticket, admin):
        """The most expensive comment there is."""
        question = Comment(ticket=busy_ticket, author=admin, content="Is it plugged in?").post()
        client = api(busy_ticket.requester)
        with CaptureQueriesContext(connection) as captured:
            response = client.post(
                f"/api/tickets/{busy_ticket.pk}/comments", {"content": "It is.", "parent_id": str(question.pk)}
            )
        assert response.status_code == 201
        assert statements(captured) == [
            *TOKEN,
            "BEGIN",
            locked("comments_comment"),  # the parent and its ticket at once
            "SELECT tickets_tickettag",  # the ticket's JSON goes into its event
            locked("tickets_ticket"),
            "INSERT comments_comment",
            "UPDATE tickets_ticket",
            *RECORDING,
        ]
        assert len(captured) <= 12
        assert Notification.objects.filter(type="reply_to_comment", recipient=admin).count() == 1
        assert Notification.objects.filter(type="ticket_updated", recipient=busy_ticket.assignee).count() == 1

    def test_a_ticket_by_a_customer(self, api, busy_ticket):
        client = api(busy_ticket.requester)
        with CaptureQueriesContext(connection) as captured:
            response = client.post("/api/tickets", {"title": "Another", "description": "Text", "priority": "high"})
        assert response.status_code == 201
        assert statements(captured) == [*TOKEN, "BEGIN", "number", "INSERT tickets_ticket", *RECORDING]
        assert WebhookDelivery.objects.filter(notification__type="new_ticket").count() == 2

    def test_a_ticket_by_an_agent_with_everything(self, api, busy_ticket, agent):
        """The most expensive ticket there is."""
        client = api(agent)
        body = {
            "title": "Another",
            "description": "Text",
            "status": "open",
            "priority": "high",
            "requester_id": str(busy_ticket.requester_id),
            "assignee_id": str(agent.pk),
            "tags": ["hardware", "urgent"],
        }
        with CaptureQueriesContext(connection) as captured:
            response = client.post("/api/tickets", body)
        assert response.status_code == 201
        assert statements(captured) == [
            *TOKEN,
            "SELECT accounts_user",  # requester and assignee at once
            "BEGIN",
            "number",
            "INSERT tickets_ticket",
            "INSERT tickets_tickettag",
            "UPDATE tickets_ticket",
            *RECORDING,
        ]
        assert len(captured) <= 12
