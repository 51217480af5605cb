"""Comparing things fairly on a machine that does other things too."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name")

WARM_UP = 0.3
"""Seconds each variant runs unmeasured, so that caches, plans and connections are there. At least three calls."""


def median_times(
    variants: Mapping[Name, Callable[[], object]],
    *,
    rounds: int = 25,
    calls: int = 4,
    seconds: float = 30.0,
    before: Callable[[], object] = lambda: None,
) -> dict[Name, float]:
    """Seconds that one call of each variant takes: the median of `rounds` rounds of `calls` calls.

    Every round runs every variant, by turns forwards and backwards: what slows the machine down for a while slows
    all of them. It ends after `seconds` even when fewer rounds were run, but not before the fifth. `before` runs
    unmeasured ahead of each batch of calls.
    """
    gc.collect()
    gc.freeze()  # what the benchmarks hold need not be looked through between batches
    for call in variants.values():
        _warm_up(call, before)
    times: dict[Name, list[float]] = {name: [] for name in variants}
    deadline = time.perf_counter() + seconds
    for number in range(rounds):
        order = list(variants.items())
        for name, call in order if number % 2 else reversed(order):
            before()
            gc.collect()
            began = time.perf_counter()
            for _ in range(calls):
                call()
            times[name].append((time.perf_counter() - began) / calls)
        if number >= 4 and time.perf_counter() > deadline:
            break
    return {name: statistics.median(found) for name, found in times.items()}


def _warm_up(call: Callable[[], object], before: Callable[[], object]) -> None:
    before()
    began, count = time.perf_counter(), 0
    while count < 3 or (count < 50 and time.perf_counter() - began < WARM_UP):
        call()
        count += 1


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
