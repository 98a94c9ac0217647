"""Run `twistd` or `txtftp` without starting Python: a process that has imported both forks.

The standard library's fork server imports the commands once. It does not import the reactor.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.scripts.twistd import run as twistd

from tests.support.daemon import TIMEOUT
from tests.support.worker_network import enter_network
from twisted_tftp import tap
from twisted_tftp.cli.main import main as txtftp

#: The entry points of the commands; `tap` is imported only to be there when `twistd` needs it.
__all__ = ["ForkedCommand", "tap", "twistd", "txtftp"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class ForkedCommand:
    """A command that runs in a child process, in the system's temporary directory.

    Its standard input is empty, as in all processes of `multiprocessing`. Its output goes to
    files.
    """

    def __init__(
        self, main: Callable[[], Any], *words: str | Path | int, network: str | None = None
    ) -> None:
        """Start the command.

        @param main: its entry point: L{twistd} or L{txtftp}.
        @param words: its name and its arguments.
        @param network: the path of a network namespace; None for that of this process.
        """
        self._words = [str(word) for word in words]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("output", "errors")]
        target = (main, network, self._words, self._files)
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
            raise AssertionError(f"no end in {TIMEOUT} s: {self._words}")
        with self._folder:
            output, errors = (path.read_text(errors="backslashreplace") for path in self._files)
        return subprocess.CompletedProcess(self._words, status, output, errors)


def _run(
    main: Callable[[], Any], network: str | None, words: list[str], files: list[Path]
) -> None:
    """Run the command in a forked process, and exit with its status."""
    if network is not None:
        enter_network(network)
    for descriptor, path in enumerate(files, 1):
        with path.open("wb") as opened:
            os.dup2(opened.fileno(), descriptor)
    os.chdir(tempfile.gettempdir())
    os.environ["COLUMNS"] = "80"
    sys.argv = words
    # `multiprocessing` has closed the first one.
    sys.__stdin__ = sys.stdin  # type: ignore[assignment]
    sys.exit(main())
