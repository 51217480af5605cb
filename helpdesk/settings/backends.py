"""Which database, channel layer, cache and broker: one environment variable decides each."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from redis.connection import parse_url

# Large enough that a burst of one commit never fills it; the layer drops messages silently when it is full.
CHANNEL_CAPACITY = 20_000


def database(url: str, pool_size: int) -> dict[str, Any]:
    """DATABASES["default"] for a `sqlite:///…` or `postgres://…` URL."""
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}") from None
    engine = config.get("ENGINE", "")
    options = config.setdefault("OPTIONS", {})
    if engine.endswith("sqlite3"):
        # IMMEDIATE takes the write lock at BEGIN, so that a transaction never fails half-way with "database is
        # locked"; WAL lets readers read meanwhile. `synchronous` stays FULL: what the API confirmed survives
        # a power cut.
        options.update(
            transaction_mode="IMMEDIATE",
            timeout=30,
            init_command="PRAGMA journal_mode=WAL; PRAGMA busy_timeout=30000;",
        )
    elif engine.endswith("postgresql"):
        if pool_size:
            options["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 10}
        else:
            config["CONN_MAX_AGE"] = 60
        config["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured("DATABASE_URL must be sqlite:///… or postgres://…: nothing else is tested")
    return config


def channel_layer(redis_url: str) -> dict[str, Any]:
    if not redis_url:
        return {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"capacity": CHANNEL_CAPACITY},
        }
    return {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # Redis' channels know no databases: without its number, installations that share a server hear each other.
        "CONFIG": {"hosts": [redis_url], "prefix": f"helpdesk.{parse_url(redis_url).get('db', 0)}."},
    }


def cache(redis_url: str) -> dict[str, Any]:
    if not redis_url:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    return {
        "BACKEND": "helpdesk.cache.RedisOrOwnMemory",
        "LOCATION": redis_url,
        "KEY_PREFIX": "helpdesk",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }


def broker(broker_url: str, redis_url: str, data_dir: Path) -> tuple[str, dict[str, Any]]:
    """Celery's broker and its transport options. Without a server: folders that two sibling processes share.

    The broker carries bells, never payloads: what is lost in it is only late, until the next sweep.
    """
    url = broker_url or redis_url
    if url:
        if urlsplit(url).scheme not in {"redis", "rediss", "amqp", "amqps"}:
            raise ImproperlyConfigured("CELERY_BROKER_URL must be redis://… or amqp://…")
        # Whoever rings a bell is a request: better no bell than a request that waits for a broker.
        return url, {"socket_connect_timeout": 1} if url.startswith("redis") else {"connect_timeout": 1}
    folder = data_dir / "broker"
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return "filesystem://localhost", {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.1,  # seconds; kombu's default of 1 would be felt by every integrator
    }


def checked_redis_url(url: str) -> str:
    if url and urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured("REDIS_URL must be redis://…, rediss://… or unix://…")
    return url
