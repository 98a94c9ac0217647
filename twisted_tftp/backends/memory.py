"""A backend that keeps files in memory, for tests and generated files."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from twisted_tftp.backends.naming import components, with_slashes
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter
from twisted_tftp.policy import WriteMode


@implementer(IFileBackend)
class MemoryBackend:
    """A backend that serves the files of a dictionary.

    @ivar files: name (without a leading slash) to content. It may be changed at any time.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        write: str = "never",
        capacity: int | None = None,
    ) -> None:
        """Set up.

        @param files: name to content; they are copied into a new dictionary.
        @param write: `never`, `create` or `overwrite`.
        @param capacity: the most octets of all files together; None for no limit.
        """
        self.files = dict(files or {})
        self._write = WriteMode(write)
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

        @raise AccessViolation: `write` is `never`.
        @raise FileAlreadyExists: the file exists, and `write` is `create`.
        @raise DiskFull: the announced size does not fit.
        """
        if self._write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files")
        name = self._name(path)
        self.check_upload(name, context.announced_size or 0)
        return MemoryWriter(self, name)

    def check_upload(self, name: str, size: int) -> None:
        """Check that a file of `size` octets may be stored under `name`.

        @raise FileAlreadyExists: the file exists, and `write` is `create`.
        @raise DiskFull: the files would have more octets than `capacity`.
        """
        if self._write is WriteMode.CREATE and name in self.files:
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

    def __init__(self, backend: MemoryBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Append octets.

        @raise DiskFull: they do not fit.
        """
        self._backend.check_upload(self._name, len(self._data) + len(data))
        self._data += data

    def commit(self) -> None:
        """Store the file under its name.

        @raise FileAlreadyExists: the file was created meanwhile, and `write` is `create`.
        """
        self._backend.check_upload(self._name, len(self._data))
        self._backend.files[self._name] = bytes(self._data)

    def abort(self) -> None:
        """Drop the octets."""
        self._data.clear()
