"""Who may do what: method, path, and what each kind of person gets. A refusal has no effect at all.

404 is what may not be seen, 403 what may be seen but not done, 401 nobody. A path missing here fails a test below.
"""

import re
from collections.abc import Iterator

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver

from comments.models import Comment
from helpdesk.accounts.models import User
from knowledge.models import Article
from notifications.models import Event, Notification
from tickets.models import Attachment, Ticket, TicketTag

pytestmark = pytest.mark.django_db

PEOPLE = ("anonymous", "owner", "stranger", "agent", "admin")
UNKNOWN = "018f0000-0000-7000-8000-000000000000"
FILE = "a file"
NEW_USER = {"username": "new", "email": "new@example.com", "password": "correct-horse-7-battery"}

# method, path, body, then the status for: anonymous, owner of the ticket, another customer, agent, administrator
MATRIX = [
    # --- tickets
    ("GET", "/tickets", None, 401, 200, 200, 200, 200),
    ("POST", "/tickets", {"title": "New"}, 401, 201, 201, 201, 201),
    ("POST", "/tickets", {"title": "New", "status": "open"}, 401, 403, 403, 201, 201),
    ("POST", "/tickets", {"title": "New", "requester_id": "{stranger}"}, 401, 403, 201, 201, 201),
    ("POST", "/tickets", {"title": "New", "assignee_id": "{agent}"}, 401, 403, 403, 201, 201),
    ("POST", "/tickets", {"title": "New", "tags": ["a"]}, 401, 403, 403, 201, 201),
    ("POST", "/tickets", {"title": "New", "assignee_id": "{stranger}"}, 401, 403, 403, 400, 400),
    ("GET", "/tickets/{ticket}", None, 401, 200, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"title": "Other"}, 401, 200, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"status": "new", "tags": [], "title": "Other"}, 401, 200, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"status": "solved"}, 401, 403, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"priority": "urgent"}, 401, 403, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"tags": ["a"]}, 401, 403, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"requester_id": "{stranger}"}, 401, 403, 404, 200, 200),
    ("PATCH", "/tickets/{ticket}", {"assignee_id": "{agent}"}, 401, 403, 404, 200, 200),
    ("PATCH", "/tickets/{working}", {"title": "Other"}, 401, 403, 404, 200, 200),
    ("DELETE", "/tickets/{ticket}", None, 401, 403, 404, 204, 204),
    ("GET", "/tickets/{deleted}", None, 401, 404, 404, 404, 404),
    ("PATCH", "/tickets/{deleted}", {"title": "Other"}, 401, 404, 404, 404, 404),
    ("DELETE", "/tickets/{deleted}", None, 401, 404, 404, 404, 404),
    ("GET", f"/tickets/{UNKNOWN}", None, 401, 404, 404, 404, 404),
    # --- comments
    ("GET", "/tickets/{ticket}/comments", None, 401, 200, 404, 200, 200),
    ("GET", "/tickets/{deleted}/comments", None, 401, 404, 404, 404, 404),
    ("POST", "/tickets/{ticket}/comments", {"content": "Hi"}, 401, 201, 404, 201, 201),
    ("POST", "/tickets/{ticket}/comments", {"content": "Hi", "is_internal": True}, 401, 403, 403, 201, 201),
    ("POST", "/tickets/{ticket}/comments", {"content": "Hi", "is_internal": False}, 401, 201, 404, 201, 201),
    ("POST", "/tickets/{ticket}/comments", {"content": "Hi", "parent_id": "{comment}"}, 401, 201, 404, 201, 201),
    ("POST", "/tickets/{ticket}/comments", {"content": "Hi", "parent_id": "{note}"}, 401, 400, 404, 400, 400),
    ("POST", "/tickets/{closed}/comments", {"content": "Hi"}, 401, 409, 404, 409, 409),
    ("POST", "/tickets/{deleted}/comments", {"content": "Hi"}, 401, 404, 404, 404, 404),
    ("GET", "/comments", None, 401, 200, 200, 200, 200),
    ("POST", "/comments", {"content": "Hi", "ticket_id": "{ticket}"}, 401, 201, 404, 201, 201),
    ("GET", "/comments/{comment}", None, 401, 200, 404, 200, 200),
    ("PATCH", "/comments/{comment}", {"content": "Other"}, 401, 200, 404, 200, 200),
    ("PATCH", "/comments/{comment}", {"is_internal": True}, 401, 403, 404, 200, 200),
    ("DELETE", "/comments/{comment}", None, 401, 204, 404, 204, 204),
    ("GET", "/comments/{answer}", None, 401, 200, 404, 200, 200),
    ("PATCH", "/comments/{answer}", {"content": "Other"}, 401, 403, 404, 200, 200),
    ("DELETE", "/comments/{answer}", None, 401, 403, 404, 204, 204),
    ("GET", "/comments/{note}", None, 401, 404, 404, 200, 200),
    ("PATCH", "/comments/{note}", {"content": "Other"}, 401, 404, 404, 200, 200),
    ("DELETE", "/comments/{note}", None, 401, 404, 404, 204, 204),
    ("GET", "/comments/{of_deleted}", None, 401, 404, 404, 404, 404),
    # --- attachments
    ("GET", "/tickets/{ticket}/attachments", None, 401, 200, 404, 200, 200),
    ("GET", "/tickets/{deleted}/attachments", None, 401, 404, 404, 404, 404),
    ("POST", "/tickets/{ticket}/attachments", {"file": FILE}, 401, 201, 404, 201, 201),
    ("POST", "/tickets/{ticket}/attachments", {"file": FILE, "is_internal": "true"}, 401, 403, 404, 201, 201),
    ("POST", "/tickets/{closed}/attachments", {"file": FILE}, 401, 409, 404, 409, 409),
    ("POST", "/tickets/{deleted}/attachments", {"file": FILE}, 401, 404, 404, 404, 404),
    ("GET", "/attachments/{own}", None, 401, 200, 404, 200, 200),
    ("GET", "/attachments/{own}/download", None, 401, 200, 404, 200, 200),
    ("PATCH", "/attachments/{own}", {"filename": "b.txt"}, 401, 200, 404, 200, 200),
    ("PATCH", "/attachments/{own}", {"is_internal": True}, 401, 403, 404, 200, 200),
    ("DELETE", "/attachments/{own}", None, 401, 204, 404, 204, 204),
    ("GET", "/attachments/{given}/download", None, 401, 200, 404, 200, 200),
    ("PATCH", "/attachments/{given}", {"filename": "b.txt"}, 401, 403, 404, 200, 200),
    ("DELETE", "/attachments/{given}", None, 401, 403, 404, 204, 204),
    ("GET", "/attachments/{secret}", None, 401, 404, 404, 200, 200),
    ("GET", "/attachments/{secret}/download", None, 401, 404, 404, 200, 200),
    ("PATCH", "/attachments/{secret}", {"filename": "b.txt"}, 401, 404, 404, 200, 200),
    ("DELETE", "/attachments/{secret}", None, 401, 404, 404, 204, 204),
    ("GET", f"/attachments/{UNKNOWN}/download", None, 401, 404, 404, 404, 404),
    # --- knowledge base
    ("GET", "/kb/articles", None, 401, 200, 200, 200, 200),
    ("POST", "/kb/articles", {"title": "How", "body": "So"}, 401, 403, 403, 201, 201),
    ("GET", "/kb/articles/{article}", None, 401, 200, 200, 200, 200),
    ("PATCH", "/kb/articles/{article}", {"title": "Other"}, 401, 403, 403, 200, 200),
    ("DELETE", "/kb/articles/{article}", None, 401, 403, 403, 204, 204),
    ("GET", "/kb/articles/{draft}", None, 401, 404, 404, 200, 200),
    ("PATCH", "/kb/articles/{draft}", {"status": "published"}, 401, 404, 404, 200, 200),
    ("DELETE", "/kb/articles/{draft}", None, 401, 404, 404, 204, 204),
    # --- people
    ("GET", "/users", None, 401, 403, 403, 403, 200),
    ("POST", "/users", NEW_USER, 401, 403, 403, 403, 201),
    ("GET", "/users/{owner}", None, 401, 403, 403, 403, 200),
    ("PATCH", "/users/{owner}", {"role": "admin"}, 401, 403, 403, 403, 200),
    ("PATCH", "/users/{admin}", {"name": "Other"}, 401, 403, 403, 403, 200),
    ("PATCH", "/users/{admin}", {"role": "agent"}, 401, 403, 403, 403, 409),
    ("PATCH", "/users/{admin}", {"is_active": False}, 401, 403, 403, 403, 403),
    ("POST", "/users/{owner}/deactivate", None, 401, 403, 403, 403, 200),
    ("POST", "/users/{admin}/deactivate", None, 401, 403, 403, 403, 403),
    ("POST", "/users/{gone}/activate", None, 401, 403, 403, 403, 200),
    ("GET", f"/users/{UNKNOWN}", None, 401, 403, 403, 403, 404),
    ("POST", f"/users/{UNKNOWN}/deactivate", None, 401, 403, 403, 403, 404),
    ("GET", "/users/me", None, 401, 200, 200, 200, 200),
    ("PATCH", "/users/me", {"name": "Other"}, 401, 200, 200, 200, 200),
    ("PATCH", "/users/me", {"role": "admin", "name": "Other"}, 401, 403, 403, 403, 200),
    ("PATCH", "/users/me", {"username": "other"}, 401, 403, 403, 403, 403),
    ("PATCH", "/users/me", {"is_active": False}, 401, 403, 403, 403, 403),
    # --- signing in: for everyone
    ("POST", "/auth/token", {"username": "x", "password": "y"}, 401, 401, 401, 401, 401),
    ("POST", "/auth/token/refresh", {"refresh": "x"}, 401, 401, 401, 401, 401),
    ("POST", "/auth/logout", {"refresh": "x"}, 401, 401, 401, 401, 401),
    ("POST", "/auth/logout-everywhere", None, 401, 204, 204, 204, 204),
    ("GET", "/auth/session", None, 200, 200, 200, 200, 200),
    ("POST", "/auth/session", {"username": "x", "password": "y"}, 401, 401, 401, 401, 401),
    ("DELETE", "/auth/session", None, 204, 204, 204, 204, 204),
    ("POST", "/auth/register", NEW_USER, 201, 201, 201, 201, 201),
    ("GET", "/schema", None, 200, 200, 200, 200, 200),
    ("GET", "/docs", None, 200, 200, 200, 200, 200),
]
CASES = [
    pytest.param(method, path, body, statuses, id=re.sub(r"[\s']", "", f"{method} {path} {body or ''}"))
    for method, path, body, *statuses in MATRIX
]


