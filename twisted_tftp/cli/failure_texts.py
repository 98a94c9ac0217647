"""Describe failed transfers to users of the command line, with advice."""

from __future__ import annotations

from twisted.internet.error import DNSLookupError

from twisted_tftp.client.attempt_plan import ERRORS_WITHOUT_OPTIONS
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.request_options import OptionUse
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
        " from another port than the request port; --patience sets how long to wait, and"
        " --no-options asks for no options",
    ),
    (TransferTimedOut, "the server has stopped answering; --patience sets how long to wait"),
    (
        FileNotFound,
        "give the name relative to the server's root; upper and lower case differ",
    ),
    (FileAlreadyExists, "the server does not replace files"),
    (DNSLookupError, "check the host name"),
]

#: The advice after an ERROR of a server that may not know options.
_OPTION_ADVICE = ": if the server does not know options, use --no-options"

#: The remark if the server has answered an ERROR to the request without options too.
_ASKED_TWICE = " (the answer to a request without options; --no-options does not help)"

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
    if not _may_know_no_options(error):
        return text
    if isinstance(error, TFTPError) and error.was_asked_without_options:
        return f"{text}{_ASKED_TWICE}"
    return f"{text}{_OPTION_ADVICE}" if client.option_use is OptionUse.ALWAYS else text


def _may_know_no_options(error: BaseException) -> bool:
    """Return whether the server has answered an ERROR that may mean that it knows no options."""
    return (
        isinstance(error, TFTPError) and error.from_peer and error.code in ERRORS_WITHOUT_OPTIONS
    )


def _server_name(client: TFTPClient, text: str) -> str:
    """Return the host as the user has named it, with its address if `text` does not have it."""
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
