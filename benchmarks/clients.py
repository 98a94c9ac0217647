"""Compare `txtftp get` with atftp and curl as whole commands: `python -m benchmarks.clients`."""

from __future__ import annotations

import argparse
import filecmp
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.debian_packages import Unavailable
from benchmarks.loads import fill
from benchmarks.server_list import servers
from benchmarks.servers import HOST, Running, start
from benchmarks.tables import table

MB = 1_000_000

#: (name of the file, its octets, windowsize); the block size is 1428.
LOADS = [
    ("large", 200 * MB, 1),
    ("huge", 1000 * MB, 16),
    ("huge", 1000 * MB, 64),
    ("tiny", 1, 1),
]

#: The servers that the clients read from.
SERVERS = ("ours", "atftpd")


@dataclass(frozen=True)
class Client:
    """A command that reads a file.

    @ivar windows: whether it supports windowsize.
    """

    name: str
    windows: bool

    def command(self, port: int, name: str, windowsize: int, local: Path) -> list[str]:
        """Return the command line."""
        if self.name == "txtftp":
            return [
                *(sys.executable, "-m", "twisted_tftp", "get", "-q", "--port", str(port)),
                *("--blksize", "1428", "--windowsize", str(windowsize), HOST, name, str(local)),
            ]
        if self.name == "atftp":
            window = ["--option", f"windowsize {windowsize}"] if windowsize > 1 else []
            return [
                *("atftp", "--option", "blksize 1428", *window, "--get"),
                *("--remote-file", name, "--local-file", str(local), HOST, str(port)),
            ]
        return [
            *("curl", "--silent", "--tftp-blksize", "1428", "--output", str(local)),
            f"tftp://{HOST}:{port}/{name}",
        ]


CLIENTS = [Client("txtftp", True), Client("atftp", True), Client("curl", False)]


@contextmanager
def _served() -> Iterator[dict[str, Running]]:
    with tempfile.TemporaryDirectory(prefix="tftp-clients-", dir="/dev/shm") as folder:
        root = Path(folder, "served")
        root.mkdir()
        for path in (Path(folder), root):
            path.chmod(0o755)
        (root / "probe").write_bytes(b"probe")
        for name, size, _ in LOADS:
            fill(root / name, size)
        with ExitStack() as stack:
            running = {}
            for server in servers(Path()):
                if server.name in SERVERS:
                    try:
                        running[server.name] = start(server, root, Path(folder, server.name))
                    except Unavailable as reason:
                        print(f"{server.name}: {reason}", file=sys.stderr)
                        continue
                    stack.callback(running[server.name].stop)
            yield running


def _fetch(client: Client, server: Running, name: str, windowsize: int) -> float | None:
    """Return the seconds that a command took; None if it failed or the file was wrong."""
    local = server.root.parent / "local"
    command = client.command(server.port, name, windowsize, local)
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took = time.perf_counter() - began
    right = local.exists() and filecmp.cmp(local, server.root / name, shallow=False)
    local.unlink(missing_ok=True)
    return took if done.returncode == 0 and right else None


def main() -> int:
    """Run all clients, and print the table; return 1 if our client failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds [3]")
    rounds = parser.parse_args().rounds
    rows, failed = [], False
    with _served() as running:
        for name, size, windowsize in LOADS:
            for server in running.values():
                able = [each for each in CLIENTS if windowsize == 1 or each.windows]
                took: dict[str, list[float]] = {client.name: [] for client in able}
                # The clients run in turn, so that other load on the machine affects all.
                for _ in range(rounds):
                    for client in able:
                        seconds = _fetch(client, server, name, windowsize)
                        if seconds is not None:
                            took[client.name].append(seconds)
                failed |= len(took["txtftp"]) < rounds
                rows.append(_row(name, size, windowsize, server.server.title, took))
    head = ["file", "window", "from", *(client.name for client in CLIENTS), "over atftp", "curl"]
    print(table(head, rows))
    return int(failed)


def _row(
    name: str, size: int, windowsize: int, server: str, took: dict[str, list[float]]
) -> list[str]:
    medians = {client: statistics.median(each) for client, each in took.items() if each}
    cells = []
    for client in CLIENTS:
        values = sorted(took.get(client.name, []))
        if not values:
            cells.append("none")
        elif size < MB:
            cells.append(f"{medians[client.name]:.3f} s ({values[0]:.3f} to {values[-1]:.3f})")
        else:
            rates = [size / MB / value for value in reversed(values)]
            median = size / MB / medians[client.name]
            cells.append(f"{median:.0f} MB/s ({rates[0]:.0f} to {rates[-1]:.0f})")
    ours = medians.get("txtftp")
    for other in ("atftp", "curl"):
        theirs = medians.get(other)
        cells.append(f"{theirs / ours:.2f}" if ours and theirs else "none")
    return [name, str(windowsize), server, *cells]


if __name__ == "__main__":
    sys.exit(main())
