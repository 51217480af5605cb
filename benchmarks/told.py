"""How soon people are told: from the API's answer to the socket event, and to the webhook at a fast receiver.

Agent comments on a customer's ticket; the customer has a plain WebSocket that joined `tickets` and `comments`, and a
webhook. The system runs as `make run` starts it, sockets, worker and all in their own processes.
"""

import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from benchmarks.installation import Installation, Person, installation
from benchmarks.measuring import percentile
from benchmarks.registry import Figure, Skipped, benchmark
from benchmarks.run import Run
from benchmarks.servers import redis

COMMENTS, WARM_UP = 200, 20
PAUSE = (0.04, 0.16)
"""Seconds between two comments: uneven, so that nothing that looks every so often falls into step with them."""
ARRIVAL_SECONDS = 30


class Arrivals:
    """When (`time.perf_counter`) what speaks of which comment arrived. Only the first time counts."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._changed = threading.Condition()

    def note(self, comment_id: str) -> None:
        now = time.perf_counter()
        with self._changed:
            self._times.setdefault(comment_id, now)
            self._changed.notify_all()

    def of(self, comment_ids: list[str]) -> list[float]:
        """Once all of them are there. RuntimeError when one is not told at all."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._times.keys() >= set(comment_ids), ARRIVAL_SECONDS):
                raise RuntimeError(f"{len(set(comment_ids) - self._times.keys())} comments were never told")
            return [self._times[id_] for id_ in comment_ids]


@dataclass
class Delays:
    """Milliseconds, one of each a comment."""

    answer: list[float] = field(default_factory=list)
    """From the request to the API's answer."""
    socket: list[float] = field(default_factory=list)
    """From that answer to the socket event; below zero when the event was there first."""
    receiver: list[float] = field(default_factory=list)
    """From that answer to the webhook's arrival."""

    def figure(self, of: Callable[["Delays"], list[float]], percent: int) -> Figure:
        return Figure(percentile(of(self), percent), percentile(self.answer, percent))


@contextlib.contextmanager
def embedded(run: Run) -> Iterator[Delays]:
    """As `make run` is out of the box: SQLite, everything in one process but the worker."""
    folder = run.folder / "embedded"
    with installation(folder, {}) as system:
        delays = _measure(system)
    yield delays


@contextlib.contextmanager
def services(run: Run) -> Iterator[Delays]:
    """The same on PostgreSQL and Redis."""
    if run.postgresql is None:
        raise Skipped("there is no PostgreSQL to use")
    folder = run.folder / "services"
    with run.postgresql.database("told") as name, redis(run.folder) as redis_url:
        if redis_url is None:
            raise Skipped("there is no redis-server")
        with installation(folder, {"DATABASE_URL": run.postgresql.url_of(name), "REDIS_URL": redis_url}) as system:
            delays = _measure(system)
    yield delays


def _measure(system: Installation) -> Delays:
    customer, agent = system.person("customer"), system.person("agent")
    ticket = customer.ask("POST", "/api/tickets", {"title": "How soon am I told?", "description": "Soon."})
    delays, pause = Delays(), random.Random(3)
    with _socket(customer) as at_socket, _receiver(customer) as at_receiver:
        posted: list[tuple[str, float]] = []
        for number in range(WARM_UP + COMMENTS):
            began = time.perf_counter()
            comment = agent.ask("POST", f"/api/tickets/{ticket['id']}/comments", {"content": f"Answer {number}."})
            answered = time.perf_counter()
            posted.append((comment["id"], answered))
            delays.answer.append((answered - began) * 1000)
            time.sleep(pause.uniform(*PAUSE))
        ids, answers = [id_ for id_, _ in posted], [answered for _, answered in posted]
        for found, arrivals in ((delays.socket, at_socket), (delays.receiver, at_receiver)):
            found += [(arrived - answered) * 1000 for arrived, answered in zip(arrivals.of(ids), answers, strict=True)]
    return Delays(delays.answer[WARM_UP:], delays.socket[WARM_UP:], delays.receiver[WARM_UP:])


@contextlib.contextmanager
def _socket(person: Person) -> Iterator[Arrivals]:
    """The person's WebSocket, and when `comment.update` events arrive on it."""
    arrivals = Arrivals()
    with connect(
        f"ws://localhost:{person.port}/ws/",
        subprotocols=[Subprotocol("helpdesk.v1"), Subprotocol(f"bearer.{person.token}")],
        proxy=None,
        compression=None,
    ) as socket:
        for number, room in enumerate(("tickets", "comments")):
            socket.send(json.dumps({"type": "join", "id": number, "room": room}))
            while (frame := json.loads(socket.recv(ARRIVAL_SECONDS)))["type"] != "ack":
                pass
            if not frame["ok"]:
                raise RuntimeError(f"joining {room} was refused: {frame}")

        def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                for text in socket:
                    frame = json.loads(text)
                    if frame["type"] == "event" and frame["event"] == "comment.update":
                        arrivals.note(frame["data"]["id"])

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield arrivals
    reader.join(10)


@contextlib.contextmanager
def _receiver(person: Person) -> Iterator[Arrivals]:
    """A receiver that answers at once, set as the person's webhook, and when webhooks about comments arrive there."""
    arrivals = Arrivals()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps its connections, as receivers do

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            notification = json.loads(body)["notification"]
            arrivals.note(notification["related_id"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        person.ask("PUT", "/api/users/me/webhook", {"webhook_url": url})
        yield arrivals
    finally:
        server.shutdown()
        server.server_close()


def _register(prefix: str, delays: Callable[[Run], contextlib.AbstractContextManager[Delays]]) -> None:
    """The four figures of one way to run the system, which is measured once for all of them."""
    places: dict[str, Callable[[Delays], list[float]]] = {
        "socket_event": lambda found: found.socket,
        "receiver": lambda found: found.receiver,
    }
    for (place, of), percent in itertools.product(places.items(), (50, 99)):
        benchmark(
            f"{prefix}.{place}_p{percent}_ms",
            unit="ms",
            baseline="the comment's own request, up to the API's answer",
        )(lambda run, of=of, percent=percent: run.use(delays).figure(of, percent))


_register("told", embedded)
_register("told.services", services)
