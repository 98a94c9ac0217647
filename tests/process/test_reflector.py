"""Test how much the daemon sends to forged addresses, with real sockets.

TFTP_REFLECTOR_SECONDS=60 repeats the measurement of the documents, with the default rate. `pytest
-s` prints the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forges addresses as on Linux")

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]

#: Seconds that the attack lasts.
SECONDS = float(os.environ.get("TFTP_REFLECTOR_SECONDS", "5"))

#: The honest machines and the options of the daemon. In a short attack, the burst of the default
#: rate would be a large part of all octets.
MACHINES, OPTIONS = (200, []) if SECONDS >= 60 else (30, ["--unproven-rate", "4k/s"])


@pytest.mark.parametrize("mode", [[], ["--single-port"]], ids=["own ports", "single port"])
def test_forged_reads_are_hardly_amplified(mode: list[str], tmp_path: Path) -> None:
    """Less than 3 octets are sent for each forged one, and the honest machines finish."""
    (tmp_path / "file").write_bytes(bytes(100_000))
    with Daemon(tmp_path, "--drain", "0", *OPTIONS, *mode, hosts=[HOST]) as daemon:
        command = [sys.executable, "-m", "benchmarks.reflector", HOST, str(daemon.port)]
        command += ["--seconds", str(SECONDS), "--machines", str(MACHINES)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
        print(done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["ratio"] < 3
        daemon.wait_for_line("over --unproven-rate")
