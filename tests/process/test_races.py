"""Test that no exchange of names leads a read or an upload out of the root.

Another process exchanges directories and files with links that point outside, while this one
reads and writes. Two tests show that a naive server loses these races, in less than half a second.
TFTP_RACE_SECONDS sets how long each of the other races lasts (1.5 seconds).
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import WAYS, has_openat2, request_context, slow_lookup
from tests.support.daemon import TIMEOUT
from tests.support.deferreds import value
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup, file_system_type
from twisted_tftp.backends.naming import is_temporary
from twisted_tftp.errors import TFTPError

#: Seconds that each race lasts.
RACE_SECONDS = float(os.environ.get("TFTP_RACE_SECONDS", "1.5"))

#: The content of the files in the root.
GOOD = b"GOOD" * 1000

#: The content of the file outside.
SECRET = b"EVIL" * 1000

#: A modification time long ago: the content cache keeps such files, and any change shows.
OLD_TIME = 1_000_000_000

#: Directories that are exchanged with links.
DIRECTORIES = ("relative", "absolute")

#: Files that are replaced by links.
FILES = ("file", "other")

#: The paths of all files in the root.
NAMES = (*(f"{directory}/file" for directory in DIRECTORIES), *FILES)

#: The program that exchanges the names in its own process, for a minute or until it is killed.
SWAPPER = """
import ctypes, os, sys, time

root, outside = map(os.fsencode, sys.argv[1:])
rename = ctypes.CDLL(None, use_errno=True).renameat2
AT_FDCWD, EXCHANGE = -100, 2
os.chdir(root)

def exchange(one, other):
    if rename(AT_FDCWD, one, AT_FDCWD, other, EXCHANGE):
        sys.exit(os.strerror(ctypes.get_errno()))

def replace(name, target):
    os.symlink(target, b"new")
    os.rename(b"new", name)
    os.link(b"good", b"new")
    os.rename(b"new", name)

