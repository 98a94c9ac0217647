"""Read and write files through a backend, with threads that the test runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.deferreds import value
from tests.support.served_root import temporary_files
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.reader import FilesystemReader
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import TFTPError, from_os_error

#: How a file is opened: with `openat2` in the reactor, or by a walk in a thread.
WAYS = ["at once", "in a thread"]


def request_context(size: int | None = None) -> TransferContext:
    """Return the context of a request, which announces `size` octets."""
    peer = Endpoint("192.0.2.7", 2000)
    return TransferContext(peer, None, Direction.WRITE, b"f", "octet", {}, size)


class ManualThreads:
    """A replacement for a thread pool: calls wait until the test runs them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.calls.append((waiting, function, args))
        return waiting

    def work(self) -> Callable[[], None]:
        """Run the oldest call; return a function that passes its result to the reactor."""
        waiting, function, args = self.calls.pop(0)
        try:
            result = function(*args)
        except BaseException:
            failure = Failure()
            return lambda: waiting.errback(failure)
        return lambda: waiting.callback(result)

    def run(self) -> None:
        """Run the oldest call and pass its result on."""
        self.work()()

    def run_all(self) -> None:
        """Run calls until none is left."""
        while self.calls:
            self.run()


def error_of(function: Callable[[], Any]) -> TFTPError:
    """Return the error that the peer gets when `function` fails."""
    with pytest.raises((TFTPError, OSError)) as caught:
        value(function())
    error = caught.value
    return from_os_error(error) if isinstance(error, OSError) else error


def open_paths(directory: Path) -> list[str]:
    """Return the paths below `directory` that this process has open."""
    targets = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # the descriptor of the list itself
    return [target for target in targets if target.startswith(str(directory))]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Make a root that everybody may write to, and run the test with the rights of `nobody`."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        (directory / "secret").write_bytes(b"old")
        (directory / "secret").chmod(0)
        (directory / "readonly").write_bytes(b"old")
        (directory / "readonly").chmod(0o444)
        (directory / "locked").mkdir(mode=0o555)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield directory
            assert temporary_files(directory) == []
            assert open_paths(directory) == []
        finally:
            os.seteuid(was)


def upload(backend: Any, path: str, *pieces: bytes, size: int | None = None) -> None:
    """Write a file as a session does: abort if a call fails."""
    writer = value(backend.open_writer(path, request_context(size)))
    try:
        for piece in pieces:
            value(writer.write(piece))
        value(writer.commit())
    except Exception:
        value(writer.abort())
        raise


def content(reader: FilesystemReader, length: int = 512) -> bytes:
    """Read to the end of the file in pieces of `length` octets, and close the reader."""
    octets = b""
    while piece := bytes(value(reader.read(len(octets), length))):
        octets += piece
    reader.close()
    return octets


def lookup_of(root: Path) -> KernelLookup:
    """Return a lookup that has looked at the file system of its root."""
    lookup = KernelLookup(str(root))
    lookup.detect_file_system()
    return lookup


def slow_lookup(root: Path | str) -> KernelLookup:
    """Return a lookup that finds nothing, so that each name is looked up in a thread.

    `test_kernel_lookup` tests the names that are found at once.
    """
    return KernelLookup(str(root), type_of=lambda device: "a slow one")


def lookup_for(root: Path, way: str) -> KernelLookup:
    """Return a lookup with which files are opened in one of the `WAYS`, if openat2 exists."""
    return lookup_of(root) if way == WAYS[0] and has_openat2() else slow_lookup(root)


def octets_of(backend: Any, path: str) -> bytes:
    """Return the content of the file that a client gets."""
    return content(value(backend.open_reader(path, request_context())))


def has_openat2() -> bool:
    """Return whether the kernel has openat2 with RESOLVE_CACHED."""
    lookup = lookup_of(Path("/"))
    os.stat("/etc/passwd")
    found = lookup.find("etc/passwd")
    if found is None:
        return False
    found.close()
    return True


#: Marks tests that need openat2.
needs_openat2 = pytest.mark.skipif(not has_openat2(), reason="the kernel has no openat2")
