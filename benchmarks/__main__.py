"""`python -m benchmarks [--name NAME]`: run the benchmarks, print a table, write results/latest.json.

Ends with 0 when everything asked for was measured (goals are shown, not enforced), 1 when a benchmark failed, 2 when it
was asked for something that cannot be, 130 after Ctrl-C. Nothing it made is left behind in any of these cases.
"""

import argparse
import os
import signal
import sys
import time
import traceback

from benchmarks import registry
from benchmarks.registry import Skipped
from benchmarks.report import LATEST, REPOSITORY, Report
from benchmarks.run import Run
from benchmarks.servers import Unusable, find_postgresql


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the product against baselines.")
    parser.add_argument("--name", help="one benchmark, or those that match (api.*)")
    parser.add_argument("--list", action="store_true", help="show the names, and measure nothing")
    arguments = parser.parse_args()
    # A service manager's or a CI's way of saying Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        postgresql, database = find_postgresql()
    except Unusable as error:
        return _refuse(str(error))
    with Run(postgresql, say=_say) as run:
        run.set_up_django()
        registry.load()
        try:
            chosen = registry.chosen(arguments.name)
        except ValueError as error:
            return _refuse(str(error))
        if arguments.list:
            for benchmark in chosen:
                _say(f"{benchmark.name:<40} {benchmark.goal or ''}")
            return 0
        _say(f"Benchmarks on {database}.")
        report = Report({"database": database})
        failed = _measure(run, chosen, report)
    _say("\n" + report.table())
    report.write()
    _say(f"\nWritten to {LATEST.relative_to(REPOSITORY)}. What each one measures: docs/benchmarks.md")
    return 1 if failed else 0


def _measure(run: Run, chosen: list[registry.Benchmark], report: Report) -> bool:
    """Whether one of them failed. The others are measured all the same."""
    failed = False
    for benchmark in chosen:
        _say(f"{benchmark.name} …")
        began = time.perf_counter()
        try:
            figure = benchmark.measure(run)
        except Skipped as skipped:
            report.skipped.append((benchmark, str(skipped)))
            _say(f"  skipped: {skipped}")
            continue
        except Exception:
            traceback.print_exc()
            failed = True
            continue
        report.figures.append((benchmark, figure))
        against = "" if figure.baseline is None else f", {figure.baseline:.4g} {benchmark.baseline}"
        ratio = "" if figure.ratio is None else f" (× {figure.ratio:.2f})"
        _say(f"  {figure.value:.4g} {benchmark.unit}{against}{ratio}, in {time.perf_counter() - began:.0f} s")
        if figure.note:
            _say(f"  {figure.note}")
    return failed


def _say(text: str) -> None:
    print(text, flush=True)


def _refuse(reason: str) -> int:
    print(f"benchmarks: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        print("\nStopped; what was made has been removed.", file=sys.stderr)
        code = 130
    # Threads of what was measured must not hold us up.
    sys.stdout.flush()
    os._exit(code)
