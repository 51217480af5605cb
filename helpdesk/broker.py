"""Celery's broker where there is no server: kombu's folders, written so that nobody reads half a file.

kombu opens a message's file under its final name and then writes it; a reader that is faster finds it empty, and the
worker ends with an error. Here every file is complete when it gets its name, whenever a process may be killed.
"""

import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        # Sorted by name, files are read in the order in which they were written.
        _write(Path(self.data_folder_out) / f"{time.time_ns():020}_{uuid4().hex}.{queue}.msg", payload)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # Two who bind at once both write the same: there is one queue.
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        table = self.get_table(exchange)
        if binding not in table:
            _write(self._exchange_file(exchange), [*table, binding])


class Transport(filesystem.Transport):
    Channel = Channel


def _write(path: Path, content: Any) -> None:
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    part.write_text(dumps(content), encoding="utf-8")
    os.replace(part, path)
