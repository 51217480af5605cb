"""Typed readers of environment variables. A wrong value stops start-up with one readable line."""

import os
import re
from ipaddress import ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_RATE = re.compile(r"[1-9]\d*/(s|sec|second|m|min|minute|h|hour|d|day)")


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def required(name: str, why: str) -> str:
    value = text(name)
    if not value:
        raise ImproperlyConfigured(f"{name} is not set: {why}")
    return value


def boolean(name: str, default: bool) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false (use 1 or 0)")


def integer(name: str, default: int, minimum: int = 0) -> int:
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number") from None
    if number < minimum:
        raise ImproperlyConfigured(f"{name}={number} is below the smallest allowed value, {minimum}")
    return number


def words(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list."""
    value = text(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else list(default)


def networks(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list of networks in CIDR notation."""
    found = words(name, default)
    for word in found:
        try:
            ip_network(word)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error} (write networks as 10.20.0.0/16)") from None
    return found


def ports(name: str, default: str) -> tuple[range, ...]:
    """Ports and spans of ports, separated by commas: `80,443,8000-8999`."""
    found = []
    for word in text(name, default).split(","):
        span = _PORTS.fullmatch(word.strip())
        low, high = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not 0 < low <= high < 65536:
            raise ImproperlyConfigured(f"{name}: {word.strip()!r} is no port and no span of ports such as 8000-8999")
        found.append(range(low, high + 1))
    return tuple(found)


def file(name: str) -> str | None:
    """The path of a file that can be read, or None."""
    value = text(name)
    if not value:
        return None
    try:
        with Path(value).open("rb"):
            return value
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: {value} cannot be read ({error.strerror})") from None


def rate(name: str, default: str) -> str:
    """How often something is allowed: `10/min`."""
    value = text(name, default)
    if not _RATE.fullmatch(value):
        raise ImproperlyConfigured(f"{name}={value!r} is no rate such as 10/sec, 10/min, 10/hour or 10/day")
    return value


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of: {', '.join(allowed)}")
    return value


def folder(name: str, default: Path) -> Path:
    """A folder that exists after this call and that we may write to."""
    path = Path(text(name, str(default))).expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name}={path} cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise ImproperlyConfigured(f"{name}={path} is not writable")
    return path
