"""One shape for every error, whoever finds it: a parser, a view, the database or Django itself."""

import errno
import logging
import sqlite3

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.test import Client
from rest_framework import exceptions
from rest_framework.throttling import SimpleRateThrottle

from helpdesk.accounts.models import User
from helpdesk.api.errors import flatten
from tickets.models import Ticket

pytestmark = pytest.mark.django_db


class _UniqueViolation(Exception):
    sqlstate = "23505"


class _NotNullViolation(Exception):
    sqlstate = "23502"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture
def failing(monkeypatch, api, agent):
    """Make the ticket list fail with an exception, and ask it."""

    def ask(error: BaseException):
        def fail(*args, **kwargs):
            raise error

        client = api(agent, raise_request_exception=False)
        monkeypatch.setattr("tickets.models.Ticket.objects.visible_to", fail)
        return client.get("/api/tickets")

    return ask


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.ValidationError("Sorry"), 400, "validation_error"),
        (exceptions.ValidationError("Sorry", code="too_late"), 400, "too_late"),
        (exceptions.ValidationError({"title": ["Wrong"]}), 400, "validation_error"),
        (ModelValidationError({"title": "Wrong"}), 400, "validation_error"),
        (ModelValidationError("Wrong"), 400, "validation_error"),
        (exceptions.PermissionDenied(), 403, "permission_denied"),
        (exceptions.Throttled(3), 429, "throttled"),
        (RequestDataTooBig(), 413, "body_too_large"),
        (SuspiciousOperation("of something"), 400, "parse_error"),
        (ProtectedError("in use", set()), 409, "in_use"),
        (caused(IntegrityError("duplicate key"), _UniqueViolation()), 409, "conflict"),
        (IntegrityError("UNIQUE constraint failed: accounts_user.username"), 409, "conflict"),
        (OperationalError("could not connect"), 503, "unavailable"),
        (caused(OperationalError("database is locked"), sqlite3.OperationalError()), 503, "unavailable"),
        (InterfaceError("connection already closed"), 503, "unavailable"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "insufficient_storage"),
    ],
)
def test_exceptions_of_a_view(failing, refusal, error, status, code):
    refusal(failing(error), status, code)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a bug"),
        DataError("value too long"),
        caused(IntegrityError("null value in column"), _NotNullViolation()),
        IntegrityError("NOT NULL constraint failed: tickets_ticket.title"),
        OSError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_bug_is_500_without_a_traceback_and_logged(failing, refusal, caplog, error):
    with caplog.at_level(logging.ERROR, "django.request"):
        error = refusal(failing(error), 500, "internal_error")
    assert "bug" not in error["message"]
    assert any(record.exc_info for record in caplog.records)


def test_an_outage_says_when_to_try_again(failing):
    assert failing(OperationalError("gone")).headers["Retry-After"] == "5"


def test_an_outage_before_the_view_is_503_too(monkeypatch, refusal, api, agent):
    def fail(*args, **kwargs):
        raise OperationalError("gone")

    client = api(raise_request_exception=False)
    client.force_login(agent)
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", fail)
    response = client.get("/api/tickets")
    refusal(response, 503, "unavailable")
    assert response["Retry-After"] == "5"
    monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", fail)
    response = client.get("/api/tickets")
    refusal(response, 503, "unavailable")
    assert response["Retry-After"] == "5"


def test_a_race_for_a_unique_value_is_409(monkeypatch, refusal, api, admin, customer):
    """Both found the name free; the database lets one of them have it."""
    monkeypatch.setattr("helpdesk.accounts.api.serializers.UserSerializer._taken", lambda *args: False)
    body = {"username": "CUSTOMER", "email": "new@example.com"}
    refusal(api(admin).post("/api/users", body), 409, "conflict")
    assert User.objects.count() == 2


