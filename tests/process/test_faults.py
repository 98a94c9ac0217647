"""Test the daemon with failing disks, changed files, kills, bad networks and faulty backends."""

from __future__ import annotations

import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.daemon import TIMEOUT, Daemon
from tests.support.marks import as_root, linux
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Address, Peer, peer
from tests.support.served_root import CONTENT, root, temporary_files

__all__ = ["peer", "root"]  # fixtures


def content_of(size: int, seed: int = 5) -> bytes:
    """Return `size` octets that depend on `seed`."""
    return random.Random(seed).randbytes(size)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, at most `TIMEOUT` seconds; it is polled."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition does not become true"
        time.sleep(0.01)


def upload(peer: Peer, name: bytes, octets: bytes, address: Address) -> bytes:
    """Send a file in lock step; return the answer to its last block, or an ERROR before it."""
    answer, transfer = peer.ask(wrq(name, blksize="8192"), address)
    for number in range(1, len(octets) // 8192 + 2):
        if answer[:2] == b"\0\5":
            return answer
        block = octets[(number - 1) * 8192 : number * 8192]
        answer, _ = peer.ask(data(number, block), transfer)
    return answer


# -- disks -----------------------------------------------------------------------------------

#: Runs a command in its own mount namespace, after a shell script that mounts file systems.
MOUNTING = ("unshare", "--mount", "sh", "-ec")

#: Mounts a file system of 1 MiB in memory.
TMPFS = 'mount -t tmpfs -o size=1m none "$MOUNT"; exec "$0" "$@"'

#: Mounts an ext4 file system on an image that is then truncated. Reads beyond the first MiB fail,
#: as on a disk with errors.
FAILING_DISK = """
mount -t tmpfs -o size=40m none "$MOUNT"
truncate -s 32m "$MOUNT/image"
mkfs.ext4 -q -O ^has_journal "$MOUNT/image"
mkdir "$MOUNT/root"
mount -o loop "$MOUNT/image" "$MOUNT/root"
head -c 3000000 /dev/zero > "$MOUNT/root/zeroes"
sync
truncate -s 1m "$MOUNT/image"
echo 1 > /proc/sys/vm/drop_caches
exec "$0" "$@"
"""


class MountingDaemon(Daemon):
    """A daemon whose root is on a file system that is mounted only for it."""

    def __init__(self, mount: Path, script: str, root: str, *options: str) -> None:
        super().__init__(mount / root, *options, hosts=[LOCALHOST], prefix=[*MOUNTING, script])
        self._mount = mount

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "MOUNT": str(self._mount)}

    @property
    def seen(self) -> Path:
        """The daemon's root as the test can access it."""
        return Path(f"/proc/{self.process.pid}/root{self.root}")


@linux
@as_root
@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_full_disk_fails_the_upload_with_error_3(write: str, tmp_path: Path, peer: Peer) -> None:
    """On a full disk the client gets ERROR 3, and a smaller upload then works."""
    with MountingDaemon(tmp_path, TMPFS, "", "--write", write) as daemon:
        address = (LOCALHOST, daemon.port)
        assert upload(peer, b"large", bytes(3_000_000), address) == error(3, b"the disk is full")
        daemon.wait_for_line("the disk is full")
        wait_until(lambda: os.listdir(daemon.seen) == [])
        with Peer() as other:
            assert upload(other, b"small", CONTENT, address) == ack(1)
        assert (daemon.seen / "small").read_bytes() == CONTENT


@linux
@as_root
def test_read_error_of_the_disk_fails_the_transfer(tmp_path: Path, peer: Peer) -> None:
    """If the disk can't be read, the client gets an ERROR, and the daemon goes on."""
    with MountingDaemon(tmp_path, FAILING_DISK, "root") as daemon:
        address = (LOCALHOST, daemon.port)
        for _ in range(2):
            block, transfer = peer.ask(rrq(b"zeroes", blksize="65464"), address)
            number = 0
            while block[:2] != b"\0\5":
                block, transfer = peer.ask(ack(number), transfer)
                number += 1
            assert block == error(0, b"input/output error")
        daemon.wait_for_line("failed: input/output error")


# -- files -----------------------------------------------------------------------------------

#: A file that is larger than the read-ahead and the content cache.
LARGE = content_of(300_000)

#: Changes of a file during a read, and whether the client still gets the whole file.
CHANGES = {
    "truncated": False,
    "replaced": True,
    "deleted": True,
    "grown": True,
    "unreadable": True,
    "directory removed": True,
}


