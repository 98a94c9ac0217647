"""Run `txtftp` on a host without starting Python: a process that has imported it forks.

The standard library's fork server imports the command once. It does not import the reactor.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.daemon import TIMEOUT
from tests.support.worker_network import enter_network
from twisted_tftp.cli.main import main

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class ForkedTxtftp:
    """A `txtftp` command that runs in a network namespace.

    Its standard input is empty, as in all processes of `multiprocessing`.
    """

    def __init__(self, network: str, *arguments: str | Path | int) -> None:
        """Start the command.

        @param network: the path of the namespace.
        """
        self._words = [str(argument) for argument in arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("output", "errors")]
        target = (network, self._words, self._files)
        self._process = _context.Process(target=_run, args=target, daemon=True)
        self._process.start()

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait until the command has ended; return its status and output.

        @raise AssertionError: it has not ended in time; it was killed.
        """
        self._process.join(TIMEOUT)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"txtftp has not ended in {TIMEOUT} s: {self._words}")
        with self._folder:
            output, errors = (path.read_text(errors="backslashreplace") for path in self._files)
        return subprocess.CompletedProcess(self._words, status, output, errors)


def _run(network: str, words: list[str], files: list[Path]) -> None:
    """Run the command in a forked process, and exit with its status."""
    enter_network(network)
    for descriptor, path in enumerate(files, 1):
        with path.open("wb") as opened:
            os.dup2(opened.fileno(), descriptor)
    os.chdir(tempfile.gettempdir())
    os.environ["COLUMNS"] = "80"
    sys.argv = ["txtftp", *words]
    sys.exit(main())
