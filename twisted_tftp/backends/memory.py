"""Keep files in memory: for tests, for small generated trees, and as an example of a backend."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from twisted_tftp.backends.naming import WriteMode, components
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter


@implementer(IFileBackend)
class MemoryBackend:
    """Files by name, without leading slashes, in `files`.

    @ivar files: name to content; change it as you like while it is served.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        write: str = "never",
        capacity: int | None = None,
    ) -> None:
        """Serve `files`.

        @param write: `never`, `create` or `overwrite`.
        @param capacity: octets of all files together at most, or None.
        """
        self.files = dict(files or {})
        self._write = WriteMode(write)
        self._capacity = capacity

    def open_reader(self, path: str, context: TransferContext) -> MemoryReader:
        """Open the file as it is now.

        @raise FileNotFound: there is none of that name.
        """
        try:
            return MemoryReader(self.files[self._name(path)])
        except KeyError:
            raise FileNotFound() from None

    def open_writer(self, path: str, context: TransferContext) -> MemoryWriter:
        """Open a new file.

        @raise AccessViolation: no file may be written.
        @raise FileAlreadyExists: the file exists, and `write` is `create`.
        @raise DiskFull: the announced size does not fit.
        """
        if self._write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files")
        name = self._name(path)
        self.check(name, context.announced_size or 0)
        return MemoryWriter(self, name)

    def check(self, name: str, size: int) -> None:
        """Check that a file of `size` octets may be put under `name`."""
        if self._write is WriteMode.CREATE and name in self.files:
            raise FileAlreadyExists()
        if self._capacity is not None:
            others = sum(len(data) for other, data in self.files.items() if other != name)
            if others + size > self._capacity:
                raise DiskFull()

    @staticmethod
    def _name(path: str) -> str:
        parts = components(path)
        if ".." in parts:
            raise AccessViolation()
        return "/".join(parts)


@implementer(IFileReader)
class MemoryReader:
    """Read the octets `data`."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._view = memoryview(data)

    def read(self, offset: int, length: int) -> memoryview:
        """Return the octets there."""
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Let go of the octets."""
        self._view = memoryview(b"")


@implementer(IFileWriter)
class MemoryWriter:
    """Collect octets and put them into a L{MemoryBackend} at once."""

    def __init__(self, backend: MemoryBackend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Take octets.

        @raise DiskFull: they do not fit.
        """
        self._backend.check(self._name, len(self._data) + len(data))
        self._data += data

    def commit(self) -> None:
        """Put the file in its place.

        @raise FileAlreadyExists: it has appeared meanwhile, and `write` is `create`.
        """
        self._backend.check(self._name, len(self._data))
        self._backend.files[self._name] = bytes(self._data)

    def abort(self) -> None:
        """Drop the octets."""
        self._data.clear()
