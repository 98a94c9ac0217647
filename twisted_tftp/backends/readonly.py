"""A wrapper that makes a backend refuse uploads."""

from __future__ import annotations

from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IContentCheck,
    IExplainable,
    IFileBackend,
    IWriteModes,
    lifecycle_of,
)
from twisted_tftp.policy import WriteMode


@implementer(IFileBackend, IBackendLifecycle, IContentCheck, IExplainable, IWriteModes)
class ReadOnlyBackend:
    """A backend that serves the files of another backend, and refuses uploads.

    @ivar write_modes: all, because each one is refused.
    """

    write_modes = tuple(WriteMode)

    def __init__(self, backend: Any) -> None:
        """Wrap an L{IFileBackend}."""
        self.backend = backend
        self._lifecycle = lifecycle_of(backend)

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file of the wrapped backend."""
        return self.backend.open_reader(path, context)

    def open_writer(self, path: str, context: TransferContext) -> NoReturn:
        """Refuse the upload.

        @raise AccessViolation: always.
        """
        raise AccessViolation("this server does not accept files", "the backend is read-only")

    def explain(self, path: str, context: TransferContext) -> Deferred[list[str]]:
        """Return what the wrapped backend says about a name."""
        return explain(self.backend, path, context)

    def check(self) -> None:
        """Check the wrapped backend.

        @raise BackendUnavailable: it cannot serve files.
        """
        self._lifecycle.check()

    def check_content(self) -> None:
        """Check the files of the wrapped backend.

        @raise BackendUnavailable: one has a mistake.
        """
        if IContentCheck.providedBy(self.backend):
            self.backend.check_content()

    def start(self) -> Any:
        """Start the wrapped backend."""
        return self._lifecycle.start()

    def forget(self) -> None:
        """Clear the caches of the wrapped backend."""
        self._lifecycle.forget()

    def stop(self) -> Any:
        """Stop the wrapped backend."""
        return self._lifecycle.stop()
