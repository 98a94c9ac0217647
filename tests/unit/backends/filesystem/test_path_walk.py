"""Tests of the path walk: it finds files below the root and never any outside."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backends import open_paths
from twisted_tftp.backends.filesystem.path_walk import MAX_LINKS, resolve
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError, from_os_error

#: The content of files outside the root.
SECRET = b"SECRET"

#: Paths that leave the root.
LEAVING = [
    "../secret",
    "/../secret",
    "./../secret",
    "..//secret",
    "../../secret",
    "sub/../../secret",
    "sub/deep/../../../secret",
    "sub/../sub/../../secret",
    "//sub//..//..//secret",
    "../root2/x",
    "../root/file",
    "sub/../../root/file",
    "../" * 50 + "etc/passwd",
]

#: Paths that other systems or decoders would read as leaving the root; here no file has them.
HARMLESS = [
    "/etc/passwd",
    "//etc/passwd",
    "..\\secret",
    "sub\\..\\..\\secret",
    "C:\\secret",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%2fsecret",
    "..%00/secret",
    "....//secret",
    ".../secret",
    ".. /secret",
    "..;/secret",
    "~/secret",
    "~root/secret",
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/secret",
    "..\N{DIVISION SLASH}secret",
    b"\xc0\xae\xc0\xae/secret".decode("utf-8", "surrogateescape"),
    b"..\xc0\xafsecret".decode("utf-8", "surrogateescape"),
    "..\x00/secret",
    "file\x00",
    "file\x00.txt",
    "",
    "file/secret",
    "file/../file",
    "nothing/../file",
    "x" * 255,
    "x" * 256,
    "x" * 600,
    "x" * 5000,
    "sub/" * 1300 + "file",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root, and files beside it that must never be found."""
    made = tmp_path / "root"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "file").write_bytes(b"file")
    (made / "sub" / "inner").write_bytes(b"inner")
    (made / "sub" / "deep" / "deepest").write_bytes(b"deepest")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "x").write_bytes(SECRET)
    (tmp_path / "secret").write_bytes(SECRET)
    return made


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(tmp_path: Path) -> Iterator[None]:
    """Check that nothing below the directory of the test stays open."""
    yield
    assert open_paths(tmp_path) == []


def content(root: Path | str, path: str) -> bytes:
    """Return the octets of the file that the walk finds."""
    with resolve(str(root), path) as resolved:
        descriptor = resolved.open_regular()
    with open(descriptor, "rb") as file:
        return file.read()


def refusal(root: Path | str, path: str) -> TFTPError:
    """Return the error that the peer gets."""
    with pytest.raises((TFTPError, OSError)) as caught:
        content(root, path)
    error = caught.value
    return from_os_error(error) if isinstance(error, OSError) else error


# -- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "octets"),
    [
        ("file", b"file"),
        ("/file", b"file"),
        ("//file", b"file"),
        ("./file", b"file"),
        ("sub/inner", b"inner"),
        ("/sub//inner", b"inner"),
        ("sub/./inner", b"inner"),
        ("sub/../file", b"file"),
        ("sub/deep/../inner", b"inner"),
        ("sub/deep/../../file", b"file"),
        ("sub/deep/deepest", b"deepest"),
        ("sub/../" * 500 + "file", b"file"),
    ],
)
def test_file_below_the_root_is_found(root: Path, path: str, octets: bytes) -> None:
    """Leading slashes, `.` and `..` are allowed as long as the path stays inside."""
    assert content(root, path) == octets


@pytest.mark.parametrize("path", LEAVING)
def test_path_that_leaves_the_root_is_refused(root: Path, path: str) -> None:
    """It is an access violation, even if the path comes back into the root."""
    assert isinstance(refusal(root, path), AccessViolation)


@pytest.mark.parametrize("path", HARMLESS)
def test_encoded_paths_are_not_decoded(root: Path, path: str) -> None:
    """They are plain names that no file has, so the answer is "file not found"."""
    assert isinstance(refusal(root, path), FileNotFound)


