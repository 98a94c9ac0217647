"""Say how a backend would answer a read request, for `twistd tftp --explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import ErrorCode, TFTPError, from_os_error
from twisted_tftp.interfaces import IExplainable
from twisted_tftp.protocol.printable import printable

#: The beginning of the line for a missing file.
_NOT_FOUND = f"ERROR {ErrorCode.FILE_NOT_FOUND.value}:"


def explain(backend: Any, path: str, context: TransferContext) -> Deferred[list[str]]:
    """Return the lines that say how an L{IFileBackend} would answer a read request for `path`.

    A backend that does not provide L{IExplainable} opens the file, which is then closed.
    """
    if IExplainable.providedBy(backend):
        return maybeDeferred(backend.explain, path, context).addErrback(_describe_failure)
    return explain_opening(backend, path, context)


def explain_opening(backend: Any, path: str, context: TransferContext) -> Deferred[list[str]]:
    """Open and close a file; return one line with its size, or with the ERROR."""
    opened = maybeDeferred(backend.open_reader, path, context)
    return opened.addCallbacks(_describe_file, _describe_failure)


def is_not_found(lines: Sequence[str]) -> bool:
    """Return whether the lines of L{explain} end with the ERROR for a missing file."""
    return bool(lines) and lines[-1].startswith(_NOT_FOUND)


def _describe_file(reader: Any) -> list[str]:
    size = reader.size
    reader.close()
    return [
        "found, of a size that is not known yet" if size is None else f"found: {size:,} octets"
    ]


def _describe_failure(failure: Failure) -> list[str]:
    return describe_error(failure.value)


def describe_error(error: BaseException | None) -> list[str]:
    """Return the line that says which ERROR the client gets for an exception of a backend."""
    if isinstance(error, OSError):
        error = from_os_error(error)
    if not isinstance(error, TFTPError):
        return [f"the backend fails: {printable(str(error))}"]
    reason = f" ({printable(error.detail)})" if error.detail else ""
    return [f"ERROR {error.code.value}: {printable(error.message)}{reason}"]
