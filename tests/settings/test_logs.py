"""What the log leaves out, and what it must not."""

import logging
import sys

import kombu.exceptions
import pytest
import redis.exceptions
from celery.beat import SchedulingError

from helpdesk.settings.logs import BrokerTroubleInOneLine


def record_of(logger: str, error: Exception, cause: Exception | None = None, message: str = "Something") -> str:
    """What the handler writes of an error that a library logs with its traceback."""
    try:
        raise error from cause
    except Exception:
        record = logging.LogRecord(logger, logging.ERROR, "x.py", 1, f"{message}: %s\n%s", ("first", "second"), None)
        record.exc_info = sys.exc_info()
    assert BrokerTroubleInOneLine().filter(record)
    return logging.Formatter("%(message)s").format(record)


@pytest.mark.parametrize(
    ("logger", "error", "cause"),
    [
        ("celery.worker.consumer.consumer", ConnectionResetError(104, "Connection reset"), None),
        ("celery.beat", SchedulingError("Couldn't apply it"), redis.exceptions.ConnectionError("refused")),
        ("kombu.transport.redis", redis.exceptions.TimeoutError("Timeout"), None),
        ("kombu.message", kombu.exceptions.OperationalError("gone"), None),
    ],
)
def test_a_broker_that_is_gone_is_one_line(logger, error, cause):
    assert record_of(logger, error, cause) == f"Something: first ({error!r})"


def test_what_the_line_says_already_is_not_repeated():
    error = ConnectionRefusedError("refused")
    assert record_of("celery.beat", error, message="refused") == "refused: first"


@pytest.mark.parametrize(
    ("logger", "error"),
    [
        ("celery.app.trace", ConnectionResetError(104, "Connection reset")),
        ("celery.beat", ValueError("a bug")),
        ("kombu.transport.filesystem", PermissionError(13, "Permission denied", "/var/lib/helpdesk/broker")),
        ("notifications.publisher", ConnectionResetError(104, "Connection reset")),
    ],
)
def test_a_mistake_keeps_its_traceback(logger, error):
    assert "Traceback" in record_of(logger, error)


def test_a_mistake_made_while_a_connection_was_lost_keeps_it_too():
    error = ValueError("a bug")
    error.__context__ = ConnectionResetError(104, "Connection reset")
    assert "Traceback" in record_of("celery.beat", error, error.__context__)
