"""Say how a backend would answer a read request, for `twistd tftp --explain`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import TFTPError, from_os_error
from twisted_tftp.interfaces import IExplainable
from twisted_tftp.protocol.printable import printable


def explain(backend: Any, path: str, context: TransferContext) -> Deferred[list[str]]:
    """Return the lines that say how an L{IFileBackend} would answer a read request for `path`.

    A backend that does not provide L{IExplainable} opens the file, which is then closed.
    """
    if IExplainable.providedBy(backend):
        return maybeDeferred(backend.explain, path, context)
    opened = maybeDeferred(backend.open_reader, path, context)
    return opened.addCallbacks(_describe_file, _describe_failure)


def _describe_file(reader: Any) -> list[str]:
    size = reader.size
    reader.close()
    return [
        "found, of a size that is not known yet" if size is None else f"found: {size:,} octets"
    ]


def _describe_failure(failure: Failure) -> list[str]:
    error = failure.value
    if isinstance(error, OSError):
        error = from_os_error(error)
    if not isinstance(error, TFTPError):
        return [f"the backend fails: {printable(failure.getErrorMessage())}"]
    reason = f" ({printable(error.detail)})" if error.detail else ""
    return [f"ERROR {error.code.value}: {printable(error.message)}{reason}"]
