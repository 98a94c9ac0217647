"""Several backends as one: the first one that has a file serves it.

Uploads go to the last backend. The order only matters for names that a backend does not have: any
other failure, for instance that a file may not be read, ends the search. Otherwise permissions,
or a disk with errors, would decide which file a client gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain, is_not_found
from twisted_tftp.backends.lifecycles import CombinedLifecycle
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import FileNotFound, from_os_error
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend


def open_first(
    backends: Sequence[Any], paths: Sequence[str], context: TransferContext, position: int = 0
) -> Any:
    """Open the first file that exists; return a reader, or a Deferred of one.

    @param backends: the backends, one for each path; at least one.
    @param paths: the path to open in each backend.
    @param position: how many of them are left out at the beginning.
    @raise FileNotFound: none of the files exists. This is the exception of the last backend.
    @raise TFTPError: any other failure of a backend; the backends after it are not asked.
    """
    while True:
        try:
            opened = backends[position].open_reader(paths[position], context)
        except (FileNotFound, OSError) as error:
            if position == len(paths) - 1 or not _is_missing(error):
                raise
            position += 1
        else:
            if isinstance(opened, Deferred) and position < len(paths) - 1:
                # A Deferred that waits for another one passes a cancellation on to it.
                opened.addErrback(_open_next, backends, paths, context, position + 1)
            return opened


def _open_next(
    failure: Failure,
    backends: Sequence[Any],
    paths: Sequence[str],
    context: TransferContext,
    position: int,
) -> Any:
    """Open the first file of those that are left, if the one before does not exist."""
    if _is_missing(failure.value):
        return open_first(backends, paths, context, position)
    return failure


def _is_missing(error: BaseException | None) -> bool:
    """Return whether an exception of `open_reader` says that there is no such file."""
    if isinstance(error, OSError):
        error = from_os_error(error)
    return isinstance(error, FileNotFound)


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class OverlayBackend:
    """A backend of several backends: they are asked in order, and the last one gets uploads.

    The next backend is asked only if the one before has no file of the name.

    @ivar backends: the backends, in order.
    """

    def __init__(self, backends: Sequence[Any], names: Iterable[str] = ()) -> None:
        """Set up.

        @param backends: one L{IFileBackend} or more.
        @param names: what each backend is called in the lines of L{explain}; empty if the backends
            say who they are.
        @raise ValueError: there is no backend, or not as many names as backends.
        """
        if not backends:
            raise ValueError("an overlay needs a backend")
        self.backends = tuple(backends)
        self._names = tuple(names) or ("",) * len(self.backends)
        if len(self._names) != len(self.backends):
            raise ValueError("each backend of an overlay needs a name")
        self._lifecycle = CombinedLifecycle(self.backends)
        self.check, self.start = self._lifecycle.check, self._lifecycle.start
        self.forget, self.stop = self._lifecycle.forget, self._lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open the file of the first backend that has it.

        @raise FileNotFound: none has it.
        """
        return open_first(self.backends, (path,) * len(self.backends), context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file in the last backend."""
        return self.backends[-1].open_writer(path, context)

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return the name of each backend that is asked, and what it says."""
        lines: list[str] = []
        for name, backend in zip(self._names, self.backends, strict=True):
            answer = yield explain(backend, path, context)
            lines += [f"backend: {name}", *answer] if name else answer
            if not is_not_found(answer):
                break
        return lines
