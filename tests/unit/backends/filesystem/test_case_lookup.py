"""Tests of `ignore_case`: reads find names in any case, and stay in the root."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred

from tests.support.backends import (
    WAYS,
    error_of,
    lookup_for,
    needs_openat2,
    octets_of,
    open_paths,
    request_context,
    upload,
)
from tests.support.deferreds import value
from tests.support.logs import captured_log
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.explaining import explain
from twisted_tftp.backends.filesystem import case_lookup
from twisted_tftp.backends.filesystem.case_lookup import CaseLookup, fold
from twisted_tftp.backends.filesystem.content_cache import MAX_AGE
from twisted_tftp.errors import AccessViolation, FileNotFound


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Make a root with the files of a boot manager, and a file beside it."""
    made = tmp_path / "root"
    (made / "Boot" / "X64").mkdir(parents=True)
    (made / "Boot" / "BCD").write_bytes(b"BCD")
    (made / "Boot" / "X64" / "wdsnbp.com").write_bytes(b"wdsnbp")
    (tmp_path / "secret").write_bytes(b"SECRET")
    yield made
    assert open_paths(tmp_path) == []


class Served:
    """A backend that ignores case.

    @ivar now: the time in seconds of the monotonic clock of its listings.
    @ivar threads: how many calls were made in threads.
    @ivar listed: the directories that were listed.
    """

    def __init__(self, root: Path, way: str = WAYS[0], **arguments: Any) -> None:
        self.now = 0.0
        self.threads = 0
        self.listed: list[str] = []
        lookup = lookup_for(root, way)
        self.backend = FilesystemBackend(
            str(root), ignore_case=True, in_thread=self._in_thread, lookup=lookup, **arguments
        )
        # Directories that were just made count as unchanged for a while.
        case = CaseLookup(self.backend._tree, lookup, lambda: time.time() + 10, lambda: self.now)
        really = case._list

        def listing(descriptor: int, path: str) -> Any:
            self.listed.append(path)
            return really(descriptor, path)

        case._list = listing  # type: ignore[method-assign]
        self.backend._case = case

    def _in_thread(self, function: Any, *args: Any) -> Any:
        self.threads += 1
        return maybeDeferred(function, *args)

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return octets_of(self.backend, path)

    def error(self, path: str) -> Any:
        """Return the error that a client gets."""
        return error_of(lambda: self.backend.open_reader(path, request_context()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "octets"),
    [
        ("boot/bcd", b"BCD"),
        ("/BOOT/bcd", b"BCD"),
        ("Boot/bcd", b"BCD"),
        ("\\boot\\bcd", b"BCD"),
        ("\\Boot\\x64\\WDSNBP.COM", b"wdsnbp"),
        ("boot//./x64/wdsnbp.com", b"wdsnbp"),
        ("Boot/BCD", b"BCD"),
    ],
)
def test_file_is_found_in_any_case(root: Path, way: str, path: str, octets: bytes) -> None:
    """Each component may differ; the second time, everything is in caches."""
    served = Served(root, way)
    for _ in range(3):
        assert served.read(path) == octets


def test_case_counts_by_default(root: Path) -> None:
    """Without `ignore_case` only the exact name is found."""
    backend = FilesystemBackend(str(root), in_thread=maybeDeferred)
    error = error_of(lambda: backend.open_reader("boot/bcd", request_context()))
    assert isinstance(error, FileNotFound)


@pytest.mark.parametrize("way", WAYS)
def test_exact_name_wins(root: Path, way: str) -> None:
    """Also as a component, and although another name comes first in sort order."""
    (root / "boot").mkdir()
    (root / "boot" / "BCD").write_bytes(b"small")
    (root / "BOOT").mkdir()
    (root / "BOOT" / "BCD").write_bytes(b"capitals")
    served = Served(root, way)
    assert served.read("boot/BCD") == b"small"
    assert served.read("boot/bcd") == b"small"
    assert served.read("Boot/bcd") == b"BCD"


@pytest.mark.parametrize("way", WAYS)
def test_first_of_several_candidates_is_served_and_logged_once(root: Path, way: str) -> None:
    """Capital letters come first; the log does not get a line for each request."""
    for name in ("file", "FILE", "FiLe"):
        (root / name).write_bytes(name.encode())
    served = Served(root, way)
    with captured_log() as log:
        for _ in range(3):
            assert served.read("File") == b"FILE"
            assert served.read("fIle") == b"FILE"
    lines = [line for line in log if "differ in case" in line]
    assert lines == ["names that differ in case only: FILE, FiLe, file; the first is served"]


