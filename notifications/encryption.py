"""Secrets at rest: Fernet with rotating keys. The first key of FIELD_ENCRYPTION_KEYS writes, every key reads."""

from functools import cache, lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SecretUnreadable(Exception):
    """None of the configured keys opens a stored secret: a key was removed before the secrets were rewritten."""

    def __init__(self) -> None:
        super().__init__("A stored secret cannot be opened with any key of FIELD_ENCRYPTION_KEYS.")


@cache
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(secret: str) -> str:
    return _fernet(tuple(settings.FIELD_ENCRYPTION_KEYS)).encrypt(secret.encode()).decode()


def decrypt(stored: str) -> str:
    """The secret in `stored`; SecretUnreadable when no key fits."""
    return _decrypt(stored, tuple(settings.FIELD_ENCRYPTION_KEYS))


@lru_cache(maxsize=4096)
def _decrypt(stored: str, keys: tuple[str, ...]) -> str:
    # Remembered, since a worker signs with the same few secrets all day and opening one costs more than signing.
    try:
        return _fernet(keys).decrypt(stored.encode()).decode()
    except InvalidToken:
        raise SecretUnreadable() from None
