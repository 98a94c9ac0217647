"""Tests of the names of requests: a backslash is a slash, unless a file has the literal name."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import fail, maybeDeferred

from tests.support.backends import (
    WAYS,
    error_of,
    has_openat2,
    lookup_for,
    lookup_of,
    octets_of,
    open_paths,
    request_context,
    upload,
)
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.errors import (
    AccessViolation,
    ErrorCode,
    FileAlreadyExists,
    FileNotFound,
    TFTPError,
    from_os_error,
)

#: The content of files outside the root.
SECRET = b"SECRET"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with the files of a boot manager, and a file beside it."""
    made = tmp_path / "root"
    (made / "Boot" / "x64").mkdir(parents=True)
    (made / "Boot" / "BCD").write_bytes(b"BCD")
    (made / "Boot" / "x64" / "wdsnbp.com").write_bytes(b"wdsnbp")
    (tmp_path / "secret").write_bytes(SECRET)
    return made


def serving(root: Path, way: str = "in a thread", write: str = "overwrite") -> FilesystemBackend:
    """Return a backend that opens files in one of two ways."""
    return FilesystemBackend(
        str(root), write, in_thread=maybeDeferred, lookup=lookup_for(root, way)
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "octets"),
    [
        ("\\Boot\\BCD", b"BCD"),
        ("Boot\\BCD", b"BCD"),
        ("/Boot\\x64\\wdsnbp.com", b"wdsnbp"),
        ("Boot\\x64/wdsnbp.com", b"wdsnbp"),
        ("\\\\Boot\\\\BCD", b"BCD"),
        (".\\Boot\\.\\BCD", b"BCD"),
        ("Boot\\x64\\..\\BCD", b"BCD"),
        ("Boot\\x64\\" + "..\\x64\\" * 100 + "wdsnbp.com", b"wdsnbp"),
    ],
)
def test_backslash_is_a_slash(root: Path, way: str, path: str, octets: bytes) -> None:
    """Boot managers of Windows separate directories by backslashes."""
    for _ in range(2):  # the second time, the kernel has the missing literal name in its cache
        assert octets_of(serving(root, way), path) == octets


@pytest.mark.parametrize("way", WAYS)
def test_file_of_the_literal_name_wins(root: Path, way: str) -> None:
    """A file whose name contains a backslash is served under this name."""
    (root / "Boot\\BCD").write_bytes(b"literal")
    (root / "Boot" / "x64\\wdsnbp.com").symlink_to("BCD")
    assert octets_of(serving(root, way), "Boot\\BCD") == b"literal"
    assert octets_of(serving(root, way), "/Boot/x64\\wdsnbp.com") == b"BCD"
    assert octets_of(serving(root, way), "\\Boot\\BCD") == b"BCD"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["directory", "fifo", "link out of the root"])
def test_something_else_of_the_literal_name_wins_and_is_refused(
    root: Path, way: str, kind: str
) -> None:
    """Both ways to open a file decide alike."""
    if kind == "directory":
        (root / "Boot\\BCD").mkdir()
    elif kind == "fifo":
        os.mkfifo(root / "Boot\\BCD")
    else:
        (root / "Boot\\BCD").symlink_to("../secret")
    error = error_of(lambda: serving(root, way).open_reader("Boot\\BCD", request_context()))
    assert isinstance(error, AccessViolation)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("..\\secret", AccessViolation),
        ("\\..\\secret", AccessViolation),
        ("..\\..\\x", AccessViolation),
        ("Boot\\..\\..\\secret", AccessViolation),
        ("Boot/..\\../secret", AccessViolation),
        ("Boot\\../..\\secret", AccessViolation),
        ("..\\root\\Boot\\BCD", AccessViolation),
        ("../Boot\\BCD", AccessViolation),
        ("..\\" * 50 + "etc\\passwd", AccessViolation),
        ("Boot\\", AccessViolation),
        ("Boot\\x64\\..", AccessViolation),
        ("\\", AccessViolation),
        ("C:\\secret", FileNotFound),
        ("C:\\..\\..\\secret", FileNotFound),
        ("\\etc\\passwd", FileNotFound),
        ("\\\\host\\share\\secret", FileNotFound),
        ("Boot\\BCD\\x", FileNotFound),
        ("Boot\\" + "x" * 300, FileNotFound),
        ("..\\secret\x00", FileNotFound),
        ("Boot\\" * 1000 + "BCD", FileNotFound),
    ],
)
def test_path_with_backslashes_stays_inside_the_root(
    root: Path, way: str, path: str, error: type[TFTPError]
) -> None:
    """The rules are those of a path with slashes, for reads and for uploads."""
    for _ in range(2):
        refused = error_of(lambda: serving(root, way).open_reader(path, request_context()))
        assert isinstance(refused, error)
    before = sorted(root.parent.rglob("*"))
    if error is AccessViolation:
        refused = error_of(lambda: serving(root).open_writer(path, request_context()))
        assert isinstance(refused, error)
    assert sorted(root.parent.rglob("*")) == before


