"""Open the local file of a client's transfer: a path, a stream, or a reader or writer."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.defer import Deferred

from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.threads import InThread
from twisted_tftp.client.streams import ReadableStream, StreamReader, StreamWriter, WritableStream
from twisted_tftp.context import TransferContext
from twisted_tftp.interfaces import IFileReader, IFileWriter

#: What an upload can read from.
Source = str | os.PathLike[str] | ReadableStream | IFileReader

#: What a download can write to.
Sink = str | os.PathLike[str] | WritableStream | IFileWriter


class LocalFile:
    """The local file of one transfer.

    @ivar has_path: whether it is a path, so that it can be opened again.
    """

    def __init__(self, file: Source | Sink, *, in_thread: InThread, write_behind: bool) -> None:
        """Set up, without opening the file.

        @param in_thread: runs the system calls on a path that may block.
        @param write_behind: whether a path is written in threads (see `TFTPClient`).
        """
        self._file = file
        self.has_path = isinstance(file, str | os.PathLike)
        self._in_thread = in_thread
        self._write_behind = write_behind

    def open_reader(self, context: TransferContext) -> IFileReader | Deferred[Any]:
        """Return a reader of the file, or a Deferred of an L{IFileReader}."""
        if isinstance(self._file, str | os.PathLike):
            backend, name = self._backend_of(self._file, "never")
            return backend.open_reader(name, context)
        if IFileReader.providedBy(self._file):
            return self._file
        return StreamReader(cast(ReadableStream, self._file))

    def open_writer(self, context: TransferContext) -> IFileWriter | Deferred[Any]:
        """Return a writer of the file, or a Deferred of an L{IFileWriter}."""
        if isinstance(self._file, str | os.PathLike):
            backend, name = self._backend_of(self._file, "overwrite")
            return backend.open_writer(name, context)
        if IFileWriter.providedBy(self._file):
            return self._file
        return StreamWriter(cast(WritableStream, self._file))

    def _backend_of(
        self, path: str | os.PathLike[str], write: str
    ) -> tuple[FilesystemBackend, str]:
        """Return a backend of the folder of `path`, and the name of the file in it.

        The user's symbolic links are followed first, because the backend refuses links that lead
        out of its folder.
        """
        folder, name = os.path.split(os.path.realpath(path))
        backend = FilesystemBackend(
            folder,
            write,
            cache=0,
            literal_names=True,
            upload_mode=None,
            in_thread=self._in_thread,
            write_behind=self._write_behind,
        )
        return backend, name