def change(path: Path, how: str) -> None:
    """Change a file as `how` says."""
    if how == "truncated":
        os.truncate(path, 1000)
    elif how == "replaced":
        other = path.with_name("other")
        other.write_bytes(bytes(len(LARGE)))
        other.rename(path)
    elif how == "deleted":
        path.unlink()
    elif how == "grown":
        with path.open("ab") as file:
            file.write(bytes(100_000))
    elif how == "unreadable":
        path.chmod(0)
    else:
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("how", CHANGES)
def test_file_that_changes_during_a_read_arrives_complete_or_fails(
    how: str, root: Path, peer: Peer
) -> None:
    """The client gets the file as it was opened, or an ERROR if it was truncated."""
    (root / "sub").mkdir()
    path = root / "sub" / "large"
    path.write_bytes(LARGE)
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        address = (LOCALHOST, daemon.port)
        block, transfer = peer.ask(rrq(b"sub/large"), address)
        change(path, how)
        if CHANGES[how]:
            assert peer.rest(block, transfer) == LARGE
        else:
            number = 1
            while block[:2] == b"\0\3":
                block, _ = peer.ask(ack(number), transfer)
                number += 1
            assert block == error(0, b"the file changed while it was read")
        assert Peer().fetch(b"file", address) == CONTENT


def test_removed_directory_fails_the_upload(root: Path, peer: Peer) -> None:
    """If its directory is removed during an upload, the client gets an ERROR at the end."""
    (root / "sub").mkdir()
    with Daemon(root, "--write", "create", hosts=[LOCALHOST]) as daemon:
        address = (LOCALHOST, daemon.port)
        _, transfer = peer.ask(wrq(b"sub/new"), address)
        shutil.rmtree(root / "sub")
        answer, _ = peer.ask(data(1, b"octets"), transfer)
        assert answer == error(1, b"no such file")
        daemon.wait_for_line('write "sub/new" .*: failed')
        assert Peer().fetch(b"file", address) == CONTENT


def test_replaced_root_is_served(root: Path, peer: Peer) -> None:
    """If the root is replaced by another directory, the daemon serves the new one."""
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        address = (LOCALHOST, daemon.port)
        assert peer.fetch(b"file", address) == CONTENT
        root.rename(root.with_name("old"))
        with Peer() as other:
            assert other.ask(rrq(b"file"), address)[0] == error(1, b"no such file")
        root.mkdir()
        (root / "file").write_bytes(LARGE)
        with Peer() as other:
            assert other.fetch(b"file", address) == LARGE


# -- kills -----------------------------------------------------------------------------------

