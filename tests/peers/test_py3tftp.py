"""Test the daemon with the cases of py3tftp's acceptance tests, whose names the docstrings give.

`py3tftp_acceptance` runs the original tests, and says which of them fail and why. Here, these
cases have the answer that our daemon gives instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Address, Peer, peer

__all__ = ["peer"]

#: Two blocks and a part, as the file that py3tftp's tests read.
CONTENT = bytes(range(256)) * 4 + b"and the end of the licence"

#: Ten blocks and a part, for windows.
LARGE = b"0" * (512 * 10 + 1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon that lets clients write new files, as py3tftp does."""
    root = tmp_path_factory.mktemp("root")
    (root / "LICENSE").write_bytes(CONTENT)
    (root / "WINDOWSIZE_TEST").write_bytes(LARGE)
    with Daemon(root, "--write", "create", "--max-windowsize", "2000") as daemon:
        yield daemon


@pytest.fixture
def address(daemon: Daemon) -> Address:
    """Return the address of the daemon."""
    return LOCALHOST, daemon.port


def code(packet: bytes) -> int:
    """Return the code of an ERROR."""
    assert packet[:2] == b"\0\5", packet
    return int.from_bytes(packet[2:4], "big")


# -- rfc1350_test ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [b"binary", b"BINARY", b"octet"])
def test_file_is_read_in_mode_binary(peer: Peer, address: Address, mode: bytes) -> None:
    """`binary` is octet (`TestRRQ.test_perfect_scenario`)."""
    block, transfer = peer.ask(rrq(b"LICENSE", mode), address)
    assert peer.rest(block, transfer) == CONTENT


def test_block_without_an_ack_is_sent_again(peer: Peer, address: Address) -> None:
    """The client then acknowledges it (`TestRRQ.test_no_acks`)."""
    block, transfer = peer.ask(rrq(b"LICENSE", b"binary"), address)
    peer.forget_last()
    assert peer.receive() == (block, transfer)
    assert peer.rest(block, transfer) == CONTENT


@pytest.mark.parametrize("is_block_lost", [False, True])
def test_file_is_written_in_mode_binary(
    daemon: Daemon, peer: Peer, address: Address, is_block_lost: bool
) -> None:
    """`TestWRQ.test_perfect_transfer`; `test_lost_data_packet` sends a block twice."""
    path = Path(daemon.root, f"LICENSE_TEST {is_block_lost}")
    answer, transfer = peer.ask(wrq(path.name.encode(), b"binary"), address)
    for number in range(3):
        assert answer == ack(number)
        block = data(number + 1, CONTENT[number * 512 : (number + 1) * 512])
        answer, _ = peer.ask(block, transfer)
        if is_block_lost:
            peer.send(block, transfer)
    assert answer == ack(3)
    assert path.read_bytes() == CONTENT


def test_upload_that_does_not_end_leaves_no_file(
    daemon: Daemon, peer: Peer, address: Address
) -> None:
    """py3tftp keeps its first blocks (`TestWRQ.test_drop_client_connection`)."""
    _, transfer = peer.ask(wrq(b"DROPPED", b"binary"), address)
    assert peer.ask(data(1, CONTENT[:512]), transfer)[0] == ack(1)
    peer.send(error(0, b"dropped"), transfer)
    daemon.wait_for_line("DROPPED")
    assert not Path(daemon.root, "DROPPED").exists()


@pytest.mark.parametrize(
    ("request_packet", "number"),
    [
        (rrq(b"NOSUCHFILE", b"binary"), 1),  # test_file_not_found
        (wrq(b"LICENSE"), 6),  # test_file_already_exists
        (rrq(b"LICENSE", b"ocetet"), 4),  # test_oack_echos_supported_opts, of rfc2347_test
        (rrq(b"LICENSE", b"mail"), 4),
    ],
)
def test_request_that_is_refused_gets_the_right_error(
    peer: Peer, address: Address, request_packet: bytes, number: int
) -> None:
    """`TestTFTPErrors`; a mode that RFC 1350 does not know is ERROR 4, but octet for py3tftp."""
    assert code(peer.ask(request_packet, address)[0]) == number


@pytest.mark.parametrize("request_packet", [rrq(b"LICENSE"), wrq(b"STRANGER", b"binary")])
def test_packet_of_another_port_gets_error_5(
    peer: Peer, address: Address, request_packet: bytes
) -> None:
    """`TestTFTPErrors.test_unknown_transfer_id_rrq` and `..._wrq`."""
    _, transfer = peer.ask(request_packet, address)
    with Peer() as other:
        assert code(other.ask(data(1, b"AAA"), transfer)[0]) == 5
    peer.send(error(0, b"enough"), transfer)


