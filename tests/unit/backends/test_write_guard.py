"""Tests of the guard of uploads: the rules hold for every backend."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.contexts import read_context, write_context
from tests.support.deferreds import results_of, value
from twisted_tftp.backends import MemoryBackend, ReadOnlyBackend
from twisted_tftp.backends.write_guard import WriteGuard
from twisted_tftp.errors import AccessViolation, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IExplainable,
    IFileBackend,
    IFileWriter,
    IWriteModes,
)
from twisted_tftp.policy import UploadSettings, WriteMode


@implementer(IFileBackend)
class Careless:
    """A backend that accepts every upload and replaces every file."""

    def __init__(self, **files: bytes) -> None:
        self.memory = MemoryBackend(files, "overwrite")
        self.closed = 0

    def open_reader(self, path: str, context: Any) -> Any:
        """Open a file; count the readers that are closed."""
        reader = self.memory.open_reader(path, context)

        class Counted:
            size = reader.size
            read = reader.read

            @staticmethod
            def close() -> None:
                self.closed += 1

        return Counted()

    def open_writer(self, path: str, context: Any) -> Any:
        """Open a file, whatever the rules are."""
        return self.memory.open_writer(path, context._replace(uploads=None))


def rules(mode: WriteMode) -> Any:
    """Return the context of an upload with a write mode."""
    return write_context(uploads=UploadSettings(mode))


def store(backend: Any, name: str, mode: WriteMode, data: bytes = b"new") -> None:
    """Upload a file."""
    writer = value(backend.open_writer(name, rules(mode)))
    value(writer.write(data))
    value(writer.commit())


def test_interfaces_are_implemented() -> None:
    """The guard is a backend that can do what its wrapped one can."""
    guard = WriteGuard(MemoryBackend())
    for interface in (IFileBackend, IBackendLifecycle, IExplainable, IWriteModes):
        verifyObject(interface, guard)
    writer = value(WriteGuard(Careless()).open_writer("f", rules(WriteMode.CREATE)))
    verifyObject(IFileWriter, writer)


def test_reads_cost_no_additional_call() -> None:
    """The method of the wrapped backend is called directly."""
    backend = MemoryBackend()
    assert WriteGuard(backend).open_reader == backend.open_reader


@pytest.mark.parametrize("backend", [Careless(f=b"old"), MemoryBackend({"f": b"old"}, "create")])
@pytest.mark.parametrize("name", ["f", "g"])
def test_nothing_is_written_if_write_is_never(backend: Any, name: str) -> None:
    """The client gets ERROR 2, and the operator the reason."""
    with pytest.raises(AccessViolation, match="does not accept files") as caught:
        WriteGuard(backend).open_writer(name, rules(WriteMode.NEVER))
    assert caught.value.detail == "--write is never"


def test_backend_decides_if_the_request_has_no_rules() -> None:
    """A server that was made in Python may have no rules."""
    guard = WriteGuard(MemoryBackend())
    with pytest.raises(AccessViolation):
        guard.open_writer("f", write_context())
    WriteGuard(MemoryBackend(write="create")).open_writer("f", write_context())


def test_existing_file_is_not_replaced_if_write_is_create() -> None:
    """Also by a backend that would replace it. The file that was found is closed."""
    backend = Careless(f=b"old")
    guard = WriteGuard(backend)
    with pytest.raises(FileAlreadyExists):
        store(guard, "f", WriteMode.CREATE)
    store(guard, "g", WriteMode.CREATE)
    assert backend.memory.files == {"f": b"old", "g": b"new"}
    assert backend.closed == 1


def test_file_that_was_created_meanwhile_is_not_replaced() -> None:
    """The second of two uploads of one name fails at its commit, and can be aborted."""
    backend = Careless()
    guard = WriteGuard(backend)
    first, second = (value(guard.open_writer("f", rules(WriteMode.CREATE))) for _ in range(2))
    for writer, data in ((first, b"first"), (second, b"second")):
        value(writer.write(data))
    value(first.commit())
    with pytest.raises(FileAlreadyExists):
        value(second.commit())
    value(second.abort())
    assert backend.memory.files == {"f": b"first"}


class Slow(Careless):
    """A backend that looks a file up at once, and says later whether it exists."""

    def __init__(self) -> None:
        super().__init__()
        self.opening: list[Deferred[None]] = []

    def open_reader(self, path: str, context: Any) -> Any:
        """Open a file; the result is known when the Deferred in `opening` fires."""
        waiting: Deferred[None] = Deferred()
        self.opening.append(waiting)
        opened = maybeDeferred(super().open_reader, path, context)
        return waiting.addCallback(lambda _: opened)

    def go_on(self) -> None:
        """Let the readers open that were asked for."""
        waiting, self.opening = self.opening, []
        for each in waiting:
            each.callback(None)


def slow_writers(backend: Slow, *names: str) -> list[Any]:
    """Return a writer for each name, all of one guard; each has written its number."""
    guard = WriteGuard(backend)
    opened = [guard.open_writer(name, rules(WriteMode.CREATE)) for name in names]
    backend.go_on()
    writers = [value(each) for each in opened]
    for number, writer in enumerate(writers):
        value(writer.write(b"%d" % number))
    return writers


@pytest.mark.parametrize("other", ["d/f", "/d//f", "./d/./f", "d\\f"])
def test_two_commits_at_a_time_do_not_replace_each_other(other: str) -> None:
    """The second one fails, although the first one has not created the file yet."""
    backend = Slow()
    first, second = slow_writers(backend, "d/f", other)
    commits = [maybeDeferred(writer.commit) for writer in (first, second)]
    results = [results_of(commit) for commit in commits]
    backend.go_on()
    assert results[0] == [None]
    assert isinstance(results[1][0].value, FileAlreadyExists)
    assert backend.memory.files == {"d/f": b"0"}


def test_failed_commit_does_not_keep_others_from_the_name() -> None:
    """Also a commit that was cancelled."""
    backend = Slow()
    first, second = slow_writers(backend, "f", "f")
    commit = first.commit()
    commit.cancel()
    assert isinstance(results_of(commit)[0].value, CancelledError)
    backend.opening.clear()
    other = second.commit()
    backend.go_on()
    assert results_of(other) == [None]
    assert backend.memory.files == {"f": b"1"}


def test_existing_file_is_replaced_if_write_is_overwrite() -> None:
    """The writer of the backend itself is used."""
    backend = Careless(f=b"old")
    store(WriteGuard(backend), "f", WriteMode.OVERWRITE)
    assert backend.memory.files == {"f": b"new"}


@pytest.mark.parametrize("backend", [Careless(), MemoryBackend()])
def test_mode_that_cannot_be_obeyed_is_refused(backend: Any) -> None:
    """No backend keeps versions unless it says so."""
    guard = WriteGuard(backend)
    assert WriteMode.VERSION not in guard.write_modes
    with pytest.raises(AccessViolation) as caught:
        guard.open_writer("f", rules(WriteMode.VERSION))
    assert caught.value.detail == "the backend cannot obey the write mode version"


def test_backend_that_obeys_the_rules_gets_them() -> None:
    """The context is passed on unchanged."""
    backend = MemoryBackend({"f": b"old"})
    guard = WriteGuard(backend)
    with pytest.raises(FileAlreadyExists):
        guard.open_writer("f", rules(WriteMode.CREATE))
    store(guard, "f", WriteMode.OVERWRITE)
    assert backend.files == {"f": b"new"}


@pytest.mark.parametrize(
    ("own", "all_modes"),
    [
        (["overwrite"], {"never", "create", "overwrite"}),
        (["create"], {"never", "create"}),
        (["never"], {"never"}),
        (["version", "never"], {"never", "version"}),
    ],
)
def test_modes_are_those_of_the_backend_and_those_that_follow(
    own: list[str], all_modes: set[str]
) -> None:
    """A backend that replaces files can be made to create them only."""

    @implementer(IFileBackend, IWriteModes)
    class Some(Careless):
        write_modes = tuple(WriteMode(mode) for mode in own)

    guard = WriteGuard(Some(f=b"old"))
    assert guard.write_modes == {WriteMode(mode) for mode in all_modes}
    for mode in set(WriteMode) - guard.write_modes:
        with pytest.raises(AccessViolation):
            guard.open_writer("g", rules(mode))
    if "overwrite" in own:
        with pytest.raises(FileAlreadyExists):
            store(guard, "f", WriteMode.CREATE)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (FileNotFound(), None),
        (FileNotFoundError(2, "no"), None),
        (AccessViolation(), AccessViolation),
        (PermissionError(13, "no"), PermissionError),
        (ValueError(), ValueError),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_only_a_missing_file_may_be_created(error: Exception, result: Any, is_late: bool) -> None:
    """Any other failure to open the file for reading is the answer."""
    backend: Any = Careless()
    answer: Deferred[Any] = Deferred()

    def open_reader(path: str, context: Any) -> Any:
        if is_late:
            return answer
        raise error

    backend.open_reader = open_reader
    found = results_of(WriteGuard(backend).open_writer("f", rules(WriteMode.CREATE)))
    if is_late:
        assert found == []
        answer.errback(error)
    (writer,) = found
    if result is None:
        verifyObject(IFileWriter, writer)
    else:
        assert writer.check(result)


def test_cancellation_reaches_the_backend() -> None:
    """Whether the guard waits for the reader or for the writer."""
    backend: Any = Careless()
    waiting: list[Deferred[Any]] = [Deferred(), Deferred()]
    backend.open_reader = lambda path, context: waiting[0]
    backend.open_writer = lambda path, context: waiting[1]
    for number, deferred in enumerate(waiting):
        waiting[0] = waiting[0] if number == 0 else Deferred()
        opening = WriteGuard(backend).open_writer("f", rules(WriteMode.CREATE))
        found = results_of(opening)
        if number == 1:
            waiting[0].errback(FileNotFound())
        opening.cancel()
        assert deferred.called
        assert isinstance(found[0], Failure)
        assert found[0].check(CancelledError)


def test_lifecycle_is_passed_on() -> None:
    """Each call reaches the wrapped backend."""
    calls: list[str] = []

    @implementer(IFileBackend, IBackendLifecycle)
    class Alive(Careless):
        check = start = forget = stop = None

        def __init__(self) -> None:
            super().__init__()
            for name in IBackendLifecycle.names():
                setattr(self, name, lambda name=name: calls.append(name))

    guard = WriteGuard(Alive())
    for name in IBackendLifecycle.names():
        getattr(guard, name)()
    assert sorted(calls) == sorted(IBackendLifecycle.names())


def test_explanation_names_the_backend() -> None:
    """If it has a name; the rest is what the backend says."""
    backend = MemoryBackend({"f": b"octets"})
    explained = value(WriteGuard(backend, "memory").explain("f", read_context()))
    assert explained == ["backend: memory", "found: 6 octets"]
    assert value(WriteGuard(backend).explain("f", read_context())) == ["found: 6 octets"]


def test_readonly_backend_refuses_every_mode() -> None:
    """It says so at once, without looking whether the file exists."""
    backend = ReadOnlyBackend(MemoryBackend({"f": b"old"}, "overwrite"))
    guard = WriteGuard(backend)
    for mode in WriteMode:
        with pytest.raises(AccessViolation):
            guard.open_writer("f", rules(mode))
