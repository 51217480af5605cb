"""Bad input gets a clear answer in the one shape and changes nothing; never a 500 (`Api` checks that of all)."""

import json
from typing import Any

import pytest

from .api import NEW_PASSWORD, Api, Entity
from .contract import check_error
from .people import People
from .samples import png
from .system import System

pytestmark = [pytest.mark.live, pytest.mark.once]

NOWHERE = "018f0000-0000-7000-8000-000000000000"
"""A well-formed id of nothing."""


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"not json",
        b'{"title": "x"',
        b"[]",
        b'"text"',
        b"null",
        b"17",
        b"\xff\xfe\x00",
        b'{"title": NaN}',
        b'{"title": "\\ud800"}',
        b'{"title": "a\\u0000b"}',
        b"[" * 100_000,
        b'{"priority": 1e999999}',
    ],
    ids=lambda body: repr(body[:16]),
)
def test_malformed_json(people: People, body: bytes) -> None:
    before = [ticket["id"] for ticket in people.stranger.api.pages("/api/tickets")]
    people.stranger.api.refused("POST", "/api/tickets", 400, data=body, headers={"Content-Type": "application/json"})
    assert [ticket["id"] for ticket in people.stranger.api.pages("/api/tickets")] == before


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": "   "}, "title"),
        ({"title": "x" * 10_000}, "title"),
        ({"title": {"a": 1}}, "title"),
        ({"title": "x", "description": "x" * 300_000}, "description"),
        ({"title": "x", "priority": "asap"}, "priority"),
        ({"title": "x", "priority": 3}, "priority"),
        ({"title": "x", "status": "done"}, "status"),
        ({"title": "x", "requester_id": "nobody"}, "requester_id"),
        ({"title": "x", "requester_id": NOWHERE}, "requester_id"),
        ({"title": "x", "assignee_id": NOWHERE}, "assignee_id"),
        ({"title": "x", "tags": "urgent"}, "tags"),
        ({"title": "x", "tags": [["nested"]]}, "tags"),
        ({"title": "x", "tags": ["x" * 5_000]}, "tags"),
    ],
)
def test_bad_fields_are_named(people: People, fields: dict[str, Any], named: str) -> None:
    body = {"description": "Something", **fields}
    people.agent.api.refused("POST", "/api/tickets", 400, named, json=body)


def test_an_assignee_must_be_an_agent(people: People, ticket: Entity) -> None:
    path = f"/api/tickets/{ticket['id']}"
    people.agent.api.refused("PATCH", path, 400, "assignee_id", json={"assignee_id": people.stranger.id})


def test_a_customer_cannot_assign_or_open_in_anothers_name(people: People) -> None:
    body = {"title": "Not mine", "description": "", "requester_id": people.stranger.id}
    response = people.customer.api.send("POST", "/api/tickets", json=body)
    assert response.status_code in (400, 403) or response.json()["requester_id"] == people.customer.id
    body = {"title": "Do it", "description": "", "assignee_id": people.agent.id}
    response = people.customer.api.send("POST", "/api/tickets", json=body)
    assert response.status_code in (400, 403) or response.json()["assignee_id"] is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": 7.5e300}, None),
        ({"content": "x" * 200_000}, "content"),
        ({"content": "x", "parent_id": "nothing"}, "parent_id"),
        ({"content": "x", "parent_id": NOWHERE}, "parent_id"),
        ({"content": "x", "is_internal": "perhaps"}, "is_internal"),
    ],
)
def test_bad_comments(people: People, ticket: Entity, fields: dict[str, Any], named: str | None) -> None:
    path = f"/api/tickets/{ticket['id']}/comments"
    response = people.agent.api.send("POST", path, json=fields)
    if named:
        assert response.status_code == 400, response.text
        check_error(response.json(), named)


def test_a_reply_belongs_to_the_same_ticket(people: People, ticket: Entity) -> None:
    other = people.customer.api.open_ticket("Another")
    comment = people.customer.api.comment_on(other["id"], "Over there")
    body = {"content": "Over here", "parent_id": comment["id"]}
    people.agent.api.refused("POST", f"/api/tickets/{ticket['id']}/comments", 400, "parent_id", json=body)


@pytest.mark.parametrize(
    "path",
    [
        "/api/tickets/not-a-uuid",
        f"/api/tickets/{NOWHERE}",
        f"/api/tickets/{NOWHERE}/comments",
        f"/api/comments/{NOWHERE}",
        f"/api/attachments/{NOWHERE}",
        f"/api/attachments/{NOWHERE}/download",
        f"/api/kb/articles/{NOWHERE}",
        f"/api/webhook-endpoints/{NOWHERE}",
        f"/api/webhook-deliveries/{NOWHERE}",
        "/api/no-such-thing",
        "/api/tickets/%00",
        "/api/tickets/" + "x" * 3_000,
    ],
    ids=lambda path: path[:60],
)
def test_what_does_not_exist_is_404(people: People, path: str) -> None:
    people.admin.api.refused("GET", path, 404)


