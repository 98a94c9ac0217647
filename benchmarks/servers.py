"""Start a server, wait until it answers, and stop it."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import processes
from benchmarks.debian_packages import Unavailable, libraries

HOST = "127.0.0.1"

#: The root directory of the repository.
REPOSITORY = Path(__file__).resolve().parent.parent

#: The name and content of a file that is in every served folder.
PROBE = ("probe", b"probe")

#: Seconds in which a server must answer after its start.
_START_SECONDS = 15.0

#: Seconds in which a server must end after SIGTERM.
_STOP_SECONDS = 5.0

#: Seconds without CPU time after which a server is idle.
_IDLE_SECONDS = 0.1

#: Seconds after which a server counts as idle, whatever it does.
_BUSY_SECONDS = 2.0


@dataclass(frozen=True)
class Server:
    """A server, and what it can do."""

    name: str
    title: str
    #: Returns the command that serves a folder on a port; may raise `Unavailable`.
    command: Callable[[Path, int], list[str]]
    version: Callable[[], str]
    writes: bool = True
    windows: bool = True
    #: The first version that grants windowsize; empty if `windows` is true of all versions.
    windows_since: tuple[int, ...] = ()
    #: It is measured with at most so many transfers at once: some need a process or thread each.
    max_transfers: int = 1000
    #: The port, if it can't be chosen; the server then runs in its own network namespace.
    port: int | None = None
    #: The Debian packages that may have been unpacked for it.
    packages: tuple[str, ...] = ()
    retransmits: bool = True
    #: Whether it makes the system discard the CPU time of its processes when they end.
    discards_cpu: bool = False
    #: Whether it has a process for each transfer.
    forks: bool = False
    #: The language of a server that ours is compared with; empty for ours and for the yardstick.
    language: str = "Python"
    #: Variables of its environment.
    environment: tuple[tuple[str, str], ...] = ()
    #: The folder that it imports our package from.
    source: Path = REPOSITORY

    @functools.cached_property
    def grants_windows(self) -> bool:
        """Whether it grants windowsize, as far as its version tells."""
        if not self.windows_since:
            return self.windows
        try:
            version = self.version()
        except Unavailable:
            return False
        return tuple(map(int, re.findall(r"\d+", version))) >= self.windows_since


@dataclass
class Running:
    """A running server."""

    server: Server
    process: subprocess.Popen[bytes]
    port: int
    root: Path
    #: A command prefix that runs a client in the network namespace of the server.
    prefix: list[str] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def cpu(self) -> processes.CpuTime:
        """Return the CPU time of the server and its children, including ended ones."""
        return processes.cpu_time(self.process.pid)

    def idle_cpu(self) -> processes.CpuTime:
        """Wait until the server is idle, and return its CPU time."""
        stop_at = time.monotonic() + _BUSY_SECONDS
        before, now = None, self.cpu()
        while now != before and time.monotonic() < stop_at:
            time.sleep(_IDLE_SECONDS)
            before, now = now, self.cpu()
        return now

    def memory(self) -> int:
        """Return its octets of memory; several processes count with their shares."""
        return processes.memory(self.process.pid)

    def stop(self) -> None:
        """Stop the server and its children, each by its process ID."""
        pids = processes.tree(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._stack.close()


def start(
    server: Server, root: Path, log: Path, core: int | None = None, preload: Path | None = None
) -> Running:
    """Start `server` on `root` and wait until it answers.

    @param core: the only core that it may run on.
    @param preload: a library for LD_PRELOAD.
    @raise Unavailable: its program is missing, or it does not answer.
    """
    port = server.port or free_port()
    command = server.command(root, port)
    with contextlib.ExitStack() as stack:
        prefix = stack.enter_context(_namespace()) if server.port else []
        output = stack.enter_context(open(log, "ab"))
        with processes.on_core(core):
            process = subprocess.Popen(
                prefix + command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=root,
                env=environment(server, preload),
            )
        running = Running(server, process, port, root, prefix, stack.pop_all())
    stop_at = time.monotonic() + _START_SECONDS
    while not _answers(running):
        if process.poll() is not None or time.monotonic() > stop_at:
            running.stop()
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"did not start: {last[0] if last else process.returncode}")
        time.sleep(0.05)
    return running


def environment(server: Server, preload: Path | None = None) -> dict[str, str]:
    """Return the environment variables of a server."""
    variables = dict(os.environ, PYTHONPATH=str(server.source), **dict(server.environment))
    folders = libraries() if server.packages else ""
    if folders:
        variables["LD_LIBRARY_PATH"] = folders
    if preload:
        variables["LD_PRELOAD"] = str(preload)
    return variables


def _answers(running: Running) -> bool:
    if running.prefix:
        command = [*running.prefix, sys.executable, "-m", "benchmarks.servers"]
        return not subprocess.call([*command, str(running.port)], cwd=REPOSITORY)
    return probe(running.port)


def probe(port: int) -> bool:
    """Request the probe file; return whether the server sent it."""
    name, content = PROBE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.sendto(b"\0\1" + name.encode() + b"\0octet\0", (HOST, port))
            answer, transfer = client.recvfrom(2048)
            client.sendto(b"\0\4\0\1", transfer)
        except OSError:
            return False
        return answer == b"\0\3\0\1" + content


def free_port() -> int:
    """Return a UDP port that is free on loopback now."""
    while True:
        port = random.randrange(20001, 30000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
            return port


@contextlib.contextmanager
def _namespace() -> Iterator[list[str]]:
    """Create a network namespace with only loopback; return the prefix that enters it."""
    if not shutil.which("unshare") or not shutil.which("nsenter") or not shutil.which("ip"):
        raise Unavailable("needs unshare, nsenter and ip")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    keeper = subprocess.Popen(
        ["unshare", "--net", *user, "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline() != b"up\n":
            raise Unavailable("this machine does not allow network namespaces")
        enter = ["--user", "--preserve-credentials"] if user else []
        yield ["nsenter", "--target", str(keeper.pid), "--net", *enter]
    finally:
        keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()


if __name__ == "__main__":
    sys.exit(not probe(int(sys.argv[1])))