@pytest.mark.parametrize("way", WAYS)
def test_only_ascii_letters_are_compared_without_case(root: Path, way: str) -> None:
    """Other letters must be exact; octets that are no UTF-8 stay as they are."""
    (root / "GRÜN").write_bytes(b"green")
    (root / "x\udcff").write_bytes(b"octet")
    served = Served(root, way)
    assert served.read("grÜn") == b"green"
    assert isinstance(served.error("grün"), FileNotFound)
    assert served.read("X\udcff") == b"octet"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), max_size=20))
def test_fold_changes_ascii_letters_only(name: str) -> None:
    """What is not ASCII is the same afterwards, and the length too."""
    folded = fold(name)
    assert len(folded) == len(name)
    for before, after in zip(name, folded, strict=True):
        assert after == (before.lower() if before.isascii() else before)


# -- limits of the root ----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../SECRET", AccessViolation),
        ("BOOT/../../secret", FileNotFound),
        ("BOOT/../BOOT/BCD", FileNotFound),
        ("OUT/SECRET", AccessViolation),
        ("OUT", AccessViolation),
        ("LOOP/x", AccessViolation),
        ("boot", AccessViolation),
        ("FIFO", AccessViolation),
        ("boot/bcd/x", FileNotFound),
        ("boot/missing", FileNotFound),
        ("missing/bcd", FileNotFound),
        ("a/" * 2000 + "a", FileNotFound),
        ("boot/" + "x" * 300, FileNotFound),
    ],
)
def test_name_that_leads_nowhere_is_refused(
    root: Path, way: str, path: str, error: type[Exception]
) -> None:
    """Links out of the root, devices and directories are refused as with exact names."""
    (root / "out").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    served = Served(root, way)
    for _ in range(3):
        assert isinstance(served.error(path), error)


