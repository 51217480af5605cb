"""The sockets measured: throughput, memory, slow clients, delay. See docs/benchmarks.md."""
