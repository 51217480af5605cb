"""`make bench`: how fast the product is, as ratios against a baseline of the same run (docs/benchmarks.md).

A benchmark is a function in one of the modules of `registry.MODULES`; the decorator there says what it is called and
what it is measured against. What benchmarks share (filled databases, a running system) they ask their `Run` for.
"""
