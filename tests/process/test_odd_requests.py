"""Test requests that break the rules, and `--refuse`, with IPv4, IPv6 and both port modes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LOOPBACK, Daemon
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import Peer

#: Octets of the file that is read: more than one block of 1024.
CONTENT = bytes(range(256)) * 5

#: The port modes, each with its options.
MODES = {"own": (), "single": ("--single-port",)}

#: What may follow the options of a request.
ENDS = [
    b"",
    b"\0",
    bytes(300),
    b"timeout\0",
    b"timeout\0\0\0",
    b"timeout",
    b"timeout\x005",
    b"\xff\xfejunk",
    b"\0\0\0timeout\x005\0",
]


@pytest.fixture(scope="module", params=MODES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with one file, once for each port mode."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "file").write_bytes(CONTENT)
    return root


@pytest.fixture(scope="module")
def daemon(root: Path) -> Iterator[Daemon]:
    """Return a daemon for each port mode."""
    mode = MODES[root.name.rstrip("0123456789")]
    with Daemon(root, "--write", "overwrite", *mode) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def refusing(root: Path) -> Iterator[Daemon]:
    """Return a daemon that never grants `tsize` and `windowsize`."""
    mode = MODES[root.name.rstrip("0123456789")]
    options = ("--refuse", "TSIZE", "--refuse", "windowsize", "--write", "overwrite", *mode)
    with Daemon(root, *options) as daemon:
        yield daemon


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("end", ENDS)
def test_octets_after_the_last_option_do_not_matter(daemon: Daemon, host: str, end: bytes) -> None:
    """A file is read and written with the options before them."""
    with Peer(host) as peer:
        answer, transfer = peer.ask(rrq(b"file", blksize="1024") + end, (host, daemon.port))
        assert answer == b"\0\6blksize\x001024\0"
        assert peer.ask(ack(0), transfer)[0] == data(1, CONTENT[:1024])
        assert peer.ask(ack(1), transfer)[0] == data(2, CONTENT[1024:])
        peer.send(ack(2), transfer)
    with Peer(host) as peer:
        answer, transfer = peer.ask(wrq(b"new", blksize="1024") + end, (host, daemon.port))
        assert answer == b"\0\6blksize\x001024\0"
        assert peer.ask(data(1, CONTENT[:1024]), transfer)[0] == ack(1)
        assert peer.ask(data(2, b"end"), transfer)[0] == ack(2)
    assert Path(daemon.root, "new").read_bytes() == CONTENT[:1024] + b"end"


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize(
    ("name", "asked", "granted"),
    [
        ("blksize", "65465", "65464"),
        ("blksize", "100000", "65464"),
        ("blksize2", "131072", "32768"),
        ("windowsize", "65536", "64"),
    ],
)
def test_number_above_the_limit_of_its_rfc_is_lowered(
    daemon: Daemon, host: str, name: str, asked: str, granted: str
) -> None:
    """The client gets as much as possible."""
    for packet in (rrq, wrq):
        with Peer(host) as peer:
            request = packet(b"file", **{name: asked})
            answer, transfer = peer.ask(request, (host, daemon.port))
            assert answer == b"\0\6" + name.encode() + b"\0" + granted.encode() + b"\0"
            peer.send(error(0, b"enough"), transfer)


@pytest.mark.parametrize("host", LOOPBACK)
def test_option_of_refuse_is_never_granted(refusing: Daemon, host: str) -> None:
    """The other options are, and a transfer without any option begins at once."""
    with Peer(host) as peer:
        request = rrq(b"file", tsize="0", blksize="1024", windowsize="4")
        answer, transfer = peer.ask(request, (host, refusing.port))
        assert answer == b"\0\6blksize\x001024\0"
        assert peer.ask(ack(0), transfer)[0] == data(1, CONTENT[:1024])
        assert peer.ask(ack(1), transfer)[0] == data(2, CONTENT[1024:])
        peer.send(ack(2), transfer)
    with Peer(host) as peer:
        block, transfer = peer.ask(rrq(b"file", tsize="0"), (host, refusing.port))
        assert peer.rest(block, transfer) == CONTENT
    with Peer(host) as peer:
        request = wrq(b"sized", tsize="5", windowsize="4")
        answer, transfer = peer.ask(request, (host, refusing.port))
        assert answer == ack(0)
        assert peer.ask(data(1, b"12345"), transfer)[0] == ack(1)
    assert Path(refusing.root, "sized").read_bytes() == b"12345"
