"""Describe failed transfers to users of the command line, with advice."""

from __future__ import annotations

from twisted.internet.error import DNSLookupError

from twisted_tftp.errors import (
    AccessViolation,
    AnswerNotConfirmed,
    AnswersContradict,
    AnswersFromOtherHost,
    DiskFull,
    FileAlreadyExists,
    FileNotFound,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.protocol.printable import printable_unicode

#: The advice if the answers to two requests could not be compared.
_COMPARISON_ADVICE = (
    "maybe the server answers only one request, or each request in a different way: --no-options"
    " sends a request whose answers are not compared"
)

#: The advice for each failure; the first class that matches counts.
_ADVICE: list[tuple[type[BaseException], str]] = [
    (PortUnreachable, "is a TFTP server running there? (see --port)"),
    (ServerUnreachable, "is the address right, and the network up?"),
    (AnswersFromOtherHost, "use that address if you trust it"),
    (AnswerNotConfirmed, _COMPARISON_ADVICE),
    (AnswersContradict, _COMPARISON_ADVICE),
    (
        NoAnswer,
        "is a TFTP server running there, and do all firewalls on the path let its answers"
        " through? The answers come from another port than the request port",
    ),
    (
        FileNotFound,
        "file names are relative to the server's root, and upper and lower case differ",
    ),
    (FileAlreadyExists, "the server does not replace files"),
    (DNSLookupError, "is the host name right?"),
]

#: Failures that, if the server did not report them, are about the local file.
_FILE_FAILURES = (FileNotFound, AccessViolation, DiskFull, FileAlreadyExists)


def describe_failure(error: BaseException, host: str, port: int) -> str:
    """Return the text of a failure, with advice if there is any.

    @param host: the server as the user named it.
    @param port: its request port.
    """
    if isinstance(error.__cause__, OSError):
        return f"on this side: {describe_os_error(error.__cause__)}"
    text = printable_unicode(_message(error))
    if isinstance(error, TransferTimedOut):
        text = f"{text} ({host} port {port})"
    if isinstance(error, _FILE_FAILURES) and not error.from_peer:
        return f"on this side: {text}"
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return f"{text}: {advice}"
    return text


def describe_os_error(error: OSError) -> str:
    """Return the text of a system error of a local file or stream."""
    if isinstance(error, BrokenPipeError):
        return "the reader of the output has closed it"
    return error.strerror or str(error)


def _message(error: BaseException) -> str:
    if isinstance(error, TFTPError):
        return error.message
    if isinstance(error, OSError) and not isinstance(error, DNSLookupError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
