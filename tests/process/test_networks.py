"""Test our client with our daemon, over relays that lose, delay, repeat and damage datagrams."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure

from tests.support.daemon import LOOPBACK, Daemon
from tests.support.faults import Faults
from tests.support.reactors import reactor, spin
from tests.support.relay import Relay
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import TFTPError

__all__ = ["reactor"]

#: Seconds for all transfers of a test; reached only if one does not end.
LIMIT = 120.0

#: Transfers at the same time. With many more in one reactor, the round trips would be longer than
#: the timeouts.
AT_ONCE = 16

#: Seconds of silence after which a peer is given up. The last ACK of an upload waits until a disk
#: that others use too has synced the file.
PATIENCE = 20.0

WINDOWS = (1, 4, 16, 64)


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace `fsync`: the relays run in the client's reactor, which must not wait for a disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@dataclass(frozen=True)
class Transfer:
    """A transfer to run: its network, host, direction, size and settings of L{TFTPClient}."""

    network: str
    host: str
    reading: bool
    size: int
    settings: dict[str, Any]


@dataclass(eq=False)
class Ended:
    """A transfer that has completed or failed."""

    transfer: Transfer
    served: Path
    local: Path
    content: bytes
    outcome: TransferResult | Failure | None = None

    @property
    def seconds(self) -> float:
        """The duration in seconds; 0 if the transfer failed."""
        return self.outcome.seconds if isinstance(self.outcome, TransferResult) else 0.0


class Lab:
    """A daemon, a relay for each network and each address of the daemon, and their clients."""

    def __init__(
        self, reactor: Any, daemon: Daemon, folder: Path, networks: Mapping[str, Faults]
    ) -> None:
        self.reactor = reactor
        self.root = daemon.root
        self.local = folder
        self.relays = {
            (network, host): Relay(
                reactor, (host, daemon.port), faults, faults, f"{network} {host}"
            )
            for network, faults in networks.items()
            for host in daemon.hosts
        }

    def run(self, transfers: Sequence[Transfer]) -> list[Ended]:
        """Run `transfers`, at most `AT_ONCE` at the same time; return them when all have ended."""
        all_ended: list[Ended] = []
        left = list(enumerate(transfers))[::-1]
        running: set[Ended] = set()

        def over(outcome: Any, ended: Ended, client: TFTPClient) -> None:
            ended.outcome = outcome
            client.close()
            running.discard(ended)

        def all_over() -> bool:
            while left and len(running) < AT_ONCE:
                ended = self._prepare(*left.pop())
                all_ended.append(ended)
                running.add(ended)
                transfer = ended.transfer
                host, port = self.relays[transfer.network, transfer.host].address
                client = TFTPClient(
                    self.reactor, host, port, in_thread=maybeDeferred, **transfer.settings
                )
                name, path = ended.served.name, str(ended.local)
                begun = client.get(name, path) if transfer.reading else client.put(path, name)
                begun.addBoth(over, ended, client)
            return not running

        spin(self.reactor, all_over, LIMIT)
        return all_ended

    def _prepare(self, number: int, transfer: Transfer) -> Ended:
        """Create the source file of a transfer."""
        name = f"{'read' if transfer.reading else 'write'}{number}"
        content = random.Random(number).randbytes(transfer.size)
        ended = Ended(transfer, self.root / name, self.local / name, content)
        (ended.served if transfer.reading else ended.local).write_bytes(content)
        return ended

    def close(self) -> None:
        closed: list[Any] = []
        for relay in self.relays.values():
            relay.close().addBoth(closed.append)
        spin(self.reactor, lambda: len(closed) == len(self.relays))


@contextlib.contextmanager
def laboratory(
    reactor: Any, tmp_path: Path, networks: Mapping[str, Faults], *options: str
) -> Iterator[Lab]:
    """Run a daemon behind relays; check that it exits and logs no failure."""
    for name in ("served", "local"):
        (tmp_path / name).mkdir()
    with Daemon(
        tmp_path / "served", "--write", "create", "--drain", "0", *options, hosts=LOOPBACK
    ) as daemon:
        lab = Lab(reactor, daemon, tmp_path / "local", networks)
        try:
            yield lab
        finally:
            lab.close()
        daemon.terminate()
        assert daemon.wait() in (0, -signal.SIGTERM)
    said = "\n".join([daemon.log, *daemon.errors])
    assert not re.search("Traceback|Unhandled|broke|could not", said), said


def check(lab: Lab, all_ended: list[Ended]) -> None:
    """Check the files of all transfers after the daemon has ended.

    A completed transfer has the right file, a failed one has left nothing. A write may fail for
    the client and be complete at the server: if the last ACK is lost until the client gives up,
    the client can't tell this from a failed server.
    """
    for ended in all_ended:
        ways = (ended.served, ended.local)
        source, target = ways if ended.transfer.reading else ways[::-1]
        assert source.read_bytes() == ended.content
        if isinstance(ended.outcome, TransferResult):
            assert target.read_bytes() == ended.content
            assert ended.outcome.octets == len(ended.content)
            continue
        assert ended.outcome is not None
        assert ended.outcome.check(TFTPError), ended.outcome.getTraceback()
        assert not target.exists() or not ended.transfer.reading
        assert not target.exists() or target.read_bytes() == ended.content
    names = {ended.local.name for ended in all_ended}
    # A partial file would have another name.
    assert {*os.listdir(lab.root), *os.listdir(lab.local)} == names


def failures(all_ended: list[Ended], lab: Lab) -> dict[str, Counter[str]]:
    """Return how often transfers failed on each network and why; print that and the faults."""
    failed: dict[str, Counter[str]] = {network: Counter() for network, _ in lab.relays}
    for network, counts in failed.items():
        ended = [each for each in all_ended if each.transfer.network == network]
        for each in ended:
            if isinstance(each.outcome, Failure):
                counts[ascii(each.outcome.value)] += 1
        done = sum(
            (relay.done for key, relay in lab.relays.items() if key[0] == network), Counter()
        )
        slowest = max((each.seconds for each in ended), default=0.0)
        print(
            f"{network}: {len(ended)} transfers, the slowest took {slowest:.1f} s, "
            f"failed {dict(counts)}, {dict(done)}"
        )
    return failed


PORTS = pytest.mark.parametrize("ports", [(), ("--single-port",)], ids=["ports", "single-port"])


@PORTS
def test_megabyte_completes_at_five_percent_loss(
    reactor: Any, tmp_path: Path, ports: tuple[str, ...]
) -> None:
    """Transfers of a megabyte complete at a loss of 5 %, both ways, in windows of 1 to 64."""
    transfers = [
        Transfer(
            *("loss", host, reading, 1_000_000),
            {"blksize": 1428, "windowsize": windowsize, "retries": round(PATIENCE)},
        )
        for host, reading, windowsize in itertools.product(LOOPBACK, (True, False), WINDOWS)
    ]
    with laboratory(reactor, tmp_path, {"loss": Faults(loss=0.05)}, *ports) as lab:
        ended = lab.run(transfers)
    check(lab, ended)
    assert not any(failures(ended, lab).values())


SHAPES: list[dict[str, Any]] = [
    {"options": False},
    {"blksize": 512, "windowsize": 1},
    {"blksize": 1428, "windowsize": 4},
    {"blksize": 700, "windowsize": 16},
    {"blksize": 1024, "windowsize": 64},
]

MILD = ("loss", "repeat", "reorder", "delay", "replay")


def everything(chance: float) -> Faults:
    """Return all faults except `abort`; each affects a datagram with the probability `chance`."""
    return Faults(**dict.fromkeys((*MILD, "corrupt"), chance))


def run_over_each(
    reactor: Any,
    tmp_path: Path,
    networks: Mapping[str, Faults],
    wait: float,
    idle_limit: float,
    ports: tuple[str, ...],
) -> tuple[list[Ended], dict[str, Counter[str]]]:
    """Run transfers of all shapes, directions and addresses over each network; check them.

    @param wait: the longest time between two datagrams in seconds, for both ends; a server
        gives up a client whose first answer takes four times as long.
    @param idle_limit: seconds without a packet after which a peer is given up.
    @return: the transfers, and why some have failed.
    """
    retries = round(idle_limit / wait)
    transfers = [
        Transfer(
            *(network, host, reading, 20_000 + 1024 * (number % 32)),
            {**shape, "timeout": wait, "retries": retries},
        )
        for number, (network, host, reading, shape) in enumerate(
            itertools.product(networks, LOOPBACK, (True, False), SHAPES)
        )
    ]
    options = ("--timeout", str(wait), "--retries", str(retries), *ports)
    with laboratory(reactor, tmp_path, networks, *options) as lab:
        ended = lab.run(transfers)
    check(lab, ended)
    return ended, failures(ended, lab)


@PORTS
def test_transfers_complete_if_one_fault_affects_a_fifth_of_all_datagrams(
    reactor: Any, tmp_path: Path, ports: tuple[str, ...]
) -> None:
    """Transfers complete if 20 % are lost, repeated, reordered, delayed or replayed."""
    networks = {fault: Faults(**{fault: 0.2}) for fault in MILD}
    _, failed = run_over_each(reactor, tmp_path, networks, 0.4, PATIENCE, ports)
    assert not any(failed.values())


@PORTS
def test_transfers_with_damaged_headers_complete_or_leave_nothing(
    reactor: Any, tmp_path: Path, ports: tuple[str, ...]
) -> None:
    """With all faults and damaged headers, transfers are right or leave nothing; most complete."""
    networks = {
        "corrupt 0.2": Faults(corrupt=0.2),
        "all 0.2": everything(0.2),
        "abort 0.005": Faults(abort=0.005),
    }
    ended, failed = run_over_each(reactor, tmp_path, networks, 0.1, 3.0, ports)
    assert sum(sum(reasons.values()) for reasons in failed.values()) < len(ended) / 2
