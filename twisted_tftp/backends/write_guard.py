"""Enforce the rules for uploads, whatever the backend of a plugin does.

L{WriteGuard} is around each backend that is made from a configuration. A backend that provides
L{IWriteModes<twisted_tftp.interfaces.IWriteModes>} obeys the rules itself; for any other backend
the guard does what can be done from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain
from twisted_tftp.context import Direction, StoredFile, TransferContext
from twisted_tftp.errors import AccessViolation, FileAlreadyExists, FileNotFound, from_os_error
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IExplainable,
    IFileBackend,
    IFileWriter,
    IWriteModes,
    lifecycle_of,
)
from twisted_tftp.policy import WriteMode

_Result = TypeVar("_Result")

#: The modes that can be enforced for a backend that knows no modes.
_ENFORCED_FROM_OUTSIDE = frozenset((WriteMode.NEVER, WriteMode.CREATE, WriteMode.OVERWRITE))


@implementer(IFileBackend, IBackendLifecycle, IExplainable, IWriteModes)
class WriteGuard:
    """A backend that serves the files of another one, and enforces the rules for uploads.

    Reads are passed on without an additional call.

    @ivar backend: the wrapped backend.
    @ivar write_modes: the modes that can be obeyed: those of the wrapped backend, and those that
        can be enforced from outside.
    @ivar open_reader: the method of the wrapped backend.
    """

    open_reader: Callable[[str, TransferContext], Any]

    def __init__(self, backend: Any, name: str = "") -> None:
        """Wrap a backend.

        @param backend: an L{IFileBackend}.
        @param name: what the first line of L{explain} calls it; empty for no such line.
        """
        self.backend = backend
        self._name = name
        self._own_modes: frozenset[WriteMode] | None = None
        if IWriteModes.providedBy(backend):
            self._own_modes = frozenset(backend.write_modes)
            self.write_modes = self._own_modes | {WriteMode.NEVER}
            if WriteMode.OVERWRITE in self._own_modes:
                self.write_modes |= {WriteMode.CREATE}
        else:
            self.write_modes = _ENFORCED_FROM_OUTSIDE
        self._committing: set[tuple[str, ...]] = set()
        self.open_reader = backend.open_reader
        lifecycle = lifecycle_of(backend)
        self.check, self.start = lifecycle.check, lifecycle.start
        self.forget, self.stop = lifecycle.forget, lifecycle.stop

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file, if the rules of the request allow it.

        @raise AccessViolation: they do not, or the backend cannot obey them.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        """
        if context.uploads is None:
            return self.backend.open_writer(path, context)  # its own settings hold
        mode = context.uploads.write
        if mode is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files", "--write is never")
        if mode not in self.write_modes:
            raise AccessViolation(
                "this server does not accept files",
                f"the backend cannot obey the write mode {mode.value}",
            )
        is_obeyed = self._own_modes is not None and mode in self._own_modes
        if mode is WriteMode.OVERWRITE or is_obeyed:
            return self.backend.open_writer(path, context)
        return self._create(path, context)

    def _create(self, path: str, context: TransferContext) -> Deferred[CreatingWriter]:
        """Open a new file, in a backend that might replace an existing one."""

        def check_absence() -> Deferred[None]:
            probe = context._replace(direction=Direction.READ, announced_size=None)
            opened = maybeDeferred(self.open_reader, path, probe)
            return opened.addCallbacks(_refuse_existing, _accept_missing)

        def open_writer(_: None) -> Any:
            return self.backend.open_writer(path, context)

        def make_writer(writer: Any) -> CreatingWriter:
            return CreatingWriter(writer, _components(path), check_absence, self._committing)

        # The first Deferred passes a cancellation on to whatever it waits for.
        return check_absence().addCallback(open_writer).addCallback(make_writer)

    def explain(self, path: str, context: TransferContext) -> Deferred[list[str]]:
        """Return what the wrapped backend says, after a line with its name."""
        lines = explain(self.backend, path, context)
        if self._name:
            lines.addCallback(lambda found: [f"backend: {self._name}", *found])
        return lines


@implementer(IFileWriter)
class CreatingWriter:
    """A writer that looks once more, at the commit, whether its file exists already."""

    def __init__(
        self,
        writer: Any,
        name: tuple[str, ...],
        check_absence: Callable[[], Deferred[None]],
        committing: set[tuple[str, ...]],
    ) -> None:
        """Wrap a writer.

        @param writer: an L{IFileWriter}.
        @param name: the components of the name of the file.
        @param check_absence: its Deferred fails with L{FileAlreadyExists} if the file exists.
        @param committing: the names whose files are being committed; shared by all writers.
        """
        self._writer = writer
        self._name = name
        self._check_absence = check_absence
        self._committing = committing
        self.write, self.abort = writer.write, writer.abort

    def commit(self) -> Deferred[StoredFile | None]:
        """Commit, if the file does not exist, and no other upload of its name is being committed.

        @raise FileAlreadyExists: the file exists, or another upload of this name is committing.
        """
        if self._name in self._committing:
            raise FileAlreadyExists(detail="another upload of this name is being committed")
        self._committing.add(self._name)
        return self._check_absence().addCallback(self._commit).addBoth(self._end)

    def _commit(self, _: None) -> Any:
        return self._writer.commit()

    def _end(self, result: _Result) -> _Result:
        self._committing.remove(self._name)
        return result


def _components(path: str) -> tuple[str, ...]:
    """Return the components of a name; all spellings of the same path give the same result."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def _refuse_existing(reader: Any) -> None:
    """Close the file that was found.

    @raise FileAlreadyExists: always.
    """
    reader.close()
    raise FileAlreadyExists()


def _accept_missing(failure: Failure) -> None:
    """Return if the failure says that there is no such file; otherwise raise it."""
    failure.trap(FileNotFound, OSError)
    error = failure.value
    if isinstance(error, OSError) and not isinstance(from_os_error(error), FileNotFound):
        failure.raiseException()