@pytest.mark.parametrize("way", WAYS)
def test_links_inside_the_root_and_followed_links_are_followed(
    root: Path, tmp_path: Path, way: str
) -> None:
    """A component may be a link, in any case."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "File").write_bytes(b"outside")
    (root / "Out").symlink_to("../outside")
    (root / "In").symlink_to("Boot")
    served = Served(root, way, follow_links=[str(tmp_path / "outside")])
    for _ in range(3):
        assert served.read("in/bcd") == b"BCD"
        assert served.read("out/file") == b"outside"


def test_uploads_do_not_ignore_case(root: Path) -> None:
    """An upload makes a new file beside the one whose name differs in case."""
    backend = Served(root, write="create").backend
    upload(backend, "Boot/bcd", b"new")
    assert sorted(os.listdir(root / "Boot")) == ["BCD", "X64", "bcd"]


# -- the cache -------------------------------------------------------------------------------


@needs_openat2
def test_repeated_lookups_need_no_thread(root: Path) -> None:
    """Neither a name in the wrong case nor a missing one, once both were looked up."""
    served = Served(root)
    missing = [f"boot/{number}" for number in range(10)]
    for path in missing:
        assert isinstance(served.error(path), FileNotFound)
    assert served.read("boot/bcd") == b"BCD"
    threads = served.threads
    for path in missing:
        assert isinstance(served.error(path), FileNotFound)
    served.backend.open_reader("boot/bcd", request_context()).close()  # type: ignore[union-attr]
    assert served.threads == threads
    assert served.listed == ["", "Boot"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", ["added", "renamed", "removed", "directory replaced"])
def test_changes_of_a_directory_are_noticed(root: Path, way: str, change: str) -> None:
    """The listing is made again at the next request."""
    served = Served(root, way)
    assert served.read("boot/bcd") == b"BCD"
    assert isinstance(served.error("boot/new"), FileNotFound)
    if change == "added":
        (root / "Boot" / "NEW").write_bytes(b"new")
    elif change == "renamed":
        (root / "Boot" / "BCD").rename(root / "Boot" / "New")
    elif change == "removed":
        (root / "Boot" / "BCD").unlink()
    else:
        (root / "Boot").rename(root / "Old")
        (root / "BOOT").mkdir()
        (root / "BOOT" / "new").write_bytes(b"new")
    if change != "removed":
        assert served.read("boot/new") == (b"BCD" if change == "renamed" else b"new")
    if change != "added":
        assert isinstance(served.error("boot/bcd"), FileNotFound)


def test_listing_is_not_used_for_long(root: Path) -> None:
    """After `MAX_AGE` seconds the directory is listed again, although it is unchanged."""
    served = Served(root)
    for expected in (1, 1, 2):
        assert isinstance(served.error("nothing"), FileNotFound)
        assert len(served.listed) == expected
        served.now += MAX_AGE / 2 + (0.1 if expected == 1 else 0)


def test_directory_that_has_just_changed_is_listed_again(root: Path) -> None:
    """Its times would not show a second change in the same tick."""
    served = Served(root)
    served.backend._case._clock = time.time  # type: ignore[union-attr]
    for expected in (1, 2, 3):
        assert isinstance(served.error("nothing"), FileNotFound)
        assert len(served.listed) == expected


def test_listing_that_took_long_is_used_although_the_directory_changes(root: Path) -> None:
    """A large directory in which uploads arrive must not be listed for each miss."""
    served = Served(root)
    case = served.backend._case
    assert case is not None
    really = os.scandir

    def slow(path: Any) -> Any:
        served.now += 0.1
        return really(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", slow)
        for number in range(20):
            (root / f"upload-{number}").write_bytes(b"x")
            assert isinstance(served.error("nothing"), FileNotFound)
            served.now += 0.2
    assert len(served.listed) == 4  # in 4 seconds


def test_cache_is_bounded_in_directories_and_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory that was not used for the longest time is listed again."""
    monkeypatch.setattr(case_lookup, "MAX_DIRECTORIES", 5)
    for number in range(20):
        (root / f"D{number}").mkdir()
        (root / f"D{number}" / "F").write_bytes(b"%d" % number)
    served = Served(root)
    for number in range(20):
        assert served.read(f"d{number}/f") == b"%d" % number
    case = served.backend._case
    assert case is not None
    assert len(case._directories) == 5
    assert case._cost == sum(each.listing.cost for each in case._directories.values())
    monkeypatch.setattr(case_lookup, "MAX_NAMES", 45)
    served.read("d0/f")
    assert case._cost <= 45
    served.backend.forget()
    assert (len(case._directories), case._cost) == (0, 0)
    assert served.read("d0/f") == b"0"


def test_directory_with_too_many_names_is_not_searched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact names in it are served; one line in the log says why others are not."""
    monkeypatch.setattr(case_lookup, "MAX_NAMES", 10)
    for number in range(11):
        (root / f"F{number}").write_bytes(b"x")
    served = Served(root)
    with captured_log() as log:
        for _ in range(3):
            assert isinstance(served.error("f1"), FileNotFound)
        assert served.read("F1") == b"x"
    assert len([line for line in log if "more than 10 names" in line]) == 1
    assert served.listed == [""]


def test_missing_names_do_not_fill_the_cache(root: Path) -> None:
    """A hostile client can't make it large with names that do not exist."""
    served = Served(root)
    for number in range(50):
        served.error(f"boot/bcd/{number}")
        served.error(f"nothing/{number}/{number}")
    case = served.backend._case
    assert case is not None
    assert set(case._directories) <= {"", "Boot"}


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("boot/bcd", ["file: Boot/BCD", "found: 3 octets"]),
        ("\\BOOT\\x64\\WDSNBP.COM", ["file: Boot/X64/wdsnbp.com", "found: 6 octets"]),
        ("/Boot/BCD", ["found: 3 octets"]),
        ("boot/missing", ["ERROR 1: no such file"]),
    ],
)
def test_name_that_was_chosen_is_explained(root: Path, path: str, lines: list[str]) -> None:
    """`--explain` shows the file only if its name is another one."""
    assert value(explain(Served(root).backend, path, request_context())) == lines


@pytest.mark.parametrize("path", ["Boot/../../secret", "OUT/secret"])
def test_name_that_leads_out_of_the_root_is_explained(root: Path, path: str) -> None:
    """The ERROR is shown once, also if the look-up without regard to case fails too."""
    (root / "out").symlink_to("..")
    (line,) = value(explain(Served(root).backend, path, request_context()))
    assert line.startswith("ERROR 2: access denied (")
