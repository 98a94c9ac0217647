"""Test that the log of the daemon says why a request was refused, ignored or ended."""

from __future__ import annotations

import os
import pwd
import re
import signal
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.marks import as_root, linux
from tests.support.packets import data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import open_root, root

__all__ = ["open_root", "peer", "root"]  # fixtures


def refuse(daemon: Daemon, peer: Peer, request: bytes) -> str:
    """Send a request that is refused, and return the end of its log line, from `refused` on."""
    start = daemon.mark()
    answer, _ = peer.ask(request, (LOCALHOST, daemon.port))
    assert answer[:2] == b"\0\5", answer
    return daemon.wait_for_line("#warn.*(refused: .*)$", start=start)[1]


def test_missing_file_is_logged_with_the_options_that_were_asked_for(
    root: Path, peer: Peer
) -> None:
    """The reason comes first; `tsize` of a read has no value, because that means nothing."""
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        request = rrq(b"missing", tsize="0", blksize="512")
        assert refuse(daemon, peer, request) == "refused: no such file (asked: tsize, blksize=512)"
        assert refuse(daemon, peer, rrq(b"missing")) == "refused: no such file"
        line = refuse(daemon, peer, rrq(b"missing", **{"a\n": "é"}))
        assert line == r"refused: no such file (asked: a\x0a=\x5cxc3\x5cxa9)"


def test_refused_upload_is_logged_with_the_limit_and_its_option(root: Path, peer: Peer) -> None:
    """Sizes have separators, and the limit has the name of its option."""
    limits = ("--max-upload", "10M", "--upload-quota", "1000000")
    with Daemon(root, "--write", "create", *limits, hosts=[LOCALHOST]) as daemon:
        line = refuse(daemon, peer, wrq(b"new", tsize="11000000"))
        assert line == (
            "refused: 11,000,000 octets, --max-upload is 10,485,760 (asked: tsize=11000000)"
        )
        line = refuse(daemon, peer, wrq(b"new", tsize="2000000"))
        assert line == "refused: would exceed --upload-quota 1,000,000 (asked: tsize=2000000)"
        line = refuse(daemon, peer, wrq(b"file"))
        assert line == "refused: the file exists already, --write is create"
        line = refuse(daemon, peer, wrq(b"2026/new"))
        assert line == "refused: directory 2026 does not exist, --make-dirs is off"
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        assert refuse(daemon, peer, wrq(b"new")) == "refused: --write is never"
    allow = ("--allow-write", "192.0.2.0/24")
    with Daemon(root, "--write", "create", *allow, hosts=[LOCALHOST]) as daemon:
        assert refuse(daemon, peer, wrq(b"new")) == "refused: 127.0.0.1 is not in --allow-write"


def test_upload_that_grows_too_large_is_logged_with_the_limit(root: Path, peer: Peer) -> None:
    """Without an announced size, the reason says how many octets have come."""
    limit = ("--write", "create", "--max-upload", "1000")
    with Daemon(root, *limit, hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(wrq(b"new"), (LOCALHOST, daemon.port))
        peer.ask(data(1, bytes(512)), transfer)
        peer.ask(data(2, bytes(512)), transfer)
        daemon.wait_for_line("failed: 1,024 octets so far, --max-upload is 1,000; .* octets in ")


@linux
@as_root
def test_denied_permission_is_logged_with_the_user_and_the_mode(
    open_root: Path, peer: Peer
) -> None:
    """An unreadable file and a directory that may not be entered are told apart."""
    uid = pwd.getpwnam("nobody").pw_uid
    (open_root / "secret").touch(0o600)
    (open_root / "closed").mkdir(0o700)
    (open_root / "fixed").mkdir(0o755)
    (open_root / "fixed" / "old").touch(0o444)
    real = re.escape(os.path.realpath(open_root))
    ids = ("--uid", "nobody", "--gid", "nogroup")
    with Daemon(open_root, "--write", "overwrite", hosts=[LOCALHOST], twistd=ids) as daemon:
        daemon.wait_for_line("set uid/gid")
        for _ in range(2):  # the second time the names are in the kernel's cache
            line = refuse(daemon, peer, rrq(b"secret"))
            assert line == f"refused: not readable by uid {uid} (mode 600)"
            line = refuse(daemon, peer, rrq(b"closed/file"))
            closed = (
                rf"refused: directory {real}/closed may not be entered by uid {uid} \(mode 700\)"
            )
            assert re.fullmatch(closed, line), line
        line = refuse(daemon, peer, wrq(b"fixed/old"))
        assert line == f"refused: not writable by uid {uid} (mode 444)"
        line = refuse(daemon, peer, wrq(b"fixed/new"))
        assert line == f"refused: directory {real}/fixed is not writable by uid {uid} (mode 755)"


def test_name_and_link_that_leave_the_root_are_told_apart(root: Path, peer: Peer) -> None:
    """The client gets "access denied" for both."""
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "relative").symlink_to("../../etc/passwd")
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        line = refuse(daemon, peer, rrq(b"../file"))
        assert line == "refused: the name leads out of the root"
        for link in (b"absolute", b"relative"):
            assert refuse(daemon, peer, rrq(link)) == "refused: a link leads out of the root"


