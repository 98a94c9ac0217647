"""A part of a backend's tree as a backend: all names are below a prefix (the root of a client)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from twisted_tftp.backends.confined_names import confined_path, prefix_components
from twisted_tftp.backends.explaining import explain
from twisted_tftp.context import TransferContext
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend, lifecycle_of
from twisted_tftp.protocol.printable import printable


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class Subtree:
    """A backend for the files of another backend whose names begin with a prefix.

    A client can't leave the prefix: `..` is resolved as text, and may not lead out of it.
    """

    def __init__(self, backend: Any, prefix: str) -> None:
        """Wrap an L{IFileBackend}.

        @param prefix: the components that are put in front of each name, such as `/lab1`.
        @raise ValueError: the prefix is not valid.
        """
        self.backend = backend
        self._prefix = "".join(f"{part}/" for part in prefix_components(prefix))
        lifecycle = lifecycle_of(backend)
        self.check, self.start = lifecycle.check, lifecycle.start
        self.forget, self.stop = lifecycle.forget, lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file below the prefix.

        @raise FileNotFound: no file can have that name.
        @raise AccessViolation: the name leads out of the prefix, or to a directory.
        """
        return self.backend.open_reader(self._prefix + confined_path(path), context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file below the prefix; L{open_reader} lists the exceptions for the name."""
        return self.backend.open_writer(self._prefix + confined_path(path), context)

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return a line with the whole name, and what the wrapped backend says."""
        whole = self._prefix + confined_path(path)
        answer = yield explain(self.backend, whole, context)
        return [f"client root: /{printable(whole)}", *answer]
