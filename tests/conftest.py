"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# An example may take any time: machines are shared, and speed is for the benchmarks.
settings.register_profile("any speed", parent=settings.default, deadline=None)
settings.load_profile("any speed")
