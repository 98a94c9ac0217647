"""Refuse every write to another backend."""

from __future__ import annotations

from typing import Any, NoReturn

from zope.interface import implementer

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend, lifecycle_of


@implementer(IFileBackend, IBackendLifecycle)
class ReadOnlyBackend:
    """Serve the reads of `backend`."""

    def __init__(self, backend: Any) -> None:
        """Wrap an L{IFileBackend}."""
        self.backend = backend
        self._lifecycle = lifecycle_of(backend)

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Ask the backend."""
        return self.backend.open_reader(path, context)

    def open_writer(self, path: str, context: TransferContext) -> NoReturn:
        """Refuse.

        @raise AccessViolation: always.
        """
        raise AccessViolation("this server does not accept files")

    def check(self) -> None:
        """Have the backend find out whether it can serve.

        @raise BackendUnavailable: it can't.
        """
        self._lifecycle.check()

    def start(self) -> Any:
        """Have the backend begin."""
        return self._lifecycle.start()

    def forget(self) -> None:
        """Have the backend forget what it remembers."""
        self._lifecycle.forget()

    def stop(self) -> Any:
        """Have the backend end."""
        return self._lifecycle.stop()
