"""Connections that cannot be talked into our own network.

A name is resolved once; if any of its answers is refused, all are; the connection goes to one of the very addresses
that were checked, while SNI, certificate and Host are still those of the name. So a resolver that changes its answer
(DNS rebinding) changes nothing. It sits below requests and urllib3, in the classes that open sockets: however a URL was
spelled, this is where it comes through.

Every connection belongs to a `Call`, and without one none can be opened: `http.post` is the only door. Its deadline is
enforced where waiting happens, in the socket, by the thread that waits: each read and write gets no more than what is
left. So slow headers and dripping bodies are covered without a watchdog thread that might shut down a socket another
request has taken over, and running out of time is an error and never looks like the end of an answer.
"""

import queue
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache, lru_cache
from ipaddress import ip_address
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from requests import Response, certs  # noqa: TID251 - the adapter is the lower half of http.py
from requests.adapters import HTTPAdapter  # noqa: TID251
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from notifications.webhooks import diagnosis
from notifications.webhooks.destination import Address, DestinationRefused, Policy, check_address, unmapped
from notifications.webhooks.diagnosis import CallFailed, Failure

# Given a host name and a port, the texts of its addresses, best first. Blocks; raises OSError.
Resolver = Callable[[str, int], Sequence[str]]

# Of a name with many addresses, this many are tried.
MAX_TRIES = 4
# Names being looked up at the same time. The C library cannot be interrupted, so that a dead name server holds a thread
# beyond its time limit; this bounds how many.
MAX_LOOKUPS = 32
# Of one host, so that a dead name server does not take the places of everybody else's; and for one person, who may
# have thought of many of them.
MAX_LOOKUPS_OF_ONE = 4
# A connection idle for longer is not used again: receivers close theirs after 2 s (gunicorn) or 5 s (Node, Apache), and
# a request sent into that moment is lost without a fault of anybody's.
KEEP_IDLE_SECONDS = 1.5


class Call:
    """One outbound request under way: what it may do, until when, and what was measured of it."""

    def __init__(self, policy: Policy, resolver: Resolver, person: Hashable = None) -> None:
        """`person`: for whom it is made; several may be, but none takes the places of all the others."""
        self.policy = policy
        self.resolver = resolver
        self.person = person
        self.started = monotonic()
        self.address: str | None = None
        self.dns_ms: float | None = None
        self.connect_ms: float | None = None
        self.tls_ms: float | None = None
        self.first_byte_ms: float | None = None
        self.ended = False  # the receiver has closed its side
        self._connected = self.started
        self._received = 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Connections opened and used by this thread belong to this call."""
        token = _current_call.set(self)
        try:
            yield
        finally:
            _current_call.reset(token)

    @property
    def expired(self) -> bool:
        return monotonic() - self.started >= self.policy.deadline

    def time_left(self) -> float:
        """Seconds until the deadline, more than 0; TimeoutError after it."""
        left = self.started + self.policy.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the call has passed")
        return left

    def connected(self) -> None:
        """From here on, it is the receiver we are waiting for."""
        self._connected = monotonic()

    def received(self, count: int) -> None:
        """Note `count` bytes from the receiver, 0 being the end; CallFailed when it goes on without saying anything."""
        if count == 0:
            self.ended = True
        elif self.first_byte_ms is None:
            self.first_byte_ms = elapsed_ms(self._connected)
        self._received += count
        if self._received > self.policy.max_received_bytes:
            raise CallFailed(Failure("answer_too_large", "sent far more headers than an answer needs"))


_current_call: ContextVar[Call] = ContextVar("webhook_call")


def elapsed_ms(since: float) -> float:
    """Milliseconds from `since` (monotonic seconds) until now, to the microsecond."""
    return round((monotonic() - since) * 1000, 3)


# --- Names -----------------------------------------------------------------------------------------------------------


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of `host` in the order in which the system would try them."""
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Lookups:
    """Places for so many lookups at a time, and so many of one host and for one person."""

    def __init__(self, places: int = MAX_LOOKUPS, places_of_one: int = MAX_LOOKUPS_OF_ONE) -> None:
        self._places, self._places_of_one = places, places_of_one
        self._taken: Counter[Hashable] = Counter()
        self._count = 0
        self._changed = threading.Condition()

    def take(self, host: str, person: Hashable, timeout: float) -> bool:
        """Wait for a place for at most `timeout` seconds; False when there was none. `person`: None for nobody's."""
        whose = _whose(host, person)
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(whose), timeout):
                return False
            self._count += 1
            self._taken.update(whose)
            return True

    def give_back(self, host: str, person: Hashable) -> None:
        with self._changed:
            self._count -= 1
            for one in _whose(host, person):
                self._taken[one] -= 1
                if not self._taken[one]:
                    del self._taken[one]
            self._changed.notify_all()

    def _is_free(self, whose: list[Hashable]) -> bool:
        return self._count < self._places and all(self._taken[one] < self._places_of_one for one in whose)


