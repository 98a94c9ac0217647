"""Test which ports are bound and closed when the addresses of an interface change."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.error import CannotListenError

from tests.support.logs import captured_log
from twisted_tftp.server import followed_interface
from twisted_tftp.server.followed_interface import FollowedInterface


class Interface:
    """An interface whose addresses a test sets, and its ports.

    @ivar addresses: its addresses, or the error of the look-up.
    @ivar bound: the addresses that are bound.
    @ivar errors: the error of binding each address.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: list[str] | OSError = []
        self.bound: list[str] = []
        self.errors: dict[str, OSError] = {}
        monkeypatch.setattr(followed_interface, "addresses_of", self._find)
        self.followed = FollowedInterface("eth0", self._bind, self.bound.remove)

    def update(self) -> None:
        """Do what follows a change on the host."""
        self.followed.bind_new(self.followed.release_gone())

    def _find(self, name: str) -> list[str]:
        assert name == "eth0"
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return self.addresses

    def _bind(self, address: str) -> Any:
        if address in self.errors:
            raise CannotListenError(address, 69, self.errors[address])
        if address in self.bound:
            return None
        self.bound.append(address)
        return address


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch) -> Interface:
    """Return an interface without addresses."""
    return Interface(monkeypatch)


def test_addresses_are_followed(interface: Interface) -> None:
    """New addresses are bound, those that are gone are closed, and the others are left alone."""
    interface.addresses = ["a", "b"]
    interface.followed.bind_all(may_be_missing=False)
    assert interface.bound == ["a", "b"]
    interface.addresses = ["b", "c"]
    interface.update()
    assert interface.bound == ["b", "c"]
    interface.addresses = OSError(errno.ENODEV, "there is no interface eth0")
    interface.update()
    assert interface.bound == []


def test_ports_stay_if_the_addresses_are_unknown(interface: Interface) -> None:
    """If the system can't tell the addresses, all ports stay open, and the log says why."""
    interface.addresses = ["a"]
    interface.followed.bind_all(may_be_missing=False)
    interface.addresses = OSError(errno.EMFILE, "Too many open files")
    with captured_log() as lines:
        interface.update()
    assert interface.bound == ["a"]
    assert lines == ["can't find the addresses of eth0: Too many open files"]


def test_other_errors_at_the_start_are_reported(interface: Interface) -> None:
    """A missing interface is accepted if the caller says so; other errors never are."""
    interface.addresses = OSError(errno.ENODEV, "there is no interface eth0")
    interface.followed.bind_all(may_be_missing=True)
    for addresses, may_be_missing in (
        (interface.addresses, False),
        (OSError(errno.EMFILE, "Too many open files"), True),
    ):
        interface.addresses = addresses
        with pytest.raises(OSError, match=addresses.strerror):
            interface.followed.bind_all(may_be_missing=may_be_missing)


def test_address_that_cannot_be_bound_is_tried_again(interface: Interface) -> None:
    """The log says once why, and again if it was gone; each change on the host is an attempt."""
    interface.addresses = ["a", "b"]
    interface.errors["a"] = PermissionError(errno.EACCES, "Permission denied")
    with captured_log() as lines:
        interface.update()
        interface.update()
    assert interface.bound == ["b"]
    assert lines == [
        "can't listen on a, a new address of eth0: Permission denied; the server has no privilege "
        "to bind this port any more"
    ]
    interface.addresses = ["b"]
    interface.update()
    interface.addresses = ["a", "b"]
    with captured_log() as lines_of_its_return:
        interface.update()
    assert lines_of_its_return == lines
    interface.errors.clear()
    interface.update()
    assert interface.bound == ["b", "a"]


def test_port_of_another_host_option_is_not_closed(interface: Interface) -> None:
    """An address that is bound already, by another --host, stays bound when it is gone."""
    interface.bound.append("a")
    interface.addresses = ["a"]
    interface.update()
    interface.addresses = []
    interface.update()
    assert interface.bound == ["a"]
