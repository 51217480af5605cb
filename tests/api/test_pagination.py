"""Pages: complete, in order, once each, from any place, whatever happens to the list meanwhile."""

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from helpdesk.api.pagination import Cursor, CursorInvalid
from helpdesk.changes.identifiers import uuid7
from tickets.models import Priority, Ticket

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def many(customer):
    """Thirty tickets, ten moments, three to each: plenty of ties."""
    tickets = [
        Ticket(
            number=1_000_000 + n, title=f"Ticket {n}", requester=customer, priority=Priority.values[n % 4],
            created_at=START + timedelta(seconds=n // 3), updated_at=START - timedelta(seconds=n // 3),
        )
        for n in range(30)
    ]  # fmt: skip
    return Ticket.objects.bulk_create_without_signals(tickets)


def walk(client, url: str, link: str = "next") -> list[list[dict]]:
    pages = []
    while url:
        page = client.get(url).json()
        pages.append(page["results"])
        url = page[link]
    return pages


RANK = {priority: rank for rank, priority in enumerate(Priority.values)}
ORDERS = {
    "created_at": lambda ticket: (ticket["created_at"], ticket["id"]),
    "updated_at": lambda ticket: (ticket["updated_at"], ticket["id"]),
    "number": lambda ticket: (ticket["number"], ticket["id"]),
    "priority": lambda ticket: (RANK[ticket["priority"]], ticket["id"]),
}


@pytest.mark.parametrize("order", [*ORDERS, *(f"-{name}" for name in ORDERS)])
def test_every_order_is_complete_and_stable_in_both_directions(api, agent, many, order):
    client = api(agent)
    pages = walk(client, f"/api/tickets?order={order}&limit=4")
    rows = [ticket for page in pages for ticket in page]
    assert [len(page) for page in pages] == [4] * 7 + [2]
    assert rows == sorted(rows, key=ORDERS[order.lstrip("-")], reverse=order.startswith("-"))
    assert {row["id"] for row in rows} == {str(ticket.pk) for ticket in many}

    last = f"/api/tickets?order={order}&limit=4"
    while following := client.get(last).json()["next"]:
        last = following
    back = walk(client, last, "previous")
    assert [ticket for page in reversed(back) for ticket in page] == rows


def test_the_ends_have_no_links(api, agent, many):
    client = api(agent)
    first = client.get("/api/tickets?limit=15").json()
    second = client.get(first["next"]).json()
    assert (first["previous"], second["next"]) == (None, None)
    assert client.get(second["previous"]).json()["results"] == first["results"]
    assert client.get(second["previous"]).json()["previous"] is None
    whole = client.get("/api/tickets?limit=30").json()
    assert (whole["previous"], whole["next"], len(whole["results"])) == (None, None, 30)


def test_links_keep_the_filters(api, agent, many):
    client = api(agent)
    pages = walk(client, "/api/tickets?priority=low&priority=high&limit=4&order=number")
    assert {ticket["priority"] for page in pages for ticket in page} == {"low", "high"}
    assert sum(map(len, pages)) == sum(ticket.priority in ("low", "high") for ticket in many)


def test_what_comes_and_goes_between_pages_shifts_nothing(api, agent, many, customer):
    client = api(agent)
    first = client.get("/api/tickets?limit=10").json()
    Ticket.objects.create(title="New", requester=customer)
    Ticket.objects.get(pk=first["results"][-1]["id"]).delete()
    rest = walk(client, first["next"].replace("limit=10", "limit=7"))
    seen = [ticket["id"] for page in (first["results"], *rest) for ticket in page]
    assert len(seen) == 30
    assert set(seen) == {str(ticket.pk) for ticket in many}


def test_a_page_beyond_a_vanished_end_leads_back(api, agent, many):
    client = api(agent)
    url = client.get("/api/tickets?limit=29&order=number").json()["next"]
    many[-1].delete()
    page = client.get(url).json()
    assert (page["results"], page["next"]) == ([], None)
    assert len(client.get(page["previous"]).json()["results"]) == 29


def test_default_and_largest_limit(api, agent, many, refusal):
    client = api(agent)
    assert len(client.get("/api/tickets").json()["results"]) == 25
    assert len(client.get("/api/tickets?limit=100").json()["results"]) == 30
    for limit in ("0", "-1", "101", "1000", "ten", "", "1.5", "²", "9" * 5000):
        refusal(client.get("/api/tickets", {"limit": limit}), 400, "validation_error", "limit")


@pytest.mark.parametrize("order", ["title", "-", "created_at,number", "requester__password", "?", "deleted_at"])
def test_orders_that_are_not_offered(api, agent, refusal, order):
    refusal(api(agent).get("/api/tickets", {"order": order}), 400, "validation_error", "order")


def packed(*parts) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


ID = "01900000-0000-7000-8000-000000000000"
MOMENT = {"t": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "é",
        "\x00",
        "=",
        "A" * 5000,
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        packed(),
        packed(1, 2, 3, 4),
        packed("-created_at", False, MOMENT),
        packed("-created_at", False, "2026-01-01", ID),
        packed("-created_at", False, 17, ID),
        packed("-created_at", False, None, ID),
        packed("-created_at", False, {"t": "yesterday"}, ID),
        packed("-created_at", False, {"t": 17}, ID),
        packed("-created_at", False, {"x": 17}, ID),
        packed("-created_at", False, {"t": "9999-12-31T23:59:59-12:00"}, ID),
        packed("-created_at", False, {"t": "0001-01-01T00:00:00+12:00"}, ID),
        packed("-created_at", False, MOMENT, "x"),
        packed("-created_at", False, MOMENT, 17),
        packed("-created_at", "no", MOMENT, ID),
        packed("created_at", False, MOMENT, ID),
        packed(["-created_at"], False, MOMENT, ID),
    ],
)
def test_cursors_that_we_did_not_make(api, agent, refusal, many, cursor):
    refusal(api(agent).get(f"/api/tickets?cursor={quote(cursor)}"), 400, "validation_error", "cursor")


