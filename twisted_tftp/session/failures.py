"""Convert an exception of a backend, or of our own code, to the failure of a transfer."""

from __future__ import annotations

import errno

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.errors import TFTPError, from_os_error

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
        reported = TFTPError("internal error")
    failure.cleanFailure()  # the frames of its traceback refer to the session: that is a cycle
    if reported is not error:
        reported.__cause__ = error
    return reported


def log_release_failure(failure: Failure) -> None:
    """Log that a reader could not be closed, or a writer could not be aborted."""
    _log.failure("a file could not be released", failure=failure)
