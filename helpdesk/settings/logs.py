"""What the log leaves out."""

import logging


class WithoutRefusedTraces(logging.Filter):
    """Django adds a traceback to some refusals (a form that cannot be read, say). They are the client's, and one line
    tells them; what is our fault keeps its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            record.exc_info = None
        return True
