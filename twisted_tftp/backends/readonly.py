"""Refuse every write to another backend."""

from __future__ import annotations

from typing import Any, NoReturn

from zope.interface import implementer

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation
from twisted_tftp.interfaces import IFileBackend


@implementer(IFileBackend)
class ReadOnlyBackend:
    """Serve the reads of `backend`."""

    def __init__(self, backend: Any) -> None:
        """Wrap an L{IFileBackend}."""
        self.backend = backend

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Ask the backend."""
        return self.backend.open_reader(path, context)

    def forget(self) -> None:
        """Have the backend forget what it remembers, if it can."""
        forget = getattr(self.backend, "forget", None)
        if forget is not None:
            forget()

    def open_writer(self, path: str, context: TransferContext) -> NoReturn:
        """Refuse.

        @raise AccessViolation: always.
        """
        raise AccessViolation("this server does not accept files")
