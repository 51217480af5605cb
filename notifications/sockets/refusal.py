from enum import IntEnum
from typing import Any


class CloseCode(IntEnum):
    """Why a plain connection was closed (a Socket.IO connection just loses its transport and comes back).

    All from the private range: Daphne's WebSocket library sends no other.
    """

    SLOW = 4008  # the outbox was full: come back with your cursor
    MALFORMED = 4400  # what was to sign in could not be understood
    UNAUTHENTICATED = 4401  # nobody signed in, or no longer
    NOT_FOUND = 4404  # no such path
    TOO_MANY = 4429  # connections or messages
    UNAVAILABLE = 4503  # the server has a problem or goes away: come back later


class Refusal(Exception):
    """What a client asked for is not done. `code` is stable, `message` is for people; both are sent to the client."""

    def __init__(
        self,
        code: str,
        message: str,
        close_code: CloseCode = CloseCode.UNAUTHENTICATED,
        retry_after: float | None = None,
    ) -> None:
        """`close_code` matters where the refusal ends the connection; `retry_after`, seconds, where it will pass."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code
        self.retry_after = retry_after

    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        return error if self.retry_after is None else {**error, "retry_after": self.retry_after}

    def answer(self) -> dict[str, Any]:
        """The answer to an operation."""
        return {"ok": False, "error": self.error()}


def invalid(message: str) -> Refusal:
    return Refusal("invalid", message, CloseCode.MALFORMED)


def not_found(what: str) -> Refusal:
    """The same for what does not exist and for what this person may not see."""
    return Refusal("not_found", f"There is no such {what}.")
