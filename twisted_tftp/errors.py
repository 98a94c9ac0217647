"""The exceptions of a failed transfer, each with its TFTP error code and message.

Every failure of a backend, a session or a machine becomes one of these exceptions. The message of
a server's failure is sent to the client: it never contains a path of the server. The detail is for
the operator of the server: it is written to the log only.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar


class ErrorCode(IntEnum):
    """The error codes of ERROR packets (RFC 1350 appendix; code 8: RFC 2347 section 4)."""

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
    """A backend cannot serve files; the text is one line that tells the operator why."""


class TFTPError(Exception):
    """A transfer failed (code 0). The base class of all failures.

    @ivar code: the code of the ERROR that is sent to the peer.
    @ivar message: the message of this ERROR.
    @ivar detail: the reason for the log, which may name paths, users and options of the server;
        empty if the message says everything. It is never sent to the peer.
    @ivar default_message: the message if none is given.
    """

    code: ClassVar[ErrorCode] = ErrorCode.NOT_DEFINED
    default_message: ClassVar[str] = "the transfer failed"
    #: Whether the peer reported the failure in an ERROR. The message may then contain anything.
    from_peer: bool = False
    #: Whether this ERROR answers a client's request without options, after one with options.
    was_asked_without_options: bool = False

    def __init__(self, message: str = "", detail: str = "") -> None:
        self.message = message or self.default_message
        self.detail = detail
        super().__init__(self.message)


class FileNotFound(TFTPError):
    """There is no file with that name (code 1)."""

    code = ErrorCode.FILE_NOT_FOUND
    default_message = "no such file"


class AccessViolation(TFTPError):
    """The name may not be read or written, or is not a regular file (code 2)."""

    code = ErrorCode.ACCESS_VIOLATION
    default_message = "access denied"


class DiskFull(TFTPError):
    """There is no space for the file, or it is larger than allowed (code 3)."""

    code = ErrorCode.DISK_FULL
    default_message = "not enough space for the file"


class IllegalOperation(TFTPError):
    """A packet breaks the protocol (code 4)."""

    code = ErrorCode.ILLEGAL_OPERATION
    default_message = "illegal TFTP operation"


class UnknownTransferID(TFTPError):
    """A packet came from an address or port that does not belong to the transfer (code 5)."""

    code = ErrorCode.UNKNOWN_TRANSFER_ID
    default_message = "this port serves another transfer"


class FileAlreadyExists(TFTPError):
    """The file exists already and may not be replaced (code 6)."""

    code = ErrorCode.FILE_EXISTS
    default_message = "the file exists already"


class NoSuchUser(TFTPError):
    """The user is unknown (code 7). RFC 1350 has it for its mail mode; some servers misuse it."""

    code = ErrorCode.NO_SUCH_USER
    default_message = "no such user"


class OptionRefused(TFTPError):
    """The negotiated options are not acceptable (code 8, RFC 2347 section 4)."""

    code = ErrorCode.OPTION_REFUSED
    default_message = "the option was not asked for, or its value is out of range"


class TransferTimedOut(TFTPError):
    """The peer sent nothing for longer than the policy allows (code 0)."""

    default_message = "the transfer timed out"


class NoAnswer(TransferTimedOut):
    """The server never answered (code 0)."""

    default_message = "the server does not answer"


class ServerUnreachable(TransferTimedOut):
    """The operating system reports that the server can't be reached (code 0)."""

    default_message = "the server can't be reached"


class PortUnreachable(ServerUnreachable):
    """The server's port is closed, as ICMP port unreachable reports (code 0)."""

    default_message = "the server's port is closed"


class AnswersFromOtherHost(NoAnswer):
    """The answers come from another address than the request was sent to (code 0).

    The server may have several addresses. The answers may also come from an unrelated host.
    """

    default_message = "the answers come from another address"


class AnswersContradict(TFTPError):
    """One request got different answers, so none of them can be trusted (code 0)."""

    default_message = "different answers came to one request"


class AnswerNotConfirmed(TransferTimedOut):
    """The server did not confirm an answer that may belong to another transfer (code 0)."""

    default_message = (
        "the server did not answer a second request, so its first answer may be another client's"
    )


#: The exception of each error code but 0.
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
    """Return the exception for an ERROR of the peer; `TFTPError` itself for an unknown code."""
    failure = _BY_CODE.get(code, TFTPError)(message)
    failure.from_peer = True
    return failure


#: The exception and the message of each errno; an empty message stands for the default one.
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
    errno.EIO: (TFTPError, "input/output error"),
}


def from_os_error(error: OSError) -> TFTPError:
    """Return the exception that tells the peer about an `error` of the operating system.

    The message leaves out the text of `error`, because it contains paths of the server. The detail
    has that text if the message is a general one.
    """
    known = _BY_ERRNO.get(error.errno or 0)
    if known is None:
        return TFTPError("input/output error", f"input/output error: {error.strerror or error}")
    kind, message = known
    return kind(message)
