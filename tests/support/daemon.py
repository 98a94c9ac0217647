"""Run the real daemon, `twistd -n tftp`, as a child process on loopback addresses."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

#: The range of request ports: below the ephemeral ports, which the system chooses from.
PORTS = range(20001, 32768)

#: Seconds after which a wait fails. A wait is much shorter unless something is broken.
TIMEOUT = 30.0

#: How many ports are tried: another process may take the chosen one before the daemon binds it.
ATTEMPTS = 5

#: The root directory of the repository.
CHECKOUT = Path(__file__).resolve().parents[2]

#: The scripts of the environment that runs the tests.
TWISTD = Path(sys.executable).with_name("twistd")
TWIST = Path(sys.executable).with_name("twist")


def can_bind(host: str, port: int) -> bool:
    """Return whether a UDP socket can be bound there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, port))
    except OSError:
        return False
    return True


#: Whether this machine has the IPv6 loopback address.
IPV6 = can_bind("::1", 0)

#: The loopback addresses of this machine.
LOOPBACK = ("127.0.0.1", "::1") if IPV6 else ("127.0.0.1",)


def free_port(hosts: Sequence[str] = ("127.0.0.1",), ports: range = PORTS) -> int:
    """Return a UDP port out of `ports` that is free on all `hosts`.

    @raise RuntimeError: there is none.
    """
    for port in random.sample(ports, len(ports)):
        if all(can_bind(host, port) for host in hosts):
            return port
    raise RuntimeError(f"no port is free on {hosts}")


class StartFailed(Exception):
    """The daemon ended, or wrote nothing for `TIMEOUT` seconds, before it served."""


