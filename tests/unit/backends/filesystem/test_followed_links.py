"""Tests of links that may leave the root: they lead into one directory, and nowhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred

from tests.support.backends import (
    WAYS,
    error_of,
    lookup_for,
    octets_of,
    open_paths,
    request_context,
    upload,
)
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.path_walk import MAX_LINKS
from twisted_tftp.errors import (
    AccessViolation,
    BackendUnavailable,
    FileNotFound,
    TFTPError,
    from_os_error,
)

#: The content of files that must never be read.
SECRET = b"SECRET"

each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """Make a root, a directory outside that links may lead into, and files beside both."""
    for directory in ("root/sub", "images/deep", "images2"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "root" / "file").write_bytes(b"file")
    (tmp_path / "images" / "disk").write_bytes(b"disk")
    (tmp_path / "images" / "deep" / "disk").write_bytes(b"deep")
    for secret in ("secret", "images2/disk", "images2/secret"):
        (tmp_path / secret).write_bytes(SECRET)
    yield tmp_path
    assert open_paths(tmp_path) == []


def serving(
    top: Path, way: str, *, followed: tuple[str, ...] = ("images",), write: str = "overwrite"
) -> FilesystemBackend:
    """Return a backend whose links may lead into the directories `followed`."""
    root = top / "root"
    return FilesystemBackend(
        str(root),
        write,
        follow_links=[str(top / directory) for directory in followed],
        in_thread=maybeDeferred,
        lookup=lookup_for(root, way),
    )


def read_error(backend: FilesystemBackend, path: str) -> TFTPError:
    """Return the error that a client gets."""
    return error_of(lambda: backend.open_reader(path, request_context()))


@each_way
@pytest.mark.parametrize(
    ("link", "target", "path", "octets"),
    [
        ("link", "{top}/images/disk", "link", b"disk"),
        ("link", "../images/disk", "link", b"disk"),
        ("link", "sub/../../images/disk", "link", b"disk"),
        ("sub/link", "../../images/deep/disk", "sub/link", b"deep"),
        ("out", "{top}/images", "out/disk", b"disk"),
        ("out", "../images", "out/deep/disk", b"deep"),
        ("out", "../images/", "out//deep/./disk", b"deep"),
        ("out", "../images", "out/deep/../disk", b"disk"),
        ("out", "../images/deep", "out/../disk", b"disk"),
        ("out", "{top}/images", "out\\deep\\disk", b"deep"),
        ("out", "../../{name}/images", "out/disk", b"disk"),
    ],
)
def test_link_into_the_followed_directory_is_followed(
    top: Path, way: str, link: str, target: str, path: str, octets: bytes
) -> None:
    """Absolute and relative links work, to files and to directories; `..` works inside."""
    (top / "root" / link).symlink_to(target.format(top=top, name=top.name))
    for _ in range(2):
        assert octets_of(serving(top, way), path) == octets


@each_way
def test_links_inside_the_followed_directory_are_followed(top: Path, way: str) -> None:
    """They follow the rules of links inside the root."""
    (top / "root" / "one").symlink_to("two")
    (top / "root" / "two").symlink_to("../images")
    (top / "images" / "relative").symlink_to("deep/../disk")
    (top / "images" / "deep" / "up").symlink_to("../disk")
    (top / "images" / "absolute").symlink_to(top / "images" / "deep")
    backend = serving(top, way)
    assert octets_of(backend, "one/relative") == b"disk"
    assert octets_of(backend, "one/deep/up") == b"disk"
    assert octets_of(backend, "one/absolute/disk") == b"deep"


@each_way
def test_directory_of_the_option_may_be_a_link(top: Path, way: str) -> None:
    """Links may use its own path or the one of the option."""
    (top / "alias").symlink_to("images")
    (top / "root" / "by-alias").symlink_to(top / "alias" / "disk")
    (top / "root" / "by-name").symlink_to("../images/disk")
    backend = serving(top, way, followed=("images2", "alias"))
    assert octets_of(backend, "by-alias") == b"disk"
    assert octets_of(backend, "by-name") == b"disk"


@each_way
@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        # Links to other places than the followed directory.
        ("root/link", "../secret", "link"),
        ("root/link", "{top}/secret", "link"),
        ("root/link", "{top}/images2/disk", "link"),
        ("root/link", "../images2/disk", "link"),
        ("root/link", "../images/../secret", "link"),
        ("root/link", "{top}/images/../secret", "link"),
        ("root/link", "../images/deep/../../secret", "link"),
        ("root/link", "../root/file", "link"),
        ("root/link", "/", "link/etc/passwd"),
        ("root/link", "/proc/self/root{top}/images/disk", "link"),
        # A link to a directory above: the request must not lead on from there.
        ("root/link", "..", "link/images/disk"),
        ("root/link", "{top}", "link/images/disk"),
        ("root/link", "..", "link/secret"),
        # The request leaves the followed directory, or enters it without a link.
        ("root/link", "../images", "link/../secret"),
        ("root/link", "../images", "link/../images/disk"),
        ("root/link", "../images", "link/deep/../../secret"),
        ("root/link", "../images", "../images/disk"),
        ("root/link", "../images", "sub/../../images/disk"),
        # Links inside the followed directory that leave it again.
        ("images/away", "../secret", "out/away"),
        ("images/away", "{top}/secret", "out/away"),
        ("images/away", "../root/file", "out/away"),
        ("images/away", "{top}/root/file", "out/away"),
        ("images/away", "{top}/images2/disk", "out/away"),
        ("images/away", "..", "out/away/secret"),
        ("images/deep/away", "../../secret", "out/deep/away"),
        ("images/away", "../images/disk", "out/away"),
        ("images/away", "/", "out/away/etc/passwd"),
    ],
)
def test_all_other_links_out_of_the_root_are_refused(
    top: Path, way: str, link: str, target: str, path: str
) -> None:
    """It is an access violation."""
    (top / "root" / "out").symlink_to("../images")
    (top / link).symlink_to(target.format(top=top))
    assert isinstance(read_error(serving(top, way), path), AccessViolation)


@each_way
def test_link_from_one_followed_directory_into_another_is_refused(top: Path, way: str) -> None:
    """A followed directory is never left."""
    (top / "root" / "out").symlink_to("../images")
    (top / "images" / "away").symlink_to("../images2/disk")
    backend = serving(top, way, followed=("images", "images2"))
    assert isinstance(read_error(backend, "out/away"), AccessViolation)


@each_way
def test_without_the_option_no_link_leaves_the_root(top: Path, way: str) -> None:
    """The option is off by default."""
    (top / "root" / "link").symlink_to("../images/disk")
    assert isinstance(read_error(serving(top, way, followed=()), "link"), AccessViolation)


@each_way
def test_other_things_than_regular_files_are_refused(top: Path, way: str) -> None:
    """The rules for files are those of the root."""
    os.mkfifo(top / "images" / "fifo")
    (top / "root" / "out").symlink_to("../images")
    for path in ("out", "out/fifo", "out/deep"):
        assert isinstance(read_error(serving(top, way), path), AccessViolation)
    for path in ("out/nothing", "out/nothing/disk", "out/disk/disk"):
        assert isinstance(read_error(serving(top, way), path), FileNotFound)


@each_way
def test_loop_and_chain_of_links_have_the_limit_of_linux(top: Path, way: str) -> None:
    """The links inside and outside the root are counted together."""
    (top / "root" / "out").symlink_to("../images")
    (top / "images" / "loop").symlink_to("loop")
    (top / "images" / "here").symlink_to(".")
    backend = serving(top, way)
    assert isinstance(read_error(backend, "out/loop"), AccessViolation)
    assert octets_of(backend, "out/" + "here/" * (MAX_LINKS - 1) + "disk") == b"disk"
    assert isinstance(read_error(backend, "out/" + "here/" * MAX_LINKS + "disk"), AccessViolation)


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize("path", ["out/new", "out/disk", "out/deep/new", "link", "dangling"])
def test_nothing_is_written_through_such_a_link(top: Path, write: str, path: str) -> None:
    """An upload is refused, and no file appears outside the root."""
    (top / "root" / "out").symlink_to(top / "images")
    (top / "root" / "link").symlink_to("../images/disk")
    (top / "root" / "dangling").symlink_to("../images/new")
    before = {each: each.lstat().st_mtime_ns for each in top.rglob("*")}
    error = error_of(lambda: upload(serving(top, "in a thread", write=write), path, b"octets"))
    assert isinstance(error, AccessViolation)
    assert {each: each.lstat().st_mtime_ns for each in top.rglob("*")} == before


@each_way
@pytest.mark.parametrize("followed", ["root/sub", ".", "root"])
def test_followed_directory_may_overlap_the_root(top: Path, way: str, followed: str) -> None:
    """Links inside the root are followed inside the root, so uploads through them work too."""
    (top / "root" / "link").symlink_to(top / "root" / "sub")
    (top / "root" / "relative").symlink_to("sub")
    backend = serving(top, way, followed=(followed,))
    upload(backend, "link/new", b"octets")
    upload(backend, "relative/more", b"more")
    assert octets_of(backend, "link/new") == b"octets"
    assert octets_of(backend, "relative/more") == b"more"


@each_way
@pytest.mark.parametrize("path", ["../images/disk", "sub/../../images/disk", "../root/file"])
def test_request_does_not_leave_a_root_inside_a_followed_directory(
    top: Path, way: str, path: str
) -> None:
    """Only links lead out of the root, whatever is around it."""
    (top / "root" / "link").symlink_to("../images/disk")
    backend = serving(top, way, followed=(".",))
    assert octets_of(backend, "link") == b"disk"
    assert isinstance(read_error(backend, path), AccessViolation)


def test_missing_followed_directory_ends_the_start(top: Path) -> None:
    """The operator has probably mistyped it."""
    serving(top, "in a thread").check()
    with pytest.raises(BackendUnavailable, match=r"follow-links '.*/nothing' is not a directory"):
        serving(top, "in a thread", followed=("images", "nothing")).check()


NAMES = ["..", "sub", "deep", "file", "up", "out", "abs", "images", "above", "root"]


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9))
def test_random_paths_reach_the_root_and_the_followed_directory_only(steps: list[str]) -> None:
    """There are links in all directions, and both ways to open a file agree."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        served = ["root", "root/sub", "images", "images/deep", "images/sub"]
        for directory in ("root/sub", "images/deep", "images/sub"):
            (top / directory).mkdir(parents=True)
        for directory in (".", *served):
            (top / directory / "file").write_bytes(SECRET if directory == "." else b"good")
        for directory in served:
            (top / directory / "up").symlink_to("..")
            (top / directory / "out").symlink_to(top / "images")
            (top / directory / "abs").symlink_to(top / "root")
            (top / directory / "above").symlink_to(top)
        outcomes = []
        for way in (*WAYS, WAYS[0]):
            try:
                outcomes.append(octets_of(serving(top, way), "/".join([*steps, "file"])))
            except TFTPError as error:
                outcomes.append(str(error.code).encode())
            except OSError as error:
                outcomes.append(str(from_os_error(error).code).encode())
        assert SECRET not in outcomes
        assert len(set(outcomes)) == 1
