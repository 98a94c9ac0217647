"""Describe failed transfers to users of the command line, with advice."""

from __future__ import annotations

from twisted.internet.error import DNSLookupError

from twisted_tftp.client.client import TFTPClient
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

#: The advice if the answers to two requests differ, or there is only one.
_COMPARISON_ADVICE = (
    "if the server answers only one request, or each request in a different way, use --no-options:"
    " then answers are not compared"
)

#: The advice for each failure; the first class that matches counts.
_ADVICE: list[tuple[type[BaseException], str]] = [
    (PortUnreachable, "check that a TFTP server listens there, or name its port with --port"),
    (ServerUnreachable, "check the address and the network"),
    (AnswersFromOtherHost, "use that address as HOST if you trust it"),
    (AnswerNotConfirmed, _COMPARISON_ADVICE),
    (AnswersContradict, _COMPARISON_ADVICE),
    (
        NoAnswer,
        "check that a TFTP server runs there, and that no firewall drops its answers, which come"
        " from another port than the request port; --patience sets how long to wait",
    ),
    (TransferTimedOut, "the server has stopped answering; --patience sets how long to wait"),
    (
        FileNotFound,
        "give the name relative to the server's root; upper and lower case differ",
    ),
    (FileAlreadyExists, "the server does not replace files"),
    (DNSLookupError, "check the host name"),
]

#: Failures that are about the local file, unless the server has reported them.
_FILE_FAILURES = (FileNotFound, AccessViolation, DiskFull, FileAlreadyExists)


def describe_failure(error: BaseException, client: TFTPClient) -> str:
    """Return the text of a failure, with advice if there is any.

    @param client: the client whose transfer has failed.
    """
    if isinstance(error.__cause__, OSError):
        return f"local error: {describe_os_error(error.__cause__)}"
    text = printable_unicode(_message(error))
    if isinstance(error, TransferTimedOut):
        text = f"{text} ({_server_name(client, text)} port {client.port})"
    if isinstance(error, _FILE_FAILURES) and not error.from_peer:
        return f"local error: {text}"
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return f"{text}: {advice}"
    return text


def _server_name(client: TFTPClient, text: str) -> str:
    """Return the host as the user has named it, with its address if `text` does not tell that."""
    host = printable_unicode(client.host)
    address = client.address
    if address is None or address[0] == host or address[0] in text:
        return host
    return f"{host}, {address[0]}"


def describe_os_error(error: OSError) -> str:
    """Return the text of a system error of a local file or stream."""
    if isinstance(error, BrokenPipeError):
        return "the program that reads the output has closed the pipe"
    return error.strerror or str(error)


def _message(error: BaseException) -> str:
    if isinstance(error, TFTPError):
        return error.message
    if isinstance(error, OSError) and not isinstance(error, DNSLookupError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