@pytest.mark.parametrize("name", ["..\\secret", "%2e%2e", "...", "~", " ", "\n", "caf\udce9", "-"])
def test_file_with_an_unusual_name_is_found(root: Path, name: str) -> None:
    """Backslashes, percent signs and the like are parts of a name."""
    (root / name).write_bytes(b"odd")
    assert content(root, name) == b"odd"


def test_name_of_255_octets_is_found(root: Path) -> None:
    """It is the longest name that file systems allow."""
    (root / ("x" * 255)).write_bytes(b"long")
    assert content(root, "x" * 255) == b"long"


@pytest.mark.parametrize("path", ["/", ".", "..", "sub/", "sub/.", "sub/..", "sub/deep/../.."])
def test_path_of_a_directory_is_refused(root: Path, path: str) -> None:
    """It is an access violation."""
    assert isinstance(refusal(root, path), AccessViolation)


@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "", "sub", "deep", "inner", "file", "out", "in", "up", "abs", "secret"]
        ),
        min_size=1,
        max_size=10,
    )
)
def test_random_paths_never_leave_the_root(steps: list[str]) -> None:
    """Random steps through a tree with links in all directions find files of the root only."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        base = top / "root"
        (base / "sub" / "deep").mkdir(parents=True)
        for directory in (top, base, base / "sub", base / "sub" / "deep"):
            inside = directory != top
            for file in ("file", "inner", "secret"):
                (directory / file).write_bytes(b"good" if inside else SECRET)
            if inside:
                os.symlink("..", directory / "up")
                os.symlink(top, directory / "out")
                os.symlink(base, directory / "abs")
                os.symlink(".", directory / "in")
        try:
            octets = content(base, "/".join(steps))
        except (TFTPError, OSError):
            return
        assert octets == b"good"


# -- links --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "path", "octets"),
    [
        ("link", "file", "link", b"file"),
        ("link", "./sub/./inner", "link", b"inner"),
        ("link", "sub/../file", "link", b"file"),
        ("link", "sub/deep/../../file", "link", b"file"),
        ("sub/up", "../file", "sub/up", b"file"),
        ("sub/deep/up", "../../sub/inner", "sub/deep/up", b"inner"),
        ("link", "{root}/file", "link", b"file"),
        ("sub/deep/link", "{root}//sub/./inner", "sub/deep/link", b"inner"),
        ("link", "{root}/sub/../file", "link", b"file"),
        ("to", "sub", "to/inner", b"inner"),
        ("to", "sub/", "to/deep/deepest", b"deepest"),
        ("to", "{root}/sub", "to/inner", b"inner"),
        ("to", "{root}", "to/to/to/file", b"file"),
        ("sub/back", "..", "sub/back/sub/back/file", b"file"),
        ("here", ".", "here/here/file", b"file"),
        # `..` is the parent of the directory that the link leads to, as in the kernel.
        ("to", "sub/deep", "to/../inner", b"inner"),
    ],
)
def test_link_inside_the_root_is_followed(
    root: Path, link: str, target: str, path: str, octets: bytes
) -> None:
    """Relative and absolute links work, at the end of a path and before it."""
    os.symlink(target.format(root=root), root / link)
    assert content(root, path) == octets


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link", "../secret", "link"),
        ("link", "../root2/x", "link"),
        ("link", "../root/file", "link"),
        ("link", "sub/../../secret", "link"),
        ("sub/deep/link", "../../../secret", "sub/deep/link"),
        ("link", "{top}/secret", "link"),
        ("link", "{root}2/x", "link"),
        ("link", "{root}/../secret", "link"),
        ("link", "{root}/sub/../../secret", "link"),
        ("link", "/etc/passwd", "link"),
        ("link", "/proc/self/root{top}/secret", "link"),
        ("out", "..", "out/secret"),
        ("out", "..", "out/root/file"),
        ("out", "{top}", "out/secret"),
        ("out", "{top}", "out/root/file"),
        ("out", "/", "out/etc/passwd"),
        ("out", "../root2", "out/x"),
        ("to", "sub/deep", "to/../../../secret"),
    ],
)
def test_link_that_leaves_the_root_is_refused(
    root: Path, link: str, target: str, path: str
) -> None:
    """It is an access violation, also if its target only begins like the name of the root."""
    os.symlink(target.format(root=root, top=root.parent), root / link)
    assert isinstance(refusal(root, path), AccessViolation)


def test_chain_of_links_that_leaves_the_root_is_refused(root: Path) -> None:
    """The last link of the chain leads outside."""
    os.symlink("two", root / "one")
    os.symlink("sub/three", root / "two")
    os.symlink("../../secret", root / "sub" / "three")
    assert isinstance(refusal(root, "one"), AccessViolation)


def test_chain_of_links_has_the_limit_of_linux(root: Path) -> None:
    """`MAX_LINKS` links are followed; one more is refused."""
    os.symlink("file", root / "link1")
    for number in range(2, MAX_LINKS + 2):
        os.symlink(f"link{number - 1}", root / f"link{number}")
    assert content(root, f"link{MAX_LINKS}") == b"file"
    assert isinstance(refusal(root, f"link{MAX_LINKS + 1}"), AccessViolation)


@pytest.mark.parametrize(
    ("links", "path"),
    [
        ({"self": "self"}, "self"),
        ({"a": "b", "b": "a"}, "a"),
        ({"a": "b", "b": "sub/c", "sub/c": "../a"}, "a"),
        ({"self": "self"}, "self/file"),
        ({"a": "a/a"}, "a"),
        ({"here": "."}, "here/" * (MAX_LINKS + 1) + "file"),
    ],
)
def test_loop_of_links_is_refused(root: Path, links: dict[str, str], path: str) -> None:
    """It is an access violation after `MAX_LINKS` links."""
    for link, target in links.items():
        os.symlink(target, root / link)
    assert isinstance(refusal(root, path), AccessViolation)


@pytest.mark.parametrize("target", ["nothing", "sub/nothing", "nothing/x", "{root}/nothing"])
def test_link_to_a_missing_file_is_not_found(root: Path, target: str) -> None:
    """The answer is "file not found", as for a missing file."""
    os.symlink(target.format(root=root), root / "link")
    assert isinstance(refusal(root, "link"), FileNotFound)


@pytest.mark.parametrize("target", ["sub", ".", "{root}", "sub/.."])
def test_link_to_a_directory_is_refused(root: Path, target: str) -> None:
    """It is an access violation, as the directory itself is."""
    os.symlink(target.format(root=root), root / "link")
    assert isinstance(refusal(root, "link"), AccessViolation)


# -- the root itself ----------------------------------------------------------------------


def test_root_that_is_a_link_is_followed(root: Path) -> None:
    """Absolute links inside it may use the link's path or the directory's own path."""
    alias = root.parent / "alias"
    os.symlink("root", alias)
    os.symlink(f"{alias}/file", root / "by-alias")
    os.symlink(f"{root}/file", root / "by-name")
    assert content(alias, "file") == b"file"
    assert content(alias, "by-alias") == b"file"
    assert content(alias, "by-name") == b"file"
    assert isinstance(refusal(alias, "../secret"), AccessViolation)


def test_relative_root_is_relative_to_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute links inside the root are followed there too."""
    monkeypatch.chdir(root.parent)
    os.symlink(f"{root}/sub/inner", root / "link")
    assert content("root", "link") == b"inner"
    monkeypatch.chdir(root)
    assert content(".", "link") == b"inner"
    assert isinstance(refusal(".", "../secret"), AccessViolation)


