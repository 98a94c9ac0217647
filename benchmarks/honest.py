"""Fetch a file with many clients and compare every octet: `python -m benchmarks.honest`.

It is what stands beside a flood. The first half of the clients begins at once and takes its time,
then "begun" is printed; with a line on standard input the others follow, spread over that time.
The result is one line of JSON.
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
#: Blocks of a window, in turn.
WINDOWS = (1, 2, 4, 8, 16)
BLKSIZE = 1428


class WrongOctets(Exception):
    """A file is not the one that it should be."""


@implementer(IFileWriter)
class Comparison:
    """What is fetched, compared with what it should be.

    @ivar begun: fires with the first octets, or when there will be none.
    """

    def __init__(self, original: bytes, seconds: float = 0.0) -> None:
        """Compare with `original`, and take so many seconds for all of it."""
        self.begun: Deferred[None] = Deferred()
        self._original = memoryview(original)
        self._at = 0
        self._pause = seconds / max(1, len(original))

    def write(self, data: bytes) -> Deferred[None] | None:
        """Compare; take the time that these octets are to take.

        @raise WrongOctets: they differ.
        """
        self._begin()
        end = self._at + len(data)
        if self._original[self._at : end] != data:
            raise WrongOctets(f"octets {self._at} to {end} differ")
        self._at = end
        return deferLater(reactor, self._pause * len(data)) if self._pause else None

    def commit(self) -> None:
        """Compare the length.

        @raise WrongOctets: it is too short; one that is too long has differed.
        """
        self._begin()
        if self._at != len(self._original):
            raise WrongOctets(f"{self._at} octets, and not {len(self._original)}")

    def abort(self) -> None:
        """Nothing is left to do."""
        self._begin()

    def _begin(self) -> None:
        if not self.begun.called:
            self.begun.callback(None)


class Crowd:
    """Clients of one server that fetch one file, and how they fared."""

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
        """Let one client fetch; return what fires when it has begun, and when it is done."""
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
        """Let `count` of them fetch, and stop the reactor."""
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
    """Fetch, and print how it went; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.honest", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("name", help="of the file on the server")
    parser.add_argument("original", type=Path, help="what it should be")
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="how many [50]")
    parser.add_argument("--seconds", type=float, default=60, help="that slow ones take [60]")
    parser.add_argument("--retries", type=int, default=5, help="seconds of silence borne [5]")
    arguments = parser.parse_args()
    original = arguments.original.read_bytes()
    crowd = Crowd(arguments.port, arguments.name, original, arguments.seconds, arguments.retries)
    reactor.callWhenRunning(crowd.run, arguments.clients)
    reactor.run()
    report = {"done": crowd.done, "failures": crowd.failures, "slowest": round(crowd.slowest, 3)}
    print(json.dumps(report))
    return int(crowd.done < arguments.clients)


if __name__ == "__main__":
    sys.exit(main())
