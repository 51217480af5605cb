"""The ASGI application: sockets on both doors, and Django for the rest. Each process runs a publisher besides."""

# ruff: noqa: E402 - the environment, then Django, must be set up before what uses them is imported
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helpdesk.settings")
if os.environ.get("DATABASE_URL", "").startswith(("postgres:", "postgresql:")):
    # Under ASGI every request runs in a thread of its own, where a persistent connection would be used once.
    os.environ.setdefault("DATABASE_POOL_SIZE", "10")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # sets Django up; what follows imports models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from helpdesk import daphne_repairs, shutdown, uvicorn_repairs
from notifications import publisher
from notifications.sockets import plain_door, socketio_door

_socketio = re_path(rf"^{socketio_door.PATH}/", socketio_door.application)  # type: ignore[arg-type]  # ASGI

application = ProtocolTypeRouter(
    {
        "http": URLRouter([_socketio, re_path(r"", django_application)]),  # type: ignore[arg-type]
        "websocket": URLRouter(
            [
                _socketio,
                path("ws/", plain_door.PlainDoor.as_asgi()),
                re_path(r"", plain_door.nothing_here),  # type: ignore[arg-type]
            ]
        ),
        "lifespan": shutdown.lifespan,
    }
)

daphne_repairs.install()
uvicorn_repairs.install()
shutdown.watch_daphne()
publisher.start()
