import http.client
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django.db import connections

from helpdesk.management.demo.seeding import has_demo_data
from helpdesk.management.serving.banner import banner
from helpdesk.management.serving.listening import PortTaken, open_sockets
from helpdesk.management.serving.lock import AlreadyServing, sole_server
from helpdesk.management.serving.preparation import prepare
from helpdesk.management.serving.supervisor import Program, StartFailed, Supervisor


class Command(BaseCommand):
    help = "Run everything: web, sockets and the webhook worker, until Ctrl-C. Migrates, and seeds an empty database."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT, help="default: PORT, or 5000")
        parser.add_argument(
            "--host",
            default="localhost",
            help="the address to listen on; 0.0.0.0 for every one (ALLOWED_HOSTS must then name this machine)",
        )

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        try:
            with sole_server(settings.DATA_DIR):
                self._serve(host, port)
        except AlreadyServing as error:
            raise CommandError(
                f"Process {error.pid} serves from {settings.DATA_DIR} already. Stop it, or set another DATA_DIR."
            ) from None
        except StartFailed as error:
            raise CommandError(str(error)) from None

    def _serve(self, host: str, port: int) -> None:
        if not 0 < port < 65536:
            raise CommandError(f"Cannot listen on {host}, port {port}: ports go from 1 to 65535.")
        try:
            sockets = open_sockets(host, port)
        except PortTaken:
            raise CommandError(f"Port {port} is taken. Try another one: PORT={port + 1} make run") from None
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}, port {port}: {error.strerror}.") from None
        for line in prepare():
            self._say(line)
        self._say("Starting …")
        url = os.environ.get("PUBLIC_URL", "").strip() or f"http://localhost:{port}"
        text = banner(url.rstrip("/"), has_demo_data(), self.style)
        connections.close_all()
        descriptors = tuple(listening.fileno() for listening in sockets)
        Supervisor(
            [
                Program("web", [*_python("web"), *map(str, descriptors)], descriptors),
                Program("worker", _python("worker")),
            ],
            environment={**os.environ, "PORT": str(port), "PUBLIC_URL": url},
            folder=settings.BASE_DIR,
            is_ready=lambda: _answers(*sockets[0].getsockname()[:2]),
            on_ready=lambda: self._say(text),
            say=self._say,
        ).run()

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"helpdesk.management.serving.{module}"]


def _answers(host: str, port: int) -> bool:
    """Whether the web process answers; with what is no matter here."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
