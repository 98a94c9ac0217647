"""Tests of the write mode `version`: each upload is kept, and the name leads to the newest one."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
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
    octets_of,
    open_paths,
    request_context,
)
from tests.support.backends import unprivileged as unprivileged
from tests.support.backends import upload as upload_through
from tests.support.contexts import write_context
from tests.support.deferreds import value
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.filesystem.leftovers import remove_temporary_files
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.filesystem.upload import Upload, UploadRules
from twisted_tftp.backends.filesystem.version_placement import KeptVersions
from twisted_tftp.backends.filesystem.versions import (
    Version,
    is_version_link,
    looks_like_version,
    parse,
)
from twisted_tftp.backends.naming import is_temporary, temporary_link_name
from twisted_tftp.context import StoredFile
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.policy import UploadSettings, WriteMode

#: 2026-11-21T10:30:00Z, in seconds since 1970.
NOW = 1_795_257_000.0

#: That time in the name of a version.
STAMP = "2026-11-21T10-30-00Z"


class Store:
    """A directory in which each upload is kept as a version.

    @ivar now: the time of the next commit, in seconds since 1970.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = NOW

    def open(self, name: str = "f", keep: int | None = None, quota: Quota | None = None) -> Upload:
        """Return an upload that is not committed yet."""
        rules = UploadRules(str(self.root), KeptVersions(keep, lambda: self.now), 0o644, quota)
        target = resolve(str(self.root), name, allow_missing=True, is_end=is_version_link)
        return Upload(target, rules)

    def upload(self, octets: bytes, name: str = "f", keep: int | None = None) -> None:
        """Store a file."""
        commit(self.open(name, keep), octets)

    @property
    def versions(self) -> dict[str, bytes]:
        """The versions, without the name of the file: the time and the number, and the content."""
        return {
            path.name.removeprefix("f."): path.read_bytes()
            for path in sorted(self.root.glob("f.2*"))
        }


def commit(upload: Upload, octets: bytes) -> None:
    """Write and commit; discard the upload if that fails."""
    try:
        upload.commit([octets])
    except BaseException:
        upload.discard()
        raise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store; no descriptor or temporary file may be left at the end."""
    yield Store(tmp_path)
    assert open_paths(tmp_path) == []
    assert [name for name in os.listdir(tmp_path) if is_temporary(name)] == []


def test_upload_is_kept_under_its_time_and_the_name_is_a_link_to_it(store: Store) -> None:
    """The link is relative; the version has the mode of uploads."""
    store.upload(b"one")
    assert os.readlink(store.root / "f") == f"f.{STAMP}"
    assert store.versions == {STAMP: b"one"}
    assert stat.S_IMODE((store.root / f"f.{STAMP}").stat().st_mode) == 0o644


def test_commit_tells_the_path_of_the_version(store: Store) -> None:
    """The link may lead to a newer version before somebody uses the path."""
    path = os.fsencode(store.root / f"f.{STAMP}")
    assert store.open().commit([b"one"]) == StoredFile(path)
    assert store.open().commit([b"two"]) == StoredFile(path + b"-2")


def test_uploads_of_one_second_are_numbered(store: Store) -> None:
    """The first one has no number, the second one has `-2`; the link leads to the last one."""
    for number in range(1, 12):
        store.upload(b"%d" % number)
        assert (store.root / "f").read_bytes() == b"%d" % number
    assert store.versions == {
        STAMP: b"1",
        **{f"{STAMP}-{number}": b"%d" % number for number in range(2, 12)},
    }


def test_time_is_that_of_the_commit(store: Store) -> None:
    """An upload that takes long gets the time at which it is complete."""
    upload = store.open()
    store.now += 65
    commit(upload, b"x")
    assert list(store.versions) == ["2026-11-21T10-31-05Z"]


@pytest.mark.parametrize("way", WAYS)
def test_readers_get_the_newest_version(way: str, tmp_path: Path) -> None:
    """A version can be read by its own name too; both ways to open a file find it."""
    lookup = lookup_for(tmp_path, way)
    backend = FilesystemBackend(str(tmp_path), "version", in_thread=maybeDeferred, lookup=lookup)
    for octets in (b"old", b"new"):
        upload_through(backend, "/f", octets)
        for _ in range(2):
            assert octets_of(backend, "f") == octets
    old = next(path.name for path in tmp_path.glob("f.*") if path.read_bytes() == b"old")
    assert octets_of(backend, old) == b"old"


def test_rules_of_a_request_bring_the_mode_and_how_many_to_keep(tmp_path: Path) -> None:
    """The backend's own mode is `never`."""
    backend = FilesystemBackend(str(tmp_path), in_thread=maybeDeferred)
    rules = UploadSettings(WriteMode.VERSION, keep=2, make_dirs=True)
    for _ in range(4):
        writer = value(backend.open_writer("a/f", write_context("a/f", uploads=rules)))
        value(writer.commit())
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_backend_can_keep_versions_itself(tmp_path: Path) -> None:
    """`keep` is an argument of the backend, too."""
    backend = FilesystemBackend(str(tmp_path), "version", keep=1, in_thread=maybeDeferred)
    for octets in (b"old", b"new"):
        upload_through(backend, "f", octets)
    [version] = tmp_path.glob("f.*")
    assert version.read_bytes() == b"new"


