"""Throttles without their Redis: they go on counting, and no request fails."""

import pytest
from django.core.cache import CacheHandler
from rest_framework.throttling import SimpleRateThrottle

from helpdesk.cache import RedisOrOwnMemory
from helpdesk.settings import backends
from tests.live.system import free_port


@pytest.fixture
def cache(monkeypatch) -> RedisOrOwnMemory:
    """The cache of an installation whose Redis is gone."""
    monkeypatch.setattr(RedisOrOwnMemory, "_silent_until", 0.0)
    cache = CacheHandler({"default": backends.cache(f"redis://127.0.0.1:{free_port()}/0")})["default"]
    yield cache
    cache._memory.clear()


def test_what_is_set_is_found_again(cache, caplog):
    assert cache.get("one", "nothing") == "nothing"
    cache.set("one", 1, 60)
    assert cache.get("one") == 1
    assert [record.getMessage() for record in caplog.records] == [
        "The cache does not answer (ConnectionError); throttles count in memory."
    ]


def test_who_is_first_is_first(cache):
    assert cache.add("one", 1, 60) is True
    assert cache.add("one", 2, 60) is False
    assert cache.delete("one") is True
    assert cache.add("one", 3, 60) is True
    assert cache.get("one") == 3


def test_requests_are_answered_and_counted(cache, api, agent, monkeypatch):
    monkeypatch.setattr(SimpleRateThrottle, "cache", cache)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {**SimpleRateThrottle.THROTTLE_RATES, "user": "2/min"})
    client = api(agent)
    assert [client.get("/api/users/me").status_code for _ in range(3)] == [200, 200, 429]
