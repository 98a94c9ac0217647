"""The files of a tree grow through uploads up to a bound, and no further."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.deferreds import value
from tests.support.filesystem import asking, leftovers, refusal, upload
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


def test_files_that_are_there_count(tmp_path: Path) -> None:
    """What operators put there, links of one file once, and no links to elsewhere."""
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
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "b").exists()


def test_file_that_replaces_another_takes_its_room(tmp_path: Path) -> None:
    """A configuration that a switch writes each night counts once."""
    backend = serving(tmp_path, 1000)
    for size in (600, 300, 400, 0, 500):
        upload(backend, "config", bytes(size))
    upload(backend, "other", bytes(500))
    assert isinstance(refusal(lambda: upload(backend, "third", b"x")), DiskFull)


def test_announced_size_above_the_quota_is_refused_before_an_octet_is_sent(
    tmp_path: Path,
) -> None:
    """The client is told at once."""
    backend = serving(tmp_path, 1000)
    with pytest.raises(DiskFull):
        value(backend.open_writer("new", asking(1001)))
    assert list(tmp_path.iterdir()) == []
    value(value(backend.open_writer("new", asking(1000))).abort())


def test_uploads_under_way_share_the_quota(tmp_path: Path) -> None:
    """Together they do not pass it; one that fails gives its part back."""
    backend = serving(tmp_path, 1_000_000)
    one, two = (value(backend.open_writer(name, asking())) for name in ("one", "two"))
    value(one.write(bytes(600_000)))
    value(two.write(bytes(600_000)))  # what fails there fails the next call
    with pytest.raises(DiskFull):
        value(two.commit())
    value(two.abort())
    value(one.abort())
    upload(backend, "three", bytes(1_000_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three"]


def test_room_that_somebody_made_is_seen(tmp_path: Path) -> None:
    """What does not fit has the tree measured again, unless that takes more than its share."""
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


def test_upload_without_a_size_finds_the_room_that_was_made(tmp_path: Path) -> None:
    """When it is opened, and while its octets come."""
    backend = serving(tmp_path, 1000)
    (tmp_path / "old").write_bytes(bytes(1000))
    with pytest.raises(DiskFull):
        value(backend.open_writer("new", asking()))
    (tmp_path / "old").unlink()
    writer = value(backend.open_writer("new", asking()))
    (tmp_path / "old").write_bytes(bytes(900))
    value(writer.write(bytes(200)))
    (tmp_path / "old").unlink()
    value(writer.commit())
    assert (tmp_path / "new").stat().st_size == 200


def test_replacing_one_name_of_a_file_frees_nothing(tmp_path: Path) -> None:
    """Its other names keep the octets; and of two that replace one file, one frees it."""
    (tmp_path / "one").write_bytes(bytes(900))
    os.link(tmp_path / "one", tmp_path / "two")
    backend = serving(tmp_path, 1000)
    upload(backend, "one", bytes(50))
    with pytest.raises(DiskFull):
        upload(backend, "three", bytes(100))


def test_file_that_is_replaced_again_and_again_fits(
    tmp_path: Path,
) -> None:
    """Where what was replaced would make the room, a slow measurement is made all the same."""
    now = [0.0]

    def measure(root: str) -> int:
        now[0] += 5.0
        return 40

    quota = Quota(str(tmp_path), 100, lambda: now[0], measure)
    for _ in range(6):
        quota.check(40)
        quota.hold(40)
        quota.commit(40, 40)
        now[0] += 2.0
    with pytest.raises(DiskFull):
        quota.check(61)


def test_upload_that_was_given_its_room_is_not_refused_it(tmp_path: Path) -> None:
    """Somebody else has filled the tree before the commit, which asks for no more."""
    backend = serving(tmp_path, WRITE_SIZE + 1)
    writer = value(backend.open_writer("new", asking()))
    value(writer.write(bytes(WRITE_SIZE)))  # so many octets are written at once
    (tmp_path / "other").write_bytes(bytes(5 * WRITE_SIZE))
    backend.forget()
    with pytest.raises(DiskFull):
        value(backend.open_writer("another", asking(1)))
    value(writer.commit())
    assert (tmp_path / "new").stat().st_size == WRITE_SIZE


def test_uploads_of_many_threads_pass_no_quota(tmp_path: Path) -> None:
    """What one thread has been given no other one gets."""
    quota = Quota(str(tmp_path), 10_000)
    quota.check(1)
    held: list[int] = []

    def hold() -> None:
        for _ in range(1000):
            try:
                quota.hold(7)
            except DiskFull:
                return
            held.append(7)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hold) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sum(held) == 10_000 // 7 * 7


def test_what_others_wrote_is_seen_after_a_minute(tmp_path: Path) -> None:
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


def test_upload_that_ends_while_the_tree_is_measured_counts(
    tmp_path: Path,
) -> None:
    """It may not have been seen, so it is added."""
    now = [0.0]
    committed: list[bool] = []

    def measure(root: str) -> int:
        if not committed:
            committed.append(True)
            quota.commit(700, 0)
            now[0] += 1.0
        return 0

    quota = Quota(str(tmp_path), 1000, lambda: now[0], measure)
    quota.hold(700)
    with pytest.raises(DiskFull):
        quota.check(400)


def test_upload_waits_for_the_first_measurement(
    tmp_path: Path,
) -> None:
    """Two that come at once are both held against what is there."""
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
