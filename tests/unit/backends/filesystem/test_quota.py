"""Tests of the quota: uploads make the files below the root grow to a limit and no further."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import error_of, request_context, upload
from tests.support.deferreds import value
from tests.support.served_root import deep_root as deep_root
from tests.support.served_root import temporary_files
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.filesystem.writer import WRITE_SIZE
from twisted_tftp.errors import DiskFull


def serving(root: Path, quota: int, write: str = "overwrite") -> FilesystemBackend:
    """Return a backend whose clock stands still.

    A measurement takes no time then, so there is no pause before the next one.
    """
    return FilesystemBackend(
        str(root), write, quota=quota, in_thread=maybeDeferred, clock=lambda: 0.0
    )


def test_existing_files_count(tmp_path: Path) -> None:
    """Hard links count once; links to other places and temporary files do not count."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(600))
    os.link(tmp_path / "deep" / "er" / "file", tmp_path / "link")
    (tmp_path / "symbolic").symlink_to("/etc/passwd")
    (tmp_path / ".tftp-upload-0123456789abcdef").write_bytes(bytes(5000))
    backend = serving(tmp_path, 1000)
    upload(backend, "a", bytes(400))
    with pytest.raises(DiskFull, match="quota"):
        upload(backend, "b", b"x")
    (tmp_path / ".tftp-upload-0123456789abcdef").unlink()
    assert temporary_files(tmp_path) == []
    assert not (tmp_path / "b").exists()


def test_very_deep_tree_can_be_measured(deep_root: Path) -> None:
    """An upload is not refused because the measurement fails."""
    backend = serving(deep_root, 1000)
    upload(backend, "file", bytes(600))
    with pytest.raises(DiskFull, match="quota"):
        upload(backend, "other", bytes(600))
    (deep_root / "file").unlink()


def test_replaced_file_does_not_count(tmp_path: Path) -> None:
    """A file that is uploaded again and again counts once."""
    backend = serving(tmp_path, 1000)
    for size in (600, 300, 400, 0, 500):
        upload(backend, "config", bytes(size))
    upload(backend, "other", bytes(500))
    assert isinstance(error_of(lambda: upload(backend, "third", b"x")), DiskFull)


def test_announced_size_above_the_quota_is_refused_at_the_open(
    tmp_path: Path,
) -> None:
    """The client gets the error before it sends data."""
    backend = serving(tmp_path, 1000)
    with pytest.raises(DiskFull):
        value(backend.open_writer("new", request_context(1001)))
    assert list(tmp_path.iterdir()) == []
    value(value(backend.open_writer("new", request_context(1000))).abort())


