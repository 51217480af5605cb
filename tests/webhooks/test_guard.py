"""Where connections go, and where they never go.

No test opens a socket beyond loopback: other answers are stopped before, or the opening of sockets is replaced.
"""

import datetime
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import trustme

from notifications.webhooks import guard
from notifications.webhooks.destination import DestinationRefused, Policy, networks
from notifications.webhooks.http import Exchange, open_session, post

from .receiver import OK, Line, Receiver, answering

LOOPBACK = networks("127.0.0.0/8", "::1/128")
PRODUCTION = Policy(deadline=5)
DEVELOPMENT = Policy(deadline=5, allowed_networks=LOOPBACK)
PUBLIC = [f"93.184.216.{last}" for last in range(30, 37)]


def resolving(*answers: str) -> Callable[[str, int], list[str]]:
    return lambda host, port: list(answers)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that would have been connected to; every one refuses."""
    addresses: list[str] = []

    def refuse(address: guard.Address, port: int, timeout: float) -> socket.socket:
        addresses.append(str(address))
        raise ConnectionRefusedError("nothing listens in this test")

    monkeypatch.setattr(guard, "open_socket", refuse)
    return addresses


def call(
    url: str, policy: Policy, resolver: guard.Resolver = guard.system_resolver, person: str | None = None
) -> Exchange:
    with open_session(policy) as session:
        return post(session, url, b"{}", {}, policy, person=person, resolver=resolver)


# --- Which address ---------------------------------------------------------------------------------------------------

METADATA = ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"]


@pytest.mark.parametrize(
    "bad", [*METADATA, "10.0.0.5", "127.0.0.1", "::1", "0.0.0.0", "64:ff9b::a9fe:a9fe", "fe80::1%1"]
)
def test_a_name_that_resolves_into_our_network_is_never_connected_to(opened, bad):
    exchange = call("https://hooks.example.com/x", PRODUCTION, resolving(bad))
    assert (exchange.error, exchange.status, opened) == ("address_refused", None, [])
    assert exchange.diagnosis.startswith("hooks.example.com resolved to ")
    assert exchange.dns_ms is not None


@pytest.mark.parametrize("answers", [(PUBLIC[0], "10.0.0.5"), ("10.0.0.5", PUBLIC[0]), (*PUBLIC[:6], "10.0.0.5")])
def test_one_bad_answer_spoils_them_all(opened, answers):
    exchange = call("https://hooks.example.com/x", PRODUCTION, resolving(*answers))
    assert exchange.error == "address_refused"
    assert exchange.diagnosis == "hooks.example.com resolved to 10.0.0.5, which is private"
    assert opened == []


def test_a_resolver_that_changes_its_answer_changes_nothing(opened):
    """DNS rebinding: public when it is checked, ours when it is connected to. There is no second question."""
    answers = iter([[PUBLIC[0]], ["127.0.0.1"], ["169.254.169.254"]])
    exchange = call("https://rebind.example.com/x", PRODUCTION, lambda host, port: next(answers))
    assert opened == [PUBLIC[0]]
    assert exchange.error == "connect_refused"
    assert next(answers) == ["127.0.0.1"]


def test_a_name_that_moves_between_two_calls_is_checked_again_for_each_new_connection(monkeypatch):
    answers = [["127.0.0.1"], ["10.0.0.5"], ["10.0.0.5"]]
    asked = []

    def moving(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    with Receiver(answering(OK)) as receiver, open_session(DEVELOPMENT) as session:
        url = receiver.url("rebind.example.com")
        assert post(session, url, b"{}", {}, DEVELOPMENT, resolver=moving).address == "127.0.0.1"
        # A kept connection goes to the address that was checked for it, and asks nobody.
        assert post(session, url, b"{}", {}, DEVELOPMENT, resolver=moving).address == "127.0.0.1"
        assert len(asked) == 1
        monkeypatch.setattr(guard, "KEEP_IDLE_SECONDS", 0)
        refused = post(session, url, b"{}", {}, DEVELOPMENT, resolver=moving)
    assert refused.error == "address_refused"
    assert refused.diagnosis == "rebind.example.com resolved to 10.0.0.5, which is private"
    assert len(receiver.requests) == 2


# Each way to write an address of ours that some parser or resolver takes for one. The name that a lenient reader would
# see resolves to a public address here, so that only the guard stands between the quirk and a connection.
QUIRKS = [
    (r"http://a.test\@127.0.0.1/", "127.0.0.1"),
    ("http://%6c%6f%63alhost/", "localhost"),
    ("http://a.test\t@127.0.0.1/", "127.0.0.1"),
    ("http://127.0.0.\t1/", None),
    ("http://127.0.0.\n1/", None),
    (" http://127.0.0.1/", "127.0.0.1"),
    ("http://0/", "0"),
    ("http://127.1/", "127.1"),
    ("http://0x7f.1/", "0x7f.1"),
    ("http://2130706433/", "2130706433"),
    ("http://0177.0.0.1/", "0177.0.0.1"),
    ("http://[fe80::1%25eth0]/", "fe80::1%25eth0"),
    ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    ("http://１２７.０.０.１/", None),
    ("http://127。0。0。1/", None),
    ("https://127.0.0.1:0/", "127.0.0.1"),
    ("//127.0.0.1/x", None),
    (r"/\127.0.0.1", None),
    ("/api/../admin", None),
]


@pytest.mark.parametrize(("url", "read_as"), QUIRKS)
@pytest.mark.parametrize("policy", [PRODUCTION, Policy(deadline=5, allowed_networks=networks("10.20.0.0/16"))])
def test_no_quirk_of_a_parser_opens_a_connection(opened, url, read_as, policy):
    exchange = call(url, policy, resolving(PUBLIC[0]))
    assert opened == []
    assert exchange.error is not None
    assert exchange.error.startswith("url_") or exchange.error == "address_refused"
    if read_as is not None:
        # The control: requests as it comes makes a request of it, and to whom.
        prepared = requests.Request("POST", url).prepare().url or ""
        assert read_as in prepared.lower()


def test_a_quirk_that_only_shows_in_the_prepared_url_is_found_there(opened, monkeypatch):
    genuine = requests.PreparedRequest.prepare_url

    def careless(self: requests.PreparedRequest, url: str, params: object) -> None:
        genuine(self, url, params)
        self.url = "https://127.0.0.1/x"

    monkeypatch.setattr(requests.PreparedRequest, "prepare_url", careless)
    exchange = call("https://hooks.example.com/never-called-before", PRODUCTION, resolving(PUBLIC[0]))
    assert (exchange.error, opened) == ("url_ambiguous", [])


def test_the_very_address_that_was_checked_is_connected_to():
    with Receiver(answering(OK)) as receiver:
        exchange = call(receiver.url("hooks.example.com"), DEVELOPMENT, resolving("127.0.0.1"))
    assert (exchange.status, exchange.address) == (200, "127.0.0.1")
    assert f"host: hooks.example.com:{receiver.port}\r\n" in receiver.requests[0].decode().lower()


def test_a_mapped_answer_is_checked_and_connected_to_as_what_it_is():
    with Receiver(answering(OK)) as receiver:
        exchange = call(receiver.url("hooks.example.com"), DEVELOPMENT, resolving("::ffff:127.0.0.1"))
    assert (exchange.status, exchange.address) == (200, "127.0.0.1")


def test_a_connection_that_arrived_elsewhere_is_not_used(monkeypatch):
    with Receiver(answering(OK)) as receiver:
        monkeypatch.setattr(guard._Socket, "getpeername", lambda self: ("127.0.0.2", receiver.port))
        exchange = call(receiver.url(), DEVELOPMENT)
    assert (exchange.error, exchange.diagnosis) == ("address_refused", "the connection to 127.0.0.1 went to 127.0.0.2")
    assert receiver.requests == []


def test_four_answers_are_tried_in_their_order_each_once(opened):
    exchange = call("https://hooks.example.com/x", PRODUCTION, resolving(PUBLIC[0], PUBLIC[0], *PUBLIC[1:]))
    assert opened == PUBLIC[:4]
    assert exchange.error == "connect_refused"
    assert exchange.diagnosis == "refused the connection, nothing is listening on this port"


def test_the_next_answer_is_tried_when_one_does_not_take_the_connection():
    with Receiver(answering(OK)) as receiver:
        exchange = call(receiver.url("hooks.example.com"), DEVELOPMENT, resolving("127.0.0.9", "127.0.0.1"))
    assert (exchange.status, exchange.address) == (200, "127.0.0.1")


def test_an_address_that_does_not_take_the_connection_is_a_timeout(monkeypatch):
    timeouts = []

    def silent(address: guard.Address, port: int, timeout: float) -> socket.socket:
        timeouts.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(guard, "open_socket", silent)
    policy = Policy(deadline=8, connect_timeout=3)
    exchange = call("https://hooks.example.com/x", policy, resolving(*PUBLIC[:4]))
    assert (exchange.error, exchange.timed_out) == ("connect_timeout", True)
    # A quarter, a third and a half of the time left, but never more than the limit for one address.
    assert [round(timeout) for timeout in timeouts] == [2, 3, 3, 3]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(101, "Network is unreachable"), "connect_unreachable", "no route"),
        (OSError(113, "No route to host"), "connect_unreachable", "no route"),
        (OSError(99, "Cannot assign requested address"), "connect_failed", "cannot assign requested address"),
    ],
)
def test_why_there_is_no_connection_is_said(monkeypatch, error, code, words):
    def fail(*args: object) -> socket.socket:
        raise error

    monkeypatch.setattr(guard, "open_socket", fail)
    exchange = call("https://hooks.example.com/x", PRODUCTION, resolving(PUBLIC[0]))
    assert (exchange.error, exchange.address) == (code, PUBLIC[0])
    assert words in exchange.diagnosis


def test_what_the_allow_list_permitted_for_a_name_is_decided_by_its_address(opened):
    for url, code in (("http://hooks.example.com/x", "https_required"), ("https://a.example.com:22/x", "port_refused")):
        assert call(url, DEVELOPMENT, resolving(PUBLIC[0])).error == code
    assert opened == []


def test_an_address_in_the_url_asks_no_resolver(opened):
    def fail(host: str, port: int) -> list[str]:
        raise AssertionError("nothing to resolve")

    exchange = call(f"https://{PUBLIC[0]}/x", PRODUCTION, fail)
    assert (exchange.error, exchange.dns_ms, opened) == ("connect_refused", None, [PUBLIC[0]])


def test_ipv6_loopback_is_reached_where_it_is_allowed():
    try:
        receiver = Receiver(answering(OK), host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with receiver:
        exchange = call(receiver.url("[::1]"), DEVELOPMENT)
    assert (exchange.status, exchange.address) == (200, "::1")


# --- Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns_not_found"),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), "dns_not_found"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns_failed"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), "dns_failed"),
        (UnicodeError("label too long"), "dns_failed"),
    ],
)
def test_a_name_that_cannot_be_looked_up_is_a_failure_with_its_reason(opened, error, code):
    def fail(host: str, port: int) -> list[str]:
        raise error

    exchange = call("https://hooks.example.com/x", PRODUCTION, fail)
    assert (exchange.error, exchange.timed_out, opened) == (code, False, [])
    assert "hooks.example.com" in exchange.diagnosis


@pytest.mark.parametrize(("answers", "code"), [((), "dns_not_found"), (("not an address",), "dns_failed")])
def test_an_answer_that_is_none_is_a_failure(opened, answers, code):
    assert call("https://hooks.example.com/x", PRODUCTION, resolving(*answers)).error == code
    assert opened == []


@pytest.fixture
def hanging_resolver() -> Iterator[guard.Resolver]:
    """A name server that never answers, until the test is over."""
    over = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        over.wait()
        return ["127.0.0.1"]

    yield hang
    over.set()
    for thread in threading.enumerate():
        if thread.name == "webhook-lookup":
            thread.join(10)


def test_a_lookup_that_hangs_is_given_up(hanging_resolver):
    policy = Policy(resolve_timeout=0.05)
    exchange = call("https://hooks.example.com/x", policy, hanging_resolver)
    assert (exchange.error, exchange.timed_out) == ("dns_timeout", True)
    assert exchange.diagnosis == "hooks.example.com could not be looked up within 0.05 s"


def test_lookups_are_bounded_and_a_slot_comes_back_when_one_ends(monkeypatch):
    monkeypatch.setattr(guard, "_lookups", guard.Lookups(1))
    policy = Policy(resolve_timeout=0.05, allowed_networks=LOOPBACK)
    over = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        over.wait()
        return ["127.0.0.1"]

    with Receiver(answering(OK)) as receiver:
        assert call(receiver.url("hanging.test"), policy, hang).error == "dns_timeout"
        assert call(receiver.url("next.test"), policy, resolving("127.0.0.1")).error == "dns_timeout"
        over.set()
        patient = Policy(resolve_timeout=5, allowed_networks=LOOPBACK)
        assert call(receiver.url("next.test"), patient, resolving("127.0.0.1")).status == 200


def test_a_host_whose_name_server_is_dead_leaves_places_to_the_others(monkeypatch, hanging_resolver):
    monkeypatch.setattr(guard, "_lookups", guard.Lookups(places=2, places_of_one=1))
    policy = Policy(resolve_timeout=0.05, allowed_networks=LOOPBACK)
    with Receiver(answering(OK)) as receiver:
        for _ in range(2):
            assert call(receiver.url("hanging.test"), policy, hanging_resolver).error == "dns_timeout"
        assert call(receiver.url("next.test"), policy, resolving("127.0.0.1")).status == 200


@pytest.mark.parametrize(("places_of_one", "leaves_one"), [(2, True), (4, False)], ids=["limited", "the control"])
def test_a_person_with_many_dead_hosts_leaves_places_to_the_others(
    monkeypatch, hanging_resolver, places_of_one, leaves_one
):
    monkeypatch.setattr(guard, "_lookups", guard.Lookups(places=4, places_of_one=places_of_one))
    policy = Policy(resolve_timeout=0.05, allowed_networks=LOOPBACK)
    with Receiver(answering(OK)) as receiver:
        for number in range(4):
            url = receiver.url(f"dead-{number}.test")
            assert call(url, policy, hanging_resolver, person="somebody").error == "dns_timeout"
        exchange = call(receiver.url("next.test"), policy, resolving("127.0.0.1"), person="another")
        assert exchange.status == (200 if leaves_one else None)


def test_the_deadline_is_one_for_name_connection_handshake_and_answer(authority, bundle):
    """Each part by itself stays below every limit; together they do not."""
    policy = Policy(deadline=0.5, allowed_networks=LOOPBACK, ca_bundle=bundle)

    def slow(host: str, port: int) -> list[str]:
        time.sleep(0.25)
        return ["127.0.0.1"]

    def drip(line: Line) -> None:
        line.read()
        line.send(b"HTTP/1.1 200 OK\r\n")
        time.sleep(0.3)
        line.send(b"Content-Length: 0\r\n\r\n")

    with Receiver(drip, tls=presenting(authority.issue_cert("hooks.example.com"))) as receiver:
        exchange = call(receiver.url("hooks.example.com"), policy, slow)
    assert (exchange.error, exchange.timed_out, exchange.status) == ("timeout", True, None)
    assert 500 <= exchange.total_ms < 800
    assert (exchange.dns_ms or 0) >= 250


# --- Around the guard ------------------------------------------------------------------------------------------------


def test_a_session_opens_no_connection_but_for_post():
    with Receiver(answering(OK)) as receiver, open_session(DEVELOPMENT) as session, pytest.raises(LookupError):
        session.get(receiver.url())
    assert receiver.connections == 0


def test_no_proxy_comes_between():
    with open_session(PRODUCTION) as session, pytest.raises(DestinationRefused) as caught:
        session.get("https://a.test/", proxies={"https": "http://127.0.0.1:3128"})
    assert caught.value.code == "proxy_refused"


def test_the_proxies_and_passwords_of_the_environment_are_left_alone(monkeypatch, tmp_path: Path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    with Receiver(answering(OK)) as proxy, Receiver(answering(OK)) as receiver:
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.setenv("NO_PROXY", "")
        # The control: requests as it comes would use both.
        assert requests.get(receiver.url(), data=b"x", timeout=5).status_code == 200
        assert len(proxy.requests) == 1
        assert b"Authorization: Basic" in proxy.requests[0]
        exchange = call(receiver.url(), DEVELOPMENT)
    assert exchange.status == 200
    assert len(proxy.requests) == 1
    assert b"authorization" not in receiver.requests[0].lower()


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def policy(bundle: str) -> Policy:
    return Policy(deadline=5, allowed_networks=LOOPBACK, ca_bundle=bundle)


def presenting(certificate: trustme.LeafCert, names: list[str | None] | None = None) -> ssl.SSLContext:
    """A server's side of TLS; `names` collects what clients ask for (SNI)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if names is not None:
        context.sni_callback = lambda connection, name, context: names.append(name)
    return context


