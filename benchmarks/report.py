"""What a run found: a table for the screen, and results/latest.json."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django

from benchmarks.registry import BENCHMARKS, Benchmark, Figure

REPOSITORY = Path(__file__).resolve().parents[1]
LATEST = REPOSITORY / "benchmarks" / "results" / "latest.json"
HEADINGS = ("benchmark", "value", "baseline", "ratio", "goal", "")


@dataclass
class Report:
    """Collects figures. `services` says what the run used ({"database": "PostgreSQL 15.20", …})."""

    services: Mapping[str, str]
    figures: list[tuple[Benchmark, Figure]] = field(default_factory=list)
    skipped: list[tuple[Benchmark, str]] = field(default_factory=list)

    def table(self) -> str:
        rows = [HEADINGS]
        for benchmark, figure in self.figures:
            unit = "" if benchmark.unit == "ratio" else f" {benchmark.unit}"
            rows.append(
                (
                    benchmark.name,
                    f"{_short(figure.value)}{unit}",
                    "" if figure.baseline is None else f"{_short(figure.baseline)}{unit}",
                    "" if figure.ratio is None else f"{figure.ratio:.2f}",
                    str(benchmark.goal or ""),
                    {True: "met", False: "MISSED", None: ""}[_met(benchmark, figure)],
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("─" * width for width in widths).rstrip())
        lines += [f"skipped: {benchmark.name}: {reason}" for benchmark, reason in self.skipped]
        return "\n".join(lines)

    def write(self, file: Path = LATEST) -> None:
        """Replace what was measured. What was not stays as it is in the file, if it is of this machine."""
        new = self.as_json()
        with contextlib.suppress(OSError, ValueError, KeyError):
            old = json.loads(file.read_text())
            if old["machine"] == new["machine"]:
                measured = {result["name"] for result in new["results"]}
                new["results"] += [result for result in old["results"] if result["name"] not in measured]
        places = {name: place for place, name in enumerate(BENCHMARKS)}
        new["results"] = sorted(
            (result for result in new["results"] if result["name"] in places), key=lambda it: places[it["name"]]
        )
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(new, indent=2, ensure_ascii=False) + "\n")

    def as_json(self) -> dict[str, Any]:
        """`{machine, commit, results}`: each result with the commit that it is of."""
        measured = commit()
        return {
            "machine": {**machine(), **self.services},
            "commit": measured,
            "results": [
                {
                    "name": benchmark.name,
                    "commit": measured,
                    "value": _rounded(figure.value),
                    "unit": benchmark.unit,
                    "baseline": _rounded(figure.baseline),
                    "ratio": _rounded(figure.ratio),
                    "goal": str(benchmark.goal) if benchmark.goal else None,
                    "met": _met(benchmark, figure),
                }
                for benchmark, figure in self.figures
            ],
        }


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "django": django.get_version(),
    }


def commit() -> str:
    """The commit that was measured, with a `+` when the files differed from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", ".", f":!{LATEST.relative_to(REPOSITORY)}") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _met(benchmark: Benchmark, figure: Figure) -> bool | None:
    return benchmark.goal.is_met(figure) if benchmark.goal else None


def _rounded(number: float | None) -> float | None:
    """Four digits: more would claim a precision that no run has."""
    return None if number is None else float(f"{number:.4g}")


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Text to the left, numbers to the right."""
    return [
        cell.rjust(width) if 1 <= column <= 3 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
