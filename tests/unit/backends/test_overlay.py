"""Tests of the overlay: which of several backends serves a file, and which one gets uploads."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.contexts import read_context, write_context
from tests.support.deferreds import results_of, value
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.overlay import OverlayBackend
from twisted_tftp.errors import AccessViolation, BackendUnavailable, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend, NoLifecycle


class Answering:
    """A backend that gives the same answer to each read: a value, a Deferred or an exception."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def open_reader(self, path: str, context: Any) -> Any:
        self.asked.append(path)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@implementer(IBackendLifecycle)
class Living(NoLifecycle):
    """A backend that notes the calls of its lifecycle; some of them fail."""

    def __init__(self, failing: str = "", waiting: Deferred[None] | None = None) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._waiting = waiting

    def _note(self, call: str) -> Deferred[None] | None:
        self.calls.append(call)
        if call == self._failing:
            raise BackendUnavailable(f"{call} fails")
        return self._waiting

    def check(self) -> None:
        self._note("check")

    def start(self) -> Any:
        return self._note("start")

    def forget(self) -> None:
        self._note("forget")

    def stop(self) -> Any:
        return self._note("stop")


def content(overlay: OverlayBackend, path: str) -> bytes:
    """Return the octets that a read of `path` gets."""
    reader = value(overlay.open_reader(path, read_context(path)))
    return bytes(reader.read(0, 1000))


def test_first_backend_that_has_the_file_serves_it() -> None:
    """The backends are asked in order, the next one only if the file is not found."""
    overlay = OverlayBackend(
        [MemoryBackend({"a": b"1"}), MemoryBackend({"a": b"2", "b": b"2"}), MemoryBackend()]
    )
    assert content(overlay, "a") == b"1"
    assert content(overlay, "b") == b"2"
    with pytest.raises(FileNotFound):
        overlay.open_reader("c", read_context("c"))


@pytest.mark.parametrize(
    "error", [FileNotFound(), FileNotFoundError(2, "x"), NotADirectoryError(20, "x")], ids=repr
)
@pytest.mark.parametrize("is_deferred", [False, True])
def test_next_backend_is_asked_however_the_miss_is_reported(
    error: Exception, is_deferred: bool
) -> None:
    """An exception of the server or of the system, at once or by a Deferred, is a miss."""
    missing = fail(error) if is_deferred else error
    overlay = OverlayBackend([Answering(missing), MemoryBackend({"a": b"2"})])
    assert content(overlay, "a") == b"2"


@pytest.mark.parametrize(
    "error", [AccessViolation("no"), PermissionError(13, "x"), TFTPError("x"), ValueError("x")]
)
@pytest.mark.parametrize("is_deferred", [False, True])
def test_other_failure_ends_the_search(error: Exception, is_deferred: bool) -> None:
    """The client gets the failure, and the next backend is not asked."""
    second = Answering(object())
    overlay = OverlayBackend([Answering(fail(error) if is_deferred else error), second])
    with pytest.raises(type(error)):
        value(overlay.open_reader("a", read_context("a")))
    assert second.asked == []


def test_error_of_the_last_backend_is_reported_if_no_backend_has_the_file() -> None:
    """Its message and detail are those that the client and the log get."""
    last = FileNotFound("nothing here", "why")
    for answer in (last, fail(last)):
        overlay = OverlayBackend(
            [MemoryBackend(), Answering(fail(FileNotFound())), Answering(answer)]
        )
        with pytest.raises(FileNotFound) as caught:
            value(overlay.open_reader("a", read_context("a")))
        assert caught.value is last


def test_backend_that_answers_at_once_needs_no_deferred() -> None:
    """A reader that is there at once is returned as it is, also after a miss."""
    reader = object()
    for answer in (FileNotFound(), reader):
        assert (
            OverlayBackend([Answering(answer), Answering(reader)]).open_reader(
                "a", read_context("a")
            )
            is reader
        )


@pytest.mark.parametrize("waiting", [0, 1])
def test_cancel_reaches_the_backend_that_is_asked(waiting: int) -> None:
    """A cancellation cancels the Deferred of that backend, and no other backend is asked."""
    cancelled = []
    slow: Deferred[Any] = Deferred(cancelled.append)
    miss: Deferred[Any] = Deferred()
    last = Answering(object())
    overlay = OverlayBackend([*[Answering(miss)] * waiting, Answering(slow), last])
    opened = overlay.open_reader("a", read_context("a"))
    results = results_of(opened)
    if waiting:
        miss.errback(FileNotFound())
    assert not results
    opened.cancel()
    assert cancelled == [slow]
    assert results[0].check(CancelledError)
    assert last.asked == []


