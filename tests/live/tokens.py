"""Access tokens that are wrong in one way each, made from a real one with the installation's own signing key."""

import time
from typing import Any

import jwt


class Forge:
    def __init__(self, key: str) -> None:
        self._key = key

    def _sign(self, token: str, key: str | None = None, **claims: Any) -> str:
        header = jwt.get_unverified_header(token)
        body = jwt.decode(token, options={"verify_signature": False})
        return jwt.encode({**body, **claims}, key or self._key, algorithm=header["alg"], headers=header)

    def expired(self, token: str) -> str:
        return self._sign(token, exp=int(time.time()) - 60)

    def expiring(self, token: str, seconds: int) -> str:
        return self._sign(token, exp=int(time.time()) + seconds)

    def forged(self, token: str) -> str:
        """Everything right but the key."""
        return self._sign(token, key="another key that is long enough for the algorithm")

    def refresh(self, token: str) -> str:
        """A token for renewing, used for access."""
        return self._sign(token, token_type="refresh")