@pytest.mark.parametrize(
    "query",
    [
        "cursor=garbage",
        "cursor=%00",
        "status=done",
        "assignee_id=nobody",
        "ordering=password",
        "search=%00",
        "page_size=-1",
        "page_size=many",
        "created_after=yesterday",
    ],
)
def test_bad_queries_are_refused_or_ignored_but_never_break(people: People, query: str) -> None:
    response = people.agent.api.send("GET", f"/api/tickets?{query}")
    assert response.status_code in (200, 400), response.text


@pytest.mark.parametrize("after", ["garbage", "-1", "1.5", "%00", "9" * 400])
def test_a_bad_cursor_of_the_feed(people: People, after: str) -> None:
    people.agent.api.refused("GET", f"/api/events?after={after}", 400)


def test_a_wrong_method_and_a_wrong_content_type(people: People) -> None:
    people.agent.api.refused("PUT", "/api/notifications", 405)
    people.agent.api.refused("POST", "/api/tickets", 415, data=b"title=x", headers={"Content-Type": "text/plain"})
    people.agent.api.refused("POST", "/api/tickets", 415, data=b"<x/>", headers={"Content-Type": "application/xml"})


def test_an_oversized_body(people: People) -> None:
    body = json.dumps({"title": "x", "description": "x" * 12_000_000}).encode()
    error = people.agent.api.refused(
        "POST", "/api/tickets", 413, data=body, headers={"Content-Type": "application/json"}
    )
    assert error["message"]


def test_an_oversized_file(people: People, ticket: Entity) -> None:
    path = f"/api/tickets/{ticket['id']}/attachments"
    files = {"file": ("big.png", png() + b"\0" * 26_000_000, "image/png")}
    people.customer.api.refused("POST", path, (400, 413), files=files)
    assert list(people.customer.api.pages(path)) == []


@pytest.mark.parametrize(
    ("name", "content", "type"),
    [
        ("page.png", b"<html><script>alert(1)</script></html>", "image/png"),
        ("page.html", b"<html><script>alert(1)</script></html>", "text/html"),
        ("image.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "image/svg+xml"),
        ("program.exe", b"MZ\x90\x00" + b"\0" * 200, "application/octet-stream"),
        ("program.png", b"MZ\x90\x00" + b"\0" * 200, "image/png"),
        ("empty.png", b"", "image/png"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(
    people: People, ticket: Entity, name: str, content: bytes, type: str
) -> None:
    """Refused, or kept as something harmless: never served as what a browser would run."""
    path = f"/api/tickets/{ticket['id']}/attachments"
    response = people.customer.api.send("POST", path, files={"file": (name, content, type)})
    if response.status_code == 201:
        served = people.customer.api.download(response.json()["id"]).headers
        assert served["Content-Disposition"].startswith("attachment")
        assert served["X-Content-Type-Options"] == "nosniff"
        assert served["Content-Type"].split(";")[0] not in ("text/html", "image/svg+xml")
    else:
        assert response.status_code in (400, 415), response.text
        assert list(people.customer.api.pages(path)) == []


@pytest.mark.parametrize(
    "filename",
    ["../../etc/passwd", "a\x00b.png", "x" * 500 + ".png", 'quote".png', "line\r\nSet-Cookie: a=b.png", "名前.png"],
)
def test_a_filename_is_only_a_name(people: People, ticket: Entity, filename: str) -> None:
    attachment = people.customer.api.attach(ticket["id"], "plain.png", png(), "image/png")
    response = people.customer.api.send("PATCH", f"/api/attachments/{attachment['id']}", json={"filename": filename})
    assert response.status_code in (200, 400), response.text
    kept = people.customer.api.attachment(attachment["id"])["filename"]
    assert "/" not in kept
    download = people.customer.api.download(attachment["id"])
    assert download.content == png()
    assert "Set-Cookie" not in download.headers


def test_an_upload_without_a_file(people: People, ticket: Entity) -> None:
    path = f"/api/tickets/{ticket['id']}/attachments"
    people.customer.api.refused("POST", path, 400, "other", files={"other": ("a.png", png(), "image/png")})
    people.customer.api.refused("POST", path, (400, 415), json={"file": "text"})
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    people.customer.api.refused("POST", path, 400, data=b"no boundary at all", headers=broken)


def test_a_form_that_cannot_be_read_is_one_line_in_the_log(system: System) -> None:
    """Where a form is read before the view: the check of the CSRF token looks into it."""
    nobody = Api(system.base)
    headers = {"Content-Type": "multipart/form-data", "Cookie": "csrftoken=" + "x" * 32}
    nobody.refused("POST", "/api/auth/session", 400, data=b"no boundary at all", headers=headers)
    nobody.close()
    assert system.trouble() == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer a b"},
        {"Authorization": "Bearer ÿ".encode("latin-1")},
        {"Authorization": "Basic YWRtaW46ZGVtby1wYXNzd29yZA=="},
    ],
    ids=str,
)
def test_a_wrong_token(system: System, headers: dict[str, Any]) -> None:
    nobody = Api(system.base)
    nobody.refused("GET", "/api/tickets", 401, headers=headers)
    nobody.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "admin", "password": "wrong"}, 401),
        ({"username": "nobody", "password": "demo-password"}, 401),
        ({"username": "admin"}, 400),
        ({"username": ["admin"], "password": {"a": 1}}, 400),
        ({"username": "admin\x00", "password": "x"}, (400, 401)),
    ],
    ids=str,
)
def test_a_wrong_sign_in(system: System, body: dict[str, Any], status: Any) -> None:
    nobody = Api(system.base)
    nobody.refused("POST", "/api/auth/token", status, json=body)
    nobody.close()