class Daemon:
    """A daemon that serves inside a `with` block.

    A subclass may override `command`, `environment` and `wait_until_serving` to start it in
    another way.

    @ivar port: its request port.
    @ivar lines: what it has written to standard output, its log, so far.
    @ivar errors: what it has written to standard error so far.
    """

    def __init__(
        self,
        root: str | Path,
        *options: str,
        hosts: Sequence[str] = LOOPBACK,
        ports: range = PORTS,
        executable: str | Path = TWISTD,
        twistd: Sequence[str] = (),
        prefix: Sequence[str] = (),
        directory: str | Path | None = None,
    ) -> None:
        """Set up a daemon; the `with` statement starts it.

        @param root: the directory that it serves.
        @param options: more options of `tftp`.
        @param hosts: the addresses that it serves on, which are given as `--host`.
        @param ports: the range that its port is chosen from.
        @param executable: the `twistd` script.
        @param twistd: more options of `twistd`.
        @param prefix: a command that runs the command behind it, such as `setpriv`.
        @param directory: its working directory; None for the system's temporary directory, so
            that an installed package is tested if there is one.
        """
        self.root = Path(root)
        self.options = list(options)
        self.hosts = list(hosts)
        self.executable = str(executable)
        self.port = 0
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._ports = ports
        self._twistd = list(twistd)
        self._prefix = list(prefix)
        self._directory = directory or tempfile.gettempdir()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._open_streams = 0

    def command(self) -> list[str]:
        """Return the command line."""
        hosts = [word for host in self.hosts for word in ("--host", host)]
        return [
            *self._prefix,
            *(self.executable, "-n", "--pidfile=", *self._twistd),
            *("tftp", "--root", str(self.root), "--port", str(self.port), *hosts, *self.options),
        ]

    def environment(self) -> dict[str, str]:
        """Return the child's environment variables."""
        return {**os.environ, "PYTHONUNBUFFERED": "1"}

    def __enter__(self) -> Daemon:
        for attempt in range(ATTEMPTS):
            self._start()
            try:
                self.wait_until_serving()
            except BaseException as error:
                self.stop(signal.SIGKILL)
                taken = "Address already in use" in self.log + "\n".join(self.errors)
                if isinstance(error, StartFailed) and taken and attempt < ATTEMPTS - 1:
                    continue
                raise
            return self
        raise AssertionError("not reached")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The child."""
        assert self._process is not None, "the daemon was not started"
        return self._process

    @property
    def log(self) -> str:
        """All lines of the log so far."""
        with self._changed:
            return "\n".join(self.lines)

    def mark(self) -> int:
        """Return the number of log lines so far, for `wait_for_line`'s `start`."""
        with self._changed:
            return len(self.lines)

    def wait_for_line(
        self, pattern: str, timeout: float = TIMEOUT, start: int = 0
    ) -> re.Match[str]:
        """Wait for a line of the log in which `pattern` is found, and return the match.

        @param start: the first line to look at.
        @raise AssertionError: no such line came in time, or before the daemon ended.
        """
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout
        looked_at = start
        with self._changed:
            while True:
                while looked_at < len(self.lines):
                    match = expression.search(self.lines[looked_at])
                    if match:
                        return match
                    looked_at += 1
                left = deadline - time.monotonic()
                if not self._open_streams or left <= 0:
                    why = "in time" if self._open_streams else "before the daemon ended"
                    raise AssertionError(f"no line matched {pattern!r} {why}:\n{self._output()}")
                self._changed.wait(left)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait until the daemon has ended and all its output was read; return its status."""
        status = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the daemon, by force if it has not ended after 10 seconds; return its status."""
        process = self.process
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        return self.wait()

    def resident(self) -> int:
        """Return the octets of memory that the daemon has (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert match, status
        return int(match[1]) * 1024

    def descriptors(self) -> int:
        """Return how many descriptors the daemon has open (Linux)."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _start(self) -> None:
        self.port = free_port(self.hosts, self._ports)
        self.lines, self.errors = [], []
        process = self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._directory,
            env=self.environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._open_streams = 2
        self._threads = [
            threading.Thread(target=self._collect, args=(stream, into), daemon=True)
            for stream, into in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for thread in self._threads:
            thread.start()

    def _collect(self, stream: IO[bytes], into: list[str]) -> None:
        # The stream is read as octets, so that only LF ends a line, and a CR stays visible.
        with stream:
            for line in stream:
                with self._changed:
                    into.append(line.decode("utf-8", "backslashreplace").removesuffix("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open_streams -= 1
            self._changed.notify_all()

    def wait_until_serving(self) -> None:
        """Wait until the log says that each address is served.

        @raise StartFailed: it does not say so.
        """
        for host in self.hosts:
            try:
                self.wait_for_line(f"serving on {re.escape(host)} port {self.port}$")
            except AssertionError as error:
                raise StartFailed(str(error)) from None

    def _output(self) -> str:
        return "\n".join([*self.lines[-100:], *("stderr: " + line for line in self.errors)])


class LoggingDaemon(Daemon):
    """A daemon at 127.0.0.1 that writes its log to a file.

    @ivar log_path: the path of that file.
    """

    def __init__(
        self, root: Path, log_path: Path, *options: str, twistd: Sequence[str] = ()
    ) -> None:
        super().__init__(
            root,
            *options,
            hosts=["127.0.0.1"],
            twistd=[*twistd, "--logfile", str(log_path)],
        )
        self.log_path = log_path

    def wait_until_serving(self) -> None:
        wait_for_text(self.log_path, "serving on")


def wait_for_text(path: Path, text: str) -> str:
    """Wait until a file contains `text`, and return its content."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if path.exists() and text in (found := path.read_text()):
            return found
        time.sleep(0.01)  # there is no portable event for a change of a file
    raise AssertionError(f"{path} does not contain {text!r}")


class TacDaemon(Daemon):
    """A daemon that runs the example application, `tftp.tac`."""

    def command(self) -> list[str]:
        return [self.executable, "-noy", str(CHECKOUT / "tftp.tac")]

    def environment(self) -> dict[str, str]:
        variables = {"TFTP_ROOT": str(self.root), "TFTP_PORT": str(self.port)}
        return {**super().environment(), **variables}


class TwistDaemon(Daemon):
    """A daemon that is started by `twist` in place of `twistd`."""

    def command(self) -> list[str]:
        command = super().command()
        return [str(TWIST), "--log-format=text", *command[command.index("tftp") :]]


def assert_ended_well(daemon: Daemon) -> None:
    """Check that the daemon ended as twistd does after SIGTERM, and wrote no error."""
    assert daemon.process.returncode in (0, -signal.SIGTERM)
    assert daemon.lines[-1].endswith("Server Shut Down.")
    assert "Traceback" not in daemon.log
    assert not daemon.errors
