"""Test the command `txtftp` as a child process, with our daemon."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import forked_command
from tests.support.daemon import IPV6, Daemon, free_port
from tests.support.forked_command import ForkedCommand
from twisted_tftp import __version__
from twisted_tftp.cli.argument_types import local_address, server_name
from twisted_tftp.protocol import wire

HOST = "127.0.0.1"
FILE = bytes(range(256)) * 1000

#: The only block of a file of three octets.
BLOCK = wire.DATA_HEADERS[1] + b"all"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a running daemon that takes new files."""
    root = tmp_path_factory.mktemp("root")
    (root / "file").write_bytes(FILE)
    (root / "sub").mkdir()
    (root / "sub" / "other").write_bytes(b"other")
    (root / "text").write_bytes(b"one\ntwo\n")
    with Daemon(root, "--write", "create", hosts=[HOST]) as running:
        yield running


def txtftp(
    *arguments: str, folder: Path | None = None, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in the directory `folder`, with `data` on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "twisted_tftp", *arguments],
        cwd=folder,
        input=data,
        capture_output=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200"},
    )


def get(daemon: Daemon, *arguments: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return txtftp("get", "--port", str(daemon.port), *arguments, **how)


def put(daemon: Daemon, *arguments: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return txtftp("put", "--port", str(daemon.port), *arguments, **how)


def await_line(running: subprocess.Popen[bytes], words: bytes) -> None:
    """Wait until the command has written a line with `words` to standard error."""
    assert running.stderr is not None
    for line in running.stderr:
        if words in line:
            return
    raise AssertionError(f"{words!r} was never said")


def test_get_stores_the_file_under_the_last_part_of_its_name(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Without LOCAL, the local name is the last part of the server's name; one line reports it."""
    done = get(daemon, HOST, "sub/other", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"sub/other: 5 octets in ")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "other").read_bytes() == b"other"


@pytest.mark.parametrize("command", ["get", "pull"])
def test_get_stores_the_file_as_local_or_in_the_folder_local(
    daemon: Daemon, tmp_path: Path, command: str
) -> None:
    """LOCAL is the name of the new file, or a folder for it."""
    port = ["--port", str(daemon.port)]
    for local in (str(tmp_path / "new"), str(tmp_path)):
        done = txtftp(command, *port, "-q", HOST, "file", local)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "new").read_bytes() == (tmp_path / "file").read_bytes() == FILE


@pytest.mark.parametrize("command", ["get", "put", "doctor"])
@pytest.mark.parametrize("form", ["{host}:{port}", "[{host}]:{port}"])
def test_host_may_have_a_port(daemon: Daemon, tmp_path: Path, command: str, form: str) -> None:
    """HOST:PORT and [ADDR]:PORT name the server and its port, whatever --port is."""
    name = form.format(host=HOST, port=daemon.port)
    (tmp_path / "local").write_bytes(b"local")
    words = {"get": ["sub/other", "-"], "put": ["local", f"by-{name}"], "doctor": []}[command]
    done = txtftp(command, "--port", "1", name, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not IPV6, reason="this machine has no ::1")
def test_family_options_choose_the_addresses(tmp_path: Path) -> None:
    """-4 and -6 exclude the addresses of the other family, also in a URL."""
    with Daemon(tmp_path, hosts=["::1"]) as daemon:
        (tmp_path / "file").write_bytes(FILE)
        url = f"tftp://[::1]:{daemon.port}/file"
        assert txtftp("get", "-6", url, "-").stdout == FILE
        done = txtftp("get", "-4", url, "-")
        assert done.returncode == 1
        assert b"no IPv4 address was found for the host ::1" in done.stderr
        done = txtftp("doctor", "-4", f"[::1]:{daemon.port}")
        assert done.returncode == 1
        assert done.stderr.startswith(b"error: ::1: ")


def test_get_writes_to_standard_output(daemon: Daemon) -> None:
    """With "-" the file goes to standard output, and the report to standard error."""
    done = get(daemon, "--json", HOST, "file", "-")
    assert (done.returncode, done.stdout) == (0, FILE)
    assert json.loads(done.stderr)["octets"] == len(FILE)


def test_url_may_replace_host_and_file(daemon: Daemon, tmp_path: Path) -> None:
    """A URL (RFC 3617) names the host, the file and the mode."""
    url = f"tftp://{HOST}:{daemon.port}"
    assert txtftp("get", f"{url}/text;mode=netascii", folder=tmp_path).returncode == 0
    assert (tmp_path / "text").read_bytes() == b"one\ntwo\n"
    done = txtftp("get", "--trace", f"{url}/text;mode=netascii", "-")
    assert b'> RRQ "text" netascii' in done.stderr
    assert txtftp("put", str(tmp_path / "text"), f"{url}/by-url").returncode == 0
    assert (daemon.root / "by-url").read_bytes() == b"one\ntwo\n"


def test_get_with_jobs_takes_several_names(daemon: Daemon, tmp_path: Path) -> None:
    """With -j each argument is a file; one that fails does not stop the others."""
    done = get(daemon, "--json", "-j", "2", HOST, "file", "missing", "sub/other", folder=tmp_path)
    assert done.returncode == 1
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(each["file"] for each in said) == ["file", "missing", "sub/other"]
    assert [each["file"] for each in said if "error" in each] == ["missing"]
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]
    url = f"tftp://{HOST}:{daemon.port}"
    (tmp_path / "both").mkdir()
    done = txtftp("get", "-j", "2", f"{url}/file", f"{url}/text", folder=tmp_path / "both")
    assert done.returncode == 0
    assert sorted(os.listdir(tmp_path / "both")) == ["file", "text"]