def test_root_can_be_the_whole_file_system(root: Path) -> None:
    """With the root `/`, every absolute link stays inside."""
    os.symlink(f"{root}/file", root / "link")
    assert content("/", f"{root}/link") == b"file"


def test_missing_root_is_reported_as_a_missing_file(root: Path) -> None:
    """The answer is "file not found", which tells nothing about the root."""
    assert isinstance(refusal(root / "nothing", "file"), FileNotFound)
    assert isinstance(refusal(root / "file", "file"), FileNotFound)


# -- other files than regular ones --------------------------------------------------------


def unblocked(function: Callable[[], Any]) -> Any:
    """Run `function` in a thread and return its result; fail if it blocks."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert results, "the call blocks"
    return results[0]


def test_fifo_is_refused_without_blocking(root: Path) -> None:
    """The walk does not wait for a writer of the FIFO."""
    os.mkfifo(root / "fifo")
    assert isinstance(unblocked(lambda: content(root, "fifo")), AccessViolation)


def test_unix_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an access violation."""
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
        assert isinstance(refusal(root, "socket"), AccessViolation)


def test_device_is_refused(root: Path) -> None:
    """It is an access violation: a device could supply octets without end."""
    try:
        os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root can make a device")
    assert isinstance(refusal(root, "zero"), AccessViolation)


