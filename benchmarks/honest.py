"""Read a file with many clients and compare every octet: `python -m benchmarks.honest`.

It runs at the same time as a flood. The first half of the clients starts at once and reads slowly;
when all of them have begun, "begun" is printed. After a line on standard input the other clients
start, spread over the same time. The result is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.client import TFTPClient
from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileWriter

reactor: Any = installed

#: The windowsizes of the clients, in turn.
WINDOWS = (1, 2, 4, 8, 16)

#: The block size of all clients.
BLKSIZE = 1428


class WrongOctets(Exception):
    """A transfer has wrong octets."""


@implementer(IFileWriter)
class Comparison:
    """A writer that compares a download with the original.

    @ivar begun: fires at the first octets, or at the end if there are none.
    """

    def __init__(self, original: bytes, seconds: float = 0.0) -> None:
        """Compare with `original`; let the whole download take `seconds`."""
        self.begun: Deferred[None] = Deferred()
        self._original = memoryview(original)
        self._at = 0
        self._pause = seconds / max(1, len(original))

    def write(self, data: bytes) -> Deferred[None] | None:
        """Compare `data`, and wait for its share of the time.

        @raise WrongOctets: it differs.
        """
        self._begin()
        end = self._at + len(data)
        if self._original[self._at : end] != data:
            raise WrongOctets(f"octets {self._at} to {end} differ")
        self._at = end
        return deferLater(reactor, self._pause * len(data)) if self._pause else None

    def commit(self) -> None:
        """Compare the length.

        @raise WrongOctets: the download is too short; `write` notices one that is too long.
        """
        self._begin()
        if self._at != len(self._original):
            raise WrongOctets(f"{self._at} octets, and not {len(self._original)}")

    def abort(self) -> None:
        """End the comparison."""
        self._begin()

    def _begin(self) -> None:
        if not self.begun.called:
            self.begun.callback(None)


class HonestClients:
    """Clients of one server that read one file.

    @ivar done: how many have completed.
    @ivar slowest: the longest time of a transfer, in seconds.
    @ivar failures: text of a failure to how often it occurred.
    """

    def __init__(
        self, port: int, name: str, original: bytes, seconds: float, retries: int
    ) -> None:
        self.done = 0
        self.slowest = 0.0
        self.failures: Counter[str] = Counter()
        self._name, self._original, self._seconds = name, original, seconds
        self._clients = [
            TFTPClient(
                *(reactor, "127.0.0.1", port),
                blksize=BLKSIZE,
                windowsize=windowsize,
                retries=retries,
            )
            for windowsize in WINDOWS
        ]

    def fetch(self, number: int, slowly: bool) -> tuple[Deferred[None], Deferred[None]]:
        """Start a download; return Deferreds that fire when it has begun and when it has ended."""
        comparison = Comparison(self._original, self._seconds if slowly else 0.0)
        client = self._clients[number % len(self._clients)]
        result = client.get(self._name, comparison)
        result.addCallbacks(self._succeeded, self._failed)
        return comparison.begun, result

    def _succeeded(self, result: Any) -> None:
        self.done += 1
        self.slowest = max(self.slowest, result.seconds)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        wrong = isinstance(error, TFTPError) and isinstance(error.__cause__, WrongOctets)
        self.failures[str(error.__cause__ if wrong else error)] += 1

    def run(self, count: int) -> None:
        """Run `count` downloads, and stop the reactor."""
        half = count // 2
        early = [self.fetch(number, slowly=True) for number in range(half)]

        def late(number: int) -> Deferred[None]:
            delay = self._seconds * (number - half) / (count - half)
            return deferLater(reactor, delay, lambda: self.fetch(number, slowly=False)[1])

        def begun(_: Any) -> Deferred[Any]:
            print("begun", flush=True)
            return deferToThread(sys.stdin.readline)

        def told(_: Any) -> Deferred[Any]:
            others = [late(number) for number in range(half, count)]
            return gatherResults([*others, *(done for _, done in early)])

        running = gatherResults([beginning for beginning, _ in early])
        running.addCallback(begun).addCallback(told)
        running.addErrback(lambda failure: failure.printTraceback())
        running.addBoth(lambda _: reactor.stop())


def main() -> int:
    """Run all downloads, and print the result; return 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.honest", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("name", help="the name of the file on the server")
    parser.add_argument("original", type=Path, help="a local copy of the file")
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="how many [50]")
    parser.add_argument(
        "--seconds", type=float, default=60, help="the time of a slow download [60]"
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=5,
        help="seconds of silence after which a client gives up [5]",
    )
    arguments = parser.parse_args()
    original = arguments.original.read_bytes()
    clients = HonestClients(
        arguments.port, arguments.name, original, arguments.seconds, arguments.retries
    )
    reactor.callWhenRunning(clients.run, arguments.clients)
    reactor.run()
    report = {
        "done": clients.done,
        "failures": clients.failures,
        "slowest": round(clients.slowest, 3),
    }
    print(json.dumps(report))
    return int(clients.done < arguments.clients)


if __name__ == "__main__":
    sys.exit(main())
