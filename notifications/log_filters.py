"""What becomes of log records that are not ours."""

import logging


class OneLine(logging.Filter):
    """Libraries log a traceback for what clients and networks do every day; ours are logged where they happen."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.msg, record.args = f"{record.getMessage()} ({record.exc_info[1]!r})", ()
            record.exc_info = None
        return True
