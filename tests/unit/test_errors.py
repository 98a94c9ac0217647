"""Failures carry the right code, and words that say nothing of the server's paths."""

from __future__ import annotations

import errno
import os

import pytest

from twisted_tftp import errors
from twisted_tftp.errors import ErrorCode, TFTPError, from_os_error

#: What the peer is told for each of the system's errors.
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

EVERY_ERRNO = sorted(errno.errorcode)


@pytest.mark.parametrize(("number", "code"), TABLE)
def test_each_error_of_the_system_has_its_code(number: int, code: int) -> None:
    """The peer learns what kind of failure it is."""
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
def test_the_message_is_for_people(number: int, words: str) -> None:
    """Whoever stands before the client can tell what to do."""
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
def test_an_unknown_error_is_an_input_output_error(error: OSError) -> None:
    """What has no code of its own has code 0 and tells nothing."""
    failure = from_os_error(error)
    assert type(failure) is TFTPError
    assert failure.code == ErrorCode.NOT_DEFINED
    assert failure.message == "input/output error"


@pytest.mark.parametrize("number", EVERY_ERRNO)
def test_no_message_shows_a_path(number: int) -> None:
    """The system's text holds the server's paths; ours does not."""
    error = OSError(number, "text of /srv/tftp", "/srv/tftp/secret-name", None, "/srv/other")
    failure = from_os_error(error)
    told = failure.message + str(failure) + repr(failure)
    assert "/srv" not in told
    assert "secret" not in told


def test_the_codes_are_those_of_the_rfcs() -> None:
    """RFC 1350's appendix, and 8 of RFC 2347."""
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
def test_each_failure_has_its_code_and_words(kind: type[TFTPError], code: int) -> None:
    """A failure without a message says what its kind means; one with a message says that."""
    assert kind.code == code
    assert kind().message == kind.default_message != ""
    assert kind("other words").message == str(kind("other words")) == "other words"
