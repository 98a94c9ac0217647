"""Test which files the daemon serves and stores: names with backslashes, links, and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LOOPBACK, Daemon
from tests.support.packets import error, rrq, wrq
from tests.support.peer import Peer
from tests.support.served_root import CONTENT, root

__all__ = ["root"]

DENIED = error(2, b"access denied")


@pytest.fixture(params=[(), ("--single-port",)], ids=["own ports", "single port"])
def ports(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the options for the ports of transfers."""
    options: tuple[str, ...] = request.param
    return options


@pytest.fixture(params=LOOPBACK)
def host(request: pytest.FixtureRequest) -> str:
    """Return an IPv4 or an IPv6 address of this machine."""
    address: str = request.param
    return address


@pytest.fixture
def peer(host: str) -> Iterator[Peer]:
    """Return a client with that address."""
    with Peer(host) as made:
        yield made


def test_names_with_backslashes_are_served(
    root: Path, host: str, peer: Peer, ports: tuple[str, ...]
) -> None:
    """They are paths with slashes, and do not leave the root."""
    (root / "Boot").mkdir()
    (root / "file").rename(root / "Boot" / "BCD")
    (root.parent / "secret").write_bytes(b"secret")
    with Daemon(root, "--write", "create", *ports) as daemon:
        address = (host, daemon.port)
        for name in (b"\\Boot\\BCD", b"/Boot\\BCD"):
            assert peer.fetch(name, address) == CONTENT
        for request in (rrq(b"..\\secret"), wrq(b"Boot\\..\\..\\new")):
            assert peer.ask(request, address)[0] == DENIED
            peer.forget_last()
    assert not (root.parent / "new").exists()


def test_links_lead_into_the_directory_of_the_option(
    root: Path, host: str, peer: Peer, ports: tuple[str, ...]
) -> None:
    """--follow-links lets a link leave the root for reads, and for nothing else."""
    images = root.parent / "images"
    images.mkdir()
    (root / "file").rename(images / "disk")
    (root / "out").symlink_to(images)
    (images / "away").symlink_to("../secret")
    (root.parent / "secret").write_bytes(b"secret")
    options = ("--follow-links", str(images), "--write", "overwrite", *ports)
    with Daemon(root, *options) as daemon:
        address = (host, daemon.port)
        assert peer.fetch(b"out/disk", address) == CONTENT
        for request in (rrq(b"out/away"), rrq(b"out/../secret"), wrq(b"out/disk"), wrq(b"out/n")):
            assert peer.ask(request, address)[0] == DENIED
            peer.forget_last()
    assert sorted(path.name for path in images.iterdir()) == ["away", "disk"]
    assert (images / "disk").read_bytes() == CONTENT