def test_a_token_is_refreshed_once(system: System) -> None:
    nobody = Api(system.base)
    tokens = nobody.ask("POST", "/api/auth/token", {"username": "agent", "password": "demo-password"})
    fresh = nobody.ask("POST", "/api/auth/token/refresh", {"refresh": tokens["refresh"]})
    assert fresh["access"]
    nobody.refused("POST", "/api/auth/token/refresh", 401, json={"refresh": tokens["refresh"]})
    nobody.refused("POST", "/api/auth/token/refresh", 401, json={"refresh": "garbage"})
    nobody.ask("POST", "/api/auth/logout", {"refresh": fresh["refresh"]})
    nobody.refused("POST", "/api/auth/token/refresh", 401, json={"refresh": fresh["refresh"]})
    nobody.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        None,
        17,
        ["https://a.example/"],
        {"url": "https://a.example/"},
        "not a url",
        "0",
        "127.1",
        "https://",
        "https:///path",
        "ftp://a.example/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "gopher://a.example/",
        # Of a name, the scheme and the port that it may have are known when it is resolved; of an address, at once.
        "http://93.184.216.34/x",
        "https://93.184.216.34:22/x",
        "https://user:secret@a.example/x",
        "http://a.test\\@127.0.0.1/",
        "https://a\t.example/",
        "https://a\n.example/",
        "https://a.example/\r\nX-Injected: 1",
        "https://a.example/\x00",
        "https://a.example:0/x",
        "https://a.example:99999/x",
        "https://a.example:x/x",
        "http://0/",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1%25eth0]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://[::ffff:a9fe:a9fe]/x",
        "https://[64:ff9b::a00:1]/x",
        "https://１０.0.0.1/x",
        "https://[::1",
        "https://a..example/",
        "https://" + "a" * 300 + ".example/",
        "https://a.example/" + "x" * 10_000,
        "//evil.test/x",
        "/\\evil.test",
        "/",
        "/admin",
        "/api/../admin",
        "/api/notifications/webhooks/../../users",
        "/api/notifications/webhooks/notifications/../notifications/x",
        "api/notifications/webhooks/notifications",
    ],
    ids=lambda url: repr(url)[:50],
)
def test_a_bad_webhook_url(people: People, url: Any) -> None:
    stranger = people.stranger.api
    before = stranger.get("/api/users/me/webhook")
    stranger.refused("PUT", "/api/users/me/webhook", 400, "webhook_url", json={"webhook_url": url})
    assert stranger.get("/api/users/me/webhook") == before


def test_a_webhook_without_its_field(people: People) -> None:
    people.stranger.api.refused("PUT", "/api/users/me/webhook", 400, "webhook_url", json={})
    people.stranger.api.refused("PUT", "/api/user/webhook", 400, json=[])


def test_a_test_without_a_webhook(people: People, system: System) -> None:
    people.admin.api.create_user("unhooked")
    unhooked = Api(system.base).sign_in("unhooked", NEW_PASSWORD)
    unhooked.refused("POST", "/api/users/me/webhook/test", (400, 404, 409))
    unhooked.close()
