"""From which pages a browser may open a socket. Browsers send cookies along with whoever asks, so somebody has to ask
where the page came from (cross-site WebSocket hijacking)."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

Scope = dict[str, Any]  # of ASGI: "http" or "websocket"


def header(scope: Scope, name: str) -> str:
    """A header's value, or an empty text. Several of one name are joined as HTTP joins them."""
    wanted = name.encode("latin-1")
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]
    return ("; " if name == "cookie" else ", ").join(values)


def is_allowed(origin: str, scope: Scope) -> bool:
    """Whether a page of this origin may talk to us: our own pages, and those of the origins in the settings."""
    return origin in (settings.PUBLIC_URL, *settings.ALLOWED_ORIGINS) or _is_own(origin, scope)


def check_origin(scope: Scope) -> bool:
    """Whether the page that opens this socket, if it is one, may. Programs other than browsers send no origin."""
    origin = header(scope, "origin")
    if origin:
        return is_allowed(origin, scope)
    # A browser leaves the origin out only where page and server share it, and newer ones say so themselves.
    return header(scope, "sec-fetch-site") in ("", "same-origin", "none")


def _is_own(origin: str, scope: Scope) -> bool:
    host = header(scope, "host")
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    if page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
        return False
    if page.scheme == "http" and settings.SESSION_COOKIE_SECURE:
        return False
    domain, _port = split_domain_port(host)
    return validate_host(domain, settings.ALLOWED_HOSTS)
