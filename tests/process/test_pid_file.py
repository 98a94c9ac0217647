"""The pid file of twistd: there is none in the foreground, so that a killed container restarts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import TIMEOUT, TWISTD, Daemon, free_port
from tests.support.marks import as_root, linux
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, root

__all__ = ["peer", "root"]  # fixtures

#: The pid file of twistd if no other one is given.
PID_FILE = "twistd.pid"

#: Runs a command as PID 1 of its own process namespace, as a container does.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

#: Runs a command in a read-only working directory.
READ_ONLY = 'mount --bind -o ro . .; cd "$PWD"; exec "$0" "$@"'


class PlainDaemon(Daemon):
    """A daemon that is started without an option about its pid file."""

    def command(self) -> list[str]:
        return [word for word in super().command() if word != "--pidfile="]


def plain_daemon(root: Path, directory: Path, prefix: Sequence[str] = ()) -> PlainDaemon:
    """Return a daemon in a working directory."""
    return PlainDaemon(root, hosts=[LOCALHOST], directory=directory, prefix=prefix)


def test_foreground_writes_no_pid_file(root: Path, tmp_path: Path, peer: Peer) -> None:
    """`twistd -n tftp` leaves no file in its working directory."""
    with plain_daemon(root, tmp_path) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        assert not (tmp_path / PID_FILE).exists()


def test_foreground_ignores_a_pid_file_of_an_earlier_version(
    root: Path, tmp_path: Path, peer: Peer
) -> None:
    """A file that names a running process does not keep the server from starting."""
    stale = tmp_path / PID_FILE
    stale.write_text(str(os.getpid()))
    with plain_daemon(root, tmp_path) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
    assert stale.read_text() == str(os.getpid())


@linux
@as_root
def test_killed_container_starts_again(root: Path, tmp_path: Path, peer: Peer) -> None:
    """A server that was killed as PID 1 starts again as PID 1 in the same directory."""
    for _ in range(2):
        with plain_daemon(root, tmp_path, CONTAINER) as daemon:
            assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
            daemon.stop(signal.SIGKILL)


@linux
@as_root
def test_foreground_starts_in_a_read_only_directory(
    root: Path, tmp_path: Path, peer: Peer
) -> None:
    """The server needs no file in its working directory."""
    prefix = ("unshare", "--mount", "sh", "-ec", READ_ONLY)
    with plain_daemon(root, tmp_path, prefix) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
    assert not daemon.errors


def test_given_pid_file_is_written(root: Path, tmp_path: Path) -> None:
    """`--pidfile` is obeyed in the foreground, even with the name of twistd's default."""
    daemon = PlainDaemon(
        root, hosts=[LOCALHOST], directory=tmp_path, twistd=["--pidfile", PID_FILE]
    )
    with daemon:
        assert (tmp_path / PID_FILE).read_text() == str(daemon.process.pid)


def test_daemon_in_the_background_writes_its_pid_file(root: Path, tmp_path: Path) -> None:
    """Without `-n`, the pid file tells which process is the server."""
    options = ("--root", str(root), "--host", LOCALHOST, "--port", str(free_port()))
    subprocess.run([TWISTD, "tftp", *options], cwd=tmp_path, timeout=TIMEOUT, check=True)
    number = int((tmp_path / PID_FILE).read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
