"""Open files as late as on a busy disk: a backend for a daemon, and threads for a client."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.context import TransferContext

#: The prefix of a requested name whose file opens late; the rest is the name of the file.
SLOW = "slow-"

#: Seconds that opening a file takes then, from and to.
DELAY = (0.02, 0.05)


class SlowBackend(FilesystemBackend):
    """A filesystem backend; a file that is requested as `slow-NAME` is opened late."""

    def __init__(self, reactor: Any, *args: Any, **settings: Any) -> None:
        """Set up; `reactor` provides the delay, the rest is for the L{FilesystemBackend}."""
        super().__init__(*args, **settings)
        self._reactor = reactor

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file, late if its name says so."""
        return self._late(super().open_reader, path, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file, late if its name says so."""
        return self._late(super().open_writer, path, context)

    def _late(self, open_file: Callable[..., Any], path: str, context: TransferContext) -> Any:
        name = path.removeprefix(SLOW)
        if name == path:
            return open_file(path, context)
        return deferLater(self._reactor, random.uniform(*DELAY), open_file, name, context)


def slow_threads(reactor: Any) -> Callable[..., Deferred[Any]]:
    """Return an `in_thread` for a L{TFTPClient} with which all calls take as long."""

    def in_thread(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        def run() -> Deferred[Any]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

        return deferLater(reactor, random.uniform(*DELAY), run)

    return in_thread
