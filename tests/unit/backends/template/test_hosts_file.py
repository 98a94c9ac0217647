"""Tests of the hosts file on disk: it is read again when it changes, and never in the reactor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface.verify import verifyObject

from tests.support.deferreds import results_of, value
from tests.support.logs import captured_log
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.template import hosts_file
from twisted_tftp.backends.template.hosts import IHostSource, Machine
from twisted_tftp.backends.template.hosts_file import LOOK_INTERVAL, HostsFile
from twisted_tftp.errors import BackendUnavailable

#: A request for the entry `node1`.
NODE1 = Machine(None, None, None, "192.0.2.9", "node1", is_named=False)


class Threads:
    """Functions that a test runs later, instead of threads."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Add a function."""
        result: Deferred[Any] = Deferred()
        self.calls.append((result, lambda: function(*args)))
        return result

    def run(self) -> None:
        """Run the functions that were added."""
        calls, self.calls = self.calls, []
        for result, call in calls:
            maybeDeferred(call).chainDeferred(result)


class Served:
    """A hosts file, with clocks that the test sets."""

    def __init__(self, path: Path, *, kind: str = "ext4", in_thread: Any = maybeDeferred) -> None:
        self.path = path
        self.now = 1000.0
        self.wall_clock = 0.0
        lookup = KernelLookup(str(path.parent), lambda device: kind)
        self.hosts = HostsFile(
            str(path),
            in_thread=in_thread,
            lookup=lookup,
            monotonic=lambda: self.now,
            wall_clock=lambda: self.wall_clock,
        )

    def write(self, text: str, *, age: float = 100.0) -> None:
        """Write the file; it looks as if that was `age` seconds ago."""
        self.path.write_text(text)
        self.wall_clock = self.path.stat().st_ctime + age

    def role(self) -> Any:
        """Return the role of the machine `node1`."""
        answer = value(self.hosts.find(NODE1))
        return json.loads(answer.entry)["role"] if answer.entry else answer.problem


