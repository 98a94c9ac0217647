"""Be as slow as a busy disk: a backend for the soak's daemon, and threads for its clients."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.context import TransferContext

#: What a name begins with whose file takes its time to open; the rest is the file's name.
SLOW = "slow-"

#: Seconds that a busy disk takes, from and to.
DELAY = (0.02, 0.05)


class SlowBackend(FilesystemBackend):
    """Files of a folder; those that are asked for as `slow-NAME` are opened late."""

    def __init__(self, reactor: Any, *args: Any, **settings: Any) -> None:
        """Wait with L{IReactorTime} `reactor`; the rest is for the L{FilesystemBackend}."""
        super().__init__(*args, **settings)
        self._reactor = reactor

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file, late where its name says so."""
        return self._late(super().open_reader, path, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file, late where its name says so."""
        return self._late(super().open_writer, path, context)

    def _late(self, open_file: Callable[..., Any], path: str, context: TransferContext) -> Any:
        name = path.removeprefix(SLOW)
        if name == path:
            return open_file(path, context)
        return deferLater(self._reactor, random.uniform(*DELAY), open_file, name, context)


def slow_threads(reactor: Any) -> Callable[..., Deferred[Any]]:
    """Return an `in_thread` of a L{TFTPClient} that takes as long as a busy disk."""

    def in_thread(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        def run() -> Deferred[Any]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

        return deferLater(reactor, random.uniform(*DELAY), run)

    return in_thread
