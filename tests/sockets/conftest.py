"""Both doors as they are mounted, the hub of this test's event loop, and the publisher's step."""

import asyncio
import copy
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from channels.db import database_sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import connections

from helpdesk.accounts.models import User
from notifications import publisher
from notifications.models import EventStream
from notifications.sockets.hub import hub

from .changes import published
from .clients import Client, PlainClient, SocketIOClient, token_of


@pytest.fixture(autouse=True)
def _stream(transactional_db) -> None:
    """The row that the migration makes, and that the flush after each test takes away."""
    EventStream.objects.get_or_create(pk=1)


@pytest.fixture(scope="session")
def application() -> Any:
    """`helpdesk.asgi` without its thread: in these tests the publisher's step is taken by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "start", lambda: None)
        return importlib.import_module("helpdesk.asgi").application


@pytest.fixture(autouse=True)
def _layer(settings) -> None:
    """A channel layer of this test's own: on Redis, tests that run at the same time would hear each other."""
    layer = copy.deepcopy(settings.CHANNEL_LAYERS["default"])
    if "prefix" in layer["CONFIG"]:
        name = layer["CONFIG"]["prefix"] = uuid4().hex
        # By its name a test finds its own connections, to cut them.
        layer["CONFIG"]["hosts"] = [{"address": url, "client_name": name} for url in layer["CONFIG"]["hosts"]]
    settings.CHANNEL_LAYERS = {"default": layer}


@pytest.fixture(autouse=True)
async def _hub(_layer, _stream) -> AsyncIterator[None]:
    yield
    await hub.stop()
    # Of the thread that the database work ran in; PostgreSQL drops no database that somebody is connected to.
    await database_sync_to_async(connections.close_all)()


@pytest.fixture
def in_process_layer(settings) -> InMemoryChannelLayer:
    """The layer, for tests that look into it or break it."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    layer = get_channel_layer()
    assert isinstance(layer, InMemoryChannelLayer)
    return layer


@pytest.fixture
async def server(application, _hub) -> AsyncIterator[str]:
    """The URL of a real server in this event loop."""
    config = uvicorn.Config(application, port=0, ws="websockets-sansio", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    await hub.stop()
    server.should_exit = server.force_exit = True  # a long poll would be waited for
    await serving


@pytest.fixture
async def plain(application) -> AsyncIterator[Callable[..., PlainClient]]:
    """Plain clients: `await plain(token).open()`."""
    made: list[PlainClient] = []

    def make(token: str | None = None, **options: Any) -> PlainClient:
        made.append(PlainClient(application, token, **options))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture
async def stock(server) -> AsyncIterator[Callable[..., SocketIOClient]]:
    """Socket.IO clients: `await stock({"token": …}).open()`."""
    made: list[SocketIOClient] = []

    def make(auth: Any = None, **options: Any) -> SocketIOClient:
        made.append(SocketIOClient(server, auth, **options))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture(params=["plain", "socketio"])
def connect(request) -> Callable[..., Awaitable[Client]]:
    """Open a connection for a person, at either door: `await connect(user, "tickets", after=7)`."""
    make = request.getfixturevalue("plain" if request.param == "plain" else "stock")

    async def open_(user: User, *rooms: str, after: int | None = None) -> Client:
        await published()
        token = await database_sync_to_async(token_of)(user)
        if request.param == "plain":
            client = await make(token, path="/ws/" if after is None else f"/ws/?after={after}").open()
        else:
            client = await make({"token": token} if after is None else {"token": token, "after": after}).open()
        for room in rooms:
            answer = await client.ask("join", room=room)
            assert answer["ok"] is True, answer
        return client

    return open_
