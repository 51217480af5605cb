"""Programs made of snippets: files in a folder of their own, run beside the system and heard line by line."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from tests.documentation.pages import Page
from tests.live.inbox import Inbox
from tests.live.node_scripts import NODE
from tests.live.system import System


def lay_out(folder: Path, page: Page, system: System, *names: str) -> None:
    """Write the named snippets as files, with our port for the reader's, where Node finds the stock packages."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    for name in names:
        (folder / name).write_text(at_our_port(page.snippet(name), system), encoding="utf-8")


def at_our_port(snippet: str, system: System) -> str:
    return snippet.replace("localhost:5000", f"localhost:{system.port}")


class Program:
    """A running command; `lines` holds what it writes, a message `{"line": …}` each."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        self.lines = Inbox()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.lines.put({"line": line.rstrip("\n")})

    def says(self, text: str) -> dict[str, Any]:
        """Wait for a line that holds this text."""
        return self.lines.one(lambda message: text in message["line"], f"a line with “{text}”")

    def tell(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdin.close()
        self._reader.join()
        self._process.stdout.close()