# -- the versions that are kept --------------------------------------------------------------


def test_oldest_versions_are_removed(store: Store) -> None:
    """They are sorted by time and number, not as text: `-10` comes after `-9`."""
    for number in range(1, 12):
        store.upload(b"%d" % number)
    store.upload(b"12", keep=4)
    assert sorted(store.versions.values(), key=int) == [b"9", b"10", b"11", b"12"]
    store.now += 3600
    store.upload(b"13", keep=3)
    assert sorted(store.versions.values(), key=int) == [b"11", b"12", b"13"]


def test_numbers_go_on_although_earlier_versions_of_the_second_were_removed(store: Store) -> None:
    """A number that became free is not used again in this second: the order would be wrong."""
    for number in range(1, 7):
        store.upload(b"%d" % number, keep=2)
    assert store.versions == {f"{STAMP}-5": b"5", f"{STAMP}-6": b"6"}


@pytest.mark.parametrize("keep", [1, 2])
def test_new_version_is_kept_although_the_clock_was_set_back(store: Store, keep: int) -> None:
    """The name leads to the last upload, whatever the times are."""
    store.upload(b"old")
    store.now -= 86400
    store.upload(b"new", keep=keep)
    assert (store.root / "f").read_bytes() == b"new"
    assert len(store.versions) == keep


@pytest.mark.parametrize(
    "similar",
    [
        "f.2020-13-01T00-00-00Z",
        "f.2020-02-30T00-00-00Z",
        "f.2020-01-01T00-00-00Z-1",
        "f.2020-01-01T00-00-00Z-02",
        "f.2020-01-01T00-00-00Z-",
        "f.2020-01-01T00-00-00Z-2.bak",
        "f.2020-01-01T00-00-00",
        "f.2020-1-1T00-00-00Z",
        "F.2020-01-01T00-00-00Z",
        "ff.2020-01-01T00-00-00Z",
        "g.f.2020-01-01T00-00-00Z",
        "f.x.2020-01-01T00-00-00Z",
        "f.2020-01-01T00-00-00Z.2020-01-01T00-00-00Z",
        "f.2020-01-01T00-00-00Z\n",
    ],
)
def test_file_that_only_looks_similar_is_not_removed(store: Store, similar: str) -> None:
    """Names with wrong dates or numbers, and versions of other files, stay."""
    (store.root / similar).write_bytes(b"x")
    for _ in range(3):
        store.upload(b"new", keep=1)
    assert (store.root / similar).read_bytes() == b"x"
    assert f"{STAMP}-3" in store.versions


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_something_else_with_the_name_of_a_version_is_not_removed(store: Store, kind: str) -> None:
    """It is not counted as a version either."""
    path = store.root / "f.2020-01-01T00-00-00Z"
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)
    for number in range(3):
        store.upload(b"%d" % number, keep=2)
    assert os.path.lexists(path)
    regular = [each.read_bytes() for each in store.root.glob("f.2*") if each.is_file()]
    assert sorted(regular) == [b"1", b"2"]