def test_running_uploads_share_the_quota(tmp_path: Path) -> None:
    """Together they stay within it; an abort frees what the upload used."""
    backend = serving(tmp_path, 1_000_000)
    one, two = (value(backend.open_writer(name, request_context())) for name in ("one", "two"))
    value(one.write(bytes(600_000)))
    value(two.write(bytes(600_000)))  # an error in the thread fails the next call
    with pytest.raises(DiskFull):
        value(two.commit())
    value(two.abort())
    value(one.abort())
    upload(backend, "three", bytes(1_000_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three"]


def test_full_tree_is_measured_again(tmp_path: Path) -> None:
    """An upload that does not fit starts a measurement, unless the last one was too recent."""
    now = [0.0]
    octets = [800]

    def measure(root: str) -> int:
        now[0] += 2.0
        return octets[0]

    quota = Quota(str(tmp_path), 1000, lambda: now[0], measure)
    with pytest.raises(DiskFull):
        quota.check(500)
    octets[0] = 0
    now[0] += 19.0
    with pytest.raises(DiskFull):
        quota.check(500)
    now[0] += 1.0
    quota.check(500)


def test_upload_of_unknown_size_uses_room_that_was_freed(tmp_path: Path) -> None:
    """Files that somebody deletes make room, before the upload and during it."""
    backend = serving(tmp_path, 1000)
    (tmp_path / "old").write_bytes(bytes(1000))
    with pytest.raises(DiskFull):
        value(backend.open_writer("new", request_context()))
    (tmp_path / "old").unlink()
    writer = value(backend.open_writer("new", request_context()))
    (tmp_path / "old").write_bytes(bytes(900))
    value(writer.write(bytes(200)))
    (tmp_path / "old").unlink()
    value(writer.commit())
    assert (tmp_path / "new").stat().st_size == 200


def test_replacing_a_hard_link_frees_nothing(tmp_path: Path) -> None:
    """The octets stay in use under the other name of the file."""
    (tmp_path / "one").write_bytes(bytes(900))
    os.link(tmp_path / "one", tmp_path / "two")
    backend = serving(tmp_path, 1000)
    upload(backend, "one", bytes(50))
    with pytest.raises(DiskFull):
        upload(backend, "three", bytes(100))


def test_file_replaced_many_times_fits(
    tmp_path: Path,
) -> None:
    """If the upload fits without the replaced files, the tree is measured even if that is slow."""
    now = [0.0]

    def measure(root: str) -> int:
        now[0] += 5.0
        return 40

    quota = Quota(str(tmp_path), 100, lambda: now[0], measure)
    for _ in range(6):
        quota.check(40)
        quota.reserve(40)
        quota.commit(40, 40)
        now[0] += 2.0
    with pytest.raises(DiskFull):
        quota.check(61)


def test_written_upload_can_be_committed_in_a_full_tree(tmp_path: Path) -> None:
    """Other programs may fill the tree before the commit: the commit needs no more room."""
    backend = serving(tmp_path, WRITE_SIZE + 1)
    writer = value(backend.open_writer("new", request_context()))
    value(writer.write(bytes(WRITE_SIZE)))  # enough for a thread, which writes them now
    (tmp_path / "other").write_bytes(bytes(5 * WRITE_SIZE))
    backend.forget()
    with pytest.raises(DiskFull):
        value(backend.open_writer("another", request_context(1)))
    value(writer.commit())
    assert (tmp_path / "new").stat().st_size == WRITE_SIZE


def test_quota_holds_with_many_threads(tmp_path: Path) -> None:
    """Threads that ask at the same time never get more than the quota together."""
    quota = Quota(str(tmp_path), 10_000)
    quota.check(1)
    held: list[int] = []

    def reserve() -> None:
        for _ in range(1000):
            try:
                quota.reserve(7)
            except DiskFull:
                return
            held.append(7)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=reserve) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sum(held) == 10_000 // 7 * 7


def test_files_of_other_programs_count_after_a_minute(tmp_path: Path) -> None:
    """The tree is measured at intervals, and not for each upload."""
    now = [0.0]
    quota = Quota(str(tmp_path), 1000, lambda: now[0])
    quota.check(1000)
    (tmp_path / "new").write_bytes(bytes(800))
    now[0] = 59.0
    quota.check(1000)
    now[0] = 60.0
    with pytest.raises(DiskFull):
        quota.check(1000)


def test_upload_committed_during_a_measurement_counts(
    tmp_path: Path,
) -> None:
    """The measurement may have missed the file, so it is added."""
    now = [0.0]
    committed: list[bool] = []

    def measure(root: str) -> int:
        if not committed:
            committed.append(True)
            quota.commit(700, 0)
            now[0] += 1.0
        return 0

    quota = Quota(str(tmp_path), 1000, lambda: now[0], measure)
    quota.reserve(700)
    with pytest.raises(DiskFull):
        quota.check(400)


def test_second_upload_waits_for_a_running_measurement(
    tmp_path: Path,
) -> None:
    """Two uploads at once cause one measurement, and its result holds for both."""
    measuring, go_on = threading.Event(), threading.Event()
    now = [0.0]
    measured = []

    def measure(root: str) -> int:
        measured.append(root)
        measuring.set()
        go_on.wait(30)
        now[0] += 1.0  # so that the next measurement is not due before `now` is 11
        return 1000

    quota = Quota(str(tmp_path), 1000, lambda: now[0], measure)
    refused: list[DiskFull] = []

    def check() -> None:
        try:
            quota.check(1)
        except DiskFull as error:
            refused.append(error)

    threads = [threading.Thread(target=check) for _ in range(2)]
    threads[0].start()
    measuring.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 2
    assert len(measured) == 1
