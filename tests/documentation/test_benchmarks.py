"""What docs/benchmarks.md says of the benchmarks themselves; what they find is asserted by nothing."""

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from benchmarks import registry, report
from benchmarks.registry import BENCHMARKS, Figure
from benchmarks.report import Report
from tests.documentation.pages import Page

PAGE = Page("docs/benchmarks.md")


@pytest.fixture(autouse=True)
def _loaded() -> None:
    registry.load()


def test_each_is_described():
    described = [name.strip(" `").replace("…", "*") for names, *_ in PAGE.table("name") for name in names.split(",")]
    assert [name for name in BENCHMARKS if not any(fnmatchcase(name, pattern) for pattern in described)] == []


def test_a_run_of_a_part_leaves_the_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second, third = list(BENCHMARKS.values())[:3]
    file = tmp_path / "latest.json"

    def run(commit: str, *measured: registry.Benchmark, machine: str = "ours") -> list[tuple[str, str]]:
        monkeypatch.setattr(report, "commit", lambda: commit)
        monkeypatch.setattr(report, "machine", lambda: {"processor": machine})
        Report({}, [(benchmark, Figure(1.0)) for benchmark in measured]).write(file)
        return [(result["name"], result["commit"]) for result in json.loads(file.read_text())["results"]]

    assert run("a", third, first) == [(first.name, "a"), (third.name, "a")]
    assert run("b", second, third) == [(first.name, "a"), (second.name, "b"), (third.name, "b")]
    assert run("c", second, machine="another") == [(second.name, "c")]
    file.write_text("cut off")
    assert run("d", first) == [(first.name, "d")]
