"""Test which files the daemon serves and stores: names with backslashes, links, and uploads."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.daemon import LOOPBACK, Daemon
from tests.support.marks import as_root, linux
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import Address, Peer
from tests.support.served_root import CONTENT, open_root, root

__all__ = ["open_root", "root"]

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


def test_names_with_backslashes_are_served(root: Path, ports: tuple[str, ...]) -> None:
    """They are paths with slashes, and do not leave the root."""
    (root / "Boot").mkdir()
    (root / "file").rename(root / "Boot" / "BCD")
    (root.parent / "secret").write_bytes(b"secret")
    with Daemon(root, "--write", "create", *ports) as daemon:
        for host in LOOPBACK:
            with Peer(host) as peer:
                address = (host, daemon.port)
                for name in (b"\\Boot\\BCD", b"/Boot\\BCD"):
                    assert peer.fetch(name, address) == CONTENT
                for request in (rrq(b"..\\secret"), wrq(b"Boot\\..\\..\\new")):
                    assert peer.ask(request, address)[0] == DENIED
                    peer.forget_last()
    assert not (root.parent / "new").exists()


def test_links_lead_into_the_directory_of_the_option(root: Path, ports: tuple[str, ...]) -> None:
    """--follow-links lets a link leave the root for reads, and for nothing else."""
    images = root.parent / "images"
    images.mkdir()
    (root / "file").rename(images / "disk")
    (root / "out").symlink_to(images)
    (images / "away").symlink_to("../secret")
    (root.parent / "secret").write_bytes(b"secret")
    options = ("--follow-links", str(images), "--write", "overwrite", *ports)
    with Daemon(root, *options) as daemon:
        for host in LOOPBACK:
            with Peer(host) as peer:
                address = (host, daemon.port)
                assert peer.fetch(b"out/disk", address) == CONTENT
                for request in (
                    rrq(b"out/away"),
                    rrq(b"out/../secret"),
                    wrq(b"out/disk"),
                    wrq(b"out/n"),
                ):
                    assert peer.ask(request, address)[0] == DENIED
                    peer.forget_last()
    assert sorted(path.name for path in images.iterdir()) == ["away", "disk"]
    assert (images / "disk").read_bytes() == CONTENT


def store(peer: Peer, name: bytes, octets: bytes, address: Address, **options: str) -> bytes:
    """Upload a file of one block, and return the last answer."""
    first, transfer = peer.ask(wrq(name, **options), address)
    if first[1] == 5:
        return first
    return peer.ask(data(1, octets), transfer)[0]


@pytest.mark.parametrize("umask", ["000", "077"])
def test_uploads_have_the_mode_of_the_option(
    root: Path, umask: str, ports: tuple[str, ...]
) -> None:
    """The default is 0644, whatever the umask; a file that is replaced keeps its mode."""
    (root / "file").chmod(0o620)
    for options, mode in (((), 0o644), (("--upload-mode", "0660"), 0o660)):
        written = ("--write", "overwrite", *options, *ports)
        with Daemon(root, *written, twistd=("--umask", umask)) as daemon:
            for host, name in itertools.product(LOOPBACK, (b"new", b"file")):
                with Peer(host) as peer:
                    assert store(peer, name, b"octets", (host, daemon.port)) == ack(1)
                if name == b"new":
                    assert stat.S_IMODE((root / "new").stat().st_mode) == mode
                    (root / "new").unlink()
                assert stat.S_IMODE((root / "file").stat().st_mode) == 0o620


def test_upload_makes_missing_directories(
    root: Path, host: str, peer: Peer, ports: tuple[str, ...]
) -> None:
    """--make-dirs makes them inside the root, and only when the upload is complete."""
    options = ("--write", "create", "--make-dirs", "--max-upload", "100", *ports)
    with Daemon(root, *options) as daemon:
        address = (host, daemon.port)
        assert store(peer, b"2026/11/switch", b"octets", address) == ack(1)
        peer.forget_last()
        assert store(peer, b"a/b/large", bytes(200), address)[:4] == b"\0\5\0\3"
        peer.forget_last()
        assert store(peer, b"../outside/x", b"octets", address) == DENIED
    assert (root / "2026" / "11" / "switch").read_bytes() == b"octets"
    assert sorted(os.listdir(root)) == ["2026", "file"]
    assert os.listdir(root.parent) == ["root"]


def test_wrong_announced_size_is_a_remark_in_the_log(
    root: Path, host: str, peer: Peer, ports: tuple[str, ...]
) -> None:
    """The file is stored; the line of the transfer has both sizes."""
    with Daemon(root, "--write", "create", *ports) as daemon:
        address = (host, daemon.port)
        assert store(peer, b"new", b"octets", address, tsize="10") == ack(1)
        daemon.wait_for_line(
            r"completed, 6 octets .*, the client had announced 10 octets \(tsize\)"
        )
    assert (root / "new").read_bytes() == b"octets"


#: Mounts the file $1 at $2/file; then runs the rest.
MOUNT = 'mount --bind "$1" "$2/file" && shift 2 && exec "$@"'

#: The same, with $2 as a read-only mount of its own.
MOUNT_IN_READ_ONLY = (
    'mount --bind "$2" "$2" && mount --bind "$1" "$2/file" && mount -o remount,bind,ro "$2"'
    ' && shift 2 && exec "$@"'
)


#: Runs a command in its own namespace of mounts, also without being root.
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@functools.cache
def can_mount() -> bool:
    """Return whether a mount is possible in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as name:
        for file in ("file", "other"):
            (Path(name) / file).touch()
        words = (*UNSHARE, "sh", "-c", MOUNT_IN_READ_ONLY, "sh", f"{name}/other", name, "true")
        return run(*words).returncode == 0


