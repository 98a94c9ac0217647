"""Tests of the errors: codes of the RFCs, and messages without paths of the server."""

from __future__ import annotations

import errno
import os

import pytest

from twisted_tftp import errors
from twisted_tftp.errors import ErrorCode, TFTPError, from_os_error

#: Error numbers of the system, and the error code that the peer gets for each.
TABLE = [
    (errno.ENOENT, 1),
    (errno.ENOTDIR, 1),
    (errno.ENAMETOOLONG, 1),
    (errno.EACCES, 2),
    (errno.EPERM, 2),
    (errno.EISDIR, 2),
    (errno.ELOOP, 2),
    (errno.ENXIO, 2),
    (errno.EROFS, 2),
    (errno.ETXTBSY, 2),
    (errno.ENOSPC, 3),
    (errno.EDQUOT, 3),
    (errno.EFBIG, 3),
    (errno.EEXIST, 6),
]

#: All error numbers of the system.
EVERY_ERRNO = sorted(errno.errorcode)


@pytest.mark.parametrize(("number", "code"), TABLE)
def test_system_errors_have_tftp_error_codes(number: int, code: int) -> None:
    """The code tells the peer what kind of failure it is."""
    failure = from_os_error(OSError(number, os.strerror(number), "/srv/tftp/secret-name"))
    assert failure.code == code
    assert failure.message


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "no such file"),
        (errno.EACCES, "access denied"),
        (errno.EISDIR, "not a regular file"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EEXIST, "exists"),
    ],
)
def test_message_is_readable(number: int, words: str) -> None:
    """The message explains the failure to a person at the client."""
    assert words in from_os_error(OSError(number, os.strerror(number))).message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "/srv/tftp/secret-name"),
        OSError(99999, "what is this", "/srv/tftp/secret-name"),
        OSError("no number at all: /srv/tftp/secret-name"),
        OSError(),
    ],
)
def test_unknown_system_error_has_code_0(error: OSError) -> None:
    """Its message tells nothing but that input or output failed."""
    failure = from_os_error(error)
    assert type(failure) is TFTPError
    assert failure.code == ErrorCode.NOT_DEFINED
    assert failure.message == "input/output error"


@pytest.mark.parametrize("number", EVERY_ERRNO)
def test_no_message_contains_a_path(number: int) -> None:
    """System errors contain paths of the server; the messages for the peer do not."""
    error = OSError(number, "text of /srv/tftp", "/srv/tftp/secret-name", None, "/srv/other")
    failure = from_os_error(error)
    texts = failure.message + str(failure) + repr(failure)
    assert "/srv" not in texts
    assert "secret" not in texts


def test_codes_are_those_of_the_rfcs() -> None:
    """The codes are in the appendix of RFC 1350; code 8 is in RFC 2347."""
    assert [(code.value, code.name) for code in ErrorCode] == [
        (0, "NOT_DEFINED"),
        (1, "FILE_NOT_FOUND"),
        (2, "ACCESS_VIOLATION"),
        (3, "DISK_FULL"),
        (4, "ILLEGAL_OPERATION"),
        (5, "UNKNOWN_TRANSFER_ID"),
        (6, "FILE_EXISTS"),
        (7, "NO_SUCH_USER"),
        (8, "OPTION_REFUSED"),
    ]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TFTPError, 0),
        (errors.FileNotFound, 1),
        (errors.AccessViolation, 2),
        (errors.DiskFull, 3),
        (errors.IllegalOperation, 4),
        (errors.UnknownTransferID, 5),
        (errors.FileAlreadyExists, 6),
        (errors.TransferTimedOut, 0),
    ],
)
def test_each_error_class_has_a_code_and_a_default_message(
    kind: type[TFTPError], code: int
) -> None:
    """A message that is passed in replaces the default one."""
    assert kind.code == code
    assert kind().message == kind.default_message != ""
    assert kind("other words").message == str(kind("other words")) == "other words"
