"""A page of the product's own origin in a real Chromium, running snippets of the seed (`node/browser.js`)."""

from collections.abc import Callable
from typing import Any

from .node_scripts import NodeScript


class SeedPage(NodeScript):
    script = "browser.js"

    def __init__(self, chromium: str, base: str, page: str, **sign_in: str) -> None:
        super().__init__()
        self.tell(chromium=chromium, base=base, page=page, **sign_in)

    def heard(self, message: dict[str, Any]) -> None:
        if message["kind"] == "page_error":
            # Whatever a test waits for after this will not come: let it fail at once, with the reason.
            message["failed"] = True
        super().heard(message)

    def _one(self, matches: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        message = self.inbox.one(lambda message: matches(message) or message.get("failed", False), what)
        assert not message.get("failed"), message["message"]
        return message

    def signed_in(self) -> dict[str, Any]:
        message = self._one(lambda message: message["kind"] == "signed_in", "the page signed in")
        assert 200 <= message["status"] < 300, message
        return message["user"]

    def state(self, matches: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first state the page reported that matches."""
        return self._one(lambda message: message["kind"] == "state" and matches(message["state"]), what)["state"]

    def call(self, name: str, matches: Callable[[list[Any]], bool], what: str) -> list[Any]:
        """The arguments of the first matching call of a function that the seed leaves to its reader."""
        return self._one(
            lambda message: message["kind"] == "call" and message["name"] == name and matches(message["args"]),
            f"{name}(): {what}",
        )["args"]

    def response(self, method: str, path: str) -> int:
        """The status the page's own request was answered with."""
        return self._one(
            lambda message: message["kind"] == "response" and (message["method"], message["url"]) == (method, path),
            f"{method} {path}",
        )["status"]

    def errors(self) -> list[str]:
        return [message["message"] for message in self.inbox.all(lambda message: message["kind"] == "page_error")]