@pytest.fixture
def world(customer, other_customer, agent, admin, ticket, comment, note, article, draft, make_attachment, make_user):
    """One of everything, by the name that the matrix uses."""
    tickets = {
        name: Ticket.objects.create(title=name, requester=customer, status=status)
        for name, status in (("working", "open"), ("closed", "new"), ("deleted", "new"))
    }
    of_deleted = Comment(ticket=tickets["deleted"], author=customer, content="Gone").post()
    tickets["deleted"].delete()
    tickets["closed"].status = "closed"
    tickets["closed"].save()
    return {
        "owner": customer,
        "stranger": other_customer,
        "agent": agent,
        "admin": admin,
        "gone": make_user("gone", is_active=False),
        "ticket": ticket,
        **tickets,
        "comment": comment,
        "answer": Comment(ticket=ticket, author=agent, content="Coming").post(),
        "note": note,
        "of_deleted": of_deleted,
        "own": make_attachment(ticket, customer),
        "given": make_attachment(ticket, agent),
        "secret": make_attachment(ticket, agent, is_internal=True),
        "article": article,
        "draft": draft,
    }


def everything() -> list:
    """The whole of what may be changed, and what was told of changes."""
    models = (User, Ticket, TicketTag, Comment, Attachment, Article, Event, Notification)
    rows = [list(model._base_manager.order_by("pk").values()) for model in models]
    for row in rows[0]:
        row.pop("last_login")
    folders, files = default_storage.listdir("") if default_storage.exists("") else ([], [])
    return [*rows, sorted(name for folder in folders for name in default_storage.listdir(folder)[1]), files]


