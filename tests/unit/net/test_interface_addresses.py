"""Test the list of an interface's addresses, and the socket options for interfaces."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from twisted.internet import udp
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from tests.support.daemon import IPV6
from tests.support.logs import captured_log
from tests.support.marks import linux
from twisted_tftp.net.interface_addresses import AddressMonitor, addresses_in, addresses_of
from twisted_tftp.net.request_port import listen
from twisted_tftp.net.socket_options import SocketOptions, copy_options

pytestmark = linux


class Readers:
    """A reactor that only keeps the registered readers."""

    def __init__(self) -> None:
        self.all: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.all.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.all.discard(reader)


def test_addresses_of_loopback() -> None:
    """The addresses of both families are listed."""
    addresses = addresses_of("lo")
    assert "127.0.0.1" in addresses
    assert ("::1" in addresses) == IPV6


def message_of(index: int, flags: int, *attributes: tuple[int, str]) -> bytes:
    """Return the body of a netlink message about an IPv4 address of interface `index`."""
    body = struct.pack("=BBBBI", socket.AF_INET, 24, flags, 0, index)
    for kind, address in attributes:
        body += struct.pack("=HH4s", 8, kind, socket.inet_aton(address))
    return body


def test_address_of_another_interface_is_left_out() -> None:
    """So is one that can't be bound; on a point-to-point link, the local address counts."""
    peer, local = (1, "192.0.2.2"), (2, "192.0.2.1")
    assert list(addresses_in(message_of(7, 0, peer, local), 7)) == ["192.0.2.1"]
    assert list(addresses_in(message_of(7, 0, peer), 7)) == ["192.0.2.2"]
    assert list(addresses_in(message_of(8, 0, local), 7)) == []
    assert list(addresses_in(message_of(7, 0x40, local), 7)) == []
    assert list(addresses_in(message_of(7, 0x08, local), 7)) == []


@pytest.mark.parametrize("octets", range(40))
def test_message_that_is_cut_off_has_no_wrong_address(octets: int) -> None:
    """The message may end anywhere; what is complete before that counts."""
    message = message_of(7, 0, (1, "192.0.2.2"), (2, "192.0.2.1"))
    found = list(addresses_in(message[:octets], 7))
    complete = 0 if octets < 16 else 1 if octets < 24 else 2
    assert found == [[], ["192.0.2.2"], ["192.0.2.1"]][complete]


@pytest.mark.parametrize("attribute", [b"\0" * 8, b"\3\0\2\0", b"\x05\0\2\0\1\0\0\0"])
def test_attribute_with_a_wrong_length_is_ignored(attribute: bytes) -> None:
    """A length of 0 would be read for ever, and an address has four octets."""
    message = message_of(7, 0, (1, "192.0.2.2"))
    assert list(addresses_in(message_of(7, 0) + attribute, 7)) == []
    assert list(addresses_in(message + attribute[:3], 7)) == ["192.0.2.2"]


@pytest.mark.parametrize("answer", [b"\0" * 16, b"\xff\xff\0\0" + bytes(12), bytes(3)])
def test_list_that_is_cut_off_is_an_error(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """A list with an impossible length must not be read for ever, nor count as complete."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr("twisted_tftp.net.interface_addresses.open_socket", lambda: ours)
    with kernel:
        kernel.send(answer)
        with pytest.raises(OSError, match="not complete") as caught:
            addresses_of("lo")
    assert caught.value.errno == errno.EBADMSG


def test_missing_interface() -> None:
    """An interface that does not exist is reported as ENODEV, with its name."""
    with pytest.raises(OSError, match="there is no interface nosuch") as caught:
        addresses_of("nosuch")
    assert caught.value.errno == errno.ENODEV


def test_lack_of_descriptors_is_no_missing_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors the error is another one, so that no address is taken for gone."""

    def fail() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "if_nameindex", fail)
    with pytest.raises(OSError, match="too many") as caught:
        addresses_of("lo")
    assert caught.value.errno == errno.EMFILE


def test_system_without_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no netlink, the error says so."""
    monkeypatch.setattr("twisted_tftp.net.netlink.AF_NETLINK", None)
    with pytest.raises(OSError, match="only known on Linux"):
        addresses_of("lo")


def test_monitor_is_a_reader_until_it_is_closed() -> None:
    """The monitor calls its function once for each read, and leaves the reactor at the end."""
    readers, calls = Readers(), []
    monitor = AddressMonitor(readers, lambda: calls.append(1))  # type: ignore[arg-type]
    assert readers.all == {monitor}
    assert monitor.fileno() >= 0
    monitor.doRead()
    assert calls == [1]
    monitor.close()
    assert not readers.all
    assert monitor.fileno() == -1


def test_monitor_reads_all_messages_before_it_calls() -> None:
    """Otherwise each of the many messages about one change would be a call."""
    calls: list[int] = []
    monitor = AddressMonitor(Readers(), lambda: calls.append(1))  # type: ignore[arg-type]
    monitor._sock.close()
    monitor._sock, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monitor._sock.setblocking(False)
    with kernel:
        for _ in range(3):
            kernel.send(b"message")
        monitor.doRead()
        with pytest.raises(BlockingIOError):
            monitor._sock.recv(1)
    assert calls == [1]
    monitor.close()


def test_monitor_survives_an_exception() -> None:
    """An exception of the function is logged; the reactor does not see it."""

    def fail() -> None:
        raise ZeroDivisionError

    monitor = AddressMonitor(Readers(), fail)  # type: ignore[arg-type]
    with captured_log() as lines:
        monitor.doRead()
    monitor.close()
    assert lines == ["unexpected exception while the addresses were updated"]


@pytest.mark.parametrize("family", [socket.AF_INET, *([socket.AF_INET6] if IPV6 else [])])
def test_options_are_set_and_copied(family: socket.AddressFamily) -> None:
    """A socket with the options can be bound to a foreign address; its copy has them too."""
    foreign = "2001:db8::99" if family == socket.AF_INET6 else "192.0.2.99"
    with (
        socket.socket(family, socket.SOCK_DGRAM) as first,
        socket.socket(family, socket.SOCK_DGRAM) as second,
    ):
        SocketOptions("lo", freebind=True).apply(first)
        copy_options(first, second)
        for sock in (first, second):
            sock.bind((foreign, 0))
            name = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
            assert name.rstrip(b"\0") == b"lo"


def test_options_of_a_missing_interface() -> None:
    """The error names the interface."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="there is no interface nosuch"),
    ):
        SocketOptions("nosuch").apply(sock)


@pytest.mark.skipif(not IPV6, reason="needs IPv6")
def test_interface_that_disappears_while_a_port_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port can't be bound then, and its socket is closed."""
    opened: list[socket.socket] = []

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            opened.append(self)

        def getsockname(self) -> Any:
            return ("fe80::1", 69, 0, 2**30)  # an interface that no host has

    monkeypatch.setattr(udp.Port, "createInternetSocket", lambda _: Socket(socket.AF_INET6, 2))
    with pytest.raises(CannotListenError):
        listen(Readers(), 69, DatagramProtocol(), "::1")
    assert [sock.fileno() for sock in opened] == [-1]