def test_uploads_go_to_the_last_backend() -> None:
    """The other backends are not asked, even if they have a file of that name."""
    first, last = MemoryBackend({"a": b"1"}, "overwrite"), MemoryBackend({}, "create")
    writer = OverlayBackend([first, last]).open_writer("a", write_context("a"))
    writer.write(b"2")
    writer.commit()
    assert (first.files, last.files) == ({"a": b"1"}, {"a": b"2"})


def test_every_backend_gets_the_calls_of_the_lifecycle_once() -> None:
    """A backend that occurs twice gets each call once; one without a lifecycle gets none."""
    one, two = Living(), Living()
    overlay = OverlayBackend([one, MemoryBackend(), two, one])
    overlay.check()
    value(overlay.start())
    overlay.forget()
    value(overlay.stop())
    assert one.calls == two.calls == ["check", "start", "forget", "stop"]


def test_failed_check_of_one_backend_fails_the_check() -> None:
    """The service does not start if one backend cannot serve files."""
    with pytest.raises(BackendUnavailable, match="check fails"):
        OverlayBackend([Living(), Living("check")]).check()


@pytest.mark.parametrize("call", ["start", "stop"])
def test_failure_of_one_backend_keeps_no_other_from_its_call(call: str) -> None:
    """All are started or stopped; then the failure is reported."""
    one, two = Living(call), Living()
    with pytest.raises(BackendUnavailable):
        value(getattr(OverlayBackend([one, two]), call)())
    assert two.calls == [call]


def test_stop_waits_for_all_backends_and_can_be_cancelled() -> None:
    """The service waits until the slowest backend has stopped, or cancels all."""
    fast: Deferred[None] = succeed(None)
    slow: Deferred[None] = Deferred()
    stopping = OverlayBackend([Living(waiting=fast), Living(waiting=slow)]).stop()
    results = results_of(stopping)
    assert results == []
    stopping.cancel()
    assert len(results) == 1


def test_failed_forget_of_one_backend_keeps_no_other_from_it() -> None:
    """The caches of all other backends are cleared."""
    two = Living()
    OverlayBackend([Living("forget"), two]).forget()
    assert two.calls == ["forget"]


def explained(overlay: OverlayBackend, path: str) -> list[str]:
    """Return the lines that explain a read of `path`."""
    return list(value(overlay.explain(path, read_context(path))))


def test_explanation_names_each_backend_that_is_asked() -> None:
    """The backends after the one that has the file are not named."""
    overlay = OverlayBackend(
        [MemoryBackend(), MemoryBackend({"a": b"22"}), MemoryBackend()], ["x:1", "y:2", "z"]
    )
    assert explained(overlay, "a") == [
        "backend: x:1",
        "ERROR 1: no such file",
        "backend: y:2",
        "found: 2 octets",
    ]
    assert explained(overlay, "b")[-2:] == ["backend: z", "ERROR 1: no such file"]


def test_explanation_has_no_names_if_the_overlay_knows_none() -> None:
    """The backends may say themselves who they are."""
    overlay = OverlayBackend([MemoryBackend(), MemoryBackend({"a": b"22"})])
    assert explained(overlay, "a") == ["ERROR 1: no such file", "found: 2 octets"]


def test_explanation_ends_with_a_failure() -> None:
    """A failure that is not a miss ends the search."""
    overlay = OverlayBackend([Answering(AccessViolation("no")), MemoryBackend({"a": b""})])
    assert explained(overlay, "a") == ["ERROR 2: no"]


def test_overlay_without_a_backend_or_with_wrong_names_is_rejected() -> None:
    """An overlay has at least one backend, and no names or one for each."""
    with pytest.raises(ValueError, match="needs a backend"):
        OverlayBackend([])
    with pytest.raises(ValueError, match="needs a name"):
        OverlayBackend([MemoryBackend()], ["a", "b"])


def test_interfaces_are_implemented() -> None:
    """The overlay is itself a backend, with a lifecycle and an explanation."""
    overlay = OverlayBackend([MemoryBackend()])
    for interface in (IFileBackend, IBackendLifecycle, IExplainable):
        verifyObject(interface, overlay)
