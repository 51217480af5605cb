"""Every way to sign in at either door, and every refusal."""

import time
from datetime import timedelta
from importlib import import_module

import pytest
from channels.db import database_sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from rest_framework_simplejwt.tokens import RefreshToken

from comments.models import Comment
from helpdesk.accounts.models import User
from notifications.sockets import limits
from notifications.sockets.hub import hub

from .changes import do, summary, told
from .clients import Closed, PlainClient, Refused, token_of

OWN_PAGE = {"Host": "testserver", "Origin": "http://testserver"}


@database_sync_to_async
def session_of(user: User) -> str:
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return f"theme=dark; {django_settings.SESSION_COOKIE_NAME}={session.session_key}"


def expired(user: User) -> str:
    return token_of(user, exp=int(time.time()) - 5)


def of_a_leaver(user: User) -> str:
    token = token_of(user)
    user.deactivate()
    return token


def with_the_old_password(user: User) -> str:
    token = token_of(user)
    user.set_password("another-one-altogether-8")
    user.save()
    return token


def for_nobody(user: User) -> str:
    return token_of(user, sub="018f0000-0000-7000-8000-000000000000")


BAD_TOKENS = [
    expired,
    of_a_leaver,
    with_the_old_password,
    for_nobody,
    lambda user: str(RefreshToken.for_user(user)),
    lambda user: token_of(user)[:-3] + "abc",
    lambda user: "garbage",
    lambda user: "a.b.c",
    lambda user: "x" * 10_000,
]
BAD_TOKEN_IDS = ["expired", "leaver", "old password", "nobody", "refresh", "forged", "garbage", "dots", "long"]


# --- the plain door --------------------------------------------------------------------------------------------------
async def ends(client: PlainClient) -> tuple[str, Closed]:
    """The code that the connection was told, and how it was closed."""
    error = (await client.frame("error"))["error"]
    assert error["message"]
    with pytest.raises(Closed) as closed:
        await client.receive()
    assert closed.value.reason
    return error["code"], closed.value


async def test_plain_with_a_subprotocol_that_is_never_echoed(plain, customer):
    client = await plain(token_of(customer)).connect()
    assert client.subprotocol == "helpdesk.v1"
    ready = await client.frame("ready")
    assert ready["user"] == {"id": str(customer.pk), "name": "Customer", "role": "customer"}


async def test_plain_with_a_header(plain, customer):
    await plain(headers={"Authorization": f"Bearer {token_of(customer)}"}, subprotocols=[]).open()


async def test_plain_with_a_first_frame(plain, customer):
    client = await plain().connect()
    await client.send({"type": "auth", "token": token_of(customer)})
    await client.frame("ready")

    client = await plain().connect()
    assert await client.ask("auth", token=token_of(customer)) == {"ok": True}


async def test_plain_with_a_session(plain, customer):
    client = await plain(headers={"Cookie": await session_of(customer), **OWN_PAGE}).open()
    assert (await client.ask("join", room="tickets"))["ok"] is True


@pytest.mark.parametrize("make", BAD_TOKENS, ids=BAD_TOKEN_IDS)
async def test_plain_refuses_a_bad_token(plain, customer, make):
    token = await database_sync_to_async(make)(customer)
    code, closed = await ends(await plain(token).connect())
    assert (code, closed.code) == ("token_expired" if make is expired else "token_invalid", 4401)

    client = await plain().connect()
    await client.send({"type": "auth", "token": token})
    _code, closed = await ends(client)
    assert closed.code == 4401


@pytest.mark.parametrize(
    ("frame", "close_code"),
    [
        ({"type": "join", "id": 1, "room": "tickets"}, 4401),
        ({"type": "auth"}, 4400),
        ({"type": "auth", "token": 17}, 4400),
        ({"type": "auth", "token": "\ud800"}, 4401),
        ("garbage", 4400),
        (b"\x00", 4400),
    ],
    ids=repr,
)
async def test_plain_refuses_whoever_does_not_sign_in_first(plain, frame, close_code):
    client = await plain().connect()
    await client.send(frame)
    _code, closed = await ends(client)
    assert closed.code == close_code


