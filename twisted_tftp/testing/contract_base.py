"""What the contracts of backends share: they start a backend, wait for it and look at its files.

The contracts are for pytest and for `unittest`. They do not use `pytest` themselves.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import ErrorCode, TFTPError, from_os_error
from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.policy import UploadSettings

#: The files of a backend under test: an empty one, a small one, and one of many blocks.
FILES: Mapping[str, bytes] = {
    "empty": b"",
    "small": bytes(range(256)) * 3,
    "large": b"".join(number.to_bytes(4, "big") for number in range(40_000)) + b"end",
}

#: A name that no file has.
MISSING = "no-such-file"

#: How often `advance` is called before a Deferred counts as one that never fires.
ROUNDS = 1000

#: How often `advance` is called so that everything in the background ends.
SETTLING_ROUNDS = 30

#: How much time passes in each round, in seconds.
ROUND_SECONDS = 0.1

#: The client of all requests.
CLIENT = Endpoint("192.0.2.1", 2000)


class ContractBase:
    """The parts of a test class that a backend's author may override.

    @ivar files: the files that the backend has, name to content. Override it if the backend cannot
        have other ones; at least one must not be empty.
    @ivar clock: a clock of Twisted for the backend; waiting advances it.
    @ivar uploads: the rules for uploads in the context of each request; None for those of the
        backend itself.
    """

    files: Mapping[str, bytes] = FILES
    uploads: UploadSettings | None = None
    clock: Clock

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        """Return a new L{IFileBackend<twisted_tftp.interfaces.IFileBackend>} with these files.

        Override this method.
        """
        raise NotImplementedError("a contract needs the method make_backend(self, files)")

    def advance(self) -> None:
        """Let some time pass: advance the clock.

        Override this method if the backend waits for something else, such as threads.
        """
        self.clock.advance(ROUND_SECONDS)

    def open_resources(self) -> Collection[object]:
        """Return what is open: by default, what the descriptors of this process refer to.

        Override this method if the backend has other things to close, such as connections.
        """
        targets = []
        with suppress(OSError):  # not Linux: nothing is checked
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):  # the descriptor of the list itself
                    targets.append(os.readlink(f"/proc/self/fd/{name}"))
        return targets

    def wait(self, result: Any) -> Any:
        """Return a value, or the result of a Deferred; raise its failure.

        Override this method if `advance` cannot be called again and again.
        """
        if not isinstance(result, Deferred):
            return result
        results: list[Any] = []
        result.addBoth(results.append)
        for _ in range(ROUNDS):
            if results:
                break
            self.advance()
        assert results, "a Deferred never fires"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def settle(self) -> None:
        """Let everything that the backend does in the background end."""
        for _ in range(SETTLING_ROUNDS):
            self.advance()

    def start(self) -> Any:
        """Return a new backend that has started, as a server starts it."""
        self.clock = Clock()
        backend = self.make_backend(self.files)
        lifecycle = lifecycle_of(backend)
        lifecycle.check()
        self.wait(lifecycle.start())
        return backend

    def largest(self) -> tuple[str, bytes]:
        """Return the name and the content of the largest file."""
        name, content = max(self.files.items(), key=lambda item: len(item[1]))
        assert content, "the contract needs a file that is not empty"
        return name, content

    def open_reader(self, backend: Any, name: str) -> Any:
        """Open a file for reading; wait until it is open."""
        return self.wait(backend.open_reader(name, self.context(Direction.READ, name)))

    def context(self, direction: Direction, name: str) -> TransferContext:
        """Return the context of a request."""
        octets = name.encode("utf-8", "surrogateescape")
        return TransferContext(
            CLIENT, None, direction, octets, "octet", {}, None, uploads=self.uploads
        )

    def octets(self, reader: Any, offset: int, length: int) -> bytes:
        """Return what a reader reads."""
        try:
            found = self.wait(reader.read(offset, length))
        except (TFTPError, OSError) as error:
            raise AssertionError(f"read({offset}, {length}) fails: {error!r}") from error
        try:
            return bytes(memoryview(found))
        except TypeError:
            raise AssertionError(f"read returned {found!r}, which is not bytes-like") from None

    def content(self, backend: Any, name: str, length: int = 1428) -> bytes | None:
        """Return the content of a file, read in pieces; None if there is no such file."""
        try:
            reader = self.open_reader(backend, name)
        except (TFTPError, OSError) as error:
            failure = as_tftp_error(error)
            assert failure.code is ErrorCode.FILE_NOT_FOUND, f"{name!r} fails: {failure}"
            return None
        pieces: list[bytes] = []
        offset = 0
        while piece := self.octets(reader, offset, length):
            pieces.append(piece)
            offset += len(piece)
        reader.close()
        return b"".join(pieces)

    def failure_of(self, call: Callable[..., Any], *arguments: object) -> TFTPError:
        """Return the failure that the client is told of when a call fails."""
        try:
            result = self.wait(call(*arguments))
        except (TFTPError, OSError) as error:
            return as_tftp_error(error)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{error!r} is no TFTPError and no OSError") from error
        raise AssertionError(f"the call should have failed, but returned {result!r}")

    def check_nothing_stays_open(self, use: Callable[..., Any], *arguments: object) -> None:
        """Check that `use` leaves nothing open; it is called twice.

        What the first call leaves open may be kept for later: a cache, a pool, a connection.
        """
        use(*arguments)
        self.settle()
        before = Counter(self.open_resources())
        use(*arguments)
        self.settle()
        left = Counter(self.open_resources()) - before
        assert not left, f"something stays open: {list(left)}"


def as_tftp_error(error: TFTPError | OSError) -> TFTPError:
    """Return the failure that a server makes of an exception."""
    return from_os_error(error) if isinstance(error, OSError) else error
