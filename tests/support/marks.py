"""Marks that skip tests where the system can't run them."""

from __future__ import annotations

import os
import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
