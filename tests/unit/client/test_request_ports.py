"""Test how often, and why, a client sends a request from another port."""

from __future__ import annotations

from typing import Any, cast

import pytest

from twisted_tftp.client.request_ports import MAX_PORT_CHANGES, RequestPorts
from twisted_tftp.errors import ErrorCode
from twisted_tftp.net.client_link import ClientLink


def new_link() -> ClientLink:
    """Return an object that stands for a link."""
    return cast(ClientLink, object())


def no_socket() -> Any:
    """Fail like a system without descriptors."""
    raise OSError("too many open files")


def test_port_can_be_changed_a_limited_number_of_times() -> None:
    """After `MAX_PORT_CHANGES` changes the transfer must fail."""
    ports = RequestPorts(new_link)
    for _ in range(MAX_PORT_CHANGES):
        assert ports.can_change
        ports.open_next(b"answer")
    assert not ports.can_change


def test_fixed_port_is_never_changed() -> None:
    """If the user has chosen the port, it stays, and each ERROR is for this request."""
    ports = RequestPorts(None)
    assert not ports.can_change
    assert not ports.may_be_foreign_error(ErrorCode.ILLEGAL_OPERATION)


def test_unlikely_error_is_doubtful_at_the_first_port_only() -> None:
    """Only the first port can have had another user; errors about the file are never doubtful."""
    ports = RequestPorts(new_link)
    assert ports.may_be_foreign_error(ErrorCode.ILLEGAL_OPERATION)
    assert ports.may_be_foreign_error(ErrorCode.UNKNOWN_TRANSFER_ID)
    assert not ports.may_be_foreign_error(ErrorCode.FILE_NOT_FOUND)
    ports.open_next(b"")
    assert not ports.may_be_foreign_error(ErrorCode.ILLEGAL_OPERATION)


def test_answer_that_was_given_up_confirms_the_same_answer_to_another_port() -> None:
    """Both the rejected answer and that of a second request are known to later ports."""
    ports = RequestPorts(new_link)
    assert not ports.has_seen(b"rejected")
    ports.open_next(b"rejected")
    ports.note_answer(b"other")
    assert ports.has_seen(b"rejected")
    assert ports.has_seen(b"other")
    assert not ports.has_seen(b"new")


def test_port_that_cannot_be_opened_changes_nothing() -> None:
    """An OSError reaches the caller, and the answer is not noted as given up."""
    ports = RequestPorts(no_socket)
    with pytest.raises(OSError, match="too many"):
        ports.open_next(b"rejected")
    assert not ports.has_seen(b"rejected")
