"""Measure what a configuration of a boot farm costs: `python -m benchmarks.farm`.

Two daemons serve the same files, and are measured in turn: one with `--root` alone, and one with
ten mounts, twenty client rules and twenty rename rules. Then machines ask for ten names that do
not exist and for one file, as at each boot. A third daemon has a template in front of the files.
A fourth one is the same as the first: its ratios are the noise. On a machine that is busy, the
CPU seconds say more than the rates.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.loads import Load, Store, Tools, build, run_load
from benchmarks.server_list import servers
from benchmarks.servers import HOST, Running, Server, start

#: Files of 3 kB, 32 at a time. The rules of L{farm} rewrite their names.
SMALL = Load(
    "small",
    "3 kB files, 32 at a time",
    tuple((f"small{number:03}", 3000) for number in range(500)),
    unit="files/s",
    clients=32,
    transfers=4000,
)

#: The names without a file that a machine asks for in a boot.
MISSES = 10

#: The boots of one run.
BOOTS = 400

#: The boots at the same time.
AT_ONCE = 32

#: The pairs of runs after which all servers are started again: some processes are faster than
#: others that run the same program.
PAIRS_OF_START = 5

#: Seconds without an answer after which a run has failed.
TIMEOUT = 10.0

#: Seconds between the creation of files and the first request: younger ones are not cached.
SETTLE_SECONDS = 3

#: The mounts of the farm.
MOUNTS = 10

#: The client rules of the farm.
CLIENT_RULES = 20

#: The rename rules of the farm.
RENAME_RULES = 20


def farm(root: Path) -> str:
    """Return the configuration of a farm: rules and mounts that match, and others that do not."""
    tables = []
    for number in range(MOUNTS):
        prefix = f"/store{number}" if number else "/"
        tables.append(f'[[mount]]\nprefix = "{prefix}"\nbackend = "filesystem:{root}"\n')
    for number in range(CLIENT_RULES):
        network = f"10.{number}.0.0/16" if number else "127.0.0.0/8"
        tables.append(f'[[client]]\nnetwork = "{network}"\nmax_blksize = {1428 + number}\n')
    for number in range(RENAME_RULES):
        rule = {
            3: "r ^small store5/small",
            11: "r ^/?store5/ /store7/",
            17: "ri [.]EXE$ .exe",
        }.get(number, f"r ^/?old{number}/ /new{number}/")
        tables.append(f"[[rename]]\nrule = '{rule}'\n")
    return "\n".join(tables)


def overlay(root: Path, templates: Path) -> str:
    """Return the configuration of a template in front of the files."""
    return f'[[mount]]\nprefix = "/"\nbackend = ["template:{templates}", "filesystem:{root}"]\n'


@dataclass
class Machine:
    """A machine that asks for names one after the other, from one socket.

    @ivar asked: the number of requests so far.
    """

    sock: socket.socket
    number: int
    asked: int = 0

    def ask(self, port: int) -> None:
        """Send the request for the next name."""
        missing = f"pxelinux.cfg/machine{self.number}-{self.asked}"
        name = missing if self.asked < MISSES else SMALL.files[0][0]
        packet = b"\0\1" + name.encode() + b"\0octet\0blksize\x001428\0"
        self.sock.sendto(packet, (HOST, port))
        self.asked += 1

    def is_done(self, port: int) -> bool:
        """Take a datagram; return whether the file is complete.

        @raise RuntimeError: it is not one that belongs here.
        """
        datagram, address = self.sock.recvfrom(2048)
        code = datagram[1]
        if code == 5 and datagram[3] == 1 and self.asked <= MISSES:
            self.ask(port)
            return False
        if code == 6:
            self.sock.sendto(b"\0\4\0\0", address)
            return False
        if code != 3:
            raise RuntimeError(f"unexpected {datagram[:40]!r}")
        self.sock.sendto(b"\0\4" + datagram[2:4], address)
        return len(datagram) < 1432


def boot(running: Running) -> float:
    """Boot machines, each with ten misses and a file; return the boots a second."""
    begin = time.monotonic()
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        left = BOOTS
        numbers = iter(range(BOOTS))

        def switch_on(number: int) -> None:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            machine = Machine(sock, number)
            selector.register(sock, selectors.EVENT_READ, machine)
            machine.ask(running.port)

        for _ in range(AT_ONCE):
            switch_on(next(numbers))
        while left:
            events = selector.select(TIMEOUT)
            if not events:
                raise RuntimeError("no answer")
            for key, _ in events:
                if key.data.is_done(running.port):
                    selector.unregister(key.fileobj)
                    left -= 1
                    for number in numbers:
                        switch_on(number)
                        break
    return BOOTS / (time.monotonic() - begin)


def small_files(store: Store, tools: Tools) -> Callable[[Running], float]:
    """Return a function that reads files of 3 kB, and returns the files a second."""

    def read(running: Running) -> float:
        sample = run_load(SMALL, running, store, tools, limit=60)
        if sample.value is None:
            raise RuntimeError(sample.note)
        return sample.value

    return read


@dataclass
class Comparison:
    """Two servers that are measured in turn, and the ratios so far.

    @ivar title: what is measured.
    @ivar name: the server that is compared with `plain`.
    @ivar run: measures a server, and returns a rate.
    """

    title: str
    name: str
    run: Callable[[Running], float]
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def measure(self, running: Mapping[str, Running], pairs: int) -> None:
        """Measure pairs of runs; one more pair at the beginning only fills the caches."""
        for number in range(pairs + 1):
            names = ("plain", self.name)
            rate, cpu = {}, {}
            for name in names if number % 2 else reversed(names):
                before = running[name].cpu()
                rate[name] = self.run(running[name])
                cpu[name] = running[name].cpu().since(before).total
            if number:
                self.rates.append(rate[self.name] / rate["plain"])
                self.seconds.append(cpu[self.name] / cpu["plain"])

    def print(self) -> None:
        """Print the results."""
        print(f"{self.title} ({len(self.rates)} pairs)")
        print(f"  rate:        {describe(self.rates)}")
        print(f"  CPU seconds: {describe(self.seconds)}", flush=True)


def describe(ratios: Sequence[float]) -> str:
    """Return the median, the quartiles, the lowest and the highest of some ratios."""
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"x{median:.3f} (quartiles x{low:.3f} and x{high:.3f},"
        f" from x{min(ratios):.3f} to x{max(ratios):.3f})"
    )


def serving(server: Server, *options: str) -> Server:
    """Return our server with these options in place of `--root` and those for uploads."""

    def command(root: Path, port: int) -> list[str]:
        words = server.command(root, port)
        words[words.index("--root") :] = [*options, "--host", HOST, "--port", str(port)]
        return words

    return dataclasses.replace(server, command=command)


@contextlib.contextmanager
def all_started(server: Server, store: Store, folder: Path) -> Iterator[dict[str, Running]]:
    """Start the servers; return them by name. Two of them are the same, to see the noise."""
    templates = folder / "templates"
    texts = {"farm": farm(store.root), "template": overlay(store.root, templates)}
    plain = ("--root", str(store.root))
    options: dict[str, Sequence[str]] = {"plain": plain, "control": plain}
    for name, text in texts.items():
        path = folder / f"{name}.toml"
        path.write_text(text)
        options[name] = ("--config", str(path))
    with ExitStack() as stack:
        running = {}
        for name, words in options.items():
            log = folder / f"{name}.log"
            running[name] = start(serving(server, *words), store.root, log)
            stack.callback(running[name].stop)
        yield running


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.farm", description=__doc__)
    parser.add_argument("--pairs", type=int, default=40, metavar="N", help="pairs of runs [40]")
    pairs = parser.parse_args().pairs
    if pairs < 1:
        parser.error("--pairs must be at least 1")
    starts = -(-pairs // PAIRS_OF_START)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tftp-bench-")))
        folder.chmod(0o755)
        (folder / "templates").mkdir()
        (folder / "templates" / "one.j2").write_text("{{ name }}")
        tools = build(folder)
        store = stack.enter_context(Store(SMALL))
        time.sleep(SETTLE_SECONDS)
        read = small_files(store, tools)
        comparisons = [
            Comparison("the same server twice: 3 kB files", "control", read),
            Comparison("farm: 3 kB files", "farm", read),
            Comparison("farm: a boot with ten misses", "farm", boot),
            Comparison("template first: a boot with ten misses", "template", boot),
        ]
        for _ in range(starts):
            with all_started(servers(tools.yardstick)[0], store, folder) as running:
                for comparison in comparisons:
                    comparison.measure(running, PAIRS_OF_START)
        for comparison in comparisons:
            comparison.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
