"""Test that the daemon drops the privileges that it does not need, and serves without them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.configured_daemon import ConfiguredDaemon
from tests.support.daemon import Daemon, assert_ended_well
from tests.support.marks import as_root, linux
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, open_root

__all__ = ["open_root", "peer"]

pytestmark = [linux, as_root]

#: The user that the daemon becomes, and its group by name, for the command line of twistd.
NOBODY = pwd.getpwnam("nobody")
GROUP = grp.getgrgid(NOBODY.pw_gid).gr_name
IDS = ("--uid", NOBODY.pw_name, "--gid", GROUP)

#: Ports that only root, or a process with CAP_NET_BIND_SERVICE, may bind.
PRIVILEGED_PORTS = range(600, 1024)

DENIED = error(2, b"access denied")

#: The bit of CAP_DAC_READ_SEARCH in /proc/PID/status.
DAC_READ_SEARCH = 1 << 2

#: The bit of CAP_NET_BIND_SERVICE in /proc/PID/status.
NET_BIND_SERVICE = 1 << 10


@pytest.fixture
def setpriv() -> str:
    """Return the path of the program `setpriv`, which starts others with fewer privileges."""
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("setpriv is not installed")
    return program


@pytest.fixture
def jail() -> Iterator[Path]:
    """Return a directory for --chroot; the daemon serves `srv` in it.

    It contains no system files, except one line of /etc/passwd, which twistd reads.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "etc").mkdir()
        fields = (NOBODY.pw_name, "x", NOBODY.pw_uid, NOBODY.pw_gid, "", "/", "/bin/false")
        (directory / "etc" / "passwd").write_text(":".join(map(str, fields)) + "\n")
        served = directory / "srv"
        served.mkdir()
        served.chmod(0o777)
        fill(served)
        yield directory


def fill(directory: Path) -> None:
    """Create a file for all users, a file for root, and a file in a directory for root."""
    (directory / "file").write_bytes(CONTENT)
    (directory / "file").chmod(0o644)
    (directory / "secret").write_bytes(b"of root")
    (directory / "secret").chmod(0o600)
    (directory / "closed").mkdir(0o700)
    (directory / "closed" / "file").write_bytes(b"of root")


def status(daemon: Daemon) -> dict[str, list[str]]:
    """Return the fields of the daemon's /proc/PID/status."""
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return {name: words.split() for name, words in re.findall(r"^(\w+):(.*)$", text, re.MULTILINE)}


