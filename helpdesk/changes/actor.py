"""Who is acting. Set where a request is authenticated or by a command; nobody means the system itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any


class _Holder:
    """Keeps the user out of sight of whoever copies the context: asgiref looks into every value, and a lazy
    `request.user` would ask the database there, in the event loop, where it may not.
    """

    __slots__ = ("by_token", "user")

    def __init__(self, user: Any | None, by_token: bool = False) -> None:
        self.user = user
        self.by_token = by_token


_actor: ContextVar[_Holder | None] = ContextVar("actor", default=None)


def current_actor() -> Any | None:
    """The user on whose behalf this code runs, or None for the system."""
    holder = _actor.get()
    actor = holder.user if holder is not None else None
    return actor if actor is not None and getattr(actor, "is_authenticated", False) else None


def acts_by_token() -> bool:
    """Whether the actor came with an access token: such a caller may be a program, and one that nobody watches."""
    holder = _actor.get()
    return holder is not None and holder.by_token


def set_actor(user: Any | None, *, by_token: bool = False) -> Token:
    """Set the actor for the rest of this context; hand the token to `reset_actor`."""
    return _actor.set(_Holder(user, by_token))


def reset_actor(token: Token) -> None:
    _actor.reset(token)


@contextmanager
def acting_as(user: Any | None) -> Iterator[None]:
    """Everything changed inside the block was done by `user`."""
    token = set_actor(user)
    try:
        yield
    finally:
        reset_actor(token)
