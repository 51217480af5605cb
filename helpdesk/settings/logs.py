"""What the log leaves out."""

import logging
import socket

# Libraries that speak to the broker. What a task of ours raises is logged by `celery.app.trace`, whole.
_OF_THE_BROKER = frozenset({"celery", "kombu", "amqp", "redis"})


class BrokerTroubleInOneLine(logging.Filter):
    """That the broker is gone and is being waited for is worth a line each time it is tried, and not a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if _library(record.name) in _OF_THE_BROKER and record.name != "celery.app.trace" and _is_of_the_network(error):
            line = record.getMessage().partition("\n")[0]
            record.msg, record.args = line if str(error) in line else f"{line} ({error!r})", ()
            record.exc_info = None
        return True


def _library(module: str) -> str:
    return module.partition(".")[0]


def _is_of_the_network(error: BaseException | None) -> bool:
    """Whether it comes from a connection: it is such an error, or Celery's own that one led to."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return True
        library = _library(type(error).__module__)
        if library != "celery":
            return library in _OF_THE_BROKER
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


class WithoutRefusedTraces(logging.Filter):
    """Django adds a traceback to some refusals (a form that cannot be read, say). They are the client's, and one line
    tells them; what is our fault keeps its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            record.exc_info = None
        return True
