"""Headers of an endpoint's own: what may be set, that they are sent, and that no value is ever seen again."""

import json
import logging

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from notifications.models import WebhookAttempt, WebhookEndpoint
from notifications.webhooks import endpoints, headers, http
from notifications.webhooks.destination import Policy, networks
from notifications.webhooks.headers import MASK, HeadersRefused, masked, merged
from tests.webhooks.receiver import OK, Receiver, answering

URL = "http://127.0.0.1:9/hook"
SECRET = "Bearer the-key-of-the-gateway"


def problem(given: dict, kept: dict | None = None) -> str:
    with pytest.raises(HeadersRefused) as refused:
        merged(given, kept or {})
    return " ".join(refused.value.problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", SECRET),
        ("X-Api-Key", "k"),
        ("x_underscore", "1"),
        ("X-Words", "two\twords and more"),
        ("X-Latin", "f\xfcr"),
        ("Accept", "application/json"),
        ("X-Quotes", '"a", "b"; c=d'),
        ("X-Helpdesk", "not ours"),
        ("Webhooks", "not ours"),
        ("A" * headers.MAX_NAME, "v" * headers.MAX_VALUE),
    ],
)
def test_what_may_be_set(name, value):
    assert merged({name: value}, {}) == {name: value}


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "HOST", "Content-Type", "content-length", "Content-Encoding", "Content-Anything"),
        *("Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "HTTP2-Settings"),
        *("Proxy", "Proxy-Authorization", "Proxy-Connection", "Accept-Encoding", "User-Agent", "Cookie"),
        *("webhook-id", "Webhook-Signature", "WEBHOOK-TIMESTAMP", "webhook-new", "helpdesk-test", "Helpdesk-Anything"),
    ],
)
def test_what_is_reserved(name):
    assert problem({name: "x"}).startswith(f"{name} cannot be set: ")


@pytest.mark.parametrize(
    "name", ["", " ", "X Key", "X-Key:", "X\r\nY", "X\n", "Sch\xfcssel", "X(", "X/Y", "\0", "X" * 101]
)
def test_what_is_no_name(name):
    assert "name" in problem({name: "x"})


@pytest.mark.parametrize(
    "value",
    ["", " ", " x", "x ", "x\t", "a\r\nX-Other: b", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x80b", "snow ☃", "x" * 4001],
)
def test_what_is_no_value(value):
    found = problem({"X-Key": value})
    assert found.startswith("The value of X-Key ")
    assert not value.strip() or len(value) < 3 or value not in found


def test_the_same_name_twice_in_whatever_letters():
    assert problem({"X-Key": "1", "x-kEY": "2"}) == "x-kEY is there twice; upper and lower case are the same."


def test_how_many_and_how_much():
    twenty = {f"X-{number}": "v" for number in range(20)}
    assert len(merged(twenty, {})) == 20
    assert problem({**twenty, "X-20": "v"}) == "At most 20 headers can be set."
    assert problem({"A": "v" * 4000, "B": "v" * 1999}) == "Names and values together are longer than 6000 characters."
    assert merged({"A": "v" * 4000, "B": "v" * 1998}, {})


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(HeadersRefused) as refused:
        merged({"Host": "x", "X-Key": "a\nb", "X-Fine": "x"}, {})
    assert len(refused.value.problems) == 2


def test_null_keeps_a_value_under_its_new_spelling_and_everything_unnamed_goes():
    kept = {"X-Key": "secret", "X-Other": "gone"}
    assert merged({"x-key": None, "New": "n"}, kept) == {"x-key": "secret", "New": "n"}
    assert problem({"X-Nowhere": None}, kept) == "X-Nowhere has no value yet that could be kept: give it one."


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=4))
def test_whatever_is_taken_can_be_sent(given):
    try:
        taken = merged(given, {})
    except HeadersRefused:
        return
    policy = Policy(allowed_networks=networks("127.0.0.0/8"))
    request = http._prepare("http://127.0.0.1:9/", b"{}", taken, policy)
    assert {name.lower(): value for name, value in taken.items()}.items() <= {
        name.lower(): value for name, value in request.headers.items()
    }.items()


def test_masking():
    own = {"Authorization": "Bearer abcdefgh", "X-Key": "abcdefghij", "X-Short": "ok"}
    assert masked('{"a": "Bearer abcdefgh", "b": "abcdefghij", "c": "abcdefgh", "ok": 1}', own) == (
        '{"a": "••••••", "b": "••••••", "c": "••••••", "ok": 1}'
    )


