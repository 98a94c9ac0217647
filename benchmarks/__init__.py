"""Measure this server beside its peers, under one load; see `python -m benchmarks --help`."""