def filled(body: dict | None, ids: dict[str, str]) -> dict | None:
    if body is None:
        return None
    if FILE in body.values():
        return {**body, "file": SimpleUploadedFile("a.txt", b"Hello")}
    return {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}


@pytest.mark.parametrize(("method", "path", "body", "statuses"), CASES)
def test_rights(api, world, refusal, method, path, body, statuses):
    ids = {name: str(instance.pk) for name, instance in world.items()}
    kind = "multipart" if body and FILE in body.values() else "json"
    for person, status in zip(PEOPLE, statuses, strict=True):
        with transaction.atomic():
            before = everything()
            call = getattr(api(world.get(person)), method.lower())
            response = call("/api" + path.format(**ids), filled(body, ids), format=kind)
            assert response.status_code == status, (person, getattr(response, "data", None))
            if status >= 400:
                refusal(response, status)
            if hasattr(response, "streaming_content"):
                response.getvalue()
            changes = status < 400 and method != "GET" and not path.startswith("/auth/session")
            assert (everything() != before) == changes, person
            transaction.set_rollback(True)  # the next person finds the same world


def test_a_deactivated_person_is_nobody(api, world, refusal, agent):
    client = api(agent)
    agent.deactivate()
    before = everything()
    for method, path, *_ in MATRIX:
        if path.startswith(("/tickets", "/comments", "/attachments", "/kb", "/users")):
            ids = {name: str(instance.pk) for name, instance in world.items()}
            refusal(getattr(client, method.lower())("/api" + path.format(**ids)), 401)
    assert everything() == before