def test_put_stores_a_file_under_the_given_name(daemon: Daemon, tmp_path: Path) -> None:
    """`put` stores a file under its own name or another one, also from standard input."""
    (tmp_path / "mine").write_bytes(FILE)
    assert put(daemon, HOST, str(tmp_path / "mine")).returncode == 0
    assert put(daemon, HOST, str(tmp_path / "mine"), "sub/mine").returncode == 0
    assert put(daemon, HOST, "-", "stdin", data=b"from a pipe").returncode == 0
    assert (daemon.root / "mine").read_bytes() == FILE
    assert (daemon.root / "sub" / "mine").read_bytes() == FILE
    assert (daemon.root / "stdin").read_bytes() == b"from a pipe"
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    port = str(daemon.port)
    done = txtftp("push", "--port", port, "-j", "2", HOST, "a", "b", folder=tmp_path)
    assert done.returncode == 0
    assert (daemon.root / "a").read_text() + (daemon.root / "b").read_text() == "ab"


@pytest.mark.parametrize(
    "options",
    [
        ["--no-options"],
        ["--blksize", "8"],
        ["--blksize", "1428", "--windowsize", "64"],
        ["--timeout", "3", "--retries", "2"],
        ["--timeout", "0.5"],
        ["--mode", "netascii"],
    ],
)
def test_command_line_options_become_tftp_options(
    daemon: Daemon, tmp_path: Path, options: list[str]
) -> None:
    """The options of the command line are requested from the server, and the file is the same."""
    done = get(daemon, "--json", *options, HOST, "text", folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "text").read_bytes() == b"one\ntwo\n"
    said = json.loads(done.stdout)
    assert said["options"].items() >= said["asked"].items() - {("tsize", "0")}
    for name in ("blksize", "windowsize", "timeout"):
        if f"--{name}" in options and options != ["--timeout", "0.5"]:
            assert said["options"][name] == options[options.index(f"--{name}") + 1]
    assert (said["asked"].get("utimeout") == "500000") == (options == ["--timeout", "0.5"])


