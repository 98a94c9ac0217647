"""Tests of the modules in `examples/`."""