ESCAPED = 'Basic a/"b\\c/\xe9=='


@pytest.mark.parametrize(
    "echo",
    [
        ESCAPED,
        json.dumps(ESCAPED)[1:-1],
        json.dumps(ESCAPED, ensure_ascii=False)[1:-1],
        json.dumps(ESCAPED)[1:-1].replace("/", "\\/"),
        ESCAPED.replace("/", "\\/"),
        json.dumps(ESCAPED.removeprefix("Basic "))[1:-1].replace("/", "\\/"),
    ],
)
def test_masking_what_json_has_escaped(echo):
    own = {"Authorization": ESCAPED}
    found = masked(f'{{"a": "{echo}", "b": 1}}', own)
    assert found in ('{"a": "••••••", "b": 1}', '{"a": "Basic ••••••", "b": 1}')
    for length in range(8, len(echo)):
        cut = masked("x" * 100 + echo[:length], own)
        assert cut == "x" * 100 + MASK, length
    assert masked(echo[:7], own) == echo[:7]


def test_masking_what_was_cut_off_in_the_middle_only_at_the_end():
    own = {"X-Key": "0123456789abcdef"}
    assert masked("0123456789 and 0123456789abcde", own) == "0123456789 and ••••••"
    assert masked("0123456789abcdef0123456789abcdef", own) == MASK * 2


# --- Through the API -------------------------------------------------------------------------------------------------


@pytest.fixture
def client(api, customer):
    return api(customer)


@pytest.fixture
def one(client):
    """The path of an endpoint with headers."""
    made = client.post(
        "/api/webhook-endpoints", {"url": URL, "headers": {"Authorization": SECRET, "X-Key": "0123456789"}}
    )
    assert made.status_code == 201
    assert made.json()["headers"] == {"Authorization": None, "X-Key": None}
    return f"/api/webhook-endpoints/{made.json()['id']}"


def stored() -> dict:
    return WebhookEndpoint.objects.get().headers()


@pytest.mark.django_db
def test_values_are_encrypted_at_rest_as_one_token(one):
    row = WebhookEndpoint.objects.values().get()
    assert row["header_names"] == ["Authorization", "X-Key"]
    assert "gateway" not in str(row)
    assert "0123456789" not in str(row)
    assert " " not in row["encrypted_header_values"]
    assert stored() == {"Authorization": SECRET, "X-Key": "0123456789"}


@pytest.mark.django_db
def test_what_was_read_can_be_sent_back_and_changes_nothing(client, one):
    before = WebhookEndpoint.objects.get()
    assert client.patch(one, client.get(one).json()).status_code == 200
    after = WebhookEndpoint.objects.get()
    assert (after.headers(), after.secrets()) == (before.headers(), before.secrets())


@pytest.mark.django_db
def test_patch_replaces_all_keeps_null_and_without_headers_leaves_them_alone(client, one):
    assert client.patch(one, {"description": "CRM"}).json()["headers"] == {"Authorization": None, "X-Key": None}
    changed = client.patch(one, {"headers": {"X-New": "n", "x-key": None}}).json()
    assert changed["headers"] == {"X-New": None, "x-key": None}
    assert stored() == {"X-New": "n", "x-key": "0123456789"}
    assert client.patch(one, {"headers": {}}).json()["headers"] == {}
    assert WebhookEndpoint.objects.get().encrypted_header_values == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    "given",
    [{"Host": "x"}, {"X": "a\nb"}, {"X": ""}, {"X": 1}, {"X": ["a"]}, {"X": {}}, {"Unknown": None}, [], "x", None, 1],
)
def test_bad_headers_are_400_with_the_reason_and_change_nothing(client, one, refusal, given):
    refusal(client.patch(one, {"description": "changed", "headers": given}), 400, "validation_error", "headers")
    assert stored() == {"Authorization": SECRET, "X-Key": "0123456789"}
    assert WebhookEndpoint.objects.get().description == ""
    refusal(client.post("/api/webhook-endpoints", {"url": URL, "headers": given}), 400, "validation_error", "headers")
    assert WebhookEndpoint.objects.count() == 1