def _whose(host: str, person: Hashable) -> list[Hashable]:
    return [host] if person is None else [host, ("person", person)]


_lookups = Lookups()


def resolve(call: Call, host: str, port: int) -> list[Address]:
    """The addresses of `host`, each once; CallFailed when there is none in time. An address is its own answer."""
    try:
        return [unmapped(ip_address(host))]
    except ValueError:
        pass
    limit = min(call.time_left(), call.policy.resolve_timeout)
    began = monotonic()
    try:
        answers = _look_up(call, host, port, limit)
        addresses = list(dict.fromkeys(unmapped(ip_address(answer)) for answer in answers))
    except TimeoutError:
        words = f"{host} could not be looked up within {limit:.3g} s"
        raise CallFailed(Failure("dns_timeout", words, timed_out=True)) from None
    # UnicodeError and ValueError: a name or an answer that is none, whatever let it come this far.
    except (OSError, ValueError) as error:
        raise CallFailed(diagnosis.of_resolution(error, host)) from error
    finally:
        call.dns_ms = elapsed_ms(began)
    if not addresses:
        raise CallFailed(Failure("dns_not_found", f"there is no address for {host}"))
    return addresses


def _look_up(call: Call, host: str, port: int, limit: float) -> Sequence[str]:
    """Run the call's resolver for at most `limit` seconds; TimeoutError after that.

    A daemon thread for each lookup, not an executor: one that hangs must not keep the process from ending, and threads
    of an executor would be missing in a forked worker. Starting one costs some 50 µs, a new connection milliseconds.
    """
    until = monotonic() + limit
    lookups = _lookups
    if not lookups.take(host, call.person, limit):
        raise TimeoutError
    outcome: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            outcome.put(call.resolver(host, port))
        except Exception as error:
            outcome.put(error)
        finally:
            lookups.give_back(host, call.person)

    try:
        threading.Thread(target=look_up, name="webhook-lookup", daemon=True).start()
    except RuntimeError:
        lookups.give_back(host, call.person)
        raise OSError("no thread left to look a name up") from None
    try:
        found = outcome.get(timeout=max(0.0, until - monotonic()))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


# --- Connections -----------------------------------------------------------------------------------------------------


class _Socket(socket.socket):
    """A socket that gives each operation what is left of the current call's time."""

    def send(self, *args: Any) -> int:
        self.settimeout(_current_call.get().time_left())
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(_current_call.get().time_left())
        super().sendall(*args)

    def recv_into(self, *args: Any) -> int:
        call = _current_call.get()
        self.settimeout(call.time_left())
        count = super().recv_into(*args)
        call.received(count)
        return count


class _TlsSocket(_Socket, ssl.SSLSocket):
    """The same over TLS: each operation above ends in one of `ssl.SSLSocket`."""


def connect(call: Call, scheme: str, host: str, port: int) -> socket.socket:
    """A TCP connection to an address of `host`; DestinationRefused if any is refused, CallFailed if none answers."""
    addresses = resolve(call, host, port)
    name = None if str(addresses[0]) == host else host
    for address in addresses:
        check_address(address, scheme, port, call.policy, name)
    began = monotonic()
    for left in range(min(len(addresses), MAX_TRIES), 0, -1):
        address = addresses.pop(0)
        call.address = str(address)
        # What is left is shared among the addresses left, so that one that is silent leaves time for the next.
        limit = min(call.policy.connect_timeout, call.time_left() / left)
        try:
            connection = open_socket(address, port, limit)
        except OSError as error:
            failure = diagnosis.of_connection(error, limit)
        else:
            call.connected()
            return connection
        finally:
            call.connect_ms = elapsed_ms(began)
    raise CallFailed(failure)


