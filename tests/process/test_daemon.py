"""Test the daemon's command line, its start and stop, its log and its sockets."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forked_command
from tests.support.commands import run
from tests.support.daemon import (
    CHECKOUT,
    IPV6,
    LOOPBACK,
    TIMEOUT,
    TWIST,
    TWISTD,
    Daemon,
    TacDaemon,
    assert_ended_well,
    can_bind,
    free_port,
)
from tests.support.forked_command import ForkedCommand
from tests.support.marks import as_root, linux
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, open_root, root, temporary_files

__all__ = ["open_root", "peer", "root"]  # fixtures


# -- the command line ------------------------------------------------------------------------


def twistd(*options: str | int, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `twistd -n tftp` to its end, on a free port of 127.0.0.1 unless the options name one."""
    port = ("--port", free_port())
    return run(TWISTD, "-n", "--pidfile=", "tftp", *port, *options, prefix=prefix)


def assert_one_line(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    """Check that a command failed with one line on standard error that matches `pattern`."""
    assert "Traceback" not in done.stdout + done.stderr, done
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done
    assert re.search(pattern, done.stderr), done


def test_help_shows_the_options_in_groups() -> None:
    """--help shows every group once, in order, and fits a terminal."""
    done = twistd("--help")
    assert (done.returncode, done.stderr) == (0, "")
    groups = re.findall(r"^(\w+):$", done.stdout, re.MULTILINE)
    assert groups == [
        "Configuration",
        "Files",
        "Names",
        "Addresses",
        "Time",
        "Access",
        "Limits",
        "Hooks",
        "Other",
    ]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_begins_with_one_usage_line() -> None:
    """The usage line of --help says how to call the command, once."""
    first = twistd("--help").stdout.splitlines()[0]
    assert re.fullmatch(r"Usage: twistd \[[a-z ]*options\] tftp \[options\]", first)


@pytest.mark.parametrize(
    "option",
    [
        *("follow-links", "upload-mode", "make-dirs"),
        *("root", "write", "max-upload", "upload-quota", "host", "port", "port-range"),
        *("single-port", "interface", "freebind", "broadcast", "mtu-fit", "timeout", "patience"),
        *("retries", "retransmit", "drain", "max-blksize", "max-windowsize", "rollover"),
        *("max-transfers", "verbose", "version", "help"),
    ],
)
def test_help_explains_each_option(option: str, help_text: str) -> None:
    """--help has a line with a text for each option."""
    assert re.search(rf"^  --{option}( [A-Z:]+)?  +\S", help_text, re.MULTILINE)


def test_help_and_readme_say_whom_a_single_port_ignores(help_text: str) -> None:
    """Clients whose own port is 69 get no answer in single-port mode, as the texts say."""
    _, _, rest = help_text.partition("--single-port")
    entry, _, _ = rest.partition("\n  --")
    assert "a client whose own port is 69 gets no answer" in " ".join(entry.split())
    readme = " ".join((CHECKOUT / "README.md").read_text().split())
    assert re.search("`--single-port`.* ignores clients whose own port is 69", readme)


@pytest.fixture(scope="module")
def help_text() -> str:
    """Return the output of --help."""
    return twistd("--help").stdout


def test_version_is_one_line() -> None:
    """--version shows the name and a version."""
    done = twistd("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"twisted-tftp \d+\.\d+\S*\n", done.stdout)


#: Invalid options, and a pattern for the error line.
INVALID_OPTIONS: list[tuple[list[str], str]] = [
    (["--root", "/nowhere/at/all"], r"root '/nowhere/at/all' is not a directory"),
    (["--root", "/etc/passwd"], r"root '/etc/passwd' is not a directory"),
    (["--root", ""], "root"),
    (["--follow-links", "/nowhere"], r"follow-links '/nowhere' is not a directory"),
    (["--follow-links", ""], "follow-links must not be empty"),
    (["--root"], "root requires argument"),
    (["--write", "yes"], "write must be one of never, create, overwrite, version, not 'yes'"),
    (["--upload-mode", "rw"], "upload-mode must be an octal number .* not 'rw'"),
    (["--upload-mode", "0888"], "upload-mode must be an octal number .* not '0888'"),
    (["--upload-mode", "4755"], "upload-mode must be an octal number .* not '4755'"),
    (["--make-dirs=yes"], "make-dirs must not have an argument"),
    (["--max-upload", "1Q"], "max-upload must be a size .* not '1Q'"),
    (["--max-upload", "-1"], "max-upload must be a size .* not '-1'"),
    (["--max-upload", ""], "max-upload must be a size .* not ''"),
    (["--host", "localhost"], "there is no interface localhost"),
    (["--host", "fe80::1"], "fe80::1 is link-local: add its interface"),
    (["--host", "fe80::1%nosuch"], "there is no interface nosuch"),
    (["--interface", "nosuch"], "there is no interface nosuch"),
    (["--interface", "a/b"], "interface must be the name of a network interface, not 'a/b'"),
    (["--host", "256.1.1.1"], "256.1.1.1"),
    (["--host", "::g"], "::g"),
    (["--host", ""], "host"),
    (["--host", "192.0.2.254"], r"can't listen on 192\.0\.2\.254 port \d+: "),
    (["--port", "sixtynine"], "port must be a whole number, not 'sixtynine'"),
    (["--port", "-1"], "port must be .*, not .?-1"),
    (["--port", "65536"], "port must be from 0 to 65535, not 65536"),
    (["--port-range", "40000"], "port-range must be LO:HI.* not '40000'"),
    (["--port-range", "a:b"], "port-range must be LO:HI.* not 'a:b'"),
    (["--port-range", "40001:40000"], "port-range must be LO:HI with"),
    (["--port-range", "0:40000"], "port-range must be LO:HI with"),
    (["--port-range", "40000:65536"], "port-range must be LO:HI with"),
    (["--single-port", "--port-range", "40000:40009"], "port-range and single-port exclude"),
    (["--single-port=yes"], "single-port must not have an argument"),
    (["--timeout", "soon"], "timeout must be a number of seconds, not 'soon'"),
    (["--timeout", "0"], "timeout must be from 0.01 to 255"),
    (["--timeout", "256"], "timeout must be from 0.01 to 255"),
    (["--timeout", "nan"], "timeout must be from 0.01 to 255"),
    (["--patience", "0"], "patience must be from 0.01 to 3600, not 0.0"),
    (["--patience", "long"], "patience must be a number of seconds, not 'long'"),
    (["--retries", "1.5"], "retries must be a whole number, not '1.5'"),
    (["--retries", "0"], "retries must be from 1 to 1000, not 0"),
    (["--retries", "1001"], "retries must be from 1 to 1000, not 1001"),
    (["--retransmit", "often"], "retransmit must be one of adaptive, fixed, not 'often'"),
    (["--drain", "long"], "drain must be a number of seconds, not 'long'"),
    (["--drain", "-1"], "drain must be a number of seconds, 0 or more"),
    (["--drain", "inf"], "drain must be a number of seconds, 0 or more"),
    (["--drain", "nan"], "drain must be a number of seconds, 0 or more"),
    (["--refuse", "multicast"], "refuse must be one of blksize, .* not 'multicast'"),
    (["--max-blksize", "7"], "max-blksize must be from 8 to 65464, not 7"),
    (["--max-blksize", "65465"], "max-blksize must be from 8 to 65464, not 65465"),
    (["--max-blksize", "big"], "max-blksize must be a whole number, not 'big'"),
    (["--max-windowsize", "0"], "max-windowsize must be from 1 to 32767, not 0"),
    (["--max-windowsize", "32768"], "max-windowsize must be from 1 to 32767, not 32768"),
    (["--max-windowsize", "big"], "max-windowsize must be a whole number, not 'big'"),
    (["--rollover", "2"], "rollover must be one of 0, 1, none, not '2'"),
    (["--max-transfers", "0"], "max-transfers must be from 1 to 1000000, not 0"),
    (["--max-transfers", "many"], "max-transfers must be a whole number, not 'many'"),
    (["--verbose=1"], "verbose must not have an argument"),
    (["--no-such-option"], "no-such-option not recognized"),
    (["--logfile", "x"], "tftp: --logfile belongs before `tftp` "),
    (["-n"], "tftp: -n belongs before `tftp` "),
    (["--allow", "10.0.0.1/8"], r"allow must be a network: .* did you mean 10\.0\.0\.0/8\?"),
    (["--deny", "2001:db8::1/32"], "deny must be .* did you mean 2001:db8::/32"),
    (["--upload-quota", "1Q"], "upload-quota must be a size .*k, M, G: powers of 1024"),
    (["stray"], "unexpected argument 'stray'"),
]


@pytest.mark.parametrize(
    ("options", "pattern"),
    INVALID_OPTIONS,
    ids=[" ".join(options) for options, _ in INVALID_OPTIONS],
)
def test_invalid_option_is_one_line_on_stderr(options: list[str], pattern: str) -> None:
    """An invalid option ends twistd with status 1 and one line that names it."""
    words = (TWISTD, "-n", "--pidfile=", "tftp", "--port", free_port(), *options)
    assert_one_line(ForkedCommand(forked_command.twistd, *words).wait(), pattern)


@pytest.mark.parametrize("command", [[TWISTD, "--pidfile="], [TWIST]], ids=["twistd", "twist"])
def test_missing_root_is_one_line_on_stderr(command: list[Path | str], tmp_path: Path) -> None:
    """This holds for a daemon in the background and for `twist` too."""
    missing = tmp_path / "missing"
    if command[0] == TWISTD:
        command = [*command, f"--logfile={tmp_path / 'log'}"]
    assert_one_line(run(*command, "tftp", "--root", missing), "missing' is not a directory$")


@pytest.mark.parametrize("script", ["twistd", "twist"])
def test_port_in_use_is_one_line_on_stderr(script: str, root: Path) -> None:
    """If the port is in use, twistd and twist end with status 1 and one line that says so."""
    command = [TWISTD, "-n", "--pidfile="] if script == "twistd" else [TWIST]
    with Peer() as holder:
        port = holder.port
        done = run(*command, "tftp", "--root", root, "--host", LOCALHOST, "--port", port)
    assert_one_line(done, rf"can't listen on 127\.0\.0\.1 port {port}: Address already in use$")


@pytest.mark.skipif(not IPV6, reason="this machine has no ::1")
def test_start_fails_if_the_port_is_in_use_on_one_address(root: Path) -> None:
    """If the second address can't be bound, the daemon ends and serves no address."""
    # A port of the ephemeral range could be in use by another process on the first address.
    port = free_port((LOCALHOST, "::1"))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as holder:
        holder.bind(("::1", port))
        hosts = ("--host", LOCALHOST, "--host", "::1")
        done = twistd("--root", str(root), *hosts, "--port", port)
    assert_one_line(done, "can't listen on ::1 port ")
    assert "serving on" not in done.stdout


def unprivileged() -> tuple[str, ...]:
    """Return a command prefix that drops the capability to bind ports below 1024.

    Another user might not be able to read the package that is tested.
    """
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    return (setpriv, "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")


@linux
def test_privileged_port_without_the_privilege_is_one_line_with_a_hint(open_root: Path) -> None:
    """Without the privilege for a port below 1024, the error line says which one is missing."""
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if limit == 0:
        pytest.skip("every user may bind every port here")
    port = min(limit, 1024) - 1
    prefix = unprivileged()
    bind = f"import socket; socket.socket(type=socket.SOCK_DGRAM).bind(('127.0.0.1', {port}))"
    if run(sys.executable, "-c", bind, prefix=prefix).returncode == 0:
        pytest.skip(f"everybody may bind port {port} here")
    done = twistd(*("--root", str(open_root), "--host", LOCALHOST, "--port", port), prefix=prefix)
    assert_one_line(done, f"can't listen on .* port {port}: Permission denied; .*root or CAP_NET")


@as_root
def test_daemon_serves_after_it_has_dropped_root(open_root: Path, peer: Peer) -> None:
    """With --uid and --gid, root binds the privileged port, and the user nobody serves."""
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    ids = ("--uid", "nobody", "--gid", group)
    ports = range(600, 1024)
    with Daemon(
        open_root, "--write", "create", hosts=[LOCALHOST], ports=ports, twistd=ids
    ) as daemon:
        daemon.wait_for_line("set uid/gid")
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert re.search(r"^Uid:(\s+\d+)\1\1\1$", status, re.MULTILINE)
        assert f"\nUid:\t{nobody.pw_uid}\t" in status
        address = (LOCALHOST, daemon.port)
        assert peer.fetch(b"file", address) == CONTENT
        first, transfer = peer.ask(wrq(b"new"), address)
        assert first == ack(0)
        assert peer.ask(data(1, b"by nobody"), transfer)[0] == ack(1)
    assert (open_root / "new").read_bytes() == b"by nobody"
    assert (open_root / "new").stat().st_uid == nobody.pw_uid


# -- other ways to run it --------------------------------------------------------------------


@pytest.mark.skipif(not IPV6, reason="the example serves ::1, which this machine has not")
def test_example_application_is_read_only(root: Path, tmp_path: Path, peer: Peer) -> None:
    """`twistd -noy tftp.tac` serves the files of its root and refuses uploads."""
    with TacDaemon(root, directory=tmp_path) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        with Peer("::1") as other:
            assert other.fetch(b"file", ("::1", daemon.port)) == CONTENT
        assert peer.ask(wrq(b"new"), (LOCALHOST, daemon.port))[0][:4] == b"\0\5\0\2"
        daemon.stop()
    assert not daemon.errors


def test_example_application_does_not_start_without_its_root(tmp_path: Path) -> None:
    """`tftp.tac` fails with the reason if its root is missing, though it wraps its backend."""
    environment = dict(os.environ, TFTP_ROOT=str(tmp_path / "no"), PYTHONPATH=str(CHECKOUT))
    environment["TFTP_PORT"] = str(free_port())
    done = subprocess.run(
        [str(TWISTD), "-noy", str(CHECKOUT / "tftp.tac"), "--pidfile="],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert f"root {str(tmp_path / 'no')!r} is not a directory" in done.stderr
    assert "serving" not in done.stdout


class CheckoutDaemon(Daemon):
    """A daemon with a checkout of the repository as its working directory."""

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        environment.pop("PYTHONPATH", None)
        return environment


#: Runs `python -m twisted` without the checkout in `sys.path`, except as the working directory.
UNINSTALLED = f"""
import runpy, sys
sys.path[:] = ["", *(entry for entry in sys.path if entry not in ("", {str(CHECKOUT)!r}))]
sys.argv[0] = "twist"
runpy.run_module("twisted", run_name="__main__")
"""


class UninstalledDaemon(CheckoutDaemon):
    """A daemon that finds the package only in its working directory."""

    def command(self) -> list[str]:
        command = super().command()
        words = command[command.index("tftp") :]
        return [sys.executable, "-c", UNINSTALLED, "--log-format=text", *words]


# The script twistd does not look for plugins in the working directory; `python -m` does.
@pytest.mark.parametrize("kind", [CheckoutDaemon, UninstalledDaemon])
def test_twistd_finds_the_plugin_in_a_checkout(kind: type[Daemon], root: Path, peer: Peer) -> None:
    """In a checkout both `twistd` and `python -m twisted` have the command `tftp`."""
    with kind(root, directory=CHECKOUT) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT


# -- stopping --------------------------------------------------------------------------------

#: Runs a test with a port for each transfer, and with a single port.
each_port_mode = pytest.mark.parametrize("mode", [[], ["--single-port"]], ids=["own", "single"])


@each_port_mode
def test_running_read_finishes_after_sigterm(mode: list[str], root: Path, peer: Peer) -> None:
    """After SIGTERM the daemon waits for a running read, and then it ends."""
    with Daemon(root, *mode, "--drain", "60") as daemon:
        block, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        daemon.terminate()
        daemon.wait_for_line("waiting for 1 transfers")
        assert peer.rest(block, transfer) == CONTENT
        daemon.wait()
    assert re.search('read "file" .*: completed, 5000 octets', daemon.log)
    assert_ended_well(daemon)


@each_port_mode
def test_running_write_finishes_after_sigterm(mode: list[str], root: Path, peer: Peer) -> None:
    """After SIGTERM the daemon waits for a running write, and stores its file."""
    with Daemon(root, *mode, "--drain", "60", "--write", "create") as daemon:
        first, transfer = peer.ask(wrq(b"new"), (LOCALHOST, daemon.port))
        assert first == ack(0)
        daemon.terminate()
        daemon.wait_for_line("waiting for 1 transfers")
        assert peer.ask(data(1, CONTENT[:512]), transfer)[0] == ack(1)
        assert peer.ask(data(2, b"end"), transfer)[0] == ack(2)
        daemon.wait()
    assert (root / "new").read_bytes() == CONTENT[:512] + b"end"
    assert not temporary_files(root)
    assert_ended_well(daemon)


@each_port_mode
def test_new_request_is_not_answered_after_sigterm(
    mode: list[str], root: Path, peer: Peer
) -> None:
    """While the daemon waits for transfers to finish, it drops new requests."""
    with Daemon(root, *mode, "--drain", "60", "--verbose") as daemon:
        address = (LOCALHOST, daemon.port)
        block, transfer = peer.ask(rrq(b"file"), address)
        daemon.terminate()
        daemon.wait_for_line("waiting for 1 transfers")
        with Peer() as late:
            late.send(rrq(b"late"), address)
            assert peer.rest(block, transfer) == CONTENT
            daemon.wait()
            late.sock.setblocking(False)
            # If the port is closed already, the system reports that; it is no answer either.
            with pytest.raises((BlockingIOError, ConnectionRefusedError)):
                late.receive()
    assert '"late"' not in daemon.log


@each_port_mode
@pytest.mark.parametrize("drain", ["0", "0.1"])
def test_read_that_is_not_finished_after_the_drain_gets_an_error(
    mode: list[str], drain: str, root: Path, peer: Peer
) -> None:
    """At the end of --drain, the client of a running read gets an ERROR, and the daemon ends."""
    with Daemon(root, *mode, "--drain", drain) as daemon:
        _, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        daemon.terminate()
        assert peer.receive() == (error(0, b"the server is being stopped"), transfer)
        daemon.wait()
    assert re.search('read "file" .*: cancelled: ', daemon.log)
    assert_ended_well(daemon)


@each_port_mode
@pytest.mark.parametrize("drain", ["0", "0.1"])
def test_write_that_is_not_finished_after_the_drain_leaves_no_file(
    mode: list[str], drain: str, root: Path, peer: Peer
) -> None:
    """At the end of --drain, a running upload gets an ERROR and leaves no file."""
    with Daemon(root, *mode, "--drain", drain, "--write", "create") as daemon:
        _, transfer = peer.ask(wrq(b"new"), (LOCALHOST, daemon.port))
        assert peer.ask(data(1, CONTENT[:512]), transfer)[0] == ack(1)
        assert len(temporary_files(root)) == 1
        daemon.terminate()
        assert peer.receive() == (error(0, b"the server is being stopped"), transfer)
        daemon.wait()
    assert [path.name for path in root.iterdir()] == ["file"]
    assert_ended_well(daemon)


def test_idle_daemon_ends_at_sigterm(root: Path, peer: Peer) -> None:
    """If no transfer runs, SIGTERM ends the daemon at once."""
    with Daemon(root, "--drain", "3600") as daemon:
        # Only when the reactor runs, which an answer shows, does the daemon handle signals.
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        daemon.wait_for_line("completed")
        daemon.terminate()
        daemon.wait()
    assert "waiting for" not in daemon.log
    assert_ended_well(daemon)


# -- the log ---------------------------------------------------------------------------------


@pytest.fixture
def daemon(root: Path) -> Iterator[Daemon]:
    """Return a verbose daemon that takes new files."""
    with Daemon(root, "--write", "create", "--verbose") as running:
        yield running


def test_read_is_one_line_of_the_log(daemon: Daemon, peer: Peer) -> None:
    """The log line of a read has the peer, the file, the octets, the options and the outcome."""
    asked = rrq(b"file", blksize="1024", tsize="0", timeout="2")
    oack, transfer = peer.ask(asked, (LOCALHOST, daemon.port))
    assert oack == b"\0\6blksize\x001024\0tsize\x005000\0timeout\x002\0"
    reply = peer.ask(ack(0), transfer)[0]
    for number in range(1, 5):
        assert reply == data(number, CONTENT[1024 * (number - 1) : 1024 * number])
        reply = peer.ask(ack(number), transfer)[0]
    assert reply == data(5, CONTENT[4096:])
    peer.send(ack(5), transfer)
    line = daemon.wait_for_line('#info] (read "file" from .*)$')[1]
    assert re.fullmatch(
        rf'read "file" from 127\.0\.0\.1:{peer.port}: completed, 5000 octets in \d+\.\d+ s'
        r" \(\d+ kB/s\), options blksize=1024,tsize=5000,timeout=2, \d+ retransmissions",
        line,
    )


def test_write_is_one_line_of_the_log(daemon: Daemon, peer: Peer) -> None:
    """The log line of a write has the peer, the file, the octets, the options and the outcome."""
    asked = wrq(b"new", windowsize="2", tsize="515")
    oack, transfer = peer.ask(asked, (LOCALHOST, daemon.port))
    assert oack == b"\0\6windowsize\x002\0tsize\x00515\0"
    peer.send(data(1, CONTENT[:512]), transfer)
    assert peer.ask(data(2, b"end"), transfer)[0] == ack(2)
    line = daemon.wait_for_line('#info] (write "new" from .*)$')[1]
    assert re.fullmatch(
        rf'write "new" from 127\.0\.0\.1:{peer.port}: completed, 515 octets in \d+\.\d+ s'
        r" \(\d+ kB/s\), options windowsize=2,tsize=515, \d+ retransmissions",
        line,
    )


@pytest.mark.skipif(not IPV6, reason="this machine has no ::1")
def test_ipv6_peer_is_logged_in_brackets(daemon: Daemon) -> None:
    """The address of an IPv6 peer is logged in brackets, before its port."""
    with Peer("::1") as other:
        assert other.fetch(b"file", ("::1", daemon.port)) == CONTENT
        daemon.wait_for_line(rf'read "file" from \[::1\]:{other.port}: completed')


@pytest.mark.parametrize("code", [8, 0])
def test_size_probe_is_logged_at_level_info(code: int, daemon: Daemon, peer: Peer) -> None:
    """A client that refuses the OACK after a tsize is logged as a size probe at level info."""
    oack, transfer = peer.ask(rrq(b"file", tsize="0"), (LOCALHOST, daemon.port))
    assert oack == b"\0\6tsize\x005000\0"
    peer.send(error(code, b"thank you"), transfer)
    line = daemon.wait_for_line(r'read "file" from \S+ size-probe, 0 octets .*').string
    assert "#info]" in line
    assert "options tsize=5000" in line


def test_abort_is_a_warning_with_the_text_of_the_client(daemon: Daemon, peer: Peer) -> None:
    """An ERROR after the first block is logged as a warning with the client's text."""
    _, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
    peer.send(error(3, b"my disk is full"), transfer)
    line = daemon.wait_for_line('#warn.*] read "file" from .*')[0]
    assert ": client stopped: my disk is full; 0 octets in " in line


def test_refusal_is_a_warning_with_the_reason(daemon: Daemon, peer: Peer) -> None:
    """A request for a missing file is logged as a warning with the reason."""
    answer, transfer = peer.ask(rrq(b"missing"), (LOCALHOST, daemon.port))
    assert answer == error(1, b"no such file")
    assert transfer[1] != daemon.port
    daemon.wait_for_line('#warn.*] read "missing" from .* refused: no such file$')


#: A text with control characters, and with UTF-8 that reverses text.
NASTY = b'a\nb\r\x1b[31mc\x07\x7f"\\\x80\xe2\x80\xae\xc2\x9b31m'
ESCAPED = r"a\x0ab\x0d\x1b[31mc\x07\x7f\x22\x5c\x80\xe2\x80\xae\xc2\x9b31m"  # as the log has it


def test_control_characters_of_names_are_escaped_in_the_log(daemon: Daemon, peer: Peer) -> None:
    """A file name with control characters, such as LF and ESC, is escaped in the log."""
    peer.ask(rrq(NASTY), (LOCALHOST, daemon.port))
    escaped = re.escape(f'read "{ESCAPED}" from ')
    daemon.wait_for_line(escaped + r"\S+ mode octet")  # of --verbose
    daemon.wait_for_line(escaped + r"\S+ refused: no such file$")
    assert_printable(daemon)


def test_control_characters_of_messages_and_options_are_escaped_in_the_log(
    daemon: Daemon, peer: Peer
) -> None:
    """Control characters in an option or in an ERROR's text are escaped in the log."""
    nasty = NASTY.decode("latin-1")
    asked = b"\0\1file\0octet\0" + NASTY + b"\0" + NASTY + b"\0"
    _, transfer = peer.ask(asked, (LOCALHOST, daemon.port))
    peer.send(error(3, NASTY), transfer)
    daemon.wait_for_line(r"mode octet options a\\x0ab")
    daemon.wait_for_line(r'read "file" .* client stopped: a\\x0ab\\x0d\\x1b')
    assert nasty not in daemon.log
    assert_printable(daemon)


def assert_printable(daemon: Daemon) -> None:
    """Check that each line of the log has a time and then only printable ASCII."""
    for line in daemon.log.split("\n"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:+-]+ \[[ -~]+", line), line


# -- addresses and ports ---------------------------------------------------------------------


@linux
@each_port_mode
def test_answer_comes_from_the_address_of_the_request(mode: list[str], root: Path) -> None:
    """A wildcard socket answers from the address that the request was sent to."""
    with Daemon(root, *mode, hosts=["0.0.0.0"]) as daemon, Peer() as one, Peer() as two:
        for asker, host in ((one, "127.0.0.2"), (two, "127.0.0.3"), (two, "127.0.0.4")):
            block, transfer = asker.ask(rrq(b"file"), (host, daemon.port))
            assert transfer[0] == host
            assert (transfer[1] == daemon.port) == bool(mode)
            assert asker.rest(block, transfer) == CONTENT
            refusal, transfer = asker.ask(rrq(b"missing"), (host, daemon.port))
            assert (refusal[:4], transfer[0]) == (b"\0\5\0\1", host)


def test_each_transfer_has_its_own_port(daemon: Daemon) -> None:
    """Two transfers at once use two ports, and neither is the request port."""
    address = (LOCALHOST, daemon.port)
    with Peer() as one, Peer() as two:
        block_one, transfer_one = one.ask(rrq(b"file"), address)
        block_two, transfer_two = two.ask(rrq(b"file"), address)
        assert len({address, transfer_one, transfer_two}) == 3
        assert one.rest(block_one, transfer_one) == CONTENT
        assert two.rest(block_two, transfer_two) == CONTENT


#: Datagrams that are no requests, by name.
NO_REQUESTS = {
    "ACK": ack(0),
    "a later ACK": ack(7),
    "DATA": data(1, b"x" * 512),
    "empty DATA": data(1, b""),
    "OACK": b"\0\6blksize\x00512\0",
    "ERROR": error(0, b"what?"),
    "ERROR 5": error(5, b"unknown transfer id"),
    "nothing": b"",
    "one octet": b"\0",
    "the octet 1": b"\1",
    "opcode 0": b"\0\0file\0octet\0",
    "opcode 7": b"\0\7file\0octet\0",
    "opcode 257": b"\1\1file\0octet\0",
    "opcode 65535": b"\xff\xfffile\0octet\0",
    "text": b"GET / HTTP/1.0\r\n\r\n",
    "zeros": bytes(600),
}


@each_port_mode
def test_datagram_that_is_not_a_request_gets_no_answer(
    mode: list[str], root: Path, peer: Peer
) -> None:
    """On the request port, the daemon answers only requests."""
    with Daemon(root, *mode) as daemon:
        address = (LOCALHOST, daemon.port)
        for name, packet in NO_REQUESTS.items():
            peer.send(packet, address)
            block, transfer = peer.ask(rrq(b"file"), address)
            assert block == data(1, CONTENT[:512]), name
            assert peer.rest(block, transfer) == CONTENT, name
        peer.send(rrq(b"missing"), address)
        assert peer.receive()[0] == error(1, b"no such file")


@pytest.mark.parametrize(
    "packet",
    [
        b"\0\1",
        b"\0\1file",
        b"\0\1file\0",
        b"\0\1file\0octet",
        b"\0\1\0octet\0",
        b"\0\1file\0mail\0",
    ],
)
def test_malformed_request_gets_error_4(packet: bytes, daemon: Daemon, peer: Peer) -> None:
    """A malformed request is answered with ERROR 4, from another port than the request port."""
    answer, transfer = peer.ask(packet, (LOCALHOST, daemon.port))
    assert answer[:4] == b"\0\5\0\4"
    assert answer.endswith(b"\0")
    assert transfer[1] != daemon.port


# -- random input -------------------------------------------------------------------------------

#: Random datagrams that are sent to the request port.
RANDOM_DATAGRAMS = 100_000

#: Random datagrams after which a request checks that the daemon still answers.
BURST = 50

#: Sockets that send the random datagrams.
SOURCES = 16

#: Octets of memory by which the daemon may grow.
MAX_GROWTH = 32 * 1024 * 1024


def mutated(draw: random.Random) -> bytes:
    """Return a random datagram, or a packet with some octets changed, removed or added."""
    kind = draw.random()
    if kind < 0.3:
        opcode = b"" if kind < 0.15 else bytes([0, draw.randrange(8)])
        return opcode + draw.randbytes(draw.randrange(600))
    packet = bytearray(
        draw.choice(
            [
                rrq(b"file"),
                rrq(b"file", b"netascii", tsize="0", blksize="1428", windowsize="8"),
                rrq(b"file", timeout="1", rollover="1", utimeout="10000"),
                wrq(b"new", tsize="100"),
                wrq(b"new", b"NetASCII"),
                *NO_REQUESTS.values(),
            ]
        )
    )
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(packet) + 1)
        if draw.random() < 0.5:
            packet[at : at + 1] = draw.randbytes(1)
        elif draw.random() < 0.5:
            packet[at:at] = draw.randbytes(draw.randrange(5))
        else:
            del packet[at : at + draw.randrange(5)]
    return bytes(packet)


class Prober(Peer):
    """A client that checks whether the daemon still answers."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    def probe(self, daemon: Daemon) -> None:
        """Wait until the daemon answers; repeat the request, which may be dropped in a flood."""
        self._number += 1
        answer = error(1, b"no such file")
        deadline = time.monotonic() + TIMEOUT
        self.sock.settimeout(0.1)
        while time.monotonic() < deadline:
            self.send(rrq(b"missing-%d" % self._number), (LOCALHOST, daemon.port))
            try:
                while self.sock.recv(65535) != answer:
                    pass
            except TimeoutError:
                assert daemon.process.poll() is None, daemon.errors
            else:
                return
        raise AssertionError("the daemon does not answer any more")


def settled_descriptors(daemon: Daemon, prober: Prober, most: int) -> int:
    """Return the number of open descriptors once it is at most `most`, or after a timeout."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        count = daemon.descriptors()
        if count <= most or time.monotonic() > deadline:
            return count
        prober.probe(daemon)  # each answer needs one turn of the daemon's reactor


@linux
@pytest.mark.parametrize("mode", [[], ["--single-port"]], ids=["own", "single"])
def test_random_datagrams_cause_no_crash_and_no_leak(mode: list[str], root: Path) -> None:
    """The daemon needs no more memory or descriptors after 100,000 random or mutated datagrams."""
    draw = random.Random(2024_2169)
    options = ("--timeout", "0.05", "--retries", "1", "--write", "create")
    options += ("--max-transfers", "300", "--drain", "0")
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root, *mode, *options, hosts=[LOCALHOST]))
        prober = stack.enter_context(Prober())
        sources = [stack.enter_context(Peer()) for _ in range(SOURCES)]
        address = (LOCALHOST, daemon.port)

        def flood(count: int) -> None:
            for number in range(count):
                draw.choice(sources).send(mutated(draw), address)
                if number % BURST == 0:
                    prober.probe(daemon)
            prober.probe(daemon)

        assert prober.fetch(b"file", address) == CONTENT
        idle = daemon.descriptors()
        flood(RANDOM_DATAGRAMS // 20)  # until the daemon has what it keeps, such as pools
        resident = daemon.resident()
        flood(RANDOM_DATAGRAMS)
        assert settled_descriptors(daemon, prober, idle) <= idle
        assert daemon.resident() - resident <= MAX_GROWTH
        with Peer() as client:
            assert client.fetch(b"file", address) == CONTENT
        daemon.stop()
    assert "Traceback" not in daemon.log
    assert not daemon.errors
    assert not temporary_files(root)
    assert (root / "file").read_bytes() == CONTENT


def test_hundred_clients_at_once_get_their_files(root: Path) -> None:
    """A hundred clients at the same time each get their own file."""
    names = [b"file-%d" % number for number in range(100)]
    for number, name in enumerate(names):
        (root / name.decode()).write_bytes(CONTENT[number:])
    with Daemon(root) as daemon, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer()) for _ in names]
        results: dict[int, bytes] = {}

        def fetch(number: int) -> None:
            results[number] = peers[number].fetch(names[number], (LOCALHOST, daemon.port))

        threads = [threading.Thread(target=fetch, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
    assert results == {number: CONTENT[number:] for number in range(100)}


def test_daemon_listens_on_all_addresses_by_default(root: Path) -> None:
    """Without --host the daemon serves all addresses, of IPv4 and of IPv6 if there is one."""

    class Everywhere(Daemon):
        def command(self) -> list[str]:
            command = super().command()
            first = command.index("--host")
            return command[:first] + command[first + 2 * len(self.hosts) :]

    hosts = ["0.0.0.0", "::"] if IPV6 and can_bind("::", 0) else ["0.0.0.0"]
    with Everywhere(root, hosts=hosts) as daemon:
        assert "--host" not in daemon.process.args
        for host in LOOPBACK:
            with Peer(host) as client:
                assert client.fetch(b"file", (host, daemon.port)) == CONTENT


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_daemon_works_with_each_reactor(reactor: str, root: Path, peer: Peer) -> None:
    """Reads, writes and a stop work with each reactor that Twisted has on Linux."""
    options = ("--write", "create")
    with Daemon(root, *options, twistd=("--reactor", reactor)) as daemon:
        address = (LOCALHOST, daemon.port)
        assert peer.fetch(b"file", address) == CONTENT
        for number, one in enumerate(([CONTENT[:512], b"end"], [b""])):
            answer, transfer = peer.ask(wrq(b"new-%d" % number), address)
            assert answer == ack(0)
            for block, octets in enumerate(one, 1):
                assert peer.ask(data(block, octets), transfer)[0] == ack(block)
            assert (root / f"new-{number}").read_bytes() == b"".join(one)
        assert f"reactor class: twisted.internet.{reactor}reactor" in daemon.log
        daemon.stop()
        assert_ended_well(daemon)


def test_denied_address_gets_no_answer(root: Path) -> None:
    """With --deny an address gets no answer, while another one is served."""
    with (
        Daemon(root, "--deny", "127.0.0.2/32", hosts=[LOCALHOST]) as daemon,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as denied,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        request = b"\0\1nothing\0octet\0"
        for sock, host in ((denied, "127.0.0.2"), (other, LOCALHOST)):
            sock.bind((host, 0))
            sock.sendto(request, (LOCALHOST, daemon.port))
        other.settimeout(20)
        assert other.recv(1000).startswith(b"\0\5\0\1")
        denied.setblocking(False)
        with pytest.raises(BlockingIOError):
            denied.recv(1000)