STEPS = [
    "..",
    ".",
    "",
    "sub",
    "deep",
    "file",
    "out",
    "up",
    "abs",
    "secret",
    "sub\\file",
    "..\\secret",
]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("/\\")), min_size=1, max_size=8))
def test_random_names_never_leave_the_root_and_both_ways_agree(
    steps: list[tuple[str, str]],
) -> None:
    """Links lead in all directions, and some names contain backslashes."""
    path = "".join(name + separator for name, separator in steps)[:-1]
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        base = top / "root"
        (base / "sub" / "deep").mkdir(parents=True)
        for directory in (top, base, base / "sub", base / "sub" / "deep"):
            inside = directory != top
            for file in ("file", "secret", "sub\\file"):
                octets = str(directory / file).encode() if inside else SECRET
                (directory / file).write_bytes(octets)
            if inside:
                os.symlink("..", directory / "up")
                os.symlink(top, directory / "out")
                os.symlink(base, directory / "abs")
        outcomes = []
        for way in (*WAYS, WAYS[0]):
            try:
                outcomes.append(octets_of(serving(base, way), path))
            except TFTPError as error:
                outcomes.append(error.code)
            except OSError as error:
                outcomes.append(from_os_error(error).code)
        assert SECRET not in outcomes
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert open_paths(top) == []


@pytest.mark.skipif(not has_openat2(), reason="the kernel has no openat2")
def test_name_with_backslashes_is_opened_without_a_thread(root: Path) -> None:
    """The missing literal name is in the kernel's cache too."""

    def no_thread(*args: Any) -> Any:
        return fail(AssertionError("a thread was used"))

    assert octets_of(serving(root), "\\Boot\\BCD") == b"BCD"
    backend = FilesystemBackend(str(root), in_thread=no_thread, lookup=lookup_of(root))
    backend.open_reader("\\Boot\\BCD", request_context()).close()


@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_upload_with_backslashes_is_stored_in_a_directory(root: Path, write: str) -> None:
    """The directories of the name are those of a path with slashes."""
    upload(serving(root, write=write), "\\Boot\\new", b"octets")
    assert (root / "Boot" / "new").read_bytes() == b"octets"
    assert sorted(path.name for path in root.iterdir()) == ["Boot"]


def test_upload_replaces_the_file_of_the_literal_name(root: Path) -> None:
    """As in reads, a file that has the name wins; `create` does not replace it."""
    (root / "Boot\\BCD").write_bytes(b"literal")
    error = error_of(
        lambda: serving(root, write="create").open_writer("Boot\\BCD", request_context())
    )
    assert isinstance(error, FileAlreadyExists)
    upload(serving(root), "Boot\\BCD", b"octets")
    assert (root / "Boot\\BCD").read_bytes() == b"octets"
    assert (root / "Boot" / "BCD").read_bytes() == b"BCD"


def test_backend_with_literal_names_takes_a_backslash_literally(root: Path) -> None:
    """The client uses such a backend for the user's own files."""
    backend = FilesystemBackend(
        str(root), "create", literal_names=True, in_thread=maybeDeferred, lookup=lookup_of(root)
    )
    error = error_of(lambda: backend.open_reader("Boot\\BCD", request_context()))
    assert error.code is ErrorCode.FILE_NOT_FOUND
    upload(backend, "Boot\\new", b"octets")
    assert (root / "Boot\\new").read_bytes() == b"octets"


def test_failure_of_the_literal_name_is_reported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a name that is missing is tried with slashes."""
    real = os.readlink

    def refused(path: Any, *args: Any, **kwargs: Any) -> Any:
        if path == b"Boot\\BCD":
            raise PermissionError(errno.EACCES, "no")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "readlink", refused)
    error = error_of(lambda: serving(root).open_reader("Boot\\BCD", request_context()))
    assert isinstance(error, AccessViolation)