def test_certificate_and_sni_are_those_of_the_name_though_the_address_is_connected_to(authority, policy):
    names: list[str | None] = []
    with Receiver(answering(OK), tls=presenting(authority.issue_cert("hooks.example.com"), names)) as receiver:
        exchange = call(receiver.url("hooks.example.com"), policy, resolving("127.0.0.1"))
    assert (exchange.status, exchange.diagnosis) == (200, "answered 200")
    assert names == ["hooks.example.com"]
    assert None not in (exchange.dns_ms, exchange.connect_ms, exchange.tls_ms, exchange.first_byte_ms)


def test_a_tls_connection_is_kept_and_carries_long_bodies_both_ways(authority, policy):
    def echo(line: Line) -> None:
        while request := line.read():
            body = request.partition(b"\r\n\r\n")[2]
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body[-9000:]), body[-9000:]))

    body = b"".join(b"%08d," % number for number in range(10_000))
    tls = presenting(authority.issue_cert("127.0.0.1"))
    with Receiver(echo, tls=tls) as receiver, open_session(policy) as session:
        first, second = (post(session, receiver.url("127.0.0.1"), body, {}, policy) for _ in range(2))
    assert first.response_body == second.response_body == body[-9000:].decode()
    assert receiver.connections == 1
    assert first.tls_ms is not None
    assert (second.connect_ms, second.tls_ms) == (None, None)


