"""Test the daemon with a configuration file: options, mounts, `--check`, `--explain`, reload."""

from __future__ import annotations

import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.configured_daemon import ConfiguredDaemon, run_twistd
from tests.support.daemon import TIMEOUT, TWISTD, assert_ended_well
from tests.support.marks import linux
from tests.support.packets import rrq
from tests.support.peer import LOCALHOST, Peer
from twisted_tftp.errors import ErrorCode

#: What the daemon serves: a file of twenty blocks, so that reloads happen during transfers.
CONTENT = bytes(range(256)) * 40

#: How often the configuration is read again under load.
RELOADS = 200

#: How many clients fetch files meanwhile.
CLIENTS = 50

#: The most descriptors that the daemon has then: some for each transfer, none for a reload.
MAX_DESCRIPTORS = 50 + 4 * CLIENTS

#: The log line after a reload with mistakes.
KEPT = "SIGHUP: the old configuration stays in use"


#: A configuration with two mounts.
FARM = """\
[tftp]
host = ["127.0.0.1"]
port = PORT

[[mount]]
prefix = "/"
backend = ["memory:", "filesystem:top"]

[[mount]]
prefix = "/lab"
backend = "filesystem:lab"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two served folders."""
    for name in ("top", "lab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode() + CONTENT)
    return tmp_path


def fetch(name: bytes, address: tuple[str, int]) -> bytes:
    with Peer() as client:
        return client.fetch(name, address)


def error_code(name: bytes, address: tuple[str, int]) -> int:
    """Return the code of the ERROR that a read request gets."""
    with Peer() as client:
        client.send(rrq(name), address)
        answer, _ = client.receive()
    assert answer.startswith(b"\0\5"), answer[:100]
    return int.from_bytes(answer[2:4], "big")


def test_mounts_of_the_file_are_served(folder: Path) -> None:
    """Relative paths start at the folder of the file, and the longest prefix decides."""
    with ConfiguredDaemon(folder, FARM) as daemon:
        assert fetch(b"file", daemon.address) == b"top" + CONTENT
        assert fetch(b"/lab/file", daemon.address) == b"lab" + CONTENT
        assert error_code(b"/lab/missing", daemon.address) == ErrorCode.FILE_NOT_FOUND.value
        daemon.stop()
        assert_ended_well(daemon)


@pytest.mark.parametrize("is_daemon", [False, True], ids=["-n", "daemon"])
def test_mistakes_end_the_start(folder: Path, is_daemon: bool) -> None:
    """Each mistake is one line on standard error, with file and line; nothing else is printed."""
    path = folder / "tftp.toml"
    path.write_text('[tftp]\npotr = 1\n[[mount]]\nprefix = "/"\nbackend = 5\n')
    mode = [] if is_daemon else ["-n"]
    command = [str(TWISTD), *mode, "--pidfile", str(folder / "pid"), "tftp", "--config", str(path)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, cwd=folder, check=False
    )
    assert ended.returncode == 1
    first, second = ended.stderr.splitlines()
    assert first.startswith(f"{path}:2: [tftp] potr: there is no such key; did you mean")
    assert second.startswith(
        f"{path}:5: [[mount]] backend: must be a text, a table, or an array of these"
    )
    assert ended.stdout == ""


def test_backend_that_cannot_be_made_ends_the_start(folder: Path) -> None:
    """The line has the place of the backend's name."""
    path = folder / "tftp.toml"
    path.write_text(FARM.replace("PORT", "0").replace('"memory:"', '"memori:"'))
    ended = run_twistd("--config", str(path))
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "memori" in line]
    assert line.startswith(f"tftp: {path}:7: [[mount]] backend: there is no backend 'memori'")
    assert "Traceback" not in ended.stderr + ended.stdout


def test_check_exits_with_0_or_1(folder: Path) -> None:
    """All problems are printed, also those that the backends find; nothing is bound."""
    path = folder / "tftp.toml"
    path.write_text(FARM.replace("PORT", "1"))  # root may bind it, others may not
    ended = run_twistd("--config", str(path), "--check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "the configuration is valid\n"
    path.write_text(FARM.replace("filesystem:", "filesystem:no"))
    ended = run_twistd("--config", str(path), "--check")
    assert ended.returncode == 1
    assert ended.stdout == ""
    path.write_text(FARM.replace("PORT", "1").replace("filesystem:", "filesystem:no"))
    ended = run_twistd("--config", str(path), "--check")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"{path}:7: filesystem:{folder}/notop: root '{folder}/notop' is not a directory",
        f"{path}:11: filesystem:{folder}/nolab: root '{folder}/nolab' is not a directory",
    ]