def test_name_of_a_version_that_is_taken_is_not_replaced(store: Store) -> None:
    """A file that the operator has made stays as it is; the upload gets the next number."""
    (store.root / f"f.{STAMP}").write_bytes(b"the operator's")
    store.upload(b"new")
    assert store.versions == {STAMP: b"the operator's", f"{STAMP}-2": b"new"}


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        f"f.{STAMP}",
        f"f.{STAMP}-2",
        f"sub/f.{STAMP}",
        "f.2020-13-01T00-00-00Z",
        "f.2020-01-01T00-00-00Z-007",
        f"f.{STAMP}/f",
        ".tftp-upload-0123456789abcdef",
        ".tftp-link-0123456789abcdef",
    ],
)
def test_name_that_looks_like_a_version_can_not_be_uploaded(store: Store, name: str) -> None:
    """The names of temporary files and links are refused too."""
    (store.root / "sub").mkdir()
    error = error_of(lambda: store.upload(b"x", name))
    assert isinstance(error, AccessViolation)
    assert "that name is" in error.message
    assert os.listdir(store.root) == ["sub"]


@pytest.mark.parametrize("length", [228, 229, 255, 256])
def test_name_that_is_too_long_for_versions_is_refused_at_once(store: Store, length: int) -> None:
    """The names of its versions may have 255 octets; nothing fails after the transfer."""
    if length <= 228:
        store.upload(b"x", "f" * length)
        assert (store.root / ("f" * length)).read_bytes() == b"x"
    else:
        error = error_of(lambda: store.upload(b"x", "f" * length))
        assert isinstance(error, AccessViolation | FileNotFound)
        assert os.listdir(store.root) == []


def test_octets_of_a_name_are_kept(store: Store) -> None:
    """A name need not be UTF-8."""
    store.upload(b"x", "caf\udce9", keep=1)
    store.upload(b"y", "caf\udce9", keep=1)
    assert sorted(os.listdir(os.fsencode(store.root))) == [
        b"caf\xe9",
        b"caf\xe9." + STAMP.encode() + b"-2",
    ]


@given(st.binary(min_size=1, max_size=40), st.integers(1, 120))
def test_name_of_a_version_is_parsed(file: bytes, number: int) -> None:
    """Each name that is made is recognised, with the same file, time and number."""
    version = Version(STAMP, number)
    name = version.name_of(file)
    assert parse(name) == (file, version)
    assert looks_like_version(name)
    assert is_version_link(file, name)
    assert not is_version_link(b"x" + file, name)


@pytest.mark.parametrize("number", ["-0", "-1", "-02", "-"])
def test_number_that_is_written_in_another_way_is_no_version(number: str) -> None:
    """It would be the name of a version that exists already."""
    assert parse(f"f.{STAMP}{number}".encode()) is None


def test_link_in_the_middle_of_a_path_is_followed(store: Store) -> None:
    """Only the last component is a link to a version, whatever the others look like."""
    (store.root / f"d.{STAMP}").mkdir()
    (store.root / "d").symlink_to(f"d.{STAMP}")
    store.upload(b"x", "d/f")
    assert (store.root / f"d.{STAMP}" / "f").read_bytes() == b"x"
    assert os.readlink(store.root / "d") == f"d.{STAMP}"


def test_directories_are_made(store: Store) -> None:
    """Version and link get their names in a new directory."""
    store.upload(b"x", "a/b/f")
    assert os.readlink(store.root / "a" / "b" / "f") == f"f.{STAMP}"
    assert (store.root / "a" / "b" / "f").read_bytes() == b"x"


# -- what has the name already ---------------------------------------------------------------


