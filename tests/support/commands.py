"""Run a command to its end, and keep its output."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.daemon import TIMEOUT


def run(
    *command: str | Path | int, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself, and return its status and output.

    @param prefix: a command that runs the command behind it, such as `setpriv`.
    """
    return subprocess.run(
        [*prefix, *map(str, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=TIMEOUT,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "COLUMNS": "80"},
    )