def test_lists_hold_only_what_may_be_seen(api, world):
    def seen(person: str, path: str) -> set[str]:
        ids = {str(instance.pk): name for name, instance in world.items()}
        url = "/api" + path.format(ticket=world["ticket"].pk)
        return {ids[row["id"]] for row in api(world[person]).get(url).json()["results"]}

    for path, staff, owner, stranger in (
        ("/tickets", {"ticket", "working", "closed"}, {"ticket", "working", "closed"}, set()),
        ("/tickets?search=closed", {"closed"}, {"closed"}, set()),
        ("/comments", {"comment", "answer", "note"}, {"comment", "answer"}, set()),
        ("/kb/articles", {"article", "draft"}, {"article"}, {"article"}),
        ("/kb/articles?status=draft", {"draft"}, set(), set()),
        ("/kb/articles?search=fax", {"draft"}, set(), set()),
    ):
        assert seen("admin", path) == seen("agent", path) == staff
        assert seen("owner", path) == owner
        assert seen("stranger", path) == stranger
    assert seen("agent", "/tickets/{ticket}/comments") == {"comment", "answer", "note"}
    assert seen("owner", "/tickets/{ticket}/comments") == {"comment", "answer"}
    assert seen("agent", "/tickets/{ticket}/attachments") == {"own", "given", "secret"}
    assert seen("owner", "/tickets/{ticket}/attachments") == {"own", "given"}
    included = api(world["owner"]).get(f"/api/tickets/{world['ticket'].pk}?include=comments,attachments").json()
    assert str(world["note"].pk) not in str(included)
    assert str(world["secret"].pk) not in str(included)


def paths(patterns, prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if str(pattern.urlconf_name) != "<module 'notifications.api.urls'>" and "admin" not in path:
                yield from paths(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and pattern.callback.__module__.split(".")[0] != "notifications":
            yield re.sub(r"<\w+:\w+>", "X", path)


def test_no_path_is_missing():
    """Notifications, webhooks and the feed have a matrix of their own."""
    covered = {re.sub(rf"\{{\w+\}}|{UNKNOWN}", "X", path) for _, path, *_ in MATRIX}
    served = {f"/{path.removeprefix('api/')}" for path in paths(get_resolver().url_patterns) if path.startswith("api/")}
    assert served == covered
