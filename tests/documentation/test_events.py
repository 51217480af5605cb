"""`docs/events.md` is what the catalogue says."""

from pathlib import Path

from notifications import catalogue
from notifications.documentation import events_document
from tests.commands.shell import manage

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == events_document(), "run `manage.py document_events`"


def test_every_type_has_its_line():
    text = events_document()
    assert [type_ for type_ in catalogue.TYPES if text.count(f"\n| `{type_}` | `") != 1] == []


def test_the_command_writes_it(tmp_path):
    ended = manage("document_events", tmp_path / "events.md")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "events.md").read_text(encoding="utf-8") == events_document()


def test_a_file_that_cannot_be_written(tmp_path):
    ended = manage("document_events", tmp_path / "nowhere" / "events.md")
    assert ended.code == 1
    assert "No such file or directory" in ended.err
