"""Make the exception that says as precisely as possible why a client's transfer has failed."""

from __future__ import annotations

from twisted_tftp.context import Outcome
from twisted_tftp.errors import (
    AnswersFromOtherHost,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)


def network_reason(
    failure: TFTPError | None, other_host: str | None, unreachable: OSError | None
) -> TFTPError | None:
    """Return the cause of a timeout in the network; None if none is known.

    @param failure: why the transfer has failed.
    @param other_host: the address of another host that has answered, if there is one.
    @param unreachable: the error that the system has reported for the server's address, if any.
    """
    if isinstance(failure, NoAnswer) and other_host is not None:
        return AnswersFromOtherHost(f"the answers come from {other_host}, which was not asked")
    if isinstance(failure, TransferTimedOut) and unreachable is not None:
        is_refused = isinstance(unreachable, ConnectionRefusedError)
        kind = PortUnreachable if is_refused else ServerUnreachable
        return kind(unreachable.strerror or "")
    return None


def with_local_cause(
    reason: TFTPError, outcome: Outcome | None, is_waiting: bool, cause: str
) -> TFTPError:
    """Return `reason`, with `cause` in its text if the server may have waited too long for us.

    @param outcome: the outcome of the transfer.
    @param is_waiting: whether the transfer was waiting for the local file when it failed.
    @param cause: what the local file did not do, such as "local output accepted no data".
    """
    if not is_waiting or outcome not in (Outcome.TIMED_OUT, Outcome.ABORTED):
        return reason
    explained = type(reason)(f"{reason.message}, while the {cause}")
    explained.from_peer = reason.from_peer
    return explained