def test_end_by_the_client_is_logged_with_its_text(root: Path, peer: Peer) -> None:
    """The text of the client's ERROR is the reason."""
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        peer.send(error(0, b"enough"), transfer)
        daemon.wait_for_line(r'#warn.* read "file" from \S+: client stopped: enough; 0 octets in ')


@pytest.mark.parametrize(
    ("drain", "signals", "reason"),
    [
        ("0.2", 1, "the drain time of 0.2 s ran out"),
        ("3600", 2, "a second signal stopped the server"),
    ],
)
def test_stop_of_the_server_is_the_reason_of_the_transfers_that_it_ends(
    drain: str, signals: int, reason: str, root: Path, peer: Peer
) -> None:
    """The client gets the same text in both cases."""
    with Daemon(root, "--drain", drain, hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        for _ in range(signals):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_for_line("waiting for 1 transfers")
        assert peer.receive() == (error(0, b"the server is being stopped"), transfer)
        daemon.wait()
    assert f"cancelled: {reason}; 0 octets in " in daemon.log


@pytest.mark.parametrize(
    ("silent_from_the_start", "reason"),
    [(True, "the peer never answered"), (False, "the peer stopped answering")],
)
def test_silent_client_is_logged_with_whether_it_has_ever_answered(
    silent_from_the_start: bool, reason: str, root: Path, peer: Peer
) -> None:
    """A client that has never answered may be behind a firewall, or forged."""
    times = ("--timeout", "0.05", "--retries", "4")
    with Daemon(root, *times, hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        if not silent_from_the_start:
            peer.ask(b"\0\4\0\1", transfer)
        daemon.wait_for_line(f"timed-out: {reason}; ")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (("--rate", "1"), "over --rate 1"),
        (("--max-per-client", "1"), "over --max-per-client 1"),
        (("--max-transfers", "1"), "over --max-transfers 1"),
        (("--deny", "127.0.0.0/8"), "in --deny"),
        (("--allow", "192.0.2.0/24"), "not in --allow"),
    ],
)
def test_ignored_request_is_logged_with_the_option(
    option: tuple[str, str], reason: str, root: Path
) -> None:
    """The line has the number of the requests, their address, and the limit."""
    with Daemon(root, *option, hosts=[LOCALHOST]) as daemon, Peer() as one, Peer() as other:
        for client in (one, other):
            client.send(rrq(b"file"), (LOCALHOST, daemon.port))
        line = daemon.wait_for_line("#warn.*ignored: .*")[0]
    assert line.endswith(f"] 1 request from 127.0.0.1 ignored: {reason}")


def test_malformed_request_is_logged_with_its_contents(root: Path, peer: Peer) -> None:
    """Address, opcode, name and mode are logged, escaped; it is refused and not ignored."""
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        answer, _ = peer.ask(rrq(b"a\nb", b"m\x1bl"), (LOCALHOST, daemon.port))
        assert answer[:4] == b"\0\5\0\4"
        line = daemon.wait_for_line(" request from 127.*")[0]
        assert line == (
            " request from 127.0.0.1 refused: malformed: unknown transfer mode: only octet and "
            r'netascii are served (opcode 1, name "a\x0ab", mode "m\x1bl")'
        )
        peer.ask(b"\0\2" + b"n" * 200, (LOCALHOST, daemon.port))
        name = "n" * 100
        daemon.wait_for_line(
            rf'truncated \(opcode 2, name "{name}"\.\.\., mode ""\)$',
        )
        peer.send(b"\0\4\0\1", (LOCALHOST, daemon.port))
        daemon.wait_for_line("1 packet from 127.0.0.1 ignored: not a request$")