def test_a_certificate_for_an_address_is_taken_for_that_address(authority, policy):
    with Receiver(answering(OK), tls=presenting(authority.issue_cert("127.0.0.1"))) as receiver:
        assert call(receiver.url("127.0.0.1"), policy).status == 200


def days(count: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=count, hours=1 if count > 0 else -1)


@pytest.mark.parametrize(
    ("issue", "words"),
    [
        (lambda ca: trustme.CA().issue_cert("hooks.example.com"), "authority that is not trusted"),
        (lambda ca: ca.issue_cert("other.example.com"), "is not for hooks.example.com but for other.example.com"),
        (lambda ca: ca.issue_cert("127.0.0.1"), "is not for hooks.example.com but for 127.0.0.1"),
        (lambda ca: ca.issue_cert(common_name="hooks.example.com"), "the certificate is not for hooks.example.com"),
        (
            lambda ca: ca.issue_cert(*(f"{letter}.test" for letter in "abcde")),
            "is not for hooks.example.com but for a.test, b.test, c.test and others",
        ),
        (lambda ca: ca.issue_cert("hooks.example.com", not_after=days(-2)), "the certificate expired 2 days ago"),
        (
            lambda ca: ca.issue_cert("hooks.example.com", not_before=days(1), not_after=days(9)),
            "the certificate is only valid in 1 day",
        ),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused_and_explained(authority, policy, issue, words):
    with Receiver(answering(OK), tls=presenting(issue(authority))) as receiver:
        exchange = call(receiver.url("hooks.example.com"), policy, resolving("127.0.0.1"))
    assert (exchange.error, exchange.status) == ("tls_certificate", None)
    assert words in exchange.diagnosis
    assert receiver.requests == []


def test_a_self_signed_certificate_is_called_what_it_is(policy, tmp_path: Path):
    self_signed = trustme.CA()
    (tmp_path / "both.pem").write_bytes(self_signed.private_key_pem.bytes() + self_signed.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with Receiver(answering(OK), tls=context) as receiver:
        exchange = call(receiver.url(), policy)
    assert exchange.error == "tls_certificate"
    assert "self-signed" in exchange.diagnosis


def test_the_authorities_of_the_public_are_trusted_by_default_and_a_private_one_is_not(authority):
    with Receiver(answering(OK), tls=presenting(authority.issue_cert("127.0.0.1"))) as receiver:
        exchange = call(receiver.url("127.0.0.1"), DEVELOPMENT)
    assert exchange.error == "tls_certificate"
    assert guard.tls_context().cert_store_stats()["x509_ca"] > 50


def test_certificates_are_verified_even_by_a_session_told_not_to(authority):
    tls = presenting(authority.issue_cert("127.0.0.1"))
    with Receiver(answering(OK), tls=tls) as receiver, open_session(DEVELOPMENT) as session:
        session.verify = False
        exchange = post(session, receiver.url("127.0.0.1"), b"{}", {}, DEVELOPMENT)
    assert exchange.error == "tls_certificate"


def test_new_connections_share_one_context_and_load_no_authorities(authority, bundle, policy, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the shared context is not to be changed")

    context = guard.tls_context(bundle)
    for change in ("load_verify_locations", "load_default_certs", "set_alpn_protocols", "load_cert_chain"):
        monkeypatch.setattr(context, change, fail)
    hangs_up = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n", 1)
    with Receiver(answering(hangs_up), tls=presenting(authority.issue_cert("127.0.0.1"))) as receiver:
        exchanges = [call(receiver.url("127.0.0.1"), policy) for _ in range(3)]
    assert [exchange.status for exchange in exchanges] == [200] * 3
    assert receiver.connections == 3
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_bundle_that_cannot_be_read_is_found_when_the_session_is_opened(tmp_path: Path):
    with pytest.raises(OSError):
        open_session(Policy(ca_bundle=os.fspath(tmp_path / "missing.pem")))


def test_https_to_a_port_that_speaks_http_is_explained(policy):
    with Receiver(lambda line: line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as receiver:
        exchange = call(f"https://127.0.0.1:{receiver.port}/", policy)
    assert (exchange.error, exchange.timed_out) == ("tls_failed", False)
    assert exchange.diagnosis == "does not speak TLS on this port, though the URL says https"


def test_a_connection_closed_during_the_handshake_is_a_failure(policy):
    with Receiver(lambda line: line.connection.recv(1)) as receiver:
        exchange = call(f"https://127.0.0.1:{receiver.port}/", policy)
    assert exchange.error == "tls_failed"
    assert exchange.diagnosis == "closed the connection during the TLS handshake"


def test_a_handshake_that_hangs_ends_at_the_deadline(bundle):
    policy = Policy(deadline=0.2, allowed_networks=LOOPBACK, ca_bundle=bundle)
    with Receiver(lambda line: line.hang()) as receiver:
        exchange = call(f"https://127.0.0.1:{receiver.port}/", policy)
    assert (exchange.error, exchange.timed_out) == ("tls_timeout", True)
    assert exchange.diagnosis == "did not finish the TLS handshake within 0.2 s"


def test_the_handshake_has_the_time_of_the_call_and_not_of_the_connection(authority, bundle, monkeypatch):
    limits = []
    genuine = guard._TlsSocket.do_handshake

    def handshake(self: ssl.SSLSocket) -> None:
        limits.append(self.gettimeout())
        genuine(self)

    monkeypatch.setattr(guard._TlsSocket, "do_handshake", handshake)
    policy = Policy(deadline=60, connect_timeout=5, allowed_networks=LOOPBACK, ca_bundle=bundle)
    with Receiver(answering(OK), tls=presenting(authority.issue_cert("127.0.0.1"))) as receiver:
        assert call(receiver.url("127.0.0.1"), policy).status == 200
    assert 5 < limits[0] <= 60


def test_a_body_dripping_through_tls_ends_at_the_deadline(authority, bundle):
    policy = Policy(deadline=0.4, allowed_networks=LOOPBACK, ca_bundle=bundle)

    def drip(line: Line) -> None:
        line.read()
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        line.repeat(b"x", pause=0.02)

    with Receiver(drip, tls=presenting(authority.issue_cert("127.0.0.1"))) as receiver:
        exchange = call(receiver.url("127.0.0.1"), policy)
    assert (exchange.status, exchange.error, exchange.timed_out) == (200, "timeout", True)