def test_existing_file_becomes_the_first_version(store: Store) -> None:
    """Its time is that of its last change, and its content and mode stay."""
    (store.root / "f").write_bytes(b"before")
    (store.root / "f").chmod(0o600)
    os.utime(store.root / "f", (NOW - 60, NOW - 60))
    store.upload(b"new")
    assert store.versions == {"2026-11-21T10-29-00Z": b"before", STAMP: b"new"}
    assert (store.root / "f").read_bytes() == b"new"
    assert stat.S_IMODE((store.root / "f.2026-11-21T10-29-00Z").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("changed", "version"), [(NOW + 9999, STAMP), (-9999, "1970-01-01T00-00-00Z")]
)
def test_existing_file_with_an_odd_time_becomes_a_version(
    store: Store, changed: float, version: str
) -> None:
    """Its time is never after that of the upload."""
    (store.root / "f").write_bytes(b"before")
    os.utime(store.root / "f", (changed, changed))
    store.upload(b"new")
    assert (store.root / f"f.{version}").read_bytes() == b"before"
    assert (store.root / "f").read_bytes() == b"new"


def test_existing_file_that_a_crash_left_as_a_version_does_not_become_another(
    store: Store,
) -> None:
    """A crash may come after the file has got the name of a version, and before the link."""
    (store.root / "f").write_bytes(b"before")
    os.link(store.root / "f", store.root / "f.2020-01-01T00-00-00Z")
    store.upload(b"new")
    assert store.versions == {"2020-01-01T00-00-00Z": b"before", STAMP: b"new"}


def test_existing_file_stays_if_it_can_not_become_a_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links, the upload is refused, and the operator's log says why."""

    def no_links(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    (store.root / "f").write_bytes(b"before")
    monkeypatch.setattr(os, "link", no_links)
    error = error_of(lambda: store.upload(b"new"))
    assert isinstance(error, FileAlreadyExists)
    assert "can't become a version" in error.detail
    assert {path.name: path.read_bytes() for path in store.root.iterdir()} == {"f": b"before"}


def test_file_made_during_the_upload_becomes_a_version(store: Store) -> None:
    """What another program has stored meanwhile is not lost."""
    upload = store.open()
    (store.root / "f").write_bytes(b"another")
    os.utime(store.root / "f", (NOW - 1, NOW - 1))
    commit(upload, b"new")
    assert sorted(store.versions.values()) == [b"another", b"new"]


def test_directory_is_not_replaced(store: Store) -> None:
    """Neither one that exists at the start nor one that is made meanwhile."""
    upload = store.open()
    (store.root / "f").mkdir()
    for refused in (lambda: commit(upload, b"x"), lambda: store.upload(b"x")):
        assert isinstance(error_of(refused), AccessViolation)
    assert os.listdir(store.root) == ["f"]


def test_other_links_are_followed(store: Store) -> None:
    """A link that the operator has made leads to the file whose versions are kept."""
    (store.root / "sub").mkdir()
    (store.root / "link").symlink_to("sub/f")
    for octets in (b"one", b"two"):
        store.upload(octets, "link")
    assert os.readlink(store.root / "link") == "sub/f"
    assert sorted(os.listdir(store.root / "sub")) == ["f", f"f.{STAMP}", f"f.{STAMP}-2"]
    assert (store.root / "link").read_bytes() == b"two"


def test_link_to_a_version_that_was_removed_is_replaced(store: Store) -> None:
    """The operator may have removed the newest version."""
    store.upload(b"one")
    (store.root / f"f.{STAMP}").unlink()
    store.upload(b"two")
    assert (store.root / "f").read_bytes() == b"two"


def test_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    """Nothing is written outside, and the link stays."""
    (tmp_path / "root").mkdir()
    store = Store(tmp_path / "root")
    (store.root / "f").symlink_to("../outside")
    assert isinstance(error_of(lambda: store.upload(b"x")), AccessViolation)
    assert os.readlink(store.root / "f") == "../outside"
    assert os.listdir(tmp_path) == ["root"]


# -- several uploads at once, and the quota --------------------------------------------------


def test_two_uploads_of_one_name_are_both_kept(store: Store) -> None:
    """The name leads to the one that was committed last."""
    first, second = store.open(), store.open()
    commit(second, b"second")
    commit(first, b"first")
    assert sorted(store.versions.values()) == [b"first", b"second"]
    assert (store.root / "f").read_bytes() == b"first"


def test_commits_in_many_threads_are_all_kept(store: Store) -> None:
    """In the end the name leads to the version with the highest number."""
    uploads = [store.open() for _ in range(24)]
    threads = [
        threading.Thread(target=commit, args=(upload, b"%d" % number))
        for number, upload in enumerate(uploads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, store.versions.values())) == list(range(24))
    assert os.readlink(store.root / "f") == f"f.{STAMP}-24"


def test_versions_count_against_the_quota(store: Store) -> None:
    """All versions count; those that are removed make room."""
    quota = Quota(str(store.root), 10)
    for _ in range(2):
        commit(store.open(quota=quota), b"1234")
    with pytest.raises(DiskFull):
        commit(store.open(quota=quota), b"1234")
    commit(store.open(quota=quota, keep=1), b"12")
    for _ in range(5):
        commit(store.open(quota=quota, keep=1), b"12345")
    assert list(store.versions.values()) == [b"12345"]


# -- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("call", ["symlink", "rename", "fsync", "link", "listdir"])
def test_failed_commit_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, existing: bool
) -> None:
    """The name leads to the same version as before, and nothing of the upload is left."""
    if existing:
        (store.root / "f").write_bytes(b"old")
    else:
        store.upload(b"old")
    before = sorted(os.listdir(store.root))
    upload = store.open(keep=1)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        with pytest.raises(OSError, match="broken"):
            upload.commit([b"new"])
        upload.discard()
    assert sorted(os.listdir(store.root)) == before
    assert (store.root / "f").read_bytes() == b"old"


