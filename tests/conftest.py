"""What most tests need: people of each role, a ticket, API clients, and settings that keep the suite quick."""

from collections.abc import Callable, Iterator

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.management import get_commands, load_command_class
from django.db import connection, connections
from django.urls import get_resolver
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle
from rest_framework_simplejwt.tokens import AccessToken

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from helpdesk.celery import app as celery_app
from knowledge.models import Article, ArticleStatus
from notifications import publishing_lock
from notifications.models import EventStream
from tickets.files import TEXT_TYPE
from tickets.models import Attachment, Ticket

PASSWORD = "correct-horse-7-battery"
_DATABASE = {"db", "transactional_db"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What touches neither the database nor a channel layer is the same on all of them, and marked `once`."""
    for item in items:
        marked = any(item.get_closest_marker(name) for name in ("django_db", "live", "chaos"))
        if not marked and not _DATABASE & set(item.fixturenames) and "sockets" not in item.path.parts:  # type: ignore[attr-defined]
            item.add_marker("once")


@pytest.fixture(autouse=True, scope="session")
def _everything_is_imported():
    """What is first needed while a test has changed a constant would be imported with it, and keep it."""
    get_resolver().url_patterns  # noqa: B018 - imports them all
    for name, app in get_commands().items():
        if not app.startswith("django."):
            load_command_class(app, name)


@pytest.fixture(autouse=True, scope="session")
def _threads_keep_no_connection():
    """A thread gives its database connection back after each use: nobody would close it when the thread ends."""
    connections.settings["default"]["CONN_MAX_AGE"] = 0


@pytest.fixture(autouse=True, scope="session")
def _tables_are_emptied_row_by_row():
    """After a test with real transactions. TRUNCATE makes new files for each table: a hundred times as slow."""

    def sql_flush(self, style, tables, **options) -> list[str]:
        names = [self.quote_name(table) for table in tables]
        # As TRUNCATE does, it waits for whoever is still writing.
        return [f"LOCK TABLE {', '.join(names)}", *(f"DELETE FROM {name}" for name in names)]

    with pytest.MonkeyPatch.context() as patch:
        if connection.vendor == "postgresql":
            patch.setattr(type(connection.ops), "sql_flush", sql_flush)
        yield


@pytest.fixture(autouse=True, scope="session")
def _bells_ring_in_memory():
    """No bell of a test wakes the worker of a system that runs on this machine."""
    celery_app.conf.update(broker_url="memory://", broker_transport_options={})


@pytest.fixture(autouse=True)
def _quick_settings(settings, tmp_path, monkeypatch):
    """A cheap password hash, files in a folder that goes away, and no throttles (their tests set their own)."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.MEDIA_ROOT = tmp_path / "attachments"
    # Else every test client begins with a look at each static file: half of the suite's time.
    settings.WHITENOISE_AUTOREFRESH = True
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES))
    # Of this process alone: on Redis, tests that run at the same time would clear each other's counters.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


@pytest.fixture(autouse=True)
def _stream_is_there(request):
    """A test with real transactions empties every table, and the stream's one row comes from a migration."""
    marker = request.node.get_closest_marker("django_db")
    if marker and marker.kwargs.get("transaction"):
        request.getfixturevalue("transactional_db")
        EventStream.objects.get_or_create(pk=1)


@pytest.fixture
def password() -> str:
    """The password of everyone `make_user` makes."""
    return PASSWORD


@pytest.fixture
def make_user(db) -> Callable[..., User]:
    """Make a person: `make_user("bob", role="agent")`."""

    def make(username: str, role: str = Role.CUSTOMER, **fields) -> User:
        fields = {"name": username.title(), "email": f"{username}@example.com", "password": PASSWORD, **fields}
        return User.objects.create_user(username, role=role, **fields)

    return make


@pytest.fixture
def admin(make_user) -> User:
    return make_user("admin", Role.ADMIN)


@pytest.fixture
def agent(make_user) -> User:
    return make_user("agent", Role.AGENT)


@pytest.fixture
def other_agent(make_user) -> User:
    return make_user("other_agent", Role.AGENT)


@pytest.fixture
def customer(make_user) -> User:
    return make_user("customer")


@pytest.fixture
def other_customer(make_user) -> User:
    return make_user("other_customer")


@pytest.fixture
def ticket(customer) -> Ticket:
    """A new ticket of `customer`, assigned to nobody."""
    return Ticket.objects.create(title="Printer on fire", description="It burns.", requester=customer)


@pytest.fixture
def comment(ticket, customer) -> Comment:
    """What the requester wrote on `ticket`."""
    return Comment(ticket=ticket, author=customer, content="Please hurry.").post()


@pytest.fixture
def note(ticket, agent) -> Comment:
    """An internal note on `ticket`."""
    return Comment(ticket=ticket, author=agent, content="A known arsonist.", is_internal=True).post()


@pytest.fixture
def article(agent) -> Article:
    return Article.objects.create(
        title="How to print", body="Press *print*.", author=agent, status=ArticleStatus.PUBLISHED
    )


@pytest.fixture
def draft(agent) -> Article:
    return Article.objects.create(title="How to fax", body="Do not.", author=agent)


@pytest.fixture
def publisher_at_work(db) -> Iterator[None]:
    """What the database knows of a publisher: on PostgreSQL its session with its lock, on SQLite nothing."""
    if connections["default"].vendor != "postgresql":
        yield
        return
    session = connections["default"].copy(alias="publisher")
    with session.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [publishing_lock.SESSION_NAME])
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [publishing_lock.LOCK_KEY])
    yield
    session.close()


@pytest.fixture
def api() -> Callable[..., APIClient]:
    """API clients: `api(agent)` sends that person's access token, `api()` nothing."""

    def client(user: User | None = None, **options) -> APIClient:
        client = APIClient(**options)
        if user is not None:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}")
        return client

    return client


@pytest.fixture
def refusal() -> Callable[..., dict]:
    """Check that a response is an error in the one shape, `refusal(response, 400, "validation_error", "title")`."""

    def check(response, status: int, code: str | None = None, *fields: str) -> dict:
        body = response.json()
        assert response.status_code == status, body
        assert response["Content-Type"] == "application/json"
        assert set(body) == {"error"}
        error = body["error"]
        assert set(error) == {"code", "message", "fields"}
        assert isinstance(error["message"], str)
        assert error["message"].strip()
        assert code in (None, error["code"])
        assert set(error["fields"]) >= set(fields)
        for messages in error["fields"].values():
            assert messages
            assert all(isinstance(message, str) for message in messages)
        assert "Traceback" not in response.content.decode()
        return error

    return check


@pytest.fixture
def make_attachment() -> Callable[..., Attachment]:
    """Attach a small text file: `make_attachment(ticket, customer, is_internal=False)`."""

    def make(
        ticket: Ticket, user: User, content: bytes = b"Hello", filename: str = "hello.txt", **fields
    ) -> Attachment:
        attachment = Attachment(
            ticket=ticket, uploaded_by=user, filename=filename, content_type=TEXT_TYPE, size=len(content), **fields
        )
        attachment.file.save(filename, ContentFile(content), save=False)
        attachment.save()
        return attachment

    return make