@pytest.mark.parametrize(
    ("order", "value"),
    [
        ("number", "1"),
        ("number", 2**63),
        ("number", 10**30),
        ("number", True),
        ("number", 1.5),
        ("number", MOMENT),
        ("priority", "low"),
        ("priority", -(2**63)),
    ],
)
def test_cursors_with_a_value_of_another_kind(api, agent, refusal, many, order, value):
    response = api(agent).get("/api/tickets", {"order": order, "cursor": packed(order, False, value, ID)})
    refusal(response, 400, "validation_error", "cursor")


def test_a_cursor_survives_its_own_encoding():
    for value in (START, 17, -1, "title"):
        cursor = Cursor("created_at", True, value, uuid7())
        assert Cursor.decode(cursor.encode()) == cursor
    with pytest.raises(CursorInvalid):
        Cursor.decode(packed("username", False, "\x00", ID))


def test_an_unknown_parameter_is_no_empty_answer(api, agent, refusal, many):
    for path in ("/api/tickets", "/api/comments", "/api/kb/articles", f"/api/tickets/{many[0].pk}/comments"):
        refusal(api(agent).get(path, {"stauts": "open"}), 400, "validation_error", "stauts")


@pytest.mark.postgresql
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the planner's choice on PostgreSQL")
def test_a_late_page_enters_the_index(api, agent, many):
    """The cursor is an index condition, not a filter over everything before it."""
    client = api(agent)
    url = client.get("/api/tickets?limit=3").json()["next"]
    with CaptureQueriesContext(connection) as captured:
        client.get(url)
    [sql] = [query["sql"] for query in captured if 'FROM "tickets_ticket"' in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    # Below the limit the rows are found; above it the page's few rows are joined and put in order again.
    found = plan[plan.index("Limit") :]
    assert "using ticket_created on" in found
    assert "Index Cond: (ROW(created_at, id) <" in found
    assert "Sort" not in found
