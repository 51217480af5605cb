"""The one table of benchmarks: name, unit, baseline, goal, function.

A further benchmark is a function with the `benchmark` decorator, in a module that is named here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.run import Run

# In the order in which they run.
MODULES = (
    "benchmarks.api_reading",
    "benchmarks.api_writing",
    "benchmarks.told",
    "benchmarks.webhooks.figures",
    "benchmarks.sockets.speed",
    "benchmarks.sockets.slow",
    "benchmarks.sockets.scale",
    "benchmarks.sockets.delay",
    "benchmarks.sockets.takeover",
)


@dataclass(frozen=True)
class Figure:
    """What a benchmark found: its value and the baseline's, both in the benchmark's unit.

    `note` is a line for the person at the screen, such as which of several cases decided.
    """

    value: float
    baseline: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio, or on the value itself."""

    of: Literal["ratio", "value"]
    comparison: Literal["<=", ">="]
    bound: float

    def is_met(self, figure: Figure) -> bool:
        found = figure.ratio if self.of == "ratio" else figure.value
        if found is None:
            return False
        return found <= self.bound if self.comparison == "<=" else found >= self.bound

    def __str__(self) -> str:
        return f"{self.of} {self.comparison} {self.bound:g}"


def ratio_at_most(bound: float) -> Goal:
    return Goal("ratio", "<=", bound)


def ratio_at_least(bound: float) -> Goal:
    return Goal("ratio", ">=", bound)


def value_at_most(bound: float) -> Goal:
    return Goal("value", "<=", bound)


def value_at_least(bound: float) -> Goal:
    return Goal("value", ">=", bound)


class Skipped(Exception):
    """What the benchmark needs is not on this machine; the text says what."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    unit: str
    baseline: str
    """What the value is compared with, in words."""
    goal: Goal | None
    measure: Callable[["Run"], Figure]


BENCHMARKS: dict[str, Benchmark] = {}

Measure = Callable[["Run"], Figure]


def benchmark(name: str, *, unit: str, baseline: str, goal: Goal | None = None) -> Callable[[Measure], Measure]:
    """Register the function as the benchmark `name`; names stay, since results are compared by them."""

    def register(measure: Measure) -> Measure:
        if name in BENCHMARKS:
            raise ValueError(f"two benchmarks are called {name}")
        BENCHMARKS[name] = Benchmark(name, unit, baseline, goal, measure)
        return measure

    return register


def load() -> None:
    """Fill the table. Django must be set up."""
    for module in MODULES:
        import_module(module)


def chosen(pattern: str | None) -> list[Benchmark]:
    """The benchmarks with that name, or whose names match (`api.*`); all of them for None. ValueError for none."""
    found = [entry for entry in BENCHMARKS.values() if pattern is None or fnmatchcase(entry.name, pattern)]
    if not found:
        raise ValueError(f"No benchmark is called {pattern}. There are: {', '.join(BENCHMARKS)}")
    return found