@pytest.fixture(params=["ext4", "nfs"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    """Return a hosts file on a local file system, or on one where each look needs a thread."""
    served = Served(tmp_path / "hosts.toml", kind=request.param)
    served.write("[node1]\nrole = 'old'\n")
    return served


def test_change_is_seen(served: Served) -> None:
    """At the next request, or on a network file system, a second later."""
    verifyObject(IHostSource, served.hosts)
    served.hosts.check()
    assert served.role() == "old"
    served.write("[node1]\nrole = 'new'\n")
    served.now += LOOK_INTERVAL
    assert served.role() == "new"


def test_second_change_within_a_tick_is_seen(served: Served) -> None:
    """A file that has just changed is read again, even if its time stamp stays."""
    served.write("[node1]\nrole = 'abc'\n", age=0.1)
    served.hosts.check()
    status = served.path.stat()
    with open(served.path, "r+") as file:
        file.write("[node1]\nrole = 'xyz'\n")
    os.utime(served.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    served.hosts._last = served.hosts._last._replace(  # the ctime can't be set back
        identity=hosts_file.identity(served.path.stat())
    )
    assert served.role() == "abc"
    served.now += LOOK_INTERVAL
    assert served.role() == "xyz"


def test_wrong_line_at_the_start_is_one_message(served: Served) -> None:
    """The service does not start."""
    served.write("[node1]\nrole = 'x'\nmac = 'y'\n")
    message = f"hosts file {served.path}, line 3: 'y' is not a MAC address"
    with pytest.raises(BackendUnavailable) as caught:
        served.hosts.check()
    assert str(caught.value) == message


def test_wrong_line_later_keeps_the_old_entries(served: Served) -> None:
    """The log says once why, and says when the file is valid again."""
    served.hosts.check()
    with captured_log() as lines:
        served.write("[node1]\nrole = 'x'\nmac = 'y'\n")
        for _ in range(5):
            served.now += LOOK_INTERVAL
            assert served.role() == "old"
        served.hosts.forget()
        assert served.role() == "old"
        served.write("[node1]\nrole = 'new'\n")
        served.now += LOOK_INTERVAL
        assert served.role() == "new"
    problem = f"hosts file {served.path}, line 3: 'y' is not a MAC address"
    assert lines == [
        f"the old hosts stay in use: {problem}",
        f"hosts file {served.path} is read again",
    ]


def test_removed_file_keeps_the_old_entries(served: Served) -> None:
    """An editor may remove it for a moment."""
    served.hosts.check()
    served.path.unlink()
    with captured_log() as lines:
        for _ in range(3):
            served.now += LOOK_INTERVAL
            assert served.role() == "old"
    problem = f"hosts file {served.path}: No such file or directory"
    assert lines == [f"the old hosts stay in use: {problem}"]
    served.write("[node1]\nrole = 'new'\n")
    served.now += LOOK_INTERVAL
    assert served.role() == "new"


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"a\nb\xff\n", ", line 2: not UTF-8"),
        (b"#" * (hosts_file.MAX_FILE_SIZE + 1), ": larger than 8 MiB"),
    ],
)
def test_file_that_is_no_text_is_refused(tmp_path: Path, octets: bytes, problem: str) -> None:
    """Its size is limited, too."""
    path = tmp_path / "hosts.csv"
    path.write_bytes(octets)
    with pytest.raises(BackendUnavailable) as caught:
        HostsFile(str(path)).check()
    assert str(caught.value) == f"hosts file {path}{problem}"


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    """A FIFO does not block; an unknown extension is a mistake of the configuration."""
    os.mkfifo(tmp_path / "fifo.csv")
    for name, problem in [
        ("fifo.csv", "not a regular file"),
        ("", "hosts file"),
        ("x.csv", "No such file"),
    ]:
        with pytest.raises((BackendUnavailable, ValueError), match=problem):
            HostsFile(str(tmp_path / name)).check()
    with pytest.raises(ValueError, match=r"must end in \.toml, \.yaml, \.yml, \.csv"):
        HostsFile("hosts.ini")


def test_file_is_read_in_one_thread(tmp_path: Path) -> None:
    """Requests wait for one reading together; one that is cancelled does not stop it."""
    threads = Threads()
    served = Served(tmp_path / "hosts.toml", in_thread=threads)
    served.write("[node1]\nrole = 'new'\n")
    first, second = served.hosts.find(NODE1), served.hosts.find(NODE1)
    assert isinstance(first, Deferred)
    assert isinstance(second, Deferred)
    assert len(threads.calls) == 1
    results = results_of(second)
    cancelled = results_of(first)
    first.cancel()
    threads.run()
    assert len(cancelled) == 1
    assert json.loads(results[0].entry)["role"] == "new"
    assert served.role() == "new"
    assert threads.calls == []


def test_file_that_was_never_valid_is_the_problem_of_each_answer(served: Served) -> None:
    """Without a check at the start, requests get the reason."""
    served.write("x = 1")
    assert "must be a table" in served.role()
    assert "must be a table" in served.role()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (MemoryError(), "MemoryError"),
        (RecursionError("a\nb"), "RecursionError: a b"),
        (ValueError("x"), "ValueError: x"),
    ],
)
def test_failure_of_the_parser_is_one_problem(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    """The file is not parsed again until it changes, and the log has one line."""
    served.hosts.check()
    calls = []

    def fail(extension: str, text: str) -> Any:
        calls.append(text)
        raise error

    monkeypatch.setattr(hosts_file, "parse", fail)
    served.write("[node1]\nrole = 'new'\n")
    with captured_log() as lines:
        for _ in range(3):
            served.now += LOOK_INTERVAL
            assert served.role() == "old"
            assert served.role() == "old"
    assert lines == [f"the old hosts stay in use: hosts file {served.path}: {problem}"]
    assert len(calls) == (1 if served.hosts._lookup.find(served.path.name) else 3)
    with pytest.raises(BackendUnavailable, match=problem):
        served.hosts.check()
