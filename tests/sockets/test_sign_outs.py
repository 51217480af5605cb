"""What was opened with a sign-in ends with it: a session signed out of, a new password, a sign-out everywhere."""

from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.test import Client as Browser
from rest_framework_simplejwt.tokens import AccessToken

from helpdesk.accounts.models import User
from notifications.models import Event
from notifications.sign_outs import fingerprint
from notifications.sockets.hub import hub

from .changes import do, told
from .clients import Closed, Refused, token_of

HOST = "testserver"
OWN_PAGE = {"Host": HOST, "Origin": f"http://{HOST}"}


@database_sync_to_async
def signed_in(user: User) -> Browser:
    browser = Browser()
    browser.force_login(user)
    return browser


def cookie_of(browser: Browser) -> str:
    return f"sessionid={browser.cookies['sessionid'].value}"


@pytest.fixture
def open_with(plain, stock, server) -> Callable[..., Any]:
    """Open a connection at a door, with a browser's session or a person's token."""

    async def open_(door: str, by: Browser | str) -> Any:
        if door == "plain":
            if isinstance(by, str):
                return await plain(by).open()
            return await plain(headers={"Cookie": cookie_of(by), **OWN_PAGE}).open()
        if isinstance(by, str):
            return await stock({"token": by}).open()
        return await stock(headers={"Cookie": cookie_of(by), "Origin": server}).open()

    return open_


both = pytest.mark.parametrize("door", ["plain", "socketio"])


@both
async def test_signing_out_ends_the_sockets_of_that_session_only(open_with, customer, door):
    here, there = await signed_in(customer), await signed_in(customer)
    mine, other, by_token = [await open_with(door, by) for by in (here, there, token_of(customer))]
    response = await do(here.delete, "/api/auth/session")
    assert response.status_code == 204
    closed = await mine.closed()
    if door == "plain":
        assert (closed.code, closed.reason) == (4401, "You have been signed out. Please sign in again.")
    assert await told(other) == await told(by_token) == []


@both
@pytest.mark.parametrize("how", ["password", "unusable", "everywhere", "in a shell"])
async def test_a_new_password_and_a_sign_out_everywhere_end_all_of_them(open_with, customer, other_customer, door, how):
    token, browser = token_of(customer), await signed_in(customer)
    mine = [await open_with(door, by) for by in (browser, token)]
    other = await open_with(door, token_of(other_customer))

    def end() -> None:
        if how == "everywhere":
            headers = {"Authorization": f"Bearer {token}"}
            assert Browser(headers=headers).post("/api/auth/logout-everywhere").status_code == 204
        elif how == "in a shell":
            customer.sign_out_everywhere()
        else:
            person = User.objects.get(pk=customer.pk)
            person.set_password("another-one-altogether-8" if how == "password" else None)
            person.save()

    await do(end)
    for client in mine:
        closed = await client.closed()
        if door == "plain":
            assert (closed.code, bool(closed.reason)) == (4401, True)
    assert await told(other) == []
    with pytest.raises((Refused, Closed)):
        await open_with(door, token)


async def test_the_browser_that_set_the_password_stays_signed_in(open_with, customer, password):
    browser = await signed_in(customer)
    client = await open_with("plain", browser)
    body = {"password": "another-one-altogether-8", "current_password": password}
    response = await do(browser.patch, "/api/users/me", body, "application/json")
    assert response.status_code == 200
    assert (await client.closed()).code == 4401
    await open_with("plain", browser)  # with the cookie it has got


async def test_somebody_who_is_let_in_again_needs_a_new_token(open_with, customer):
    client, token = await open_with("plain", token_of(customer)), token_of(customer)
    await do(customer.deactivate)
    assert (await client.closed()).code == 4401
    customer.is_active = True
    await do(customer.save)
    with pytest.raises(Closed):
        await open_with("plain", token)
    person = await database_sync_to_async(User.objects.get)(pk=customer.pk)
    fresh = AccessToken.for_user(person)
    fresh["epoch"] = person.sign_in_epoch
    await open_with("plain", str(fresh))


@pytest.mark.parametrize("how", ["session", "everywhere"])
async def test_who_signs_out_while_coming_in_is_refused(plain, customer, monkeypatch, how):
    """It is told before the connection's groups are joined: nobody would hear of it."""
    browser, enter = await signed_in(customer), hub.enter

    async def enter_late(*arguments):
        if how == "session":
            await do(browser.logout)
        else:
            await do(customer.sign_out_everywhere)
        return await enter(*arguments)

    headers = {"Cookie": cookie_of(browser), **OWN_PAGE}
    monkeypatch.setattr(hub, "enter", enter_late)
    client = await plain(headers=headers).connect()
    assert (await client.frame("error"))["error"]["code"] == "signed_out"
    assert (await client.closed()).code == 4401


async def test_nobody_sees_a_sign_out_or_a_key(customer, admin, api):
    browser = await signed_in(customer)
    key = browser.cookies["sessionid"].value
    await do(browser.logout)
    await do(customer.sign_out_everywhere)

    def look() -> tuple[list[Event], list[str]]:
        person = User.objects.get(pk=customer.pk)
        client = api(admin)
        feeds = [client.get("/api/events").content.decode()]
        client.force_authenticate(person)
        feeds.append(client.get("/api/events").content.decode())
        return list(Event.objects.filter(entity="session")), feeds

    events, feeds = await database_sync_to_async(look)()
    assert len(events) == 2
    assert fingerprint(key) in events[0].payload_staff
    assert all(key not in str(vars(event)) for event in events)
    assert not any("session" in feed for feed in feeds)


@both
@pytest.mark.parametrize("page", ["api", "admin"])
async def test_signing_in_as_somebody_else_ends_the_first_ones_sockets(open_with, agent, admin, door, page):
    browser = await signed_in(agent)
    first = await open_with(door, browser)

    def sign_in_as_admin() -> Any:
        admin.set_password("a good password")
        admin.save()
        given = {"username": admin.username, "password": "a good password"}
        if page == "admin":
            return browser.post("/admin/login/", given)
        return browser.post("/api/auth/session", {"login": admin.username, **given}, content_type="application/json")

    response = await do(sign_in_as_admin)
    assert response.status_code in (200, 302), response.content
    await first.closed()
    second = await open_with(door, browser)
    await do(lambda: None)
    assert (await second.ask("join", room="users"))["ok"] is True  # the administrator's
