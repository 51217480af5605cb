"""Who opens a socket: an access token, or the session of a browser on a page that may use it. And until when."""

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, parse_cookie
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import AccessToken

from helpdesk.accounts.authentication import TokenAuthentication
from helpdesk.accounts.models import User
from notifications import sign_outs
from notifications.sockets.connection import Connection
from notifications.sockets.origins import Scope, check_origin, header
from notifications.sockets.people import Person
from notifications.sockets.refusal import Refusal, invalid

# Several times what our tokens have.
MAX_TOKEN_CHARACTERS = 4096


@dataclass(frozen=True)
class SignIn:
    person: Person
    expires_at: float  # Unix time
    session_key: str | None = None  # of the browser's session, if it is one


def check_page(scope: Scope) -> None:
    """Raises Refusal for the page of a stranger, whatever it brings."""
    if not check_origin(scope):
        raise Refusal("origin_not_allowed", "Pages of this origin may not connect here (see ALLOWED_ORIGINS).")


def offered_token(scope: Scope) -> str | None:
    """The token of the `Authorization: Bearer` header."""
    kind, _, token = header(scope, "authorization").partition(" ")
    return token.strip() if kind == "Bearer" else None


async def by_token(token: Any) -> SignIn:
    """Raises Refusal. The same rules as in the API: signature, end, active account, unchanged password."""
    if not isinstance(token, str):
        raise invalid("`token` must be an access token.")
    return await database_sync_to_async(_by_token)(token)


async def by_session(scope: Scope) -> SignIn | None:
    """Who is signed in by the session cookie, if anybody is. The page must have been checked."""
    key = parse_cookie(header(scope, "cookie")).get(settings.SESSION_COOKIE_NAME)
    return await database_sync_to_async(_by_session)(key) if key else None


def nobody() -> Refusal:
    return Refusal("unauthenticated", "Please sign in: send an access token, or use a signed-in browser's session.")


def _by_token(token: str) -> SignIn:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Refusal("token_invalid", "The access token is not valid.")
    try:
        claims = AccessToken(token)  # type: ignore[arg-type]  # the library takes its own tokens and encoded ones
        user = cast(User, TokenAuthentication().get_user(claims))
    except ExpiredTokenError:
        raise Refusal("token_expired", "The access token has expired.") from None
    except AuthenticationFailed as error:
        detail = error.detail  # says which: no such account, deactivated, or another password since
        raise Refusal("token_invalid", str(detail["detail"] if isinstance(detail, dict) else detail)) from None
    except (TokenError, ValueError):
        raise Refusal("token_invalid", "The access token is not valid.") from None
    return SignIn(Person.of(user), float(claims["exp"]))


def _by_session(key: str) -> SignIn | None:
    request = HttpRequest()
    request.session = _session_store(key)
    user = auth.get_user(request)
    if not user.is_authenticated:
        return None
    # No session lives longer from now on, and whoever comes back is asked for it again.
    return SignIn(Person.of(user), time.time() + request.session.get_expiry_age(), key)


async def check_still_open(connection: Connection, person: Person) -> None:
    """Raises Refusal when the connection's sign-in has ended since it was checked. `person` as they are now."""
    key = connection.session_key
    is_open = key is None or await database_sync_to_async(_session_is_open)(key)
    if not is_open or has_ended(connection, person):
        raise signed_out()


def has_ended(connection: Connection, person: Person, ended_session: str | None = None) -> bool:
    """Whether the connection's sign-in has ended: all of the person's have, or the browser's session did."""
    if connection.person.sign_in != person.sign_in:
        return True
    key = connection.session_key
    return ended_session is not None and key is not None and sign_outs.fingerprint(key) == ended_session


def signed_out() -> Refusal:
    return Refusal("signed_out", "You have been signed out. Please sign in again.")


def _session_is_open(key: str) -> bool:
    """Whether nobody has signed out of this session since. One query."""
    return _session_store().exists(key)


def _session_store(key: str | None = None) -> SessionBase:
    store: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(key)
    return store
