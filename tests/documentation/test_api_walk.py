"""The walk of `docs/api.md` and its session snippet, run as printed against a served system."""

import json
from pathlib import Path

import pytest

from tests.documentation.pages import Page
from tests.documentation.shells import difference, last_json, run
from tests.live.system import System

pytestmark = [pytest.mark.live, pytest.mark.once]

PAGE = Page("docs/api.md")


def test_the_walk(system: System, tmp_path: Path):
    steps = [snippet.text for snippet in PAGE.snippets if snippet.name == "walk"]
    outputs = run(steps, system, tmp_path)
    answers = dict(zip(steps, outputs, strict=True))
    assert "Invoice 4711" in outputs
    whole = last_json(outputs[-2])
    assert [comment["content"] for comment in whole["comments"]["results"]] == ["Which number is on it?"]
    assert [file["filename"] for file in whole["attachments"]["results"]] == ["invoice.txt"]
    assert (whole["status"], whole["tags"]) == ("open", ["billing"])
    assert last_json(outputs[-1])["error"]["fields"] == {"title": ["This field may not be blank."]}

    compared = 0
    for step, printed in zip(PAGE.snippets, PAGE.snippets[1:], strict=False):
        if step.name == "walk" and printed.language == "json":
            assert difference(json.loads(printed.text), last_json(answers[step.text])) == [], step.text
            compared += 1
    assert compared == 5


def test_the_session(system: System, tmp_path: Path):
    (output,) = run([PAGE.snippet("session")], system, tmp_path)
    assert output.startswith('{"user":null}')
    assert last_json(output) == {"unread": 0}
