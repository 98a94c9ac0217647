"""Test the set-up without systemd, as `docs/operations.md` describes it."""

from __future__ import annotations

import grp
import os
import pwd
import signal
from pathlib import Path

from tests.support.commands import run
from tests.support.daemon import TWISTD, free_port, wait_for_text
from tests.support.marks import as_root, linux
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, open_root

__all__ = ["open_root", "peer"]  # fixtures


@linux
@as_root
def test_daemon_of_another_user_rotates_its_log_and_removes_its_pid_file(
    open_root: Path, peer: Peer
) -> None:
    """The user owns the two folders, so a new log can be created, and the pid file removed."""
    nobody = pwd.getpwnam("nobody")
    folder = open_root / "state"
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    pid_file, log, old_log = folder / "twistd.pid", folder / "tftp.log", folder / "tftp.log.1"
    port = free_port()
    done = run(
        *(TWISTD, "--uid", "nobody", "--gid", grp.getgrgid(nobody.pw_gid).gr_name),
        *("--umask", "022", "--pidfile", pid_file, "--logfile", log),
        *("tftp", "--root", open_root, "--host", LOCALHOST, "--port", port),
    )
    assert (done.returncode, done.stderr) == (0, "")
    number = int(pid_file.read_text())
    try:
        wait_for_text(log, "serving on")
        log.rename(old_log)
        os.kill(number, signal.SIGHUP)
        wait_for_text(log, "SIGHUP: the log was reopened")
        assert peer.fetch(b"file", (LOCALHOST, port)) == CONTENT
        assert log.stat().st_uid == nobody.pw_uid
        assert log.stat().st_mode & 0o777 == old_log.stat().st_mode & 0o777 == 0o644
    finally:
        os.kill(number, signal.SIGTERM)
    wait_for_text(log, "Server Shut Down")
    wait_for_text(log, "completed")
    assert not pid_file.exists()
