"""Start a server, wait until it answers, measure its CPU and memory, and stop it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
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

from benchmarks.debian_packages import Unavailable, libraries, program

HOST = "127.0.0.1"

#: The root directory of the repository.
REPOSITORY = Path(__file__).resolve().parent.parent

#: The name and content of a file that is in every served folder.
PROBE = ("probe", b"probe")

#: CPU ticks a second.
_TICKS = os.sysconf("SC_CLK_TCK")

#: Seconds in which a server must answer after its start.
_START_SECONDS = 15.0

#: Seconds in which a server must end after SIGTERM.
_STOP_SECONDS = 5.0


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
    #: It is measured with at most so many transfers at once: some need a process or thread each.
    max_transfers: int = 1000
    #: The port, if it can't be chosen; the server then runs in its own network namespace.
    port: int | None = None
    #: The Debian packages that may have been unpacked for it.
    packages: tuple[str, ...] = ()
    retransmits: bool = True
    #: Whether it makes the system discard the CPU time of its processes when they end.
    discards_cpu: bool = False
    #: The language of a server that ours is compared with; empty for ours and for the yardstick.
    language: str = "Python"


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

    def cpu(self) -> float:
        """Return the CPU seconds of the server and its children, including ended ones."""
        return sum(_cpu(pid) for pid in _tree(self.process.pid))

    def memory(self) -> int:
        """Return its octets of memory; several processes count with their shares."""
        pids = _tree(self.process.pid)
        if len(pids) == 1:
            return resident(pids[0])
        return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids)

    def stop(self) -> None:
        """Stop the server and its children, each by its process ID."""
        pids = _tree(self.process.pid)
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


def start(server: Server, root: Path, log: Path) -> Running:
    """Start `server` on `root` and wait until it answers.

    @raise Unavailable: its program is missing, or it does not answer.
    """
    port = server.port or free_port()
    command = server.command(root, port)
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    if server.packages:
        folders = libraries()
        if folders:
            environment["LD_LIBRARY_PATH"] = folders
    with contextlib.ExitStack() as stack:
        prefix = stack.enter_context(_namespace()) if server.port else []
        output = stack.enter_context(open(log, "ab"))
        process = subprocess.Popen(
            prefix + command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=root,
            env=environment,
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


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    pids = [pid]
    for each in pids:
        pids += children.get(each, [])
    return pids


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat, from its state on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def resident(pid: int) -> int:
    """Return the resident octets of a process."""
    return _field(f"/proc/{pid}/status", "VmRSS")


def _cpu(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def _field(path: str, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _version_in(command: Callable[[], list[str]], pattern: str) -> Callable[[], str]:
    """Return a function that finds the version in the output of a command."""

    def version() -> str:
        environment = dict(os.environ, LD_LIBRARY_PATH=libraries())
        done = subprocess.run(command(), capture_output=True, text=True, env=environment)
        found = re.search(pattern, done.stdout + done.stderr)
        return found[1] if found else "?"

    return version


# -- The commands ------------------------------------------------------------------------------


def _script(name: str, module: str) -> str:
    """Return the path of a command that was installed by a Python package."""
    if importlib.util.find_spec(module) is None:
        raise Unavailable(f"{module} is not installed; pip install -e '.[bench]'")
    return str(Path(sys.executable).with_name(name))


def _ours(root: Path, port: int) -> list[str]:
    return [
        *(_script("twistd", "twisted"), "-n", "--pidfile="),
        *("tftp", "--root", str(root), "--host", HOST, "--port", str(port)),
        *("--write", "overwrite"),
    ]


def _hpa(root: Path, port: int) -> list[str]:
    if os.geteuid():
        raise Unavailable("needs root")
    return [
        *(program("in.tftpd", "tftpd-hpa"), "--foreground", "--listen", "--secure", "--create"),
        *("--permissive", "--address", f"{HOST}:{port}", str(root)),
    ]


def _atftpd(root: Path, port: int) -> list[str]:
    return [
        *(program("atftpd", "atftpd"), "--daemon", "--no-fork", "--bind-address", HOST),
        *("--port", str(port), "--maxthread", "1100", "--logfile", "-", str(root)),
    ]


def _dnsmasq(root: Path, port: int) -> list[str]:
    return [
        *(program("dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--conf-file=/dev/null"),
        *("--port=0", "--enable-tftp", f"--tftp-root={root}", "--tftp-max=1100", "--user=root"),
        *("--log-facility=-", "--pid-file", "--listen-address=" + HOST),
    ]


def _pytftp(root: Path, port: int) -> list[str]:
    return [
        *(_script("pytftp", "tftp"), "serve", "--listen", f"{HOST}:{port}", "--write"),
        *("--overwrite", "--max-sessions", "0", str(root)),
    ]


def _py3tftp(root: Path, port: int) -> list[str]:
    return [_script("py3tftp", "py3tftp"), "--host", HOST, "--port", str(port)]


def _library(name: str) -> Callable[[Path, int], list[str]]:
    def command(root: Path, port: int) -> list[str]:
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed; pip install -e '.[bench]'")
        return [
            sys.executable,
            "-m",
            "benchmarks.library_servers",
            name,
            str(root),
            HOST,
            str(port),
        ]

    return command


def _package(name: str) -> Callable[[], str]:
    return lambda: importlib.metadata.version(name)


def servers(yardstick: Path) -> list[Server]:
    """Return all servers; `yardstick` is the path of the yardstick's program."""
    return [
        Server(
            "ours",
            "twisted-tftp",
            _ours,
            _package("twisted-tftp"),
            max_transfers=10_000,
            language="",
        ),
        Server(
            "quiet",
            "twisted-tftp, no log",
            lambda root, port: [
                *(
                    sys.executable,
                    "-m",
                    "benchmarks.library_servers",
                    "quiet",
                    str(root),
                    HOST,
                    str(port),
                ),
            ],
            _package("twisted-tftp"),
            language="",
        ),
        Server(
            "yardstick",
            "C yardstick",
            lambda root, port: [str(yardstick), HOST, str(port), str(root)],
            lambda: "-",
            max_transfers=10_000,
            retransmits=False,
            language="",
        ),
        Server(
            "hpa",
            "tftpd-hpa",
            _hpa,
            _version_in(lambda: [program("in.tftpd", "tftpd-hpa"), "-V"], r"tftp-hpa ([\w.]+)"),
            windows=False,
            packages=("tftpd-hpa",),
            discards_cpu=True,  # a process for each transfer, and SA_NOCLDWAIT
            language="C",
        ),
        Server(
            "atftpd",
            "atftpd",
            _atftpd,
            _version_in(lambda: [program("atftpd", "atftpd"), "--version"], r"atftp-([\w.]+)"),
            # With 1,000 open transfers, it stops answering most of them.
            max_transfers=100,
            packages=("atftpd",),
            language="C",
        ),
        Server(
            "dnsmasq",
            "dnsmasq",
            _dnsmasq,
            _version_in(
                lambda: [program("dnsmasq", "dnsmasq-base"), "--version"], r"ersion ([\w.]+)"
            ),
            writes=False,
            windows=False,
            port=69,
            packages=("dnsmasq-base",),
            language="C",
        ),
        Server("pytftp", "pytftp", _pytftp, _package("tftp")),
        Server(
            "tftpy",
            "tftpy",
            _library("tftpy"),
            _package("tftpy"),
            windows=False,
            max_transfers=100,
        ),
        Server("py3tftp", "py3tftp", _py3tftp, _package("py3tftp")),
        Server(
            "fbtftp",
            "fbtftp",
            _library("fbtftp"),
            _package("fbtftp"),
            writes=False,
            windows=False,
            max_transfers=100,
        ),
    ]


if __name__ == "__main__":
    sys.exit(not probe(int(sys.argv[1])))