def after(
    monkeypatch: pytest.MonkeyPatch, function: str, name: bytes, change: Callable[[], None]
) -> None:
    """Call `change` right after the first call of os.`function` for `name`."""
    real = getattr(os, function)
    pending = [change]

    def wrapper(path: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return real(path, *args, **kwargs)
        finally:
            if path == name and pending:
                pending.pop()()

    monkeypatch.setattr(os, function, wrapper)


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "device"])
def test_file_replaced_before_its_open_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What was opened is checked again: it may be a FIFO or a device that replaced the file."""
    monkeypatch.chdir(root)

    def replace() -> None:
        os.unlink("file")
        if kind == "fifo":
            os.mkfifo("file")
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind("file")
        elif kind == "device":
            try:
                os.mknod("file", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only root can make a device")
        else:
            os.mkdir("file")

    with resolve(str(root), "file") as resolved:
        after(monkeypatch, "stat", b"file", replace)
        error = unblocked(resolved.open_regular)
    if isinstance(error, OSError):
        error = from_os_error(error)
    assert isinstance(error, AccessViolation)


# -- names replaced during a walk ---------------------------------------------------------


def test_directory_replaced_by_a_link_during_the_walk_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk has seen a directory and does not enter the link that replaces it."""

    def swap() -> None:
        (root / "sub").rename(root / "away")
        os.symlink("../root2", root / "sub")

    (root / "sub" / "x").write_bytes(b"good")
    after(monkeypatch, "readlink", b"sub", swap)
    assert isinstance(refusal(root, "sub/x"), FileNotFound)
    assert (root / "sub").is_symlink()


@pytest.mark.parametrize("function", ["readlink", "stat"])
def test_file_replaced_by_a_link_during_the_walk_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Neither a link made during the walk nor one made between check and open is followed."""

    def swap() -> None:
        os.unlink(root / "file")
        os.symlink("../secret", root / "file")

    after(monkeypatch, function, b"file", swap)
    assert isinstance(refusal(root, "file"), AccessViolation)
    assert (root / "file").is_symlink()


def test_dot_dot_returns_to_the_directory_that_the_walk_came_from(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is moved out of the root during the walk does not lead outside."""

    def move() -> None:
        (root / "sub").rename(root.parent / "root2" / "sub")

    (root.parent / "root2" / "file").write_bytes(SECRET)
    after(monkeypatch, "open", b"sub", move)
    assert content(root, "sub/../file") == b"file"
    assert not (root / "sub").exists()


def swap_directory(root: Path) -> None:
    """Replace `sub` for a moment by a link to a directory outside."""
    os.rename(root / "sub", root / "away")
    os.rename(root / "link", root / "sub")
    os.rename(root / "sub", root / "link")
    os.rename(root / "away", root / "sub")