OLD, NEW = content_of(50_000, 1), content_of(200_000, 2)


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize("blocks", [0, 12, 24, 25, 26])
def test_kill_during_an_upload_leaves_the_old_file_or_the_new_one(
    blocks: int, write: str, root: Path, peer: Peer
) -> None:
    """After SIGKILL no partial file is visible; the next start removes the temporary one."""
    if write == "overwrite":
        (root / "new").write_bytes(OLD)
    with Daemon(root, "--write", write, hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(wrq(b"new", blksize="8192"), (LOCALHOST, daemon.port))
        for number in range(1, min(blocks, 24) + 1):
            peer.ask(data(number, NEW[(number - 1) * 8192 : number * 8192]), transfer)
        if blocks >= 25:
            last = data(25, NEW[24 * 8192 :])
            if blocks == 25:
                peer.send(last, transfer)
            else:
                assert peer.ask(last, transfer)[0] == ack(25)
        daemon.process.kill()
        daemon.wait()
    found = (root / "new").read_bytes() if (root / "new").exists() else None
    before = OLD if write == "overwrite" else None
    if blocks < 25:
        assert found == before
        assert len(temporary_files(root)) == 1
    else:
        assert found == NEW or (found == before and blocks == 25)
    left = len(temporary_files(root))
    with Daemon(root, "--write", write, hosts=[LOCALHOST]) as daemon:
        if left:
            daemon.wait_for_line(f"removed {left} unfinished uploads of an earlier run")
        assert temporary_files(root) == []


#: How many blocks of an upload are answered before the daemon is killed, and how many milliseconds
#: after the last block.
KILLS = [(0, 0), (12, 0), (24, 0), *((25, pause) for pause in range(0, 12, 2)), (26, 0)]


@pytest.mark.parametrize("before", ["a file", "a link"])
@pytest.mark.parametrize(("blocks", "pause"), KILLS)
def test_kill_during_an_upload_leaves_complete_versions(
    blocks: int, pause: int, before: str, root: Path, peer: Peer
) -> None:
    """After SIGKILL the name leads to a complete version, and the old one is not lost."""
    (root / "new").write_bytes(OLD)
    if before == "a link":
        (root / "new").rename(root / "new.2020-01-01T00-00-00Z")
        (root / "new").symlink_to("new.2020-01-01T00-00-00Z")
    with Daemon(root, "--write", "version", hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(wrq(b"new", blksize="8192"), (LOCALHOST, daemon.port))
        for number in range(1, min(blocks, 24) + 1):
            peer.ask(data(number, NEW[(number - 1) * 8192 : number * 8192]), transfer)
        last = data(25, NEW[24 * 8192 :])
        if blocks == 26:
            assert peer.ask(last, transfer)[0] == ack(25)
        elif blocks == 25:
            peer.send(last, transfer)
            time.sleep(pause / 1000)  # the kill must come at different moments of the commit
        daemon.process.kill()
        daemon.wait()
    found = (root / "new").read_bytes()
    assert found == NEW or (found == OLD and blocks < 26)
    versions = [path.read_bytes() for path in root.glob("new.*")]
    assert set(versions) <= {OLD, NEW}
    assert OLD in [*versions, found]
    with Daemon(root, "--write", "version", hosts=[LOCALHOST]) as daemon:
        with Peer() as other:
            address = (LOCALHOST, daemon.port)
            assert upload(other, b"new", CONTENT, address) == ack(1)
            assert other.fetch(b"new", address) == CONTENT
        wait_until(lambda: not list(root.glob(".tftp-*")))
    assert [path.read_bytes() for path in root.glob("new.*")].count(OLD) == 1


def test_second_daemon_does_not_remove_running_uploads(root: Path, peer: Peer) -> None:
    """A daemon that starts removes stale temporary files, but not those of a running upload."""
    stray = root / ".tftp-upload-0123456789abcdef"
    stray.write_bytes(b"left by a crash")
    removed = "removed 1 unfinished uploads of an earlier run"
    with Daemon(root, "--write", "create", hosts=[LOCALHOST]) as first:
        first.wait_for_line(removed)  # it removes files in a thread, while it serves
        _, transfer = peer.ask(wrq(b"new"), (LOCALHOST, first.port))
        stray.write_bytes(b"left by another crash")
        with Daemon(root, "--write", "create", hosts=[LOCALHOST]) as second:
            second.wait_for_line(removed)
        assert peer.ask(data(1, b"octets"), transfer)[0] == ack(1)
    assert (root / "new").read_bytes() == b"octets"
    assert not stray.exists()


# -- descriptors -----------------------------------------------------------------------------


@linux
def test_requests_are_dropped_while_descriptors_are_exhausted(root: Path) -> None:
    """Without free descriptors requests are dropped; later requests are served again."""
    limit = ("prlimit", "--nofile=64:64")
    options = ("--timeout", "0.3", "--retries", "3")
    with Daemon(root, *options, hosts=[LOCALHOST], prefix=limit) as daemon:
        address = (LOCALHOST, daemon.port)
        peers = [Peer() for _ in range(100)]
        try:
            for one in peers:
                one.send(rrq(b"file"), address)
            daemon.wait_for_line("ignored: no socket for a transfer: Too many open files")
            daemon.wait_for_line("timed-out")
            with Peer() as other:
                other.sock.settimeout(0.5)
                for _ in range(60):
                    try:
                        assert other.fetch(b"file", address) == CONTENT
                        break
                    except TimeoutError:
                        other.forget_last()
                else:
                    raise AssertionError("the daemon does not recover")
        finally:
            for one in peers:
                one.sock.close()
        daemon.stop()
    assert "Traceback" not in daemon.log


# -- networks --------------------------------------------------------------------------------

#: A script for its own network namespace: a routing rule closes the way from daemon to client for
#: a while.
CLOSED_ROUTE = """
import subprocess, sys
sys.path.insert(0, {checkout!r})
from tests.support.daemon import Daemon
from tests.support.packets import ack, rrq
from tests.support.peer import Peer
from tests.support.served_root import CONTENT

def ip(*words):
    subprocess.run(["ip", *words], check=True)

ip("link", "set", "lo", "up")
ip("addr", "add", "198.51.100.1/32", "dev", "lo")
ip("addr", "add", "198.51.100.2/32", "dev", "lo")
ip("rule", "add", "pref", "100", "lookup", "local")
ip("rule", "del", "pref", "0", "lookup", "local")
rule = ("pref", "50", "from", "198.51.100.1", "to", "198.51.100.2", {kind!r})
options = ("--timeout", "0.1", "--retries", "100", {mode})
with Daemon({root!r}, *options, hosts=["198.51.100.1"]) as daemon:
    with Peer("198.51.100.2") as peer:
        address = ("198.51.100.1", daemon.port)
        block, transfer = peer.ask(rrq(b"file", **{window}), address)
        if {window}:
            block, _ = peer.ask(ack(0), transfer)
        ip("rule", "add", *rule)
        peer.send(ack(int.from_bytes(block[2:4], "big")), transfer)
        # Another client is served, so the answers to the first one have failed by now.
        with Peer("198.51.100.1") as other:
            assert other.fetch(b"file", address) == CONTENT
        ip("rule", "del", *rule)
        content = bytearray(block[4:])
        number = 2
        while len(block) == 516:
            block, _ = peer.receive()
            if block[2:4] == number.to_bytes(2, "big"):
                content += block[4:]
                peer.send(ack(number), transfer)
                number += 1
        assert content == CONTENT
    daemon.wait_for_line('"file" from 198.51.100.2:.* completed')
    daemon.stop()
    assert "Traceback" not in daemon.log, daemon.log
"""


@linux
@as_root
@pytest.mark.parametrize("mode", [[], ["--single-port"]], ids=["own", "single"])
@pytest.mark.parametrize("window", [{}, {"windowsize": "4"}], ids=["lock step", "window"])
@pytest.mark.parametrize("kind", ["prohibit", "unreachable", "blackhole"])
def test_transfer_survives_errors_of_sending(
    kind: str, window: dict[str, str], mode: list[str], root: Path
) -> None:
    """A datagram whose sending fails (EACCES, EHOSTUNREACH, EINVAL) is sent again later."""
    script = CLOSED_ROUTE.format(
        checkout=str(Path(__file__).parents[2]),
        kind=kind,
        root=str(root),
        window=window,
        mode="".join(f"{word!r}," for word in mode),
    )
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@linux
@as_root
def test_transfer_survives_a_client_port_that_was_closed_briefly(root: Path) -> None:
    """ECONNREFUSED on a connected socket is treated as loss; the transfer goes on."""
    (root / "large").write_bytes(LARGE)
    with Daemon(root, "--timeout", "0.1", "--retries", "100", hosts=[LOCALHOST]) as daemon:
        peer = Peer()
        block, transfer = peer.ask(rrq(b"large"), (LOCALHOST, daemon.port))
        content, number = b"", 1
        while number < 50:  # by then the daemon has connected its socket
            content += block[4:]
            block, _ = peer.ask(ack(number), transfer)
            number += 1
        port = peer.port
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp_errors:
            icmp_errors.settimeout(TIMEOUT)
            peer.sock.close()
            # An ICMP message contains the head of the undelivered datagram; its ports are at 48.
            while icmp_errors.recv(1000)[48:52] != struct.pack("!HH", transfer[1], port):
                pass
        peer.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.sock.settimeout(TIMEOUT)
        peer.sock.bind((LOCALHOST, port))
        peer.forget_last()
        block, _ = peer.receive()
        assert block[:4] == data(number, b"")
        while True:
            content += block[4:]
            if len(block) < 516:
                break
            block, _ = peer.ask(ack(number), transfer)
            number += 1
        peer.send(ack(number), transfer)
        assert content == LARGE
        daemon.wait_for_line('"large" .* completed')
        peer.sock.close()
        daemon.stop()
    assert "Traceback" not in daemon.log


# -- backends --------------------------------------------------------------------------------

#: An application whose backend has the fault that the file name says.
BROKEN = """
import os, time
from twisted.application.service import Application
from twisted.internet.defer import Deferred
from zope.interface import implementer
from twisted_tftp.backends.memory import MemoryReader
from twisted_tftp.interfaces import IFileBackend
from twisted_tftp.policy import Policy
from twisted_tftp.server import TFTPService

class Bug(Exception):
    pass

class Reader:
    def __init__(self, name):
        self.size = {"size": "large", "negative": -5}.get(name, 1000)
        self.name = name
    def read(self, offset, length):
        if self.name == "read":
            raise Bug("secret")
        if self.name == "none":
            return None
        if self.name == "hang in read":
            return Deferred()
        if self.name == "too much":
            return bytes(length + 1)
        return bytes(length)
    def close(self):
        if self.name == "close":
            raise Bug("secret")

class Writer:
    def __init__(self, name):
        self.name = name
    def write(self, data):
        if self.name == "write":
            raise Bug("secret")
        if self.name == "hang in write":
            return Deferred()
    def commit(self):
        if self.name == "commit":
            raise Bug("secret")
    def abort(self):
        if self.name in ("write", "abort"):
            raise Bug("secret")

@implementer(IFileBackend)
class Backend:
    def open_reader(self, path, context):
        if path == "open":
            raise Bug("secret")
        if path == "exit":
            raise SystemExit("secret")
        if path == "no reader":
            return object()
        if path == "hang":
            return Deferred()
        if path == "good":
            return MemoryReader(b"good")
        return Reader(path)
    def open_writer(self, path, context):
        if path == "open":
            raise Bug("secret")
        return Writer(path)

application = Application("tftp")
TFTPService(Backend(), port=int(os.environ["TFTP_PORT"]), host=["127.0.0.1"],
            policy=Policy(timeout=0.1, retries=3)).setServiceParent(application)
"""


class BrokenDaemon(Daemon):
    """A daemon with a backend that raises, hangs or returns wrong values, by file name."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, hosts=[LOCALHOST], directory=directory)
        (directory / "broken.tac").write_text(BROKEN)

    def command(self) -> list[str]:
        return [self.executable, "-n", "--pidfile=", "-oy", str(self.root / "broken.tac")]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "TFTP_PORT": str(self.port)}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon with a faulty backend."""
    with BrokenDaemon(tmp_path_factory.mktemp("broken")) as daemon:
        yield daemon


def answers(peer: Peer, request: bytes, address: Address, blocks: Sequence[bytes]) -> bytes:
    """Send a request, then `blocks` or ACKs until an ERROR comes; return the ERROR."""
    answer, transfer = peer.ask(request, address)
    for number in range(1, 5):
        if answer[:2] == b"\0\5":
            break
        answer, _ = peer.ask(data(number, blocks[0]) if blocks else ack(number), transfer)
    return answer


@pytest.mark.parametrize("bug", ["open", "exit", "size", "negative", "read", "none", "no reader"])
def test_exception_of_a_reader_ends_only_its_transfer(
    bug: str, broken: Daemon, peer: Peer
) -> None:
    """The client gets ERROR 0 without the exception's text; the log has the traceback."""
    address = (LOCALHOST, broken.port)
    start = broken.mark()
    assert answers(peer, rrq(bug.encode()), address, []) == error(0, b"internal error")
    broken.wait_for_line("Traceback", start=start)
    with Peer() as other:
        assert other.fetch(b"good", address) == b"good"


@pytest.mark.parametrize("bug", ["open", "write", "commit"])
def test_exception_of_a_writer_ends_only_its_transfer(
    bug: str, broken: Daemon, peer: Peer
) -> None:
    """The client gets ERROR 0 in place of an ACK; the log has the traceback."""
    address = (LOCALHOST, broken.port)
    start = broken.mark()
    request = wrq(bug.encode())
    assert answers(peer, request, address, [b"x"]) == error(0, b"internal error")
    broken.wait_for_line("Traceback", start=start)
    with Peer() as other:
        assert other.fetch(b"good", address) == b"good"


def test_reader_that_returns_too_many_octets_fails_the_transfer(
    broken: Daemon, peer: Peer
) -> None:
    """If a reader returns more octets than asked for, the client gets an ERROR."""
    answer = answers(peer, rrq(b"too much"), (LOCALHOST, broken.port), [])
    assert answer == error(0, b"the file changed while it was read")


@pytest.mark.parametrize("name", [b"hang", b"hang in read"])
def test_hanging_backend_delays_only_its_own_transfer(
    name: bytes, broken: Daemon, peer: Peer
) -> None:
    """A transfer whose backend hangs times out; other clients are served meanwhile."""
    address = (LOCALHOST, broken.port)
    start = broken.mark()
    peer.send(rrq(name), address)
    for _ in range(3):
        with Peer() as other:
            assert other.fetch(b"good", address) == b"good"
    broken.wait_for_line(f'read "{name.decode()}" .*timed-out', start=start)


def test_exception_of_close_is_logged_after_a_complete_read(broken: Daemon, peer: Peer) -> None:
    """If `close` of a reader raises, the client has its file and the log has the failure."""
    start = broken.mark()
    assert peer.fetch(b"close", (LOCALHOST, broken.port)) == bytes(1000)
    broken.wait_for_line("a file could not be released", start=start)
