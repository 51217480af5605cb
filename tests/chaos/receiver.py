"""A receiver that remembers what it took, in the tests' own process: it is the one that is never killed."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Receiver:
    """`taken` counts answers of 200 by webhook-id; `bodies` holds what came under each id.

    Of `refuses` webhooks one is refused (503) the first time that it comes; 0: none.
    """

    def __init__(self, refuses: int = 0) -> None:
        self.taken: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.bodies: dict[str, set[bytes]] = {}
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(handler) -> None:
                body = handler.rfile.read(length := int(handler.headers["Content-Length"]))
                if len(body) < length:  # its sender died in the middle: nobody takes this for a webhook
                    handler.close_connection = True
                    return
                with lock:
                    id_ = handler.headers["webhook-id"]
                    self.bodies.setdefault(id_, set()).add(body)
                    is_refused = refuses > 0 and id_ not in self.refused and int(id_[-4:], 16) % refuses == 0
                    if is_refused:
                        self.refused.add(id_)
                    else:
                        self.taken[id_] += 1
                handler.send_response(503 if is_refused else 200)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(server, *args: object) -> None:
                """Senders are killed in the middle of a request: that is what this is about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.taken.values())
