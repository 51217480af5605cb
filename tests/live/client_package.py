"""The package of `clients/js`: built once, and run in Node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .inbox import Inbox
from .node_scripts import NODE, NodeScript
from .system import REPOSITORY

PACKAGE = REPOSITORY / "clients" / "js"


def npm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("npm") or "npm", *arguments]
    return subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=300)


def install_into(folder: Path) -> None:
    """Make the built package, beside the stock ones, known to programs in a folder."""
    modules = folder / "node_modules"
    if modules.is_symlink():
        modules.unlink()
    modules.mkdir(exist_ok=True)
    for stock in (NODE / "node_modules").iterdir():
        if not stock.name.startswith(".") and not (modules / stock.name).exists():
            (modules / stock.name).symlink_to(stock)
    # A copy: of a link, Node and esbuild would look for React where the link leads, and find another one.
    target = modules / "@helpdesk" / "realtime"
    shutil.copytree(PACKAGE / "dist", target / "dist")
    shutil.copy(PACKAGE / "package.json", target)


class PackageClient(NodeScript):
    """A `HelpdeskClient` in a process of its own; `tokens` are given out one after the other, the last for ever."""

    script = "client.mjs"
    inbox: Inbox

    def __init__(self, url: str, *tokens: str, rooms: tuple[str, ...] = (), **options: Any) -> None:
        given = json.dumps({"url": url, "tokens": tokens, "rooms": rooms, **options})
        super().__init__(str(PACKAGE / "dist" / "index.js"), given)

    def said(self, kind: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for the `count`-th message of this kind with these fields."""

        def matches(message: dict[str, Any]) -> bool:
            return message["kind"] == kind and fields.items() <= message.items()

        return self.inbox.wait_for(matches, f"{kind} {fields}", count=count)[count - 1]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return self.inbox.all(lambda message: message["kind"] == kind)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [message["payload"] for message in self.all("event") if message["name"] == name]

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Wait for an event whose `data` has these fields."""
        return self.inbox.one(
            lambda message: (
                message["kind"] == "event"
                and message["name"] == name
                and data.items() <= message["payload"]["data"].items()
            ),
            f"{name} {data}",
        )["payload"]

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        before = len(self.inbox.all(lambda it: it["kind"] == "answer" and it["of"] == op))
        self.tell(op=op, **fields)
        return self.said("answer", count=before + 1, of=op)