def test_explain_prints_the_way_of_a_request(folder: Path) -> None:
    """The exit status says whether the client would get the file."""
    path = folder / "tftp.toml"
    path.write_text(
        FARM.replace("PORT", "0") + '[[client]]\nnetwork = "10.1.0.0/16"\nmax_blksize = 1000\n'
        'root = "/lab"\n'
    )
    ended = run_twistd("--config", str(path), "--explain", "10.1.2.3", "file")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "request: 10.1.2.3 reads file",
        f"client rule for network 10.1.0.0/16: max_blksize = 1000 ({path}:13)",
        f"client rule for network 10.1.0.0/16: root = /lab ({path}:13)",
        "client root: /lab/file",
        "mount: /lab",
        f"backend: filesystem:{folder}/lab",
        f"found: {len(CONTENT) + 3:,} octets",
        f"options: blksize=1000 windowsize=64 timeout=5 tsize={len(CONTENT) + 3}",
    ]
    ended = run_twistd("--config", str(path), "--explain", "10.9.2.3", "missing")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == "ERROR 1: no such file"
    ended = run_twistd("--config", str(path), "--explain", "nonsense", "file")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "tftp: explain must be an IP address and a name, not 'nonsense'"
    )
    ended = run_twistd("--config", str(path), "--explain", "10.9.2.3")
    assert ended.returncode == 1
    assert "--explain ADDRESS NAME must be the end of the command" in ended.stderr
    ended = run_twistd("--config", str(path), "--check", "--explain", "10.9.2.3", "file")
    assert ended.returncode == 1
    assert ended.stderr == "tftp: --check and --explain exclude each other (see --help)\n"


def test_sighup_reads_the_file_again(folder: Path) -> None:
    """New requests are served by the new configuration."""
    with ConfiguredDaemon(folder, FARM) as daemon:
        assert error_code(b"/new/file", daemon.address) == ErrorCode.FILE_NOT_FOUND.value
        daemon.reload(FARM.replace("/lab", "/new"))
        assert fetch(b"/new/file", daemon.address) == b"lab" + CONTENT
        assert error_code(b"/lab/file", daemon.address) == ErrorCode.FILE_NOT_FOUND.value
        daemon.stop()
        assert_ended_well(daemon)


def test_invalid_file_keeps_the_old_configuration(folder: Path) -> None:
    """The log has a line for each mistake, with file and line."""
    with ConfiguredDaemon(folder, FARM) as daemon:
        mark = daemon.reload(FARM.replace("prefix", "prefax") + "[tftpd]\n", KEPT)
        daemon.wait_for_line(f"{daemon.path}:6: .*prefax: there is no such key", start=mark)
        daemon.wait_for_line(f"{daemon.path}:12: .tftpd.: there is no such table", start=mark)
        daemon.reload(FARM.replace("filesystem:lab", "filesystem:gone"), KEPT)
        daemon.reload("[", KEPT)
        daemon.path.unlink()
        mark = daemon.mark()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_line(f"{daemon.path}: can't read it: No such file", start=mark)
        daemon.wait_for_line(KEPT, start=mark)
        assert fetch(b"/lab/file", daemon.address) == b"lab" + CONTENT
        daemon.reload(FARM.replace("/lab", "/new"))
        assert fetch(b"/new/file", daemon.address) == b"lab" + CONTENT


def test_what_needs_a_restart_is_named(folder: Path) -> None:
    """The port stays as it is, and the other changes take effect."""
    with ConfiguredDaemon(folder, FARM) as daemon:
        changed = FARM.replace("/lab", "/new").replace("PORT", "1")
        mark = daemon.reload(changed)
        daemon.wait_for_line("a restart is needed for the new values of port", start=mark)
        assert fetch(b"/new/file", daemon.address) == b"lab" + CONTENT


def test_command_line_still_wins_after_a_reload(folder: Path) -> None:
    """Its options replace those of the new file too."""
    with ConfiguredDaemon(folder, FARM, "--deny", LOCALHOST) as daemon:
        daemon.reload(FARM + "\n")
        with Peer() as client:
            client.sock.settimeout(0.3)
            client.send(rrq(b"file"), daemon.address)
            with pytest.raises(TimeoutError):
                client.receive()


def fetch_until(ending: threading.Event, name: bytes, address: tuple[str, int]) -> set[bytes]:
    """Fetch a file again and again; return the different contents that were received."""
    found = set()
    while not ending.is_set():
        found.add(fetch(name, address))
    return found


@linux
def test_reloads_under_load_lose_no_transfer(folder: Path) -> None:
    """Fifty clients fetch files while the configuration is read again 200 times."""
    ending = threading.Event()
    names = [b"file", b"/lab/file"] * (CLIENTS // 2)
    with ConfiguredDaemon(folder, FARM) as daemon, ThreadPoolExecutor(CLIENTS) as pool:
        found = [pool.submit(fetch_until, ending, name, daemon.address) for name in names]
        try:
            for number in range(RELOADS):
                allowed = f"allow = ['127.0.0.{number}/32', '127.0.0.0/8']"  # of the last mount
                daemon.reload(f"{FARM}{allowed}\n")
            descriptors = daemon.descriptors()
        finally:
            ending.set()
        contents = [each.result(TIMEOUT) for each in found]
        assert contents == [{b"top" + CONTENT}, {b"lab" + CONTENT}] * (CLIENTS // 2)
        daemon.stop()
        assert_ended_well(daemon)
    reads = [line for line in daemon.lines if "] read " in line]
    assert len(reads) >= CLIENTS
    assert [line for line in reads if "completed" not in line] == []
    assert descriptors < MAX_DESCRIPTORS