# -- rfc2347_test, rfc2348_test, rfc7440_test -----------------------------------------------


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (b"timeout\x0012\0unsprt\x0099\0", b"\0\6timeout\x0012\0"),
        (b"timeout\0", data(1, CONTENT[:512])),  # test_missing_pair
        (b"timeout\x0012\0blksize\0", b"\0\6timeout\x0012\0"),  # test_missing_opt_pair
        (b"blksize\x00-1\0", data(1, CONTENT[:512])),  # test_negative_blksize
        (b"blksize\x000\0", data(1, CONTENT[:512])),  # test_zero_blksize
        (b"blksize\x0065465\0", b"\0\6blksize\x0065464\0"),  # test_smaller_blksize_suggested
        (b"windowsize\x00-1\0", data(1, CONTENT[:512])),  # test_negative_windowsize
        (b"windowsize\x000\0", data(1, CONTENT[:512])),  # test_zero_windowsize
        (b"windowsize\x001234\0", b"\0\6windowsize\x001234\0"),  # test_oack_windowsize
        # test_smaller_windowsize_suggested, which expects 65535
        (b"windowsize\x0065536\0", b"\0\6windowsize\x002000\0"),
    ],
)
def test_options_are_answered(peer: Peer, address: Address, options: bytes, answer: bytes) -> None:
    """`TestOptions`, `TestBlksize`, `TestWindowsize`."""
    received, transfer = peer.ask(rrq(b"LICENSE") + options, address)
    assert received == answer
    peer.send(error(0, b"enough"), transfer)


@pytest.mark.parametrize("blksize", [len(CONTENT), 675])
def test_blocks_have_the_granted_size(peer: Peer, address: Address, blksize: int) -> None:
    """`test_effective_blksize`, and `test_blksize_same_as_filesize`, which has an empty block."""
    _, transfer = peer.ask(rrq(b"LICENSE", blksize=str(blksize)), address)
    assert peer.ask(ack(0), transfer)[0] == data(1, CONTENT[:blksize])
    assert peer.ask(ack(1), transfer)[0] == data(2, CONTENT[blksize:])
    peer.send(ack(2), transfer)


class WindowReader:
    """A client with windows of two blocks, in mode `binary`, that keeps what it reads."""

    def __init__(self, peer: Peer, address: Address) -> None:
        self.peer = peer
        self.content = b""
        answer, self.transfer = peer.ask(
            rrq(b"WINDOWSIZE_TEST", b"binary", windowsize="2"), address
        )
        assert answer == b"\0\6windowsize\x002\0"
        self.acknowledge(0)

    def acknowledge(self, number: int) -> None:
        """Send an ACK."""
        self.peer.send(ack(number), self.transfer)

    def block(self, number: int) -> bytes:
        """Return the octets of block `number`, and skip the blocks before it."""
        while True:
            packet, _ = self.peer.receive()
            if packet[:4] == data(number, b""):
                return packet[4:]

    def rest(self, first: int) -> bytes:
        """Return all octets from block `first`, the first of a window, to the end."""
        content = b""
        for number in range(first, 12):
            content += self.block(number)
            if number % 2 == (first + 1) % 2 or number == 11:
                self.acknowledge(number)
        return content


def test_windows_are_read_in_mode_binary(peer: Peer, address: Address) -> None:
    """`TestRRQWindowsize.test_perfect_scenario`."""
    assert WindowReader(peer, address).rest(1) == LARGE


def test_window_without_an_ack_is_sent_again(peer: Peer, address: Address) -> None:
    """`TestRRQWindowsize.test_no_window_acks`."""
    reader = WindowReader(peer, address)
    reader.block(2)
    reader.peer.forget_last()
    assert reader.rest(1) == LARGE


def test_acks_out_of_order_do_no_harm(peer: Peer, address: Address) -> None:
    """An ACK within the window moves it, one of a later block does not.

    This is `TestRRQWindowsize.test_outofsync_window_acks`.
    """
    reader = WindowReader(peer, address)
    reader.block(2)
    reader.acknowledge(1)  # block 2 is sent again, with block 3
    reader.block(3)
    reader.acknowledge(10)  # never sent
    reader.acknowledge(3)
    assert reader.rest(4) == LARGE[3 * 512 :]


def test_client_that_ends_within_a_window_stops_nobody(peer: Peer, address: Address) -> None:
    """`TestRRQWindowsize.test_total_timeout`, `TestRRQ.test_total_timeout`."""
    assert WindowReader(peer, address).block(1) == LARGE[:512]
    with Peer() as other:
        assert WindowReader(other, address).rest(1) == LARGE