def swap_file(root: Path) -> None:
    """Replace `sub/x` for a moment by a link to a file outside."""
    os.symlink("../../root2/x", root / "new")
    os.rename(root / "new", root / "sub" / "x")
    (root / "new").write_bytes(b"good")
    os.rename(root / "new", root / "sub" / "x")


@pytest.mark.parametrize("swap", [swap_directory, swap_file])
def test_links_swapped_in_a_loop_never_lead_outside(
    root: Path, swap: Callable[[Path], None]
) -> None:
    """While a directory or a file is replaced by a link all the time, no outside file is read.

    The test lasts one second, or longer until a read has met a link and another one a file.
    """
    (root / "sub" / "x").write_bytes(b"good")
    os.symlink("../root2", root / "link")
    stop = threading.Event()
    swaps = 0

    def swap_on() -> None:
        nonlocal swaps
        while not stop.is_set():
            swap(root)
            swaps += 1

    seen: dict[bytes | type, int] = {}
    swapper = threading.Thread(target=swap_on)
    swapper.start()
    try:
        began = time.monotonic()
        wanted = {b"good", AccessViolation}
        while (
            (seconds := time.monotonic() - began) < 1.0 or swaps < 2 or not wanted <= seen.keys()
        ):
            assert seconds < 60.0, f"no read met a link, or none met a file: {seen}"
            result: bytes | type
            try:
                result = content(root, "sub/x")
            except (TFTPError, OSError) as error:
                result = type(error)
            seen[result] = seen.get(result, 0) + 1
    finally:
        stop.set()
        swapper.join()
    assert {octets for octets in seen if isinstance(octets, bytes)} == {b"good"}


# -- permissions and descriptors ----------------------------------------------------------


@pytest.fixture
def open_tree() -> Iterator[Path]:
    """Make a root that everybody may enter, and run the test with the rights of `nobody`."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    (directory / "closed").mkdir()
    (directory / "closed" / "file").write_bytes(b"x")
    (directory / "unreadable").write_bytes(b"x")
    (directory / "closed").chmod(0)
    (directory / "unreadable").chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield directory
    finally:
        os.seteuid(was)
        (directory / "closed").chmod(0o755)
        shutil.rmtree(directory)


@pytest.mark.parametrize("path", ["unreadable", "closed/file"])
def test_file_without_permission_is_refused(open_tree: Path, path: str) -> None:
    """It is an access violation, for a file and for a directory on the way."""
    assert isinstance(refusal(open_tree, path), AccessViolation)


def test_resolved_name_keeps_only_one_directory_open(root: Path) -> None:
    """The other directories of the path are closed, and the last one by `close`."""
    os.symlink("../deep/../../sub", root / "sub" / "deep" / "link")
    with pytest.raises(AccessViolation):
        resolve(str(root), "sub/deep/../../../x")
    assert open_paths(root.parent) == []
    resolved = resolve(str(root), "sub/deep/../deep/deepest")
    assert open_paths(root.parent) == [str(root / "sub" / "deep")]
    resolved.close()
    assert open_paths(root.parent) == []


def test_name_of_a_missing_file_is_resolved(root: Path) -> None:
    """An upload needs the directory of a file that does not exist yet."""
    with resolve(str(root), "sub/new") as resolved:
        assert resolved.name == b"new"
        with pytest.raises(FileNotFoundError):
            resolved.stat()
        with pytest.raises(FileNotFoundError):
            resolved.open_regular()


def test_walk_without_free_descriptors_leaves_none_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE in the middle of a walk closes the directories that were opened before."""
    real = os.open

    def starved(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == b"deep":
            raise OSError(errno.EMFILE, "none left")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", starved)
    assert refusal(root, "sub/deep/deepest").code == 0
    assert open_paths(root.parent) == []
