"""Redis: whether it answers, and whether it would throw away what is ours."""

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from notifications.health import Check

PATIENCE = 3  # seconds
# Of maxmemory: above it, little is left before Redis refuses writes or evicts.
NEARLY_FULL = 0.9


def redis(name: str) -> Check:
    if not settings.REDIS_URL:
        return Check(name, True, "not used: one process serves, with channel layer and cache inside")
    try:
        with Redis.from_url(settings.REDIS_URL, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as server:
            found = server.info()
    except (RedisError, OSError) as error:
        return Check(
            name,
            False,
            f"does not answer: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Is REDIS_URL right and the server running? Until then sockets are silent and webhooks start late.",
        )
    limit, used, policy = found.get("maxmemory", 0), found.get("used_memory", 0), found.get("maxmemory_policy", "")
    detail = f"{found.get('redis_version', 'unknown version')}, {used / 1024**2:.0f} MiB used"
    if not limit:
        return Check(name, True, f"{detail}, without a limit")
    detail += f" of {limit / 1024**2:.0f}, {policy}"
    if used > NEARLY_FULL * limit:
        return Check(name, False, detail, "It is nearly full. Raise maxmemory, or look what else is in this Redis.")
    if policy.startswith("allkeys"):
        return Check(
            name,
            True,
            detail,
            "When it is full, Redis throws away bells of the broker and counters of requests. Set maxmemory-policy to "
            "noeviction or volatile-lru, or give us a Redis of our own.",
        )
    return Check(name, True, detail)
