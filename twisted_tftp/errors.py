"""Name the failures of a transfer, each with its TFTP error code and a message fit for the wire.

Whatever goes wrong in a backend, a session or a machine ends as one of these; the message is
written for the person in front of the client and never shows a path of the server.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar


class ErrorCode(IntEnum):
    """Error codes (RFC 1350 appendix; 8 is RFC 2347 section 4)."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TRANSFER_ID = 5
    FILE_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_REFUSED = 8


class BackendUnavailable(Exception):
    """A backend can't serve files; the text says why in one line, for the operator."""


class TFTPError(Exception):
    """A transfer failed; `code` and `message` are what the peer is told (code 0)."""

    code: ClassVar[ErrorCode] = ErrorCode.NOT_DEFINED
    default_message: ClassVar[str] = "the transfer failed"
    #: The peer has said so; the message is in its words, and may hold anything.
    from_peer: bool = False

    def __init__(self, message: str = "") -> None:
        self.message = message or self.default_message
        super().__init__(self.message)


class FileNotFound(TFTPError):
    """There is no file of that name (code 1)."""

    code = ErrorCode.FILE_NOT_FOUND
    default_message = "no such file"


class AccessViolation(TFTPError):
    """The name may not be read or written, or is not a regular file (code 2)."""

    code = ErrorCode.ACCESS_VIOLATION
    default_message = "access denied"


class DiskFull(TFTPError):
    """There is no room for the file, or it is larger than what is allowed (code 3)."""

    code = ErrorCode.DISK_FULL
    default_message = "no room for the file"


class IllegalOperation(TFTPError):
    """A packet breaks the protocol (code 4)."""

    code = ErrorCode.ILLEGAL_OPERATION
    default_message = "illegal TFTP operation"


class UnknownTransferID(TFTPError):
    """A packet came from an address or port that is not the transfer's (code 5)."""

    code = ErrorCode.UNKNOWN_TRANSFER_ID
    default_message = "this port serves another transfer"


class FileAlreadyExists(TFTPError):
    """The file is there already and may not be replaced (code 6)."""

    code = ErrorCode.FILE_EXISTS
    default_message = "the file exists already"


class NoSuchUser(TFTPError):
    """A name of RFC 1350's mail mode is unknown; some servers use it for other things (code 7)."""

    code = ErrorCode.NO_SUCH_USER
    default_message = "no such user"


class OptionRefused(TFTPError):
    """What was negotiated is not acceptable (code 8, RFC 2347 section 4)."""

    code = ErrorCode.OPTION_REFUSED
    default_message = "the option was not asked for, or its value is out of range"


class TransferTimedOut(TFTPError):
    """The peer fell silent for longer than the patience allows (code 0)."""

    default_message = "the transfer timed out"


class NoAnswer(TransferTimedOut):
    """A server has never answered (code 0)."""

    default_message = "the server does not answer"


class ServerUnreachable(TransferTimedOut):
    """The system says that there is no way to the server (code 0)."""


class PortUnreachable(ServerUnreachable):
    """The system says that nobody is there on the server's port (ICMP; code 0)."""


class AnswersFromElsewhere(NoAnswer):
    """The host that was asked does not answer, but another one does (code 0).

    A host of several addresses may answer from another than was asked; anybody else may too.
    """


class AnswersContradict(TFTPError):
    """Different answers came to one request, so none can be relied on (code 0)."""

    default_message = "different answers came to one request"


class AnswerNotConfirmed(TransferTimedOut):
    """A server did not repeat an answer that may be another transfer's (code 0)."""

    default_message = (
        "the server did not answer a second request, so its first answer may be another client's"
    )


_BY_CODE: dict[int, type[TFTPError]] = {
    kind.code: kind
    for kind in (
        FileNotFound,
        AccessViolation,
        DiskFull,
        IllegalOperation,
        UnknownTransferID,
        FileAlreadyExists,
        NoSuchUser,
        OptionRefused,
    )
}


def from_wire(code: int, message: str) -> TFTPError:
    """Return the failure that a peer's ERROR tells of; of an unknown code the plain one."""
    failure = _BY_CODE.get(code, TFTPError)(message)
    failure.from_peer = True
    return failure


_BY_ERRNO: dict[int, tuple[type[TFTPError], str]] = {
    errno.ENOENT: (FileNotFound, ""),
    errno.ENOTDIR: (FileNotFound, ""),
    errno.EINVAL: (FileNotFound, "no file can have that name"),
    errno.EILSEQ: (FileNotFound, "no file can have that name"),
    errno.ENAMETOOLONG: (FileNotFound, "the file name is too long"),
    errno.EACCES: (AccessViolation, ""),
    errno.EPERM: (AccessViolation, ""),
    errno.EISDIR: (AccessViolation, "not a regular file"),
    errno.ELOOP: (AccessViolation, "too many symbolic links"),
    errno.ENXIO: (AccessViolation, "not a regular file"),
    errno.EROFS: (AccessViolation, "the file system is read-only"),
    errno.ETXTBSY: (AccessViolation, "the file is in use"),
    errno.ENOSPC: (DiskFull, "the disk is full"),
    errno.EDQUOT: (DiskFull, "the disk quota is used up"),
    errno.EFBIG: (DiskFull, "the file is too large for the file system"),
    errno.EEXIST: (FileAlreadyExists, ""),
}


def from_os_error(error: OSError) -> TFTPError:
    """Translate the system's `error` into the failure that the peer is told.

    The system's own text is left out: it holds the server's paths.
    """
    kind, message = _BY_ERRNO.get(error.errno or 0, (TFTPError, "input/output error"))
    return kind(message)
