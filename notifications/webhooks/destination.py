"""Where webhooks may go: the form of a URL, and the addresses behind it.

The form is checked when a URL is saved and again on the request as prepared (`parse`, `check`); both are courtesy. What
protects our own network is `check_address`, which `guard` applies to the address that is really connected to.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class DestinationRefused(Exception):
    """A webhook may not go there. `code` is stable, `message` is for people, without capital or full stop.

    Deliberately neither an OSError nor a RequestException: urllib3 and requests wrap those, and a refusal by the guard
    must come out as what it is.

    Codes: `url_missing`, `url_too_long`, `url_characters`, `url_scheme`, `url_user_info`, `url_fragment`, `url_host`,
    `url_port`, `url_path`, `url_ambiguous`, `https_required`, `port_refused`, `address_refused`, `proxy_refused`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def networks(*texts: str) -> tuple[Network, ...]:
    """CIDR texts as networks; ValueError says which one is none (`10.0.0.1/8` is none: it has host bits)."""
    return tuple(ip_network(text.strip()) for text in texts)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What outbound webhooks may do. The defaults are those of production."""

    # Networks that may be reached although they are private, over http and on any port: for intranets and development.
    # Networks and not a boolean, so that opening one's intranet does not open the cloud's metadata service.
    allowed_networks: tuple[Network, ...] = ()
    # This installation's own public addresses; refused even where `allowed_networks` would let them pass.
    own_addresses: tuple[Network, ...] = ()
    ports: tuple[range, ...] = (range(80, 81), range(443, 444), range(8000, 9000))
    # Certificates (PEM file) trusted instead of the public authorities'; for an intranet with one of its own.
    ca_bundle: str | None = None

    # Wall-clock seconds: for everything, for the name, and for one address of it.
    deadline: float = 15.0
    resolve_timeout: float = 5.0
    connect_timeout: float = 5.0

    max_url_length: int = 2000
    max_body_bytes: int = 16 * 1024  # of an answer's body, what is kept
    # Of an answer altogether: no honest one comes near, since reading ends with what is kept of the body.
    max_received_bytes: int = 256 * 1024

    def allows(self, ip: Address) -> bool:
        """Whether the allow-list names this address."""
        return any(ip in network for network in self.allowed_networks)


@dataclass(frozen=True)
class Destination:
    """A webhook URL taken apart, in one normal form: lower case, no default port, a path."""

    scheme: str
    host: str  # a name or an address, an IPv6 address without brackets
    port: int
    target: str  # path and query, as sent

    @cached_property
    def url(self) -> str:
        return f"{self.origin}{self.target}"

    @cached_property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @cached_property
    def address(self) -> Address | None:
        """The address, where the host says it by itself; None for a name, which only a resolver knows."""
        # RFC 6761 §6.3: localhost and everything below it is this machine.
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return IPv4Address("127.0.0.1")
        return _literal(self.host)


# --- The form of a URL -----------------------------------------------------------------------------------------------

DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986 §2. Different parsers read spaces, controls, backslashes and everything outside ASCII differently, which is
# what attacks on a guard live from. All of it has an unambiguous spelling (%20, xn--…), so that one is asked for.
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_URL = re.compile(r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>[^#]*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_DOT_SEGMENTS = frozenset({".", ".."})
_OWN_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_MAX_HOST = 253


@lru_cache(maxsize=1024)
def parse(url: str, max_length: int = Policy.max_url_length) -> Destination:
    """Take an absolute http or https URL apart, or raise DestinationRefused. Says nothing about where it may go.

    Stricter than RFC 3986 wherever parsers are known to disagree.
    """
    if not url:
        raise DestinationRefused("url_missing", "the URL is missing")
    if len(url) > max_length:
        raise DestinationRefused("url_too_long", f"the URL is longer than {max_length} characters")
    if not _CHARACTERS.fullmatch(url):
        raise DestinationRefused(
            "url_characters",
            "the URL has a character that must be written otherwise: no spaces, line breaks or backslashes; "
            "in the path use %-encoding, in the host the xn-- form",
        )
    if "#" in url:
        raise DestinationRefused("url_fragment", "the URL has a fragment (#…), which is never sent")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise DestinationRefused("url_scheme", "the URL must start with https://")
    scheme = parts["scheme"].lower()
    if "@" in parts["authority"]:
        raise DestinationRefused("url_user_info", "the URL must not contain a user name or password")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise DestinationRefused("url_host", "the URL has no valid host")
    path = parts["path"] or "/"
    if _has_dot_segments(path):
        raise DestinationRefused("url_path", "the URL's path must not contain . or .. as a segment")
    return Destination(
        scheme=scheme,
        host=_host(authority["host"]),
        port=DEFAULT_PORTS[scheme] if authority["port"] is None else _port(authority["port"]),
        target=path + parts["query"],
    )


def parse_own_path(path: str) -> str:
    """Check a path of this application given instead of a URL (`/api/notifications/webhooks/notifications`).

    Plain segments only, so that `//evil.test/x`, `/\\evil.test` and `/api/../admin` are nobody's idea of a path here.
    Whether a receiver is registered under it, the caller knows.
    """
    if not _OWN_PATH.fullmatch(path) or _has_dot_segments(path):
        raise DestinationRefused(
            "url_path", "a path of this application is made of plain segments, such as /api/webhooks/notifications"
        )
    return path


def check(destination: Destination, policy: Policy) -> None:
    """Refuse what can be known to be refused without asking a resolver. A courtesy to whoever saves the URL."""
    if destination.address is not None:
        check_address(destination.address, destination.scheme, destination.port, policy, name=None)
    elif not policy.allowed_networks:
        # With an allow-list, a name may turn out to lie in it: that is decided when connecting.
        _check_public_rules(destination.scheme, destination.port, policy)


def _host(text: str) -> str:
    if text.startswith("["):
        # `%` is a zone id: it names an interface of ours, so no address with one is the receiver's to give.
        address = None if "%" in text else _literal(text[1:-1])
        if not isinstance(address, IPv6Address):
            raise DestinationRefused("url_host", "the URL's host is not a valid IPv6 address")
        return str(address)
    host = text.lower()
    labels = host.split(".")
    # Resolvers read `0`, `127.1`, `0x7f.1` and `2130706433` as addresses. A host that ends in a number is an address
    # (as in the WHATWG URL standard), and then it has to be written as one.
    if _NUMBER.fullmatch(labels[-1]):
        if not isinstance(_literal(host), IPv4Address):
            raise DestinationRefused("url_host", "the URL's host looks like an IPv4 address but is not a valid one")
        return host
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise DestinationRefused("url_host", "the URL's host is not a valid host name")
    return host


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise DestinationRefused("url_port", "the URL's port must be a number from 1 to 65535")
    return int(text)


def _has_dot_segments(path: str) -> bool:
    return any(segment.lower().replace("%2e", ".") in _DOT_SEGMENTS for segment in path.split("/"))


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


# --- The addresses behind it -----------------------------------------------------------------------------------------

# Python's `is_global` is not enough: 3.11 calls 2002:7f00:1::, 64:ff9b::7f00:1, fec0::1, ::127.0.0.1 and 224.0.0.1
# global. The registries: https://www.iana.org/assignments/iana-ipv4-special-registry and …-ipv6-special-registry.
_IPV4_REFUSED = (
    ("127.0.0.0/8", "this machine itself (loopback)"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata service"),
    ("168.63.129.16/32", "the platform service of a cloud"),
    ("100.64.0.0/10", "private to a provider (shared address space)"),
    ("0.0.0.0/8", "reserved"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.31.196.0/24", "reserved for protocols"),
    ("192.52.193.0/24", "reserved for protocols"),
    ("192.88.99.0/24", "reserved for protocols"),
    ("192.175.48.0/24", "reserved for protocols"),
    ("198.18.0.0/15", "reserved for benchmarks"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_IPV6_REFUSED = (
    ("::1/128", "this machine itself (loopback)"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("64:ff9b::/96", "a tunnel to an IPv4 address"),
    ("64:ff9b:1::/48", "a tunnel to an IPv4 address"),
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "reserved for documentation"),
    ("2002::/16", "a tunnel to an IPv4 address"),
    ("2620:4f:8000::/48", "reserved for protocols"),
    ("3fff::/20", "reserved for documentation"),
)
_REFUSED = tuple((ip_network(text), reason) for text, reason in _IPV4_REFUSED + _IPV6_REFUSED)
# The only part of IPv6 that is handed out to anybody as of today.
_IPV6_PUBLIC = IPv6Network("2000::/3")


def unmapped(ip: Address) -> Address:
    """The IPv4 address inside ::ffff:0:0/96, which is where the kernel would connect to; else `ip` itself."""
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def is_refused(ip: Address, policy: Policy) -> str | None:
    """Why no webhook may go to `ip` ("private", to be read after "which is"), or None when one may."""
    ip = unmapped(ip)
    if any(ip in network for network in policy.own_addresses):
        return "this system's own address"
    if policy.allows(ip):
        return None
    for network, reason in _REFUSED:
        if ip in network:
            return reason
    if not ip.is_global or (isinstance(ip, IPv6Address) and ip not in _IPV6_PUBLIC):
        return "not a public address"
    return None


def check_address(ip: Address, scheme: str, port: int, policy: Policy, name: str | None) -> None:
    """Refuse a connection to `ip` that `policy` does not allow; `name` is what resolved to it, None for an address."""
    reason = is_refused(ip, policy)
    if reason is not None:
        subject = f"the address {ip} is {reason}" if name is None else f"{name} resolved to {ip}, which is {reason}"
        raise DestinationRefused("address_refused", subject)
    if not policy.allows(unmapped(ip)):
        _check_public_rules(scheme, port, policy)


def _check_public_rules(scheme: str, port: int, policy: Policy) -> None:
    if scheme != "https":
        raise DestinationRefused("https_required", "the URL must start with https://")
    if not any(port in allowed for allowed in policy.ports):
        spans = [str(r.start) if len(r) == 1 else f"{r.start}–{r.stop - 1}" for r in policy.ports]
        raise DestinationRefused("port_refused", f"port {port} is not allowed; use one of {', '.join(spans)}")
