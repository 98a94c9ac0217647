"""Measure this server and others under the same loads; see `python -m benchmarks --help`."""
