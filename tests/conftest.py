"""What most tests need: people of each role, a ticket, API clients, and settings that keep the suite quick."""

from collections.abc import Callable

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.db import connections
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle
from rest_framework_simplejwt.tokens import AccessToken

from comments.models import Comment
from helpdesk.accounts.models import Role, User
from helpdesk.celery import app as celery_app
from knowledge.models import Article, ArticleStatus
from tickets.files import TEXT_TYPE
from tickets.models import Attachment, Ticket

PASSWORD = "correct-horse-7-battery"


@pytest.fixture(autouse=True, scope="session")
def _threads_keep_no_connection():
    """A thread gives its database connection back after each use: nobody would close it when the thread ends."""
    connections.settings["default"]["CONN_MAX_AGE"] = 0


@pytest.fixture(autouse=True, scope="session")
def _bells_ring_in_memory():
    """No bell of a test wakes the worker of a system that runs on this machine."""
    celery_app.conf.update(broker_url="memory://", broker_transport_options={})


@pytest.fixture(autouse=True)
def _quick_settings(settings, tmp_path, monkeypatch):
    """A cheap password hash, files in a folder that goes away, and no throttles (their tests set their own)."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.MEDIA_ROOT = tmp_path / "attachments"
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", dict.fromkeys(SimpleRateThrottle.THROTTLE_RATES))
    # Of this process alone: on Redis, tests that run at the same time would clear each other's counters.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


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
