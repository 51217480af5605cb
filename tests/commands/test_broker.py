"""The folder broker: what is not complete yet has no name that a reader looks for."""

import json
import os
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection

from helpdesk import broker


@pytest.fixture
def channel(tmp_path):
    folders = {name: tmp_path / name for name in ("data_folder_in", "control_folder")}
    for folder in folders.values():
        folder.mkdir()
    options = {name: str(folder) for name, folder in folders.items()}
    options["data_folder_out"] = options["data_folder_in"]
    with Connection("filesystem://localhost", transport_options=options) as connection:
        yield connection.channel()


def test_a_folder_means_this_broker(channel):
    assert isinstance(channel, broker.Channel)


def test_nothing_can_be_read_before_it_is_complete(channel, monkeypatch):
    seen = []

    def watched(source: Path, target: Path) -> None:
        """The moment before a file gets its name, at which a reader or a kill may come."""
        with pytest.raises(Empty):
            channel._get("celery")
        assert channel.get_table("celery") == []
        seen.append(json.loads(Path(source).read_text()))
        replace(source, target)

    replace = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(broker.os, "replace", watched)
        channel._put("celery", {"number": 1})
        assert channel._get("celery") == {"number": 1}
        channel._queue_bind("celery", "key", "", "celery")
    assert seen == [{"number": 1}, [["key", "", "celery"]]]
    assert [tuple(row) for row in channel.get_table("celery")] == [("key", "", "celery")]


def test_messages_come_in_the_order_in_which_they_were_written(channel):
    for number in range(20):
        channel._put("celery", number)
    assert [channel._get("celery") for _message in range(20)] == list(range(20))
    with pytest.raises(Empty):
        channel._get("celery")


def test_a_binding_is_written_once(channel):
    for queue in ("a", "b", "a"):
        channel._queue_bind("exchange", "", "", queue)
    assert [row.queue for row in channel.get_table("exchange")] == ["a", "b"]
