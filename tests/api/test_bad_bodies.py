"""Bodies that nobody should send. Each is refused clearly, and nothing is written."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from comments.models import Comment
from notifications.models import Event
from tickets.models import Ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def post(api, agent):
    client = api(agent, raise_request_exception=True)

    def post(body, path="/api/tickets", **extra):
        return client.post(path, body, content_type="application/json", **extra)

    return post


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"title": "a",}',
        b"{'title': 'a'}",
        b'{"title": NaN}',
        b'{"title": Infinity}',
        b'{"title": 1e999}',
        b'{"title": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"title": "\xff"}',
        b'{"title": "\xed\xa0\x80"}',
        b'{"title": "\\ud800"}',
        b'{"\\udfff": 1}',
        '{"title": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"title=x",
        b"\x00",
    ],
)
def test_what_is_no_json(post, refusal, body):
    refusal(post(body), 400, "malformed_json")
    assert not Ticket.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b'"title"', b"17", b"null", b"true", b'[{"title": "a"}]'])
def test_what_is_no_object(post, refusal, body):
    refusal(post(body), 400)
    assert not Ticket.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", None),
        ("title", ""),
        ("title", "   "),
        ("title", [1]),
        ("title", {"a": 1}),
        ("title", True),
        ("title", "x" * 201),
        ("title", "a\x00b"),
        ("title", "two\nlines"),
        ("title", "\x1b[31m"),
        ("description", None),
        ("description", "x" * 20_001),
        ("description", "\x00"),
        ("description", "\x08"),
        ("description", "\x01" * 12_000),
        ("status", "burning"),
        ("status", None),
        ("status", ["new"]),
        ("status", {"a": [[]]}),
        ("status", "a\x00"),
        ("priority", 3),
        ("priority", ""),
        ("requester_id", None),
        ("requester_id", "me"),
        ("requester_id", 17),
        ("requester_id", ["x"]),
        ("requester_id", "018f0000-0000-7000-8000-000000000000"),
        ("requester_id", 10**40),
        ("assignee_id", "nobody"),
        ("assignee_id", "018f0000-0000-7000-8000-000000000000"),
        ("tags", "printer"),
        ("tags", None),
        ("tags", {"a": 1}),
        ("tags", [None]),
        ("tags", [""]),
        ("tags", ["x" * 51]),
        ("tags", ["a\x00"]),
        ("tags", [["a"]]),
        ("tags", [f"t{n}" for n in range(21)]),
        ("tags", ["t"] * 101),
        ("colour", "red"),
        ("x" * 1000, 1),
    ],
)
def test_values_that_do_not_fit(post, refusal, field, value):
    body = {"title": "Printer", "description": "It burns.", field: value}
    error = refusal(post(json.dumps(body)), 400, "validation_error")
    assert {name.split(".")[0] for name in error["fields"]} == {field[:100]}
    assert not Ticket.objects.exists()
    assert not Event.objects.filter(entity="ticket").exists()


def test_every_wrong_field_is_named(post, refusal):
    refusal(post('{"status": "x", "priority": "y", "colour": 1}'), 400, "validation_error", "colour")
    refusal(post('{"status": "x", "priority": "y"}'), 400, "validation_error", "title", "status", "priority")


class TestSize:
    def test_a_body_that_is_too_large(self, post, refusal, settings):
        settings.MAX_JSON_BYTES = 2000
        assert post(json.dumps({"title": "a", "description": "x" * 1900})).status_code == 201
        refusal(post(json.dumps({"title": "a", "description": "x" * 2000})), 413, "body_too_large")
        assert Ticket.objects.count() == 1

    def test_is_not_read_when_no_address_would_take_it(self, api, agent, refusal, settings):
        settings.MAX_ATTACHMENT_BYTES = 10_000
        settings.MAX_JSON_BYTES = 2000
        client = api(agent)
        for path in ("/api/tickets", "/admin/login/", "/api/nothing"):
            refusal(client.post(path, b"x" * 200_000, content_type="text/plain"), 413, "body_too_large")

    def test_a_session_uploads_no_more_than_a_token(self, api, agent, ticket, refusal, settings, tmp_path):
        """The CSRF check reads a form before our parsers do."""
        settings.MAX_ATTACHMENT_BYTES = 10_000
        client = api()
        client.force_login(agent)
        file = SimpleUploadedFile("a.txt", b"x" * 10_001)
        response = client.post(f"/api/tickets/{ticket.pk}/attachments", {"file": file}, format="multipart")
        assert response.status_code in (400, 413)
        refusal(response, response.status_code)
        assert not ticket.attachments.exists()


def test_a_body_that_breaks_off(api, agent, refusal):
    response = api(agent).post("/api/tickets", b'{"title": "Pri', content_type="application/json")
    refusal(response, 400, "malformed_json")


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x", "multipart/mixed"],
)
def test_a_form_that_is_none(api, agent, ticket, refusal, content_type):
    path = f"/api/tickets/{ticket.pk}/attachments"
    response = api(agent).post(path, b"--y\r\nnonsense", content_type=content_type)
    assert response.status_code in (400, 415)
    refusal(response, response.status_code)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_BODIES = st.dictionaries(
    st.sampled_from(["title", "description", "status", "priority", "requester_id", "assignee_id", "tags", "content"])
    | st.text(max_size=5),
    _JSON,
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(body=_BODIES)
def test_anything_is_taken_or_refused_clearly(post, refusal, ticket, body):
    for path in ("/api/tickets", f"/api/tickets/{ticket.pk}/comments", "/api/auth/token", "/api/kb/articles"):
        response = post(json.dumps(body), path)
        if response.status_code not in (201, 401):
            refusal(response, 400)


def test_a_comment_at_the_limit(post, ticket):
    path = f"/api/tickets/{ticket.pk}/comments"
    assert post(json.dumps({"content": "é" * 20_000}), path).status_code == 201
    assert post(json.dumps({"content": "🔥" * 16_001}), path).status_code == 400
    assert Comment.objects.count() == 1