@pytest.mark.parametrize(
    ("answers", "remark"),
    [
        ([BLOCK], "no options granted"),
        (
            [wire.oack([("tsize", "3")]), BLOCK],
            "blksize not granted, windowsize not granted",
        ),
        (
            [wire.oack([("blksize", "512"), ("windowsize", "4")]), BLOCK],
            "blksize 512 instead of 1428, windowsize 4 instead of 16",
        ),
        (
            [
                wire.oack([("blksize", "1428"), ("windowsize", "16")]),
                wire.DATA_HEADERS[1] + b"all",
            ],
            "",
        ),
    ],
)
def test_report_names_options_that_were_not_granted(
    tmp_path: Path, answers: list[bytes], remark: str
) -> None:
    """The report of a transfer says which options the server did not grant as requested."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        url = f"tftp://{HOST}/file"
        port = ["--port", str(sock.getsockname()[1])]
        with subprocess.Popen(
            [sys.executable, "-m", "twisted_tftp", "get", *port, "--blksize", "1428", url],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        ) as running:
            for answer in answers:
                _, peer = sock.recvfrom(1000)
                sock.sendto(answer, peer)
            # The first answer has no xid, so the client sends the request from a second port.
            while (asked := sock.recvfrom(1000))[0][:2] != b"\0\1":
                pass
            sock.sendto(answers[0], asked[1])
            assert running.stderr is not None
            said = running.stderr.read().decode()
    assert running.returncode == 0
    remarks = f" ({remark})" if remark else ""  # so few octets have no rate
    assert re.fullmatch(rf"file: 3 octets in \S+ s{re.escape(remarks)}, stored as file\n", said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", HOST, "missing"], "no such file"),
        (["get", HOST, "../file"], "access denied"),
        (["put", HOST, "local", "file"], "exists already"),
        (["put", HOST, "not-here", "new"], "local error: No such file"),
        (["get", HOST, "file", "no-folder/x"], "no-folder: no such directory"),
        (["get", HOST, "file", "no-folder/"], "no-folder: no such directory"),
        (["get", "nobody.invalid", "file"], "check the host name"),
        (["get", "a..b", "file"], "check the host name"),
        (["get", HOST, "file", "/dev/full"], "local error: No space left on device"),
    ],
)
def test_failure_is_one_line_and_status_1(
    daemon: Daemon, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """A failure is one line with the reason and status 1; no file is left or changed."""
    (tmp_path / "local").write_bytes(b"mine")
    command, *rest = arguments
    done = txtftp(command, "--port", str(daemon.port), *rest, folder=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert os.listdir(tmp_path) == ["local"]
    assert (daemon.root / "file").read_bytes() == FILE


def test_closed_port_is_reported_with_host_and_port(tmp_path: Path) -> None:
    """If no server listens on the port, the error names the host and the port."""
    port = free_port()
    done = txtftp(
        *("get", "--port", str(port), "--timeout", "0.05", "--retries", "2", HOST, "file"),
        folder=tmp_path,
    )
    assert done.returncode == 1
    assert f"Connection refused ({HOST} port {port})" in done.stderr.decode()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "usage", "words"),
    [
        (["get", HOST], "usage: txtftp get ", "give HOST and FILE, or a URL"),
        (["put", HOST], "usage: txtftp put ", "give HOST and LOCAL, or LOCAL and a URL"),
        (["get", "http://host/file"], "usage: txtftp get ", "only tftp:// URLs"),
        (
            ["get", "-j", "2", "tftp://a/x", "http://a/y"],
            "usage: txtftp get ",
            "only tftp:// URLs",
        ),
        (["put", "local", "https://host/file"], "usage: txtftp put ", "only tftp:// URLs"),
        (["put", "http://host", "local"], "usage: txtftp put ", "only tftp:// URLs"),
        (["get", f"{HOST}:x", "file"], "usage: txtftp get ", "the port in '127.0.0.1:x' must be"),
    ],
)
def test_mistake_prints_the_usage_of_the_subcommand(
    arguments: list[str], usage: str, words: str
) -> None:
    """A wrong command line shows the arguments of its subcommand, and the reason in one line."""
    done = txtftp(*arguments)
    assert done.returncode == 2
    first, *_, last = done.stderr.decode().splitlines()
    assert first.startswith(usage)
    assert words in last


def test_report_says_where_the_file_is(daemon: Daemon, tmp_path: Path) -> None:
    """The report names the local file or the file on the server, and a rate from 1 kB on."""
    done = get(daemon, HOST, "sub/other", str(tmp_path))
    assert done.stderr.decode().endswith(f" s, stored as {tmp_path}/other\n")
    done = get(daemon, HOST, "file", "-")
    assert re.search(r" s \(\S+ MB/s.*\)\n$", done.stderr.decode())
    (tmp_path / "local").write_bytes(FILE)
    done = put(daemon, HOST, str(tmp_path / "local"), "sub/reported")
    assert done.stderr.decode().endswith(f"), stored as sub/reported on {HOST}\n")


def test_report_says_that_the_client_limits_the_window(daemon: Daemon, tmp_path: Path) -> None:
    """A --windowsize for which the receive buffer is too small is reduced, and that is said."""
    done = get(daemon, "--windowsize", "60000", HOST, "file", "/dev/null")
    assert re.search(
        r"windowsize [0-9]+ instead of 60000: the client's limit for blocks of 65464 octets",
        done.stderr.decode(),
    )


def test_json_errors_have_a_code(daemon: Daemon, tmp_path: Path) -> None:
    """A failure has the TFTP error code, which is 0 without an ERROR, and its kind."""
    said = json.loads(get(daemon, "--json", HOST, "missing", folder=tmp_path).stdout)
    assert (said["code"], said["kind"]) == (1, "FileNotFound")
    said = json.loads(get(daemon, "--json", "-4", "::1", "file", folder=tmp_path).stdout)
    assert (said["code"], said["kind"]) == (0, "DNSLookupError")
    done = txtftp("get", "--json", "--timeout", "0.05", f"{HOST}:{free_port()}", "file", "-")
    said = json.loads(done.stderr.splitlines()[0])
    assert (said["code"], said["kind"]) == (0, "PortUnreachable")


def test_missing_progress_bars_are_hinted_at_once() -> None:
    """On a terminal without `rich`, one line says how to get progress bars."""
    ours, theirs = pty.openpty()
    script = (
        "import sys; sys.modules['rich'] = None; from twisted_tftp.cli.main import main; main()"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        urls = [f"tftp://{HOST}:{sock.getsockname()[1]}/{name}" for name in ("a", "b")]
        words = ["get", "--patience", "1.5", "-j", "1", *urls]
        with subprocess.Popen([sys.executable, "-c", script, *words], stderr=theirs) as running:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):
                while piece := os.read(ours, 65536):
                    shown += piece
            running.wait()
    os.close(ours)
    assert shown.count(b"for progress bars: pip install 'twisted-tftp[cli]'") == 1


@pytest.mark.parametrize(
    ("options", "status", "last"),
    [
        ([], 0, "--no-options saves time"),
        (["--blksize", "1024"], 1, "if the server does not know options, use --no-options"),
    ],
)
def test_command_goes_on_without_options_unless_they_were_given(
    tmp_path: Path, options: list[str], status: int, last: str
) -> None:
    """After ERROR 8 the file is fetched without options, if none was chosen.

    Lines say so, and the last one names --no-options.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(20)
        line = [sys.executable, "-m", "twisted_tftp", "get", *options]
        with subprocess.Popen(
            [*line, f"{HOST}:{sock.getsockname()[1]}", "file"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        ) as running:
            _, peer = sock.recvfrom(1000)
            sock.sendto(b"\0\5\0\10no options here\0", peer)
            if not options:
                request, peer = sock.recvfrom(1000)
                assert request == b"\0\1file\0octet\0"
                sock.sendto(BLOCK, peer)
            assert running.stderr is not None
            said = running.stderr.read().decode().splitlines()
    assert running.returncode == status
    assert last in said[-1]
    if not options:
        assert said[0] == "file: ERROR 8: no options here; asking without options"


def test_result_has_no_control_characters(daemon: Daemon, tmp_path: Path) -> None:
    """A URL may come from somebody else: its name cannot control the terminal."""
    (daemon.root / "a\x1b[31m").write_bytes(b"x")
    url = f"tftp://{HOST}:{daemon.port}/a%1b%5b31m"
    done = txtftp("get", url, folder=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith(b"a\\x1b[31m: 1 octets in ")
    assert done.stderr.endswith(b"stored as a\\x1b[31m\n")


def test_silent_server_is_reported_while_the_command_waits(tmp_path: Path) -> None:
    """Standard error says that no answer has come yet, and in the end which option to use.

    With --quiet or --json only the end is reported.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
        line = [sys.executable, "-m", "twisted_tftp", "get", "--patience", "4"]
        commands = [
            subprocess.Popen(
                [*line, *option, f"{HOST}:{port}", "file"], cwd=tmp_path, stderr=subprocess.PIPE
            )
            for option in ([], ["--quiet"], ["--json"])
        ]
        said = [command.communicate(timeout=60)[1].decode().splitlines() for command in commands]
    assert [command.returncode for command in commands] == [1, 1, 1]
    notice = f"file: no answer yet from {HOST} port {port} for 3 s, giving up after 4 s"
    assert [each[:-1] for each in said] == [[notice], [], []]
    for each in said:
        assert each[-1].startswith("error: file: the server does not answer")
        assert "--patience" in each[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fetch"],
        ["get"],
        ["get", HOST],
        ["get", HOST, "a", "b", "c"],
        ["get", HOST, "dir/"],
        ["get", "tftp://host"],
        ["get", "tftp://host/a", "b", "c"],
        ["get", "--port", "0", HOST, "file"],
        ["get", "--blksize", "7", HOST, "file"],
        ["get", "--windowsize", "x", HOST, "file"],
        ["get", "--timeout", "0", HOST, "file"],
        ["get", "--mode", "mail", HOST, "file"],
        ["get", "-j", "0", HOST, "file"],
        ["put", HOST],
        ["put", HOST, "-"],
        ["put", HOST, "a", "b", "c"],
        ["put", "a", "tftp://host"],
        ["get", "-j", "2", HOST, "a/x", "b/x"],
        ["put", "-j", "2", HOST, "a/x", "b/x"],
    ],
)
def test_mistake_in_the_command_line_is_status_2(arguments: list[str]) -> None:
    """A wrong command line is one error line and status 2; nothing is sent."""
    done = ForkedCommand(forked_command.txtftp, "txtftp", *arguments).wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: " in done.stderr.splitlines()[-1]


def test_mistake_of_a_new_process_is_status_2() -> None:
    """The exit status reaches the shell."""
    done = txtftp("get")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"error: " in done.stderr.splitlines()[-1]


def test_help_and_version_go_to_standard_output() -> None:
    """--help and --version write to standard output and end with status 0."""
    assert txtftp("--version").stdout == f"txtftp {__version__}\n".encode()
    for arguments in (["--help"], ["get", "--help"], ["put", "--help"]):
        done = txtftp(*arguments)
        assert done.returncode == 0
        assert b"usage: txtftp" in done.stdout


def test_trace_writes_each_packet_to_standard_error(daemon: Daemon) -> None:
    """--trace writes one line for each packet to standard error."""
    done = get(daemon, "--trace", "-q", "--no-options", HOST, "sub/other", "-")
    assert done.stdout == b"other"
    assert done.stderr.decode().splitlines() == [
        '> RRQ "sub/other" octet',
        "< DATA 1, 5 octets",
        "> ACK 1",
    ]


def test_terminal_shows_a_progress_bar(daemon: Daemon, tmp_path: Path) -> None:
    """On a terminal a progress bar shows the name, the size and the rate."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port)]
    with subprocess.Popen(
        [*command, "--blksize", "8", "--windowsize", "1", HOST, "file"],
        cwd=tmp_path,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as running:
        os.close(theirs)
        shown = b""
        # The terminal is closed when the command ends.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                shown += piece
        assert running.wait() == 0
    os.close(ours)
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert re.search(r"file .*/256\.0 kB .*B/s", text), text
    assert f"file: {len(FILE)} octets in " in text


def test_interrupt_sends_an_error_and_leaves_no_file(daemon: Daemon, tmp_path: Path) -> None:
    """Ctrl-C ends `get` with status 130, sends the server an ERROR, and leaves no file."""
    command = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port)]
    with subprocess.Popen(
        [*command, "--trace", "--blksize", "8", "--windowsize", "1", HOST, "file"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    ) as running:
        await_line(running, b"DATA 100,")
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        rest = running.stderr.read()
    assert running.returncode == 130
    assert b'> ERROR 0 "the transfer was cancelled"' in rest
    assert os.listdir(tmp_path) == []


def test_interrupt_works_while_standard_input_is_silent(daemon: Daemon) -> None:
    """Ctrl-C ends `put` while it waits for standard input; the server discards the upload."""
    command = [sys.executable, "-m", "twisted_tftp", "put", "--port", str(daemon.port)]
    with subprocess.Popen(
        [*command, "--trace", HOST, "-", "silent"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        await_line(running, b"< OACK")
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        rest = running.stderr.read()
    assert running.returncode == 130
    assert b'> ERROR 0 "the transfer was cancelled"' in rest
    limit = time.monotonic() + 20
    while any(path.name.startswith(".") for path in daemon.root.iterdir()):
        assert time.monotonic() < limit, "the daemon has kept the upload"
        time.sleep(0.01)


def test_interrupt_works_while_the_output_pipe_is_full(daemon: Daemon) -> None:
    """Ctrl-C ends `get` while it waits for room in the pipe of its standard output."""
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)  # type: ignore[attr-defined]
    command = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port)]
    with subprocess.Popen(
        [*command, "--trace", "--blksize", "512", HOST, "file", "-"],
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as running:
        os.close(theirs)
        await_line(running, b"< DATA 32,")
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        rest = running.stderr.read()
    os.close(ours)
    assert running.returncode == 130
    assert b'> ERROR 0 "the transfer was cancelled"' in rest


@pytest.mark.parametrize(
    ("arguments", "closed"), [(["put", HOST, "-", "new"], 0), (["get", HOST, "file", "-"], 1)]
)
def test_closed_standard_stream_is_an_error(
    daemon: Daemon, arguments: list[str], closed: int
) -> None:
    """A closed standard stream is an error: its descriptor may now belong to another file."""
    command, *rest = arguments
    line = [sys.executable, "-m", "twisted_tftp", command, "--port", str(daemon.port), *rest]
    script = 'exec "$@" ' + ("<&-" if closed == 0 else ">&-")
    done = subprocess.run(["sh", "-c", script, "sh", *line], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    name = ("input", "output")[closed]
    assert done.stderr == f"error: -: standard {name} is closed\n".encode()


def test_file_on_standard_output_is_clean_if_standard_error_fails(daemon: Daemon) -> None:
    """If standard error is closed or full, standard output has only the file."""
    line = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port), HOST]
    for script in ('exec "$@" 2>&-', 'exec "$@" 2>/dev/full'):
        run = ["sh", "-c", script, "sh", *line]
        done = subprocess.run([*run, "file", "-"], stdout=subprocess.PIPE, timeout=60)
        assert (done.returncode, done.stdout) == (0, FILE)
    done = subprocess.run([*run, "missing", "-"], stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")


def test_transfer_goes_on_if_the_trace_is_not_read(daemon: Daemon, tmp_path: Path) -> None:
    """If the reader of standard error closes it, as `| head` does, the transfer goes on."""
    line = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port), "--trace"]
    with subprocess.Popen(
        [*line, "--blksize", "512", HOST, "file"], cwd=tmp_path, stderr=subprocess.PIPE
    ) as running:
        await_line(running, b"> RRQ")
        assert running.stderr is not None
        running.stderr.close()
        assert running.wait(60) == 0
    assert (tmp_path / "file").read_bytes() == FILE


