"""The cache, which holds the counters of the throttles, and whose test of a webhook is running.

While Redis is away each process counts for itself: for want of a counter no request may fail, and no sign-in be free.
"""

import logging
import time
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# A Redis that did not answer is left alone for so long, seconds: requests must not queue up before it.
PAUSE_AFTER_FAILURE = 5.0


class RedisOrOwnMemory(RedisCache):
    """Redis, or this process's memory where Redis does not answer: for the operations that are used."""

    _silent_until = 0.0

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._memory = LocMemCache("while Redis is away", params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._either("get", key, default, version)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._either("set", key, value, timeout, version)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return bool(self._either("add", key, value, timeout, version))

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(self._either("delete", key, version))

    def _either(self, operation: str, *arguments: Any) -> Any:
        if time.monotonic() >= RedisOrOwnMemory._silent_until:
            try:
                return getattr(super(), operation)(*arguments)
            except RedisError as error:
                # For the whole process: there is a cache object for each thread.
                RedisOrOwnMemory._silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
                logger.warning("The cache does not answer (%s); throttles count in memory.", type(error).__name__)
        return getattr(self._memory, operation)(*arguments)