@linux
@pytest.mark.parametrize("mount", [MOUNT, MOUNT_IN_READ_ONLY], ids=["writable", "read-only"])
def test_file_that_is_a_mount_of_its_own_is_overwritten(
    root: Path, host: str, peer: Peer, ports: tuple[str, ...], mount: str
) -> None:
    """A volume of a container may be a single file, also in a root that is read-only."""
    if not can_mount():
        pytest.skip("no namespace of mounts can be made")
    volume = root.parent / "volume"
    volume.write_bytes(b"old")
    prefix = (*UNSHARE, "sh", "-c", mount, "sh", str(volume), str(root))
    with Daemon(root, "--write", "overwrite", *ports, prefix=prefix) as daemon:
        address = (host, daemon.port)
        assert store(peer, b"file", b"by the client", address) == ack(1)
        peer.forget_last()
        assert peer.fetch(b"file", address) == b"by the client"
    assert volume.read_bytes() == b"by the client"
    assert (root / "file").read_bytes() == CONTENT
    assert os.listdir(root) == ["file"]


@linux
@as_root
def test_file_in_a_directory_of_another_user_is_overwritten(open_root: Path) -> None:
    """The daemon may write the file, and not its directory."""
    (open_root / "closed").mkdir(mode=0o755)
    (open_root / "closed" / "file").write_bytes(b"old and longer than the new content")
    (open_root / "closed" / "file").chmod(0o666)
    before = (open_root / "closed" / "file").stat()
    identities = ("--uid", "nobody", "--gid", "nogroup")
    with (
        Peer() as peer,
        Daemon(open_root, "--write", "overwrite", twistd=identities) as daemon,
    ):
        address = ("127.0.0.1", daemon.port)
        assert store(peer, b"closed/file", b"new", address) == ack(1)
        peer.forget_last()
        assert store(peer, b"closed/new", b"new", address) == DENIED
    after = (open_root / "closed" / "file").stat()
    assert (open_root / "closed" / "file").read_bytes() == b"new"
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, 0)
    assert os.listdir(open_root / "closed") == ["file"]