def test_nested_details_are_flattened():
    error = exceptions.ErrorDetail
    assert flatten(
        {
            "title": [error("Too long"), error("Too loud")],
            "tags": {0: [error("Empty")], 2: [error("Empty")]},
            "who": {"name": [error("Unknown")], "non_field_errors": [error("Odd")]},
            "rows": [{}, {"id": [error("Missing")]}],
            "non_field_errors": [error("All wrong")],
        }
    ) == {
        "title": ["Too long", "Too loud"],
        "tags.0": ["Empty"],
        "tags.2": ["Empty"],
        "who.name": ["Unknown"],
        "who": ["Odd"],
        "rows.1.id": ["Missing"],
        "": ["All wrong"],
    }


class TestRefusalsOfTheFramework:
    def test_nobody(self, api, refusal):
        response = api().get("/api/tickets")
        refusal(response, 401, "not_authenticated")
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'

    @pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Bearer a b", "Basic YTpi", "Bearer é"])
    def test_a_token_that_is_none(self, api, refusal, header):
        response = api(HTTP_AUTHORIZATION=header).get("/api/tickets")
        refusal(response, 401)
        assert response["WWW-Authenticate"].startswith("Bearer")

    def test_an_unknown_path_of_the_api(self, api, refusal, agent):
        refusal(api(agent).get("/api/nothing"), 404, "not_found")
        refusal(api(agent).get("/api/tickets/"), 404, "not_found")
        refusal(api(agent).get("/api/tickets/17"), 404, "not_found")
        refusal(api(agent).get("/api/tickets/%00"), 404, "not_found")

    def test_an_unknown_object(self, api, refusal, agent):
        error = refusal(api(agent).get("/api/tickets/018f0000-0000-7000-8000-000000000000"), 404, "not_found")
        assert "Ticket" not in error["message"]

    def test_a_method_that_is_not_there(self, api, refusal, agent, ticket):
        response = api(agent).put(f"/api/tickets/{ticket.pk}", {})
        refusal(response, 405, "method_not_allowed")
        assert "PATCH" in response["Allow"]

    def test_a_form_we_do_not_speak(self, api, refusal, agent):
        refusal(api(agent).get("/api/tickets", headers={"Accept": "application/xml"}), 406, "not_acceptable")

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"])
    def test_a_body_we_do_not_read(self, api, refusal, agent, kind):
        refusal(api(agent).post("/api/tickets", "title=x", content_type=kind), 415, "unsupported_media_type")
        assert not Ticket.objects.exists()

    def test_too_often(self, api, refusal, agent, monkeypatch):
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": None, "user": "2/hour"})
        client = api(agent)
        assert [client.get("/api/tickets").status_code for _ in range(2)] == [200, 200]
        response = client.get("/api/tickets")
        refusal(response, 429, "throttled")
        assert 3590 <= int(response["Retry-After"]) <= 3600

    def test_a_session_without_its_csrf_token(self, api, refusal, agent):
        client = api(enforce_csrf_checks=True)
        client.force_login(agent)
        refusal(client.post("/api/tickets", {"title": "Forged"}), 403, "csrf_failed")
        assert not Ticket.objects.exists()

    def test_an_unknown_host(self, api, refusal):
        refusal(api(HTTP_HOST="evil.example").get("/api/tickets"), 400, "bad_request")


class TestPagesForPeople:
    """Outside the API a small page says the same."""

    def test_not_found(self, client):
        response = client.get("/nothing")
        assert response.status_code == 404
        assert response["Content-Type"].startswith("text/html")
        assert "Not found" in response.content.decode()

    def test_a_form_that_has_expired(self):
        response = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "a", "password": "b"})
        assert response.status_code == 403
        assert "Reload the page" in response.content.decode()

    def test_something_went_wrong(self, monkeypatch):
        def fail(request):
            raise ZeroDivisionError("a secret of ours")

        monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", fail)
        client = Client(raise_request_exception=False)
        for path in ("/admin/", "/api/tickets"):
            response = client.get(path)
            assert response.status_code == 500
            assert "secret" not in response.content.decode()