def open_socket(address: Address, port: int, timeout: float) -> socket.socket:
    """Connect to exactly `address`, within `timeout` seconds; OSError when that fails."""
    connection = _Socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect((str(address), port))
        # Nothing should come between the check and the connection; if something did, here is where it shows.
        peer = unmapped(ip_address(connection.getpeername()[0]))
        if peer != address:
            raise DestinationRefused("address_refused", f"the connection to {address} went to {peer}")
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(HTTPConnection):
    """urllib3's connection, opened by `connect`."""

    _scheme = "http"
    _address: str | None = None  # what it is connected to, through all the calls it is kept for
    _used = 0.0
    _held_back: list[bytes] | None = None  # of the request that is being put together

    def _new_conn(self) -> socket.socket:
        call = _current_call.get()
        connection = connect(call, self._scheme, self.host, self.port)
        self._address = call.address
        return connection

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send head and body together, in one system call and where they fit in one packet."""
        if self.sock is not None:
            _current_call.get().address = self._address
        parts = self._held_back = []
        try:
            super().request(*args, **kwargs)
        finally:
            self._held_back = None
        self.send(b"".join(parts))

    def send(self, data: Any) -> None:
        if self._held_back is None:
            super().send(data)
        else:
            self._held_back.append(data)

    def getresponse(self) -> Any:
        response = super().getresponse()
        # http.client takes the end of the connection for the end of the headers.
        if _current_call.get().ended:
            raise CallFailed(Failure("answer_cut_off", "closed the connection in the middle of the answer's headers"))
        self._used = monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        return monotonic() - self._used < KEEP_IDLE_SECONDS and super().is_connected


class _TlsConnection(_Connection, HTTPSConnection):
    _scheme = "https"

    def connect(self) -> None:
        """Connect and shake hands with the shared context as it is.

        Instead of urllib3's, which changes the context before each handshake: it would load the authorities again, and
        with a context that threads share it is a use after free (https://github.com/python/cpython/issues/141012).
        """
        call = _current_call.get()
        self.sock = self._new_conn()
        began = monotonic()
        # Without the handshake, so that a refused certificate can still be looked at.
        context = cast(ssl.SSLContext, self.ssl_context)
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        try:
            self.sock.settimeout(call.time_left())
            self.sock.do_handshake()
        except ssl.SSLCertVerificationError as error:
            presented = _presented_certificate(self.sock)
            raise CallFailed(diagnosis.of_certificate(error, presented, self.host, datetime.now(UTC))) from error
        except OSError as error:
            raise CallFailed(diagnosis.of_handshake(error, call.policy.deadline)) from error
        finally:
            call.tls_ms = elapsed_ms(began)
        self.is_verified = True
        call.connected()


def _presented_certificate(connection: Any) -> bytes | None:
    """The certificate (DER) of a handshake that failed over it, to say what is wrong with it. Trusted for nothing else.

    `getpeercert()` refuses before the handshake is done. What gives it anyway is public from Python 3.13 on, as bytes.
    """
    chain = getattr(connection, "get_unverified_chain", None) or connection._sslobj.get_unverified_chain
    first = next(iter(chain() or ()), None)
    return first if isinstance(first, bytes | None) else ssl.PEM_cert_to_DER_cert(first.public_bytes())


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


@cache
def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """The TLS context all connections share: TLS 1.2 or later, certificate and name required.

    Made once, because loading the authorities takes some 18 ms, which requests as it comes spends on every connection.
    Trusts those of certifi, or those in the PEM file `ca_bundle`.
    """
    context = ssl.create_default_context(cafile=ca_bundle or certs.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # long dead, but on by default
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = _TlsSocket
    return context


@lru_cache(maxsize=4096)
def _target(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and what is asked for there, of a URL as requests has prepared it."""
    found = urlsplit(url)
    return (
        found.scheme,
        found.hostname or "",
        found.port,
        (found.path or "/") + (f"?{found.query}" if found.query else ""),
    )


class GuardedAdapter(HTTPAdapter):
    """The transport of requests with guarded connections: no retries, no proxies, certificates always verified."""

    def __init__(self, context: ssl.SSLContext, *, hosts: int, connections_per_host: int) -> None:
        """Keep up to `connections_per_host` idle connections to each of the `hosts` used last."""
        self._context = context
        super().__init__(pool_connections=hosts, pool_maxsize=connections_per_host, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    # What follows answers once for each URL what requests works out for each call, from the same URL: with
    # the cookies a third of its time. These are the methods that it has for subclasses.
    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        if proxies:  # it would resolve and connect in our place, unguarded
            raise DestinationRefused("proxy_refused", "webhooks are not sent through a proxy")
        scheme, host, port, _path = _target(request.url)
        return self.poolmanager.connection_from_host(host, port, scheme, {"cert_reqs": "CERT_REQUIRED"})

    def request_url(self, request: Any, proxies: Any) -> str:
        return _target(request.url)[3]

    def build_response(self, req: Any, resp: Any) -> Response:
        """Without a cookie jar, and without guessing the encoding of a body that is not read here."""
        response = Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.request, response.url = req, req.url
        return response
