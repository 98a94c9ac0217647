"""Test our client with the TFTP servers of Debian: tftpd-hpa and atftpd."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from benchmarks.debian_packages import Unavailable
from benchmarks.server_list import servers
from benchmarks.servers import Running, start
from tests.support.daemon import free_port
from tests.support.memory_server import close_client
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import FileNotFound, TFTPError

__all__ = ["reactor"]

HOST = "127.0.0.1"
TEXT = b"one\ntwo\r\nthree\rfour\n"
LARGE = random.Random(7).randbytes(66_000 * 512)

#: Settings of the client; a server ignores an option that it does not know.
SETTINGS: list[dict[str, Any]] = [
    {"options": False},
    {"blksize": 512, "windowsize": 1},
    {"blksize": 1428, "windowsize": 1, "timeout": 2},
    {"blksize": 1428, "windowsize": 16},
    {"blksize": 8192, "windowsize": 4},
]


@contextlib.contextmanager
def serving(name: str) -> Iterator[Running]:
    """Run a server on its own directory."""
    (server,) = [each for each in servers(Path()) if each.name == name]
    with tempfile.TemporaryDirectory(prefix="tftp-interop-") as folder:
        Path(folder).chmod(0o755)  # some servers drop their privileges
        root = Path(folder, "served")
        root.mkdir()
        root.chmod(0o777)
        (root / "probe").write_bytes(b"probe")
        try:
            running = start(server, root, Path(folder, "log"))
        except Unavailable as reason:
            pytest.skip(str(reason))
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module", params=["hpa", "atftpd"])
def server(request: Any) -> Iterator[Running]:
    """Return each server in turn."""
    with serving(request.param) as running:
        for size in (0, 1, 511, 512, 513, 1428 * 16, 100_000):
            (running.root / f"size{size}").write_bytes(LARGE[:size])
        (running.root / "text").write_bytes(TEXT)
        (running.root / "large").write_bytes(LARGE)
        yield running


def get(reactor: Any, server: Running, name: str, **settings: Any) -> tuple[bytes, TransferResult]:
    """Read a file from `server`, and return its content."""
    client = TFTPClient(reactor, HOST, server.port, in_thread=maybeDeferred, **settings)
    sink = io.BytesIO()
    try:
        result = outcome(reactor, client.get(name, sink))
    finally:
        close_client(reactor, client)
    return sink.getvalue(), result


def put(reactor: Any, server: Running, data: bytes, name: str, **settings: Any) -> bytes:
    """Write a file to `server`, and return what the server has stored."""
    client = TFTPClient(reactor, HOST, server.port, in_thread=maybeDeferred, **settings)
    outcome(reactor, client.put(io.BytesIO(data), name))
    close_client(reactor, client)
    path = server.root / name
    # atftpd closes the file after its last ACK. In netascii it writes each CR, moves back by one
    # octet, and writes the LF there: until it closes the file, there may be a CR at the end.
    spin(reactor, lambda: path.read_bytes() == data)
    return path.read_bytes()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1428 * 16, 100_000])
def test_files_of_all_sizes_are_read_and_written(
    reactor: Any, server: Running, size: int, settings: dict[str, Any]
) -> None:
    """Files of all sizes are read and written with all options."""
    assert get(reactor, server, f"size{size}", **settings)[0] == LARGE[:size]
    stored = put(reactor, server, LARGE[:size], f"new{size}-{len(repr(settings))}", **settings)
    assert stored == LARGE[:size]


def test_windowsize_is_optional(reactor: Any, server: Running) -> None:
    """A server that knows windowsize grants it; with the other one transfers work without it."""
    _, result = get(reactor, server, "size100000", blksize=1428, windowsize=16)
    assert result.options.get("windowsize") == {"hpa": None, "atftpd": "16"}[server.server.name]


def test_files_of_more_than_65535_blocks_are_read_and_written(
    reactor: Any, server: Running
) -> None:
    """A file of 66,000 blocks of 512 octets is read and written: the block number rolls over."""
    assert get(reactor, server, "large", options=False)[0] == LARGE
    assert put(reactor, server, LARGE, "large-new", options=False) == LARGE


def test_netascii_text_is_read_with_local_line_ends(reactor: Any, server: Running) -> None:
    """A text that is read in netascii mode has the local line ends."""
    assert get(reactor, server, "text", mode="netascii")[0] == TEXT
    assert put(reactor, server, TEXT, "text-new", mode="netascii") == TEXT


def test_missing_file_raises_file_not_found(reactor: Any, server: Running) -> None:
    """The ERROR of a server for a missing file raises FileNotFound."""
    with pytest.raises(FileNotFound):
        get(reactor, server, "not-there")


def txtftp(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `txtftp`, and return its status and output."""
    command = [*prefix, sys.executable, "-m", "twisted_tftp", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_txtftp_reads_and_writes(server: Running, tmp_path: Path) -> None:
    """The command `txtftp` reads and writes files."""
    port = ("--port", str(server.port))
    local = tmp_path / "local"
    assert txtftp("get", *port, HOST, "size100000", str(local)).returncode == 0
    assert local.read_bytes() == LARGE[:100_000]
    assert txtftp("put", *port, HOST, str(local), "by-command").returncode == 0
    done = txtftp("get", *port, HOST, "not-there", str(tmp_path / "new"))
    assert (done.returncode, os.listdir(tmp_path)) == (1, ["local"])
    assert done.stderr.startswith("error: not-there: ")


def test_full_disk_is_reported_and_leaves_no_file(server: Running, tmp_path: Path) -> None:
    """If the local file system is full, `txtftp` says so and leaves no file."""
    small = tmp_path / "small"
    small.mkdir()
    get = f"{sys.executable} -m twisted_tftp get --port {server.port} {HOST} size100000"
    mounted = f"mount -t tmpfs -o size=64k none {small}"
    # If mounting is not allowed, a limit of the file size takes the place of a full disk.
    script = f"{mounted} || ulimit -f 60; cd {small}; {get}; status=$?; ls -A; exit $status"
    may_mount = not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode
    prefix = ["unshare", "--mount"] if may_mount else []
    done = subprocess.run(
        [*prefix, "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert re.search("local error: (No space left on device|File too large)", done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["hpa", "atftpd"])
def test_server_that_is_killed_leaves_no_partial_file(
    reactor: Any, name: str, tmp_path: Path
) -> None:
    """If the server is killed during a read, `txtftp` fails and leaves no file."""
    local = tmp_path / "local"
    local.mkdir()
    with serving(name) as server:
        (server.root / "large").write_bytes(LARGE)
        client = TFTPClient(
            *(reactor, HOST, server.port),
            options=False,
            timeout=0.1,
            retries=3,
            in_thread=maybeDeferred,
        )
        transfer = client.get("large", local / "file")
        spin(reactor, lambda: any(each.octets > 100_000 for each in client.running))
    with pytest.raises(TFTPError):
        outcome(reactor, transfer)
    close_client(reactor, client)
    spin(reactor, lambda: os.listdir(local) == [])


def test_closed_port_is_reported_as_connection_refused(tmp_path: Path) -> None:
    """If no server listens, `txtftp` reports "Connection refused"."""
    port = str(free_port())
    done = txtftp(
        *("put", "--port", port, "--timeout", "0.05", "--retries", "2", HOST, __file__, "new")
    )
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "check that a TFTP server listens there" in done.stderr