async def test_plain_does_not_wait_for_ever(plain, monkeypatch):
    monkeypatch.setattr(limits, "SIGN_IN_SECONDS", 0.01)
    code, closed = await ends(await plain().connect())
    assert (code, closed.code) == ("unauthenticated", 4401)


@pytest.mark.parametrize(
    "page",
    [
        {"Host": "testserver", "Origin": "https://evil.example"},
        {"Host": "testserver", "Origin": "null"},
        {"Host": "testserver", "Origin": "http://testserver:8000"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "testserver", "Sec-Fetch-Site": "same-site"},
        {"Host": "testserver", "Origin": "http://[broken"},
    ],
    ids=lambda page: str(list(page.values())),
)
async def test_plain_refuses_the_pages_of_strangers(plain, customer, page):
    client = await plain(headers={"Cookie": await session_of(customer), **page}).connect()
    code, closed = await ends(client)
    assert (code, closed.code) == ("origin_not_allowed", 4401)


async def test_plain_lets_the_pages_of_allowed_origins_in(plain, customer, settings):
    settings.ALLOWED_ORIGINS = ["https://spa.example"]
    await plain(token_of(customer), headers={"Host": "testserver", "Origin": "https://spa.example"}).open()


async def test_plain_wants_our_own_page_over_tls_where_the_cookie_does(plain, customer, settings):
    settings.SESSION_COOKIE_SECURE = True
    cookie = await session_of(customer)
    code, _closed = await ends(await plain(headers={"Cookie": cookie, **OWN_PAGE}).connect())
    assert code == "origin_not_allowed"
    await plain(headers={"Cookie": cookie, "Host": "testserver", "Origin": "https://testserver"}).open()


async def test_a_session_that_ended_signs_nobody_in(plain, customer):
    cookie = await session_of(customer)
    await database_sync_to_async(customer.deactivate)()
    client = await plain(headers={"Cookie": cookie, **OWN_PAGE}).connect()
    await client.send({"type": "join", "id": 1, "room": "tickets"})
    code, closed = await ends(client)
    assert (code, closed.code) == ("unauthenticated", 4401)


async def test_plain_takes_a_limited_number_of_connections_of_a_person(plain, customer, agent, monkeypatch):
    monkeypatch.setattr(limits, "CONNECTIONS_PER_PERSON", 2)
    first, _second = [await plain(token_of(customer)).open() for _ in range(2)]
    code, closed = await ends(await plain(token_of(customer)).connect())
    assert (code, closed.code) == ("too_many_connections", 4429)
    await plain(token_of(agent)).open()
    await first.close()
    await plain(token_of(customer)).open()


async def test_plain_refuses_what_never_was_a_cursor(plain, customer):
    for path in ("/ws/?after=garbage", "/ws/?after=-1", "/ws/?after=" + "9" * 30, "/ws/?after=%C2%B2"):
        code, closed = await ends(await plain(token_of(customer), path=path).connect())
        assert (code, closed.code) == ("invalid", 4400)


# --- the Socket.IO door ----------------------------------------------------------------------------------------------
TRANSPORTS = [["polling", "websocket"], ["websocket"], ["polling"]]


@pytest.mark.parametrize("transports", TRANSPORTS, ids=str)
async def test_socketio_over_every_transport(stock, customer, agent, ticket, transports):
    client = await stock({"token": token_of(customer)}, transports=transports).open()
    assert (await client.ask("join", room="comments"))["ok"] is True
    await do(Comment(ticket=ticket, author=agent, content=f"Over {transports}").post)
    payload = await client.event("notification")
    assert payload["event"] == "notification.created"
    assert payload["type"] == payload["notification"]["type"] == "comment_on_ticket"


async def test_socketio_with_a_header(stock, customer):
    await stock(headers={"Authorization": f"Bearer {token_of(customer)}"}).open()