@pytest.mark.django_db
def test_values_never_go_to_a_url_they_were_not_given_for(client, one, refusal):
    error = refusal(client.patch(one, {"url": f"{URL}/other"}), 400, "validation_error", "headers")
    assert "another receiver" in error["fields"]["headers"][0]
    refusal(client.patch(one, {"url": f"{URL}/other", "headers": {"X-Key": None}}), 400, "validation_error", "headers")
    assert WebhookEndpoint.objects.get().url == URL
    moved = client.patch(one, {"url": f"{URL}/other", "headers": {"X-Key": "another"}}).json()
    assert moved["secret"]
    assert stored() == {"X-Key": "another"}
    assert client.patch(one, {"url": URL, "headers": {}}).json()["headers"] == {}


@pytest.mark.django_db
def test_the_one_url_of_a_person_takes_no_headers_along(client):
    client.put("/api/users/me/webhook", {"webhook_url": URL})
    endpoint = WebhookEndpoint.objects.get()
    endpoints.change(endpoint, own_headers={"X-Key": "0123456789"})
    client.put("/api/users/me/webhook", {"webhook_url": URL})
    assert stored() == {"X-Key": "0123456789"}
    client.put("/api/users/me/webhook", {"webhook_url": f"{URL}/other"})
    assert stored() == {}


@pytest.mark.django_db
def test_a_lost_key_breaks_no_page_and_is_mended_by_new_values(client, one, settings, refusal):
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert client.get(one).json()["headers"] == {"Authorization": None, "X-Key": None}
    assert client.get("/api/webhook-endpoints").status_code == 200
    error = refusal(client.patch(one, {"headers": {"X-Key": None}}), 400, "validation_error", "headers")
    assert "give them again" in error["fields"]["headers"][0]
    refusal(client.post(f"{one}/check"), 409, "not_sendable")
    assert client.post(f"{one}/test").json()["error_code"] == "not_sendable"
    assert client.patch(one, {"headers": {"X-Key": "new"}}).status_code == 200
    assert stored() == {"X-Key": "new"}


def lines_of(request: bytes) -> list[str]:
    return request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")


@pytest.mark.django_db(transaction=True)
def test_they_go_with_every_request_and_their_values_are_seen_nowhere_after(client, caplog):
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"you sent": [SECRET, "0123456789"]}).encode()
    answer = b"HTTP/1.1 503 No\r\nX-Echo: %b\r\nContent-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(echo), echo)
    with Receiver(answering(answer)) as receiver:
        made = client.post(
            "/api/webhook-endpoints",
            {
                "url": receiver.url(),
                "headers": {"Authorization": SECRET, "X-Key": "0123456789", "accept": "text/plain"},
            },
        ).json()
        one = f"/api/webhook-endpoints/{made['id']}"
        tested = client.post(f"{one}/test")
        checked = client.post(f"{one}/check")
    assert len(receiver.requests) == 2  # the check ends with the honest one, which was not taken
    for request in receiver.requests:
        lines = lines_of(request)
        assert f"Authorization: {SECRET}" in lines
        assert "X-Key: 0123456789" in lines
        assert [line for line in lines if line.lower().startswith("accept:")] == ["accept: text/plain"]
    assert tested.json()["response_body"] == '{"you sent": ["••••••", "••••••"]}'
    assert "X-Echo: ••••••" in tested.json()["response_head"]
    delivery = WebhookAttempt.objects.get().delivery
    seen = [tested, checked, client.get(one), client.get("/api/webhook-endpoints")]
    seen += [client.get(f"{one}/deliveries"), client.get(f"/api/webhook-deliveries/{delivery.pk}")]
    texts = [response.content.decode() for response in seen] + [
        str(delivery.notification.event.payload_staff),
        caplog.text,
    ]
    for text in texts:
        assert "gateway" not in text
        assert "0123456789" not in text


@pytest.mark.django_db(transaction=True)
def test_a_check_sends_them_with_what_must_be_refused_too(client):
    with Receiver(answering(OK)) as receiver:
        made = client.post("/api/webhook-endpoints", {"url": receiver.url(), "headers": {"X-Key": "0123456789"}}).json()
        client.post(f"/api/webhook-endpoints/{made['id']}/check")
    assert len(receiver.requests) > 8
    assert all("X-Key: 0123456789" in lines_of(request) for request in receiver.requests)