def test_failed_removal_of_an_old_version_does_not_fail_the_upload(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version stays until the next upload."""
    store.upload(b"old")
    really = os.unlink

    def refusing(path: Any, **kwargs: Any) -> None:
        if STAMP in os.fsdecode(path):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        really(path, **kwargs)

    monkeypatch.setattr(os, "unlink", refusing)
    store.upload(b"new", keep=1)
    monkeypatch.undo()
    assert (store.root / "f").read_bytes() == b"new"
    assert len(store.versions) == 2


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_system_without_symbolic_links_is_refused_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The client gets ERROR 2 for its request (vfat); the log says why."""

    def no_links(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", no_links)
    error = error_of(store.open)
    assert isinstance(error, AccessViolation)
    assert error.message == "this server can't keep versions"
    assert "no symbolic links" in error.detail
    assert os.listdir(store.root) == []


def test_versions_are_kept_without_hard_links(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file is renamed, and no version is replaced."""

    def no_links(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    for octets in (b"one", b"two"):
        store.upload(octets)
    assert store.versions == {STAMP: b"one", f"{STAMP}-2": b"two"}
    assert (store.root / "f").read_bytes() == b"two"


def test_link_that_the_start_of_a_server_removes_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links have no locks, so the removal of leftovers can't see that one is needed."""
    rename, sweeps = os.rename, [1]

    def after_a_sweep(*args: Any, **kwargs: Any) -> None:
        if sweeps:
            sweeps.pop()
            assert remove_temporary_files(str(store.root)) == 0
        rename(*args, **kwargs)

    monkeypatch.setattr(os, "rename", after_a_sweep)
    store.upload(b"new")
    assert (store.root / "f").read_bytes() == b"new"


def test_leftover_links_are_removed(store: Store) -> None:
    """Other files with such a name stay."""
    names = [temporary_link_name() for _ in range(2)]
    (store.root / names[0]).symlink_to(f"f.{STAMP}")
    (store.root / names[1]).mkdir()
    assert remove_temporary_files(str(store.root)) == 0
    assert os.listdir(store.root) == [names[1]]
    (store.root / names[1]).rmdir()


@pytest.mark.parametrize("mode", ["rx", "wx"])
def test_directory_without_permissions_is_refused_at_once(unprivileged: Path, mode: str) -> None:
    """Versions need write permission, to be created, and read permission, to be listed."""
    directory = unprivileged / "versions"
    directory.mkdir()
    directory.chmod(0o500 if mode == "rx" else 0o300)
    backend = FilesystemBackend(str(directory), "version", in_thread=maybeDeferred)
    try:
        error = error_of(lambda: backend.open_writer("f", request_context()))
    finally:
        directory.chmod(0o700)
    assert isinstance(error, AccessViolation)
    assert ("writable" if mode == "rx" else "readable") in error.detail
    assert os.listdir(directory) == []


# -- crashes ---------------------------------------------------------------------------------

#: The calls that change names or make them durable.
CHANGING = ("link", "symlink", "rename", "unlink", "fsync")


def recording(patch: pytest.MonkeyPatch, record: Callable[[str, Any], None]) -> None:
    """Call `record` with the name and the first argument of each call of `CHANGING`."""

    def recorded(name: str) -> Callable[..., Any]:
        really = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            record(name, args[0])
            return really(*args, **kwargs)

        return call

    for name in CHANGING:
        patch.setattr(os, name, recorded(name))


def test_each_step_is_durable_before_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is: content, name of the version, link, removal of old versions."""
    store.upload(b"old")
    steps: list[str] = []

    def record(call: str, argument: Any) -> None:
        if call == "fsync":
            is_directory = stat.S_ISDIR(os.fstat(argument).st_mode)
            steps.append("sync directory" if is_directory else "sync content")
        elif call == "unlink":
            is_temporary_file = is_temporary(os.fsdecode(argument))
            steps.append("remove temporary" if is_temporary_file else "remove version")
        else:
            steps.append(call)

    upload = store.open(keep=1)
    with monkeypatch.context() as patch:
        recording(patch, record)
        upload.commit([b"new"])
    steps.remove("remove temporary")
    assert steps == [
        *("sync content", "link", "sync directory", "symlink", "rename"),
        *("sync directory", "remove version"),
    ]


@pytest.mark.parametrize("before", ["nothing", "a file", "a link"])
def test_killed_process_leaves_complete_versions_and_a_link_to_one(
    tmp_path: Path, before: str
) -> None:
    """A process ends before each call of a commit in turn; the next upload then succeeds."""
    for step in range(20):
        root = tmp_path / str(step)
        root.mkdir()
        store = Store(root)
        if before == "a file":
            (root / "f").write_bytes(b"old")
        elif before == "a link":
            store.upload(b"old")
        child = os.fork()
        if not child:
            killed_at(step, store)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = (root / "f").read_bytes() if os.path.lexists(root / "f") else None
        if status == 0:
            assert found == b"new"
            break
        assert status == 3
        assert found in ((None if before == "nothing" else b"old"), b"new")
        assert set(store.versions.values()) <= {b"old", b"new"}
        remove_temporary_files(str(root))
        assert [name for name in os.listdir(root) if is_temporary(name)] == []
        store.now += 60
        store.upload(b"next", keep=9)
        assert (root / "f").read_bytes() == b"next"
        if before != "nothing":
            assert list(store.versions.values()).count(b"old") == 1
    else:
        raise AssertionError("the commit never ended")
    assert step > 6


def killed_at(step: int, store: Store) -> None:
    """Store a file in this process, and end it before the call number `step`: status 3."""
    calls = 0

    def record(call: str, argument: Any) -> None:
        nonlocal calls
        if calls == step:
            os._exit(3)
        calls += 1

    try:
        upload = store.open(keep=2)
        recording(pytest.MonkeyPatch(), record)
        upload.commit([b"new"])
        os._exit(0)
    finally:
        os._exit(4)
