"""A backend that keeps files in memory, for tests and generated files."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from twisted_tftp.backends.naming import components, with_slashes
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter, IWriteModes
from twisted_tftp.policy import WriteMode


@implementer(IFileBackend, IWriteModes)
class MemoryBackend:
    """A backend that serves the files of a dictionary.

    @ivar files: name (without a leading slash) to content. It may be changed at any time.
    @ivar write_modes: the write modes that a request may bring (L{IWriteModes}).
    """

    write_modes = (WriteMode.NEVER, WriteMode.CREATE, WriteMode.OVERWRITE)

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        write: str = "never",
        capacity: int | None = None,
    ) -> None:
        """Set up.

        @param files: name to content; they are copied into a new dictionary.
        @param write: `never`, `create` or `overwrite`. The rules in the context of a request
            replace it.
        @param capacity: the most octets of all files together; None for no limit.
        @raise ValueError: there is no such write mode, or it is `version`.
        """
        self.files = dict(files or {})
        self._write = WriteMode(write)
        if self._write not in self.write_modes:
            raise ValueError(f"the memory backend has no write mode {write!r}")
        self._capacity = capacity

    def open_reader(self, path: str, context: TransferContext) -> MemoryReader:
        """Open a file; later changes of the dictionary do not affect the reader.

        @raise FileNotFound: there is no file with that name.
        """
        try:
            return MemoryReader(self.files[self._name(path)])
        except KeyError:
            raise FileNotFound() from None

    def open_writer(self, path: str, context: TransferContext) -> MemoryWriter:
        """Open a new file.

        @raise AccessViolation: the write mode is `never` or `version`.
        @raise FileAlreadyExists: the file exists, and the write mode is `create`.
        @raise DiskFull: the announced size does not fit.
        """
        write = self._write if context.uploads is None else context.uploads.write
        if write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files")
        if write is WriteMode.VERSION:
            raise AccessViolation(detail="files in memory have no versions")
        may_replace = write is WriteMode.OVERWRITE
        name = self._name(path)
        self.check_upload(name, context.announced_size or 0, may_replace)
        return MemoryWriter(self, name, may_replace)

    def check_upload(self, name: str, size: int, may_replace: bool) -> None:
        """Check that a file of `size` octets may be stored under `name`.

        @param may_replace: whether an existing file may be replaced.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        @raise DiskFull: the files would have more octets than `capacity`.
        """
        if not may_replace and name in self.files:
            raise FileAlreadyExists()
        if self._capacity is not None:
            others = sum(len(data) for other, data in self.files.items() if other != name)
            if others + size > self._capacity:
                raise DiskFull()

    def _name(self, path: str) -> str:
        """Return the name of the file that `path` stands for.

        If no file has the literal name, each backslash is a slash.
        """
        name = self._literal_name(path)
        alternative = with_slashes(path)
        if alternative is None or name in self.files:
            return name
        return self._literal_name(alternative)

    @staticmethod
    def _literal_name(path: str) -> str:
        parts = components(path)
        if ".." in parts:
            raise AccessViolation()
        return "/".join(parts)


@implementer(IFileReader)
class MemoryReader:
    """The reader of a file in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._view = memoryview(data)

    def read(self, offset: int, length: int) -> memoryview:
        """Return octets of the file."""
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Release the octets."""
        self._view = memoryview(b"")


@implementer(IFileWriter)
class MemoryWriter:
    """A writer that collects octets, and stores them as a file of a L{MemoryBackend}."""

    def __init__(self, backend: MemoryBackend, name: str, may_replace: bool = False) -> None:
        self._backend = backend
        self._name = name
        self._may_replace = may_replace
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Append octets.

        @raise DiskFull: they do not fit.
        """
        self._backend.check_upload(self._name, len(self._data) + len(data), self._may_replace)
        self._data += data

    def commit(self) -> None:
        """Store the file under its name.

        @raise FileAlreadyExists: the file was created meanwhile and may not be replaced.
        """
        self._backend.check_upload(self._name, len(self._data), self._may_replace)
        self._backend.files[self._name] = bytes(self._data)

    def abort(self) -> None:
        """Drop the octets."""
        self._data.clear()