def assert_is_nobody(daemon: Daemon) -> None:
    """Check that all user and group IDs of the daemon are those of nobody."""
    now = status(daemon)
    assert now["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert now["Gid"] == [str(NOBODY.pw_gid)] * 4
    assert set(now["Groups"]) <= {str(NOBODY.pw_gid)}


def store(peer: Peer, name: bytes, octets: bytes, daemon: Daemon) -> None:
    """Upload a file of one block."""
    first, transfer = peer.ask(wrq(name), (LOCALHOST, daemon.port))
    assert first == ack(0)
    assert peer.ask(data(1, octets), transfer)[0] == ack(1)


def refusal(peer: Peer, request: bytes, daemon: Daemon) -> bytes:
    """Send a request that is refused, and return the answer."""
    answer, _ = peer.ask(request, (LOCALHOST, daemon.port))
    return answer


def with_groups(setpriv: str) -> tuple[str, ...]:
    """Return a command prefix that gives root more groups, as a login does."""
    return (setpriv, "--groups", "0,4,27")


@pytest.mark.parametrize(("root", "prefix"), [("/srv", b""), ("/", b"srv/")])
def test_daemon_in_a_chroot_serves_as_nobody(
    root: str, prefix: bytes, jail: Path, peer: Peer, setpriv: str
) -> None:
    """With --chroot the daemon serves, takes uploads and logs, without any file of the system."""
    with Daemon(
        root,
        *("--write", "create"),
        hosts=[LOCALHOST],
        ports=PRIVILEGED_PORTS,
        twistd=(*IDS, "--chroot", str(jail)),
        prefix=with_groups(setpriv),
    ) as daemon:
        assert_is_nobody(daemon)
        assert os.readlink(f"/proc/{daemon.process.pid}/root") == os.path.realpath(jail)
        address = (LOCALHOST, daemon.port)
        for _ in range(2):  # the second time the name is in the kernel's cache
            assert peer.fetch(prefix + b"file", address) == CONTENT
        assert refusal(peer, rrq(prefix + b"missing"), daemon)[:4] == b"\0\5\0\1"
        assert refusal(peer, rrq(prefix + b"secret"), daemon) == DENIED
        assert refusal(peer, rrq(b"../" * 9 + b"etc/passwd"), daemon) == DENIED
        store(peer, prefix + b"new", b"by nobody", daemon)
        daemon.wait_for_line('write ".*new" from .* completed')
        daemon.stop()
        assert_ended_well(daemon)
    new = jail / "srv" / "new"
    assert new.read_bytes() == b"by nobody"
    assert (new.stat().st_uid, new.stat().st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)


def test_files_of_root_are_refused_after_root_was_dropped(
    open_root: Path, peer: Peer, setpriv: str
) -> None:
    """After root was dropped, files that only root may read or change are refused."""
    fill(open_root)
    with Daemon(
        open_root,
        *("--write", "overwrite"),
        hosts=[LOCALHOST],
        ports=PRIVILEGED_PORTS,
        twistd=IDS,
        prefix=with_groups(setpriv),
    ) as daemon:
        daemon.wait_for_line("set uid/gid")
        assert_is_nobody(daemon)
        for name in (b"secret", b"closed/file"):
            for request in (rrq(name), wrq(name)):
                assert refusal(peer, request, daemon)[:4] == b"\0\5\0\2"
        assert refusal(peer, wrq(b"closed/new"), daemon) == DENIED
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
    assert (open_root / "secret").read_bytes() == b"of root"
    assert os.listdir(open_root / "closed") == ["file"]


class JailedDaemon(ConfiguredDaemon):
    """A daemon in a chroot. Its file has the same path inside and outside of it."""

    def __init__(self, jail: Path, folder: Path, text: str) -> None:
        super().__init__(folder, text, twistd=(*IDS, "--chroot", str(jail)))
        self._inner_path = jail / self.path.relative_to("/")

    def write(self, text: str) -> None:
        super().write(text)
        self._inner_path.parent.mkdir(parents=True, exist_ok=True)
        self._inner_path.write_text(self.path.read_text())
        if self.lines:  # the daemon is in the chroot
            self.path.write_text("not the file that a reload reads")


#: The configuration of a daemon in a chroot, and the one that a reload reads. It needs modules
#: that were not needed before, and that are not in the chroot.
JAILED = '[tftp]\nhost = ["127.0.0.1"]\nport = PORT\nroot = "/srv"\n'
JAILED_MOUNTS = """[tftp]
host = ["127.0.0.1"]
port = PORT
write = "create"

[[mount]]
prefix = "/lab"
backend = ["memory:", "readonly:of=filesystem:/srv", "filesystem:/srv"]

[[rename]]
rule = "r ^old/ lab/"
"""


def test_daemon_in_a_chroot_reads_its_file_again(jail: Path, tmp_path: Path, peer: Peer) -> None:
    """The file is that inside the chroot; it may name backends that were not used before."""
    with JailedDaemon(jail, tmp_path, JAILED) as daemon:
        assert_is_nobody(daemon)
        assert peer.fetch(b"file", daemon.address) == CONTENT
        daemon.reload(JAILED_MOUNTS)
        for name in (b"lab/file", b"old/file"):
            assert peer.fetch(name, daemon.address) == CONTENT
        assert refusal(peer, rrq(b"file"), daemon)[:4] == b"\0\5\0\1"
        store(peer, b"lab/new", b"by nobody", daemon)
        daemon.stop()
        assert_ended_well(daemon)
    assert (jail / "srv" / "new").read_bytes() == b"by nobody"


def test_file_that_nobody_may_not_read_changes_nothing(
    open_root: Path, tmp_path: Path, peer: Peer
) -> None:
    """After root was dropped, a reload says why it can't read the file."""
    fill(open_root)
    text = JAILED.replace("/srv", str(open_root))
    with ConfiguredDaemon(tmp_path, text, twistd=IDS) as daemon:
        daemon.path.chmod(0o600)
        daemon.wait_for_line("set uid/gid")
        mark = daemon.reload(
            text + "deny = ['0.0.0.0/0']\n", "SIGHUP: the old configuration stays"
        )
        daemon.wait_for_line(
            f"{daemon.path}: can't read it: Permission denied \\(as user {NOBODY.pw_uid}",
            start=mark,
        )
        assert peer.fetch(b"file", daemon.address) == CONTENT
        daemon.stop()
        assert_ended_well(daemon)


def test_daemon_needs_only_the_capability_of_the_unit(
    open_root: Path, peer: Peer, setpriv: str
) -> None:
    """With only CAP_NET_BIND_SERVICE the user nobody serves a port below 1024."""
    fill(open_root)
    prefix, given = capable(setpriv)
    with Daemon(
        open_root,
        *("--write", "create"),
        hosts=[LOCALHOST],
        ports=PRIVILEGED_PORTS,
        prefix=prefix,
    ) as daemon:
        assert_is_nobody(daemon)
        now = status(daemon)
        assert now["NoNewPrivs"] == ["1"]
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(now[kind][0], 16) == given
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        assert refusal(peer, wrq(b"closed/new"), daemon) == DENIED
        store(peer, b"new", b"by nobody", daemon)
        daemon.stop()
        assert_ended_well(daemon)
    assert (open_root / "new").stat().st_uid == NOBODY.pw_uid


def capable(setpriv: str) -> tuple[tuple[str, ...], int]:
    """Return a command prefix that starts as nobody with few capabilities, and their bits.

    The capabilities are those of the systemd unit. If only root can read the Python that runs the
    tests, CAP_DAC_READ_SEARCH is added.
    """

    def prefix(capabilities: str) -> tuple[str, ...]:
        return (
            *(setpriv, "--reuid", str(NOBODY.pw_uid), "--regid", str(NOBODY.pw_gid)),
            *("--clear-groups", "--no-new-privs"),
            f"--bounding-set=-all,{capabilities}",
            f"--inh-caps=-all,{capabilities}",
            f"--ambient-caps=-all,{capabilities}",
        )

    least = prefix("+net_bind_service")
    which = "import os, sys, twisted_tftp; print(sys.version, os.__file__)"
    found = run(sys.executable, "-c", which, prefix=least)
    if found.stdout == run(sys.executable, "-c", which).stdout:
        return least, NET_BIND_SERVICE
    return prefix("+net_bind_service,+dac_read_search"), NET_BIND_SERVICE | DAC_READ_SEARCH
