"""A process that ends sends its connections away in order, and lets nobody in."""

import asyncio
import json
import time

import aiohttp
import pytest

from notifications.sockets import limits, socketio_door
from notifications.sockets.hub import hub

from .clients import Refused, token_of


async def test_everybody_is_told_when_to_come_back(plain, customer):
    clients = [await plain(token_of(customer)).open() for _ in range(6)]
    await hub.go_away(1.0)
    waits = []
    for client in clients:
        error = (await client.frame("error"))["error"]
        assert (error["code"], error["message"]) == ("going_away", "The server is restarting. Please come back.")
        waits.append(error["retry_after"])
        closed = await client.closed()
        assert (closed.code, closed.reason) == (4503, "The server is restarting. Please come back.")
    assert len(set(waits)) > 1
    assert all(1 <= wait <= 2 + 6 / limits.RETURNS_PER_SECOND + 0.01 for wait in waits)


async def test_they_are_sent_away_one_after_the_other_and_within_the_time(plain, customer, monkeypatch):
    monkeypatch.setattr(limits, "RETURNS_PER_SECOND", 10)
    for _ in range(4):
        await plain(token_of(customer)).open()
    began = time.monotonic()
    await hub.go_away(60)
    assert 0.3 <= time.monotonic() - began < 5
    await hub.stop()
    for _ in range(4):
        await plain(token_of(customer)).open()
    monkeypatch.setattr(limits, "RETURNS_PER_SECOND", 0.01)
    began = time.monotonic()
    await hub.go_away(0.4)
    assert 0.3 <= time.monotonic() - began < 5


async def test_a_few_do_not_make_anybody_wait(plain, customer):
    await plain(token_of(customer)).open()
    began = time.monotonic()
    await hub.go_away(60)
    assert time.monotonic() - began < 5


async def test_the_stock_client_loses_its_transport(stock, customer):
    for transports in (["websocket"], ["polling"]):
        client = await stock({"token": token_of(customer)}, transports=transports).open()
        await hub.go_away(1.0)
        await client.closed()
        await hub.stop()


async def test_who_comes_to_the_plain_door_is_told_too(plain, customer):
    await hub.go_away(1.0)
    client = await plain(token_of(customer)).connect()
    error = (await client.frame("error"))["error"]
    assert error["code"] == "going_away"
    assert error["retry_after"] >= 1
    assert (await client.closed()).code == 4503


async def test_a_handshake_of_the_stock_client_is_refused_below_socketio(server, stock, customer):
    """A refusal of Socket.IO's own would keep it from coming back by itself."""
    await hub.go_away(1.0)
    async with aiohttp.ClientSession() as browser:
        async with browser.get(f"{server}/socket.io/?EIO=4&transport=polling") as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "going_away"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(f"{server}/socket.io/?EIO=4&transport=websocket")
        assert refused.value.status == 503
    for transports in (["websocket"], ["polling"]):
        with pytest.raises(Refused):
            await stock({"token": token_of(customer)}, transports=transports).open()


async def test_who_has_begun_loses_the_transport_instead_of_being_refused(server, customer):
    async with aiohttp.ClientSession() as browser:
        url = f"{server}/socket.io/?EIO=4&transport=polling"
        async with browser.get(url) as response:
            url += f"&sid={json.loads((await response.text())[1:])['sid']}"
        await hub.go_away(1.0)
        signing_in = asyncio.create_task(browser.post(url, data="40" + json.dumps({"token": token_of(customer)})))
        async with browser.get(url) as response:
            assert await response.text() == "1"  # Engine.IO's close, and no CONNECT_ERROR
        (await signing_in).release()


async def test_a_session_in_which_nobody_signed_in_is_closed(server):
    async with aiohttp.ClientSession() as browser:
        url = f"{server}/socket.io/?EIO=4&transport=polling"
        async with browser.get(url) as response:
            url += f"&sid={json.loads((await response.text())[1:])['sid']}"
        waiting = asyncio.create_task(browser.get(url))
        await asyncio.sleep(0.05)
        await socketio_door.close_the_rest()
        response = await waiting
        assert await response.text() == "1"
        response.release()
