"""Convert an exception of a backend, or of our own code, to the failure of a transfer."""

from __future__ import annotations

import errno

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.errors import TFTPError, TransferTimedOut, from_os_error, from_wire
from twisted_tftp.transfer.machine import TransferMachine

#: The detail of a transfer whose file a backend did not open in time.
NOT_OPENED = "the backend did not open the file in time"

#: The detail of a transfer whose peer was silent from the start.
NEVER_ANSWERED = "the peer never answered"

#: The detail of a transfer whose peer was silent after it had answered.
STOPPED_ANSWERING = "the peer stopped answering"

_log = Logger()


class NoDescriptors(TFTPError):
    """The process, or the system, has no descriptor left (code 0)."""

    default_message = "too many open files"


def failure_of_transfer(failure: Failure) -> TFTPError:
    """Return the failure to report to the peer; an unexpected exception is logged."""
    error = failure.value
    reported: TFTPError
    if isinstance(error, TFTPError):
        reported = error
    elif isinstance(error, OSError):
        no_descriptors = error.errno in (errno.EMFILE, errno.ENFILE)
        reported = NoDescriptors() if no_descriptors else from_os_error(error)
    else:
        _log.failure("unexpected exception in a transfer", failure=failure)
        name = type(error).__name__
        reported = TFTPError("internal error", f"internal error: {name}, see its traceback")
    failure.cleanFailure()  # the frames of its traceback refer to the session: that is a cycle
    if reported is not error:
        reported.__cause__ = error
    return reported


def error_of_peer(code: int, message: str) -> TFTPError:
    """Return the exception for an ERROR of the peer, also for one without a message."""
    return from_wire(code, message or f"error {code}")


def explain_silence(machine: TransferMachine) -> TFTPError:
    """Return the failure of a machine that has timed out, with a detail about its peer."""
    failure = machine.failure or TransferTimedOut()
    failure.detail = STOPPED_ANSWERING if machine.has_answered else NEVER_ANSWERED
    return failure


def log_release_failure(failure: Failure) -> None:
    """Log that a reader could not be closed, or a writer could not be aborted."""
    _log.failure("a file could not be released", failure=failure)
