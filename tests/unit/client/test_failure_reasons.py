"""Test which exception a client raises for a failed transfer."""

from __future__ import annotations

import errno
import os

import pytest

from twisted_tftp.client.failure_reasons import network_reason, with_local_cause
from twisted_tftp.context import Outcome
from twisted_tftp.errors import (
    AnswersFromOtherHost,
    FileNotFound,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.session.failures import error_of_peer

REFUSED = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

NO_ROUTE = OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


def test_error_of_the_server_has_its_code_and_message() -> None:
    """The exception is that of the code, and is marked as sent by the server."""
    error = error_of_peer(1, "no such file")
    assert (type(error), error.message, error.from_peer) == (FileNotFound, "no such file", True)


def test_error_without_a_message_shows_its_code() -> None:
    """If an ERROR has no message, the text of the exception contains its code."""
    assert error_of_peer(99, "").message == "error 99"


@pytest.mark.parametrize(
    ("failure", "other_host", "unreachable", "kind"),
    [
        (NoAnswer(), "192.0.2.1", None, AnswersFromOtherHost),
        (NoAnswer(), "192.0.2.1", REFUSED, AnswersFromOtherHost),
        (NoAnswer(), None, REFUSED, PortUnreachable),
        (NoAnswer(), None, NO_ROUTE, ServerUnreachable),
        (TransferTimedOut(), "192.0.2.1", NO_ROUTE, ServerUnreachable),
    ],
)
def test_timeout_is_explained_by_what_the_network_has_reported(
    failure: TFTPError, other_host: str | None, unreachable: OSError | None, kind: type[TFTPError]
) -> None:
    """Another host that answers comes first, then the error of the system."""
    assert type(network_reason(failure, other_host, unreachable)) is kind


@pytest.mark.parametrize(
    ("failure", "other_host", "unreachable"),
    [
        (None, "192.0.2.1", REFUSED),
        (NoAnswer(), None, None),
        (TransferTimedOut(), "192.0.2.1", None),
        (FileNotFound(), "192.0.2.1", REFUSED),
    ],
)
def test_other_failures_have_no_cause_in_the_network(
    failure: TFTPError | None, other_host: str | None, unreachable: OSError | None
) -> None:
    """An ERROR of the server, and a timeout without a report, stay as they are."""
    assert network_reason(failure, other_host, unreachable) is None


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.ABORTED])
def test_slow_local_file_is_named_as_the_cause(outcome: Outcome) -> None:
    """The exception keeps its type and its origin."""
    reason = error_of_peer(1, "gone")
    explained = with_local_cause(reason, outcome, True, "local output accepted no data")
    assert explained.message == "gone, while the local output accepted no data"
    assert (type(explained), explained.from_peer) == (FileNotFound, True)


@pytest.mark.parametrize(
    ("outcome", "is_waiting"),
    [(Outcome.TIMED_OUT, False), (Outcome.FAILED, True), (Outcome.CANCELLED, True), (None, True)],
)
def test_reason_is_unchanged_if_the_server_did_not_wait(
    outcome: Outcome | None, is_waiting: bool
) -> None:
    """A transfer that was not waiting, or failed for another reason, has no local cause."""
    reason = TransferTimedOut()
    assert with_local_cause(reason, outcome, is_waiting, "local output accepted no data") is reason
