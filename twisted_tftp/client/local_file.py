"""Open the local file of a client's transfer: a path, a stream, or a reader or writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.client.streams import StreamReader, StreamWriter
from twisted_tftp.context import TransferContext
from twisted_tftp.interfaces import IFileReader, IFileWriter


class LocalFile:
    """The one local file of a transfer.

    @ivar has_path: whether it is a path, so that its octets can be read again.
    """

    def __init__(
        self, file: Any, in_thread: Callable[..., Deferred[Any]], write_behind: bool
    ) -> None:
        self._file = file
        self.has_path = isinstance(file, str | os.PathLike)
        self._in_thread = in_thread
        self._write_behind = write_behind

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Return a reader of the file, or a Deferred of it."""
        if self.has_path:
            backend, name = self._place("never")
            return backend.open_reader(name, context)
        return self._file if IFileReader.providedBy(self._file) else StreamReader(self._file)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Return a writer of the file, or a Deferred of it."""
        if self.has_path:
            backend, name = self._place("overwrite")
            return backend.open_writer(name, context)
        return self._file if IFileWriter.providedBy(self._file) else StreamWriter(self._file)

    def _place(self, write: str) -> tuple[FilesystemBackend, str]:
        # The user's own links are followed.
        folder, name = os.path.split(os.path.realpath(self._file))
        backend = FilesystemBackend(
            folder, write, cache=0, in_thread=self._in_thread, write_behind=self._write_behind
        )
        return backend, name
