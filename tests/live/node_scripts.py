"""Node programs driven over stdin and stdout, one JSON message a line."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from .inbox import Inbox

NODE = Path(__file__).parent / "node"


class NodeScript:
    """A running script of `tests/live/node`; what it says lands in `inbox`."""

    script: str

    def __init__(self, *arguments: str) -> None:
        self.inbox = Inbox()
        environment = {**os.environ, "NODE_NO_WARNINGS": "1"}
        self.process = subprocess.Popen(
            [shutil.which("node") or "node", self.script, *arguments],
            cwd=NODE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.heard(json.loads(line))
        self.heard({"kind": "exit"})

    def heard(self, message: dict[str, Any]) -> None:
        self.inbox.put(message)

    def tell(self, **message: Any) -> None:
        with self._writing:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