def test_write_error_of_an_output_is_one_line(daemon: Daemon, tmp_path: Path) -> None:
    """An output that can't be written, for the file or the report, is one line of error."""
    line = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port), "--json"]
    script = 'exec "$@" >/dev/full'
    for name, words in ((["file", "x"], "standard output"), (["file", "-"], "local error")):
        done = subprocess.run(
            ["sh", "-c", script, "sh", *line, HOST, *name],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        assert done.returncode == 1
        last = done.stderr.decode().splitlines()[-1]
        assert last.startswith("error: ")
        assert last.endswith(f"{words}: No space left on device")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([*line, "-q", HOST, "file", "-"], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    last = done.stderr.decode().splitlines()[-1]
    assert (
        last == "error: file: local error: the program that reads the output has closed the pipe"
    )


def test_dev_stdout_is_appended_to(daemon: Daemon, tmp_path: Path) -> None:
    """/dev/stdout is written as the shell has opened it; no new file takes its place."""
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    line = [sys.executable, "-m", "twisted_tftp", "get", "--port", str(daemon.port), "-q", HOST]
    for name in ("/dev/stdout", "/dev/fd/1"):
        with log.open("ab") as stream:
            assert subprocess.run([*line, "sub/other", name], stdout=stream).returncode == 0
    assert log.read_bytes() == b"before otherother"


def test_devices_and_pipes_are_not_replaced(daemon: Daemon, tmp_path: Path) -> None:
    """A device or a pipe is read and written as it is; no new file takes its place."""
    done = get(daemon, HOST, "file", "/dev/null")
    assert done.returncode == 0, done.stderr
    assert Path("/dev/null").is_char_device()
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as stream:
        stream.write(b"from a shell's pipe")
    name = f"/dev/fd/{ours}"
    command = [sys.executable, "-m", "twisted_tftp", "put", "--port", str(daemon.port)]
    assert subprocess.run([*command, HOST, name, "piped"], pass_fds=[ours]).returncode == 0
    os.close(ours)
    assert (daemon.root / "piped").read_bytes() == b"from a shell's pipe"
    denied = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(denied))
        done = get(daemon, HOST, "file", str(denied))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {denied}: No such device or address".encode()


@pytest.mark.parametrize(
    ("answer", "requests"),
    [(b"\0\5\0\1\x1b[31mred\nline\0", 1), (b"\0\6\x1b[31mred\n\0001\0", 2)],
    ids=["ERROR", "OACK"],
)
def test_text_from_a_server_is_escaped(answer: bytes, requests: int) -> None:
    """Control characters in an ERROR's text or an option's name are not printed as they are.

    After an invalid OACK the client writes a line, and asks again from another port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        command = [sys.executable, "-m", "twisted_tftp", "get", "--timeout", "2"]
        with subprocess.Popen(
            [*command, "--port", str(sock.getsockname()[1]), HOST, "file", "-"],
            stderr=subprocess.PIPE,
        ) as running:
            asked = 0
            while asked < requests:
                datagram, peer = sock.recvfrom(1000)
                if datagram[:2] == b"\0\1":
                    sock.sendto(answer, peer)
                    asked += 1
            assert running.stderr is not None
            said = running.stderr.read()
    assert running.returncode == 1
    assert b"\x1b" not in said
    assert len(said.splitlines()) == requests


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1:4000", ("127.0.0.1", 4000)),
        ("::1", ("::1", 0)),
        ("[::1]", ("::1", 0)),
        ("[::1]:4000", ("::1", 4000)),
    ],
)
def test_local_address_may_have_a_port(text: str, found: tuple[str, int]) -> None:
    """--bind takes an address, or an address and a port; an IPv6 address then has brackets."""
    assert local_address(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tftp.example", ("tftp.example", None)),
        ("tftp.example:6969", ("tftp.example", 6969)),
        ("192.0.2.1:6969", ("192.0.2.1", 6969)),
        ("2001:db8::1", ("2001:db8::1", None)),
        ("[2001:db8::1]", ("2001:db8::1", None)),
        ("[fe80::1%eth0]:6969", ("fe80::1%eth0", 6969)),
    ],
)
def test_server_name_may_have_a_port(text: str, found: tuple[str, int | None]) -> None:
    """HOST takes a name or an address, with a port or without; IPv6 with a port has brackets."""
    assert server_name(text) == found


@pytest.mark.parametrize("text", ["", ":69", "host:", "host:x", "host:70000", "[::1", "[]:69"])
def test_invalid_server_name_is_rejected(text: str) -> None:
    """HOST accepts no malformed name or port."""
    with pytest.raises(ArgumentTypeError, match=r"HOST:PORT|the port in"):
        server_name(text)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.0.0.1:x", "127.0.0.1:70000", "[::1", "::1]"]
)
def test_invalid_local_address_is_rejected(text: str) -> None:
    """--bind accepts neither a host name nor a malformed address."""
    with pytest.raises(ArgumentTypeError):
        local_address(text)