print("swapping", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    exchange(b"relative", b"relative-link")
    exchange(b"absolute", b"absolute-link")
    replace(b"file", b"../outside/file")
    replace(b"other", outside + b"/file")
"""

linux = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "renameat2"), reason="the system can't exchange names"
)
pytestmark = linux


class Race:
    """A root in which names are exchanged, and a directory outside that must not be reached.

    @ivar root: contains NAMES.
    @ivar outside: contains `file`.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.outside = folder / "root", folder / "outside"
        for directory in (self.root, self.outside, *(self.root / each for each in DIRECTORIES)):
            directory.mkdir()
        (self.root / "relative-link").symlink_to("../outside")
        (self.root / "absolute-link").symlink_to(self.outside)
        for name in (*NAMES, "good"):
            (self.root / name).write_bytes(GOOD)
            os.utime(self.root / name, (OLD_TIME, OLD_TIME))
        (self.outside / "file").write_bytes(SECRET)
        for path in (self.outside / "file", self.outside):
            os.utime(path, (OLD_TIME, OLD_TIME))
        self._swapper = subprocess.Popen(
            [sys.executable, "-c", SWAPPER, str(self.root), str(self.outside)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._swapper.stdout is not None
        assert self._swapper.stdout.readline() == b"swapping\n"

    def end(self) -> None:
        """Stop the exchanges; it is an error if they have already stopped."""
        with self._swapper as process:
            still_swapping = process.poll() is None
            process.kill()
        assert still_swapping

    @property
    def ended(self) -> bool:
        """Whether the exchanges were stopped."""
        return self._swapper.returncode is not None

    def file_names(self) -> list[str]:
        """Return the names of all files below the root."""
        return [name for _, _, names in os.walk(self.root) for name in names]

    def outside_is_touched(self) -> bool:
        """Return whether a file outside was created, changed or removed, even for a moment."""
        times = {path.stat().st_mtime_ns for path in (self.outside, self.outside / "file")}
        return times != {OLD_TIME * 10**9} or os.listdir(self.outside) != ["file"]


@pytest.fixture
def race(tmp_path: Path) -> Iterator[Race]:
    """Return a root in which names are exchanged."""
    made = Race(tmp_path)
    yield made
    if not made.ended:
        made.end()


def outcomes(attempt: Callable[[str], Any]) -> Counter[Any]:
    """Try all names in turn, and count the results; None counts the refusals.

    On a busy machine this lasts until there was a refusal and another result.
    """
    seen: Counter[Any] = Counter()
    start = time.monotonic()
    for name in itertools.cycle(NAMES):
        past = time.monotonic() - start
        if past >= TIMEOUT or (past >= RACE_SECONDS and len(seen) > 1 and None in seen):
            break
        try:
            seen[attempt(name)] += 1
        except (OSError, TFTPError):
            seen[None] += 1
    return seen


def store(backend: FilesystemBackend, path: str) -> None:
    """Write a file. Nothing is aborted, so a commit that fails leaves its temporary file."""
    writer = value(backend.open_writer(path, request_context(6)))
    value(writer.write(b"upload"))
    value(writer.commit())


def caught(attempt: Callable[[str], Any], evil: Callable[[Any], bool]) -> bool:
    """Repeat an attempt until it has an `evil` result; return false if it has none in time."""
    end = time.monotonic() + TIMEOUT
    for name in itertools.cycle(NAMES):
        if time.monotonic() >= end:
            break
        try:
            if evil(attempt(name)):
                return True
        except OSError:
            pass
    return False


def checked(root: Path, name: str) -> str:
    """Return the path of a name after a check, as a naive server does."""
    path = os.path.join(root, name)
    if not os.path.realpath(path).startswith(f"{root}/"):
        raise PermissionError
    return path


# -- reads ---------------------------------------------------------------------------------


def test_naive_read_loses_the_race(race: Race) -> None:
    """A server that checks a path and then opens it reads a file outside the root."""

    def read(name: str) -> bytes:
        with open(checked(race.root, name), "rb") as file:
            return file.read()

    assert caught(read, lambda octets: octets == SECRET)


@pytest.mark.parametrize("cache", [0, 1 << 20], ids=["opened", "kept"])
@pytest.mark.parametrize("way", WAYS)
def test_no_read_returns_octets_from_outside_the_root(way: str, cache: int, race: Race) -> None:
    """A read is refused or returns the octets of the file in the root, for both ways to open."""
    in_threads = 0

    def in_thread(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal in_threads
        in_threads += 1
        return maybeDeferred(function, *args)

    lookup = KernelLookup(str(race.root))
    if way == "in a thread":
        lookup = slow_lookup(race.root)
    backend = FilesystemBackend(str(race.root), cache=cache, in_thread=in_thread, lookup=lookup)

    def read(name: str) -> bytes:
        reader = value(backend.open_reader(name, request_context()))
        try:
            return bytes(value(reader.read(0, reader.size)))
        finally:
            reader.close()

    seen = outcomes(read)
    assert set(seen) == {GOOD, None}
    if way == "in a thread":
        assert in_threads >= seen.total()
    elif has_openat2():
        assert in_threads < seen.total(), "none was found at once"


@pytest.mark.parametrize("way", WAYS)
def test_no_read_leaves_a_followed_directory(way: str, race: Race, tmp_path: Path) -> None:
    """The names are exchanged in a directory outside the root into which links may lead."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "link").symlink_to("../root")
    type_of = file_system_type if way == "at once" else lambda device: "unknown"
    backend = FilesystemBackend(
        str(served),
        follow_links=[str(race.root)],
        in_thread=maybeDeferred,
        lookup=KernelLookup(str(served), type_of=type_of),
    )

    def read(name: str) -> bytes:
        reader = value(backend.open_reader(f"link/{name}", request_context()))
        try:
            return bytes(value(reader.read(0, reader.size)))
        finally:
            reader.close()

    assert set(outcomes(read)) == {GOOD, None}


# -- uploads -------------------------------------------------------------------------------


def test_naive_write_loses_the_race(race: Race) -> None:
    """A server that checks a path and then writes to it changes a file outside the root."""

    def write(name: str) -> bool:
        with open(checked(race.root, name), "wb") as file:
            file.write(b"upload")
        return race.outside_is_touched()

    assert caught(write, bool)


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_no_directory_is_made_outside_the_root(
    mode: str, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With make_dirs, an upload and its new directories are in the root, or it is refused."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it would take most of the time
    backend = FilesystemBackend(str(race.root), mode, make_dirs=True, in_thread=maybeDeferred)
    numbers = itertools.count()

    def write(name: str) -> bool:
        path = f"{os.path.dirname(name) or '.'}/new-{next(numbers)}/deeper/upload"
        store(backend, path)
        return True

    seen = outcomes(write)
    race.end()
    assert set(seen) == {True, None}
    assert not race.outside_is_touched()
    names = race.file_names()
    assert names.count("upload") == seen[True]
    assert not [name for name in names if is_temporary(name)]


def test_no_upload_in_place_is_written_outside_the_root(
    race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can't be replaced is written in place, or the upload is refused."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def busy(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    # The swapper makes links to `good`, and a file with two links is not written in place.
    monkeypatch.setattr(os, "rename", busy)
    backend = FilesystemBackend(str(race.root), "overwrite", in_thread=maybeDeferred)

    def write(name: str) -> bool:
        writer = value(backend.open_writer(name, request_context(6)))
        try:
            value(writer.write(b"upload"))
            value(writer.commit())
        except Exception:
            value(writer.abort())
            raise
        return True

    seen = outcomes(write)
    race.end()
    assert set(seen) == {True, None}
    assert not race.outside_is_touched()
    assert (race.root / "good").read_bytes() == GOOD
    names = race.file_names()
    assert not [name for name in names if is_temporary(name)]


@pytest.mark.parametrize("links", ["refused", "followed"])
@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_no_upload_is_written_outside_the_root(
    mode: str, links: str, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload is stored in the root or refused; nothing outside changes, even for a moment.

    Links into the directory outside may lead reads there, but never an upload.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it would take most of the time
    followed = [str(race.outside)] if links == "followed" else []
    backend = FilesystemBackend(
        str(race.root), mode, follow_links=followed, in_thread=maybeDeferred
    )
    numbers = itertools.count()

    def write(name: str) -> bool:
        if mode == "create":
            name = f"{os.path.dirname(name)}/upload-{next(numbers)}"
        store(backend, name)
        return True

    seen = outcomes(write)
    race.end()
    assert set(seen) == {True, None}
    assert not race.outside_is_touched()
    names = race.file_names()
    if mode == "create":
        assert sum(name.startswith("upload-") for name in names) == seen[True]
    assert not [name for name in names if is_temporary(name)]
