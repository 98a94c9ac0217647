"""Run the acceptance tests of py3tftp against our daemon: a script, not a test.

::

    git clone https://github.com/sirMackk/py3tftp
    python -m tests.peers.py3tftp_acceptance py3tftp

The tests need the UDP port 9069 of 127.0.0.1. They are not part of py3tftp's package, so this
needs a checkout. `test_py3tftp` has the same cases as tests of our own. The exit status is 0 if
only the tests in `DIFFERENT` fail.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import unittest
from pathlib import Path

from tests.support.daemon import Daemon

#: The request port that the tests use.
PORT = 9069

#: Seconds that a test waits for a datagram. (The tests themselves wait forever.)
ANSWER_TIMEOUT = 8.0

#: The tests that fail, each with the reason.
DIFFERENT = {
    "rfc1350_test.TestWRQ.test_drop_client_connection": "it expects the first block of an upload "
    "that never ended as a file; here a file appears whole or not at all",
    "rfc2347_test.TestOptions.test_oack_echos_supported_opts": 'it asks in the mode "ocetet"; '
    'RFC 1350 section 5 allows only "netascii", "octet" and "mail"',
    "rfc7440_test.TestWindowsize.test_oack_windowsize": "it expects a window of 1234 blocks; "
    "RFC 7440 lets the server grant less, and 64 is the default of --max-windowsize",
    "rfc7440_test.TestWindowsize.test_smaller_windowsize_suggested": "it asks for 65536 blocks, "
    "which RFC 7440 does not allow, and expects 65535; RFC 7440 lets the server grant less, and "
    "block numbers of 16 bits do not tell two such windows apart",
}


def run(checkout: Path, folder: Path) -> unittest.TestResult:
    """Run the tests of `checkout` in `folder`, which becomes the root of the daemon."""
    shutil.copytree(checkout / "tests", folder / "tests")
    shutil.copy(checkout / "LICENSE", folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]  # theirs has the same name as ours
    sys.path.insert(0, str(folder))
    socket.setdefaulttimeout(ANSWER_TIMEOUT)
    os.chdir(folder)  # the tests read and write files in the working directory
    tests = unittest.TestLoader().discover("tests/acceptance", "*_test.py", str(folder))
    return unittest.TextTestRunner(verbosity=2).run(tests)


def main(checkout: str) -> int:
    """Run the tests, print the reasons of the failures, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="py3tftp-") as folder:
        ports = range(PORT, PORT + 1)
        with Daemon(folder, "--write", "create", hosts=["127.0.0.1"], ports=ports):
            result = run(Path(checkout), Path(folder))
    failed = {
        test.id().removeprefix("tests.acceptance.")
        for test, _ in (*result.failures, *result.errors)
    }
    for name in sorted(failed | DIFFERENT.keys()):
        known = DIFFERENT.get(name, "NOT EXPECTED TO FAIL")
        print(f"{name}: {known if name in failed else 'EXPECTED TO FAIL, but passed'}")
    return int(failed != DIFFERENT.keys())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