@pytest.mark.parametrize("transports", TRANSPORTS[:2], ids=str)
async def test_socketio_with_a_session_of_our_own_page(stock, server, customer, transports):
    cookie = await session_of(customer)
    await stock(headers={"Cookie": cookie, "Origin": server}, transports=transports).open()
    with pytest.raises(Refused):
        await stock(headers={"Cookie": cookie, "Origin": "https://evil.example"}, transports=transports).open()
    with pytest.raises(Refused) as refused:
        await stock(headers={"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}, transports=transports).open()
    assert refused.value.error["data"]["code"] == "origin_not_allowed"


@pytest.mark.parametrize("make", BAD_TOKENS, ids=BAD_TOKEN_IDS)
async def test_socketio_refuses_a_bad_token(stock, customer, make):
    token = await database_sync_to_async(make)(customer)
    with pytest.raises(Refused) as refused:
        await stock({"token": token}).open()
    assert refused.value.error["message"]
    assert refused.value.error["data"]["code"] == ("token_expired" if make is expired else "token_invalid")


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (None, "unauthenticated"),
        ({}, "unauthenticated"),
        ({"token": 17}, "invalid"),
        ({"token": {"a": 1}}, "invalid"),
        ("text", "invalid"),
        ([1], "invalid"),
        ({"after": "garbage"}, "invalid"),
    ],
    ids=repr,
)
async def test_socketio_says_what_is_missing(stock, auth, code):
    with pytest.raises(Refused) as refused:
        await stock(auth).open()
    assert refused.value.error["data"] == {"code": code}


async def test_socketio_takes_a_limited_number_of_connections_of_a_person(stock, customer, monkeypatch):
    monkeypatch.setattr(limits, "CONNECTIONS_PER_PERSON", 1)
    await stock({"token": token_of(customer)}).open()
    with pytest.raises(Refused) as refused:
        await stock({"token": token_of(customer)}).open()
    assert refused.value.error["data"]["code"] == "too_many_connections"


# --- the end of a sign-in --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transports", TRANSPORTS, ids=str)
async def test_the_end_of_the_token_closes_the_transport(stock, customer, transports):
    client = await stock({"token": token_of(customer, exp=int(time.time()) + 2)}, transports=transports).open()
    await client.closed()


async def test_the_end_of_the_token_closes_the_plain_connection(plain, customer):
    client = await plain(token_of(customer, exp=int(time.time()) + 2)).open()
    closed = await client.closed()
    assert (closed.code, closed.reason) == (4401, "Your sign-in has expired.")


async def test_a_new_token_extends_the_connection(plain, customer):
    """The old token has ended when a second connection that came with it is closed."""
    short = token_of(customer, exp=int(time.time()) + 2)
    extended, left_alone = await plain(short).open(), await plain(short).open()
    assert (await extended.ask("auth", token=token_of(customer)))["ok"] is True
    await left_alone.closed()
    assert (await extended.ask("join", room="tickets"))["ok"] is True


async def test_a_token_of_somebody_else_extends_nothing(connect, customer, agent):
    client = await connect(customer)
    answer = await client.ask("auth", token=token_of(agent))
    assert (answer["ok"], answer["error"]["code"]) == (False, "another_person")
    answer = await client.ask("auth", token=expired(customer))
    assert (answer["ok"], answer["error"]["code"]) == (False, "token_expired")


async def test_who_was_deactivated_while_coming_in_is_refused(plain, customer, monkeypatch):
    """The deactivation is told before the connection's groups are joined: nobody would hear of it."""
    token, enter = token_of(customer), hub.enter

    async def enter_late(*arguments):
        await do(customer.deactivate)
        return await enter(*arguments)

    monkeypatch.setattr(hub, "enter", enter_late)
    code, closed = await ends(await plain(token).connect())
    assert (code, closed.code) == ("account_inactive", 4401)


async def test_who_was_promoted_while_coming_in_sees_what_they_may_see_now(plain, customer, ticket, monkeypatch):
    token, enter = token_of(customer), hub.enter

    async def enter_late(*arguments):
        await database_sync_to_async(User.objects.filter(pk=customer.pk).update_without_signals)(role="agent")
        return await enter(*arguments)

    monkeypatch.setattr(hub, "enter", enter_late)
    client = await plain(token).open()
    await client.ask("join", room="comments")
    await do(Comment(ticket=ticket, content="Internal", is_internal=True).post)
    assert summary(await told(client))[0] == ("comment.update", "created")


def test_a_token_lives_shorter_than_a_day():
    """A connection ends with its token, so that a stolen one is of use for a while only."""
    assert django_settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"] < timedelta(days=1)
