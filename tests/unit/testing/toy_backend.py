"""A backend that keeps all promises of the interfaces, or breaks the one that a test names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from zope.interface import alsoProvides, implementer

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IFileBackend,
    IFileReader,
    IFileWriter,
    IWriteModes,
)
from twisted_tftp.policy import WriteMode

#: How long each step of the backend takes, in seconds: less than two rounds of waiting.
DELAY = 0.15


@implementer(IBackendLifecycle, IWriteModes)
class ToyBackend:
    """A backend whose files are opened, read and written with a delay.

    @ivar opened: the files that are open.
    """

    write_modes = (WriteMode.CREATE, WriteMode.OVERWRITE)

    def __init__(
        self, files: Mapping[str, bytes], clock: Clock, defect: str = "", space: int = 1 << 30
    ) -> None:
        self.files = dict(files)
        self.clock = clock
        self.defect = defect
        self.space = space
        self.opened: list[object] = []
        self.buffer = bytearray(100_000)
        if defect != "the backend provides no interface":
            alsoProvides(self, IFileBackend)
        if defect == "the backend has no open_writer":
            self.open_writer = None
        if defect == "the lifecycle has no forget":
            self.forget = None

    def later(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Call a function after the delay."""
        return deferLater(self.clock, DELAY, function)

    def open(self, make: Callable[[], Any]) -> Deferred[Any]:
        """Open a file after the delay; it is open while the caller waits."""
        file = make()

        def opened() -> None:
            if not opening.called:
                opening.callback(file)

        def cancel(_: Any) -> None:
            if self.defect != "a cancelled open goes on":
                call.cancel()
                self.opened.remove(file)

        opening: Deferred[Any] = Deferred(cancel)
        self.opened.append(file)
        call = self.clock.callLater(DELAY, opened)
        return opening

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file for reading."""
        if self.defect == "an odd name is no TFTPError" and "\0" in path:
            raise ValueError("embedded null byte")
        if self.defect == "an odd name is served" and path == "../../../../etc/passwd":
            path = "small"
        if path not in self.files:
            if self.defect == "a missing file is ERROR 2":
                raise AccessViolation()
            if self.defect == "a message has two lines" and "\n" in path:
                raise FileNotFound(path)
            raise FileNotFound()
        return self.open(lambda: ToyReader(self, path))

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a file for writing."""
        uploads = context.uploads
        mode = WriteMode.OVERWRITE if uploads is None else uploads.write
        if mode not in self.write_modes and self.defect != "an unknown write mode is accepted":
            raise AccessViolation()
        if self.defect == "an odd name of an upload is no TFTPError" and "\0" in path:
            raise ValueError("embedded null byte")
        if self.defect == "an odd name of an upload is another file" and path == "..":
            path = "no-such-file"
        is_replacing = mode is WriteMode.OVERWRITE or self.defect == "create replaces"
        if path in self.files and not is_replacing:
            raise AccessViolation() if self.defect == "create is ERROR 2" else FileAlreadyExists()
        if self.defect == "an open writer shows its file":
            self.files.setdefault(path, b"")
        return self.open(lambda: ToyWriter(self, path, is_replacing))

    def check(self) -> None:
        """Do nothing."""

    def start(self) -> Any:
        """Do nothing, with a delay."""
        return self.later(lambda: None)

    def forget(self) -> None:
        """Do nothing."""
        if self.defect == "forget loses the files":
            self.files.clear()

    def stop(self) -> Any:
        """Do nothing, with a delay."""
        if self.defect == "stop fails":
            raise RuntimeError
        return self.later(lambda: None)


class ToyReader:
    """A file that is open for reading."""

    def __init__(self, backend: ToyBackend, path: str) -> None:
        self.backend = backend
        self.path = path
        self.content = backend.files[path]
        self.size: Any = len(self.content)
        self.at = 0
        if backend.defect != "the reader provides no interface":
            alsoProvides(self, IFileReader)
        if backend.defect == "the size is wrong":
            self.size += 1
        if backend.defect == "the size is a text":
            self.size = str(self.size)

    def read(self, offset: int, length: int) -> Any:
        """Read octets after the delay."""
        return self.backend.later(lambda: self.octets(offset, length))

    def octets(self, offset: int, length: int) -> Any:
        """Return octets, with the defects."""
        defect = self.backend.defect
        content = self.content
        if defect == "a reader sees the new content":
            content = self.backend.files.get(self.path, content)
        if defect == "a close closes all readers" and self not in self.backend.opened:
            raise OSError(9, "closed")
        if defect == "offsets are ignored":
            offset, self.at = self.at, self.at + length
        if defect == "reads may be short":
            length = min(length, 1000)
        if defect == "reads may be long" and length > 1:
            length += 1
        if defect == "the end is repeated" and offset >= len(content):
            return content[-length:]
        if defect == "the octets are a text":
            return str(content[offset : offset + length])
        if defect == "readers share a buffer":
            found = content[offset : offset + length]
            self.backend.buffer[: len(found)] = found
            return memoryview(self.backend.buffer)[: len(found)]
        return content[offset : offset + length]

    def close(self) -> None:
        """Close the file."""
        defect = self.backend.defect
        if defect == "a close closes all readers":
            self.backend.opened.clear()
        elif defect == "a close during a read is ignored" and self.backend.clock.getDelayedCalls():
            pass
        elif defect != "a close closes nothing":
            self.backend.opened.remove(self)


class ToyWriter:
    """A file that is open for writing."""

    def __init__(self, backend: ToyBackend, path: str, is_replacing: bool) -> None:
        self.backend = backend
        self.path = path
        self.is_replacing = is_replacing
        self.pieces: list[bytes] = []
        if backend.defect != "the writer provides no interface":
            alsoProvides(self, IFileWriter)

    def write(self, data: bytes) -> Any:
        """Keep octets after the delay."""

        def keep() -> None:
            self.pieces.append(data)
            if self.backend.defect == "a write shows the octets":
                self.backend.files[self.path] = b"".join(self.pieces)

        return self.backend.later(keep)

    def commit(self) -> Any:
        """Store the file after the delay."""
        return self.backend.later(self.store)

    def store(self) -> None:
        """Store the file, with the defects."""
        defect, files = self.backend.defect, self.backend.files
        if self.path in files and not self.is_replacing and defect != "a late commit replaces":
            raise FileAlreadyExists()
        size = sum(map(len, self.pieces))
        if size > self.backend.space and defect != "a full store has no code 3":
            raise DiskFull()
        if size > self.backend.space:
            raise AccessViolation()
        if defect == "an upload loses its end":
            self.pieces[-1:] = []
        if self.path not in files or defect != "overwrite replaces nothing":
            files[self.path] = b"".join(self.pieces)
        if defect != "a commit closes nothing":
            self.backend.opened.remove(self)

    def abort(self) -> Any:
        """Discard the octets."""
        defect = self.backend.defect
        if defect == "an abort stores the file":
            self.backend.files[self.path] = b"".join(self.pieces)
        if defect == "an abort removes the old file":
            self.backend.files.pop(self.path, None)
        if defect != "an abort closes nothing":
            self.backend.opened.remove(self)
