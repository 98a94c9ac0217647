"""Tests of all wrappers of backends together: the lifecycle, Deferreds, and a whole name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from tests.support.contexts import PEER, read_context, write_context
from tests.support.deferreds import results_of, value
from tests.support.logs import captured_log
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.mounts import Mount, Mounts
from twisted_tftp.backends.names import NamePipeline, Slashes, StripTrailing
from twisted_tftp.backends.overlay import OverlayBackend
from twisted_tftp.backends.subtree import Subtree
from twisted_tftp.backends.unique_root import DirectoryName, UniqueRoot
from twisted_tftp.errors import BackendUnavailable, FileNotFound
from twisted_tftp.interfaces import IBackendLifecycle

#: Each wrapper, around one backend.
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "overlay": lambda backend: OverlayBackend([backend]),
    "mounts": lambda backend: Mounts([Mount(prefix="/", backend=backend)]),
    "subtree": lambda backend: Subtree(backend, "/lab"),
    "unique root": lambda backend: UniqueRoot(backend, DirectoryName.IP),
    "unique root with fallback": lambda backend: UniqueRoot(
        backend, DirectoryName.IP, falls_back=True
    ),
    "names": lambda backend: NamePipeline(backend, [Slashes()]),
}

each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


@implementer(IBackendLifecycle)
class Backend:
    """A backend that notes the calls of its lifecycle, and returns the same answer to requests."""

    def __init__(self, answer: Any = None, problem: str = "") -> None:
        self.calls: list[str] = []
        self._answer = answer
        self._problem = problem

    def open_reader(self, path: str, context: Any) -> Any:
        return self._answer

    open_writer = open_reader

    def _note(self, call: str) -> Any:
        self.calls.append(call)
        if self._problem:
            raise BackendUnavailable(self._problem)
        return self._answer

    def check(self) -> None:
        self._note("check")

    def start(self) -> Any:
        return self._note("start")

    def forget(self) -> None:
        self._note("forget")

    def stop(self) -> Any:
        return self._note("stop")


@each_wrapper
def test_calls_of_the_lifecycle_are_passed_on(wrap: Callable[[Any], Any]) -> None:
    """The service waits for the Deferreds of the wrapped backend."""
    waiting: Deferred[None] = Deferred()
    backend = Backend(waiting)
    wrapper = wrap(backend)
    wrapper.check()
    wrapper.forget()
    started = results_of(wrapper.start())
    assert started == []
    waiting.callback(None)
    assert started == [None]
    value(wrapper.stop())
    assert backend.calls == ["check", "forget", "start", "stop"]


@each_wrapper
def test_backend_without_a_lifecycle_can_be_wrapped(wrap: Callable[[Any], Any]) -> None:
    """The calls do nothing."""
    wrapper = wrap(MemoryBackend())
    wrapper.check()
    wrapper.forget()
    value(wrapper.start())
    value(wrapper.stop())


@each_wrapper
@pytest.mark.parametrize("method", ["open_reader", "open_writer"])
def test_answer_that_is_there_at_once_is_returned_at_once(
    wrap: Callable[[Any], Any], method: str
) -> None:
    """No wrapper makes a Deferred of it."""
    file = object()
    assert getattr(wrap(Backend(file)), method)("x", read_context()) is file


@each_wrapper
@pytest.mark.parametrize("method", ["open_reader", "open_writer"])
def test_cancellation_reaches_the_wrapped_backend(wrap: Callable[[Any], Any], method: str) -> None:
    """The backend can then close what it has opened."""
    cancelled: list[Any] = []
    opening: Deferred[Any] = Deferred(cancelled.append)
    opened = getattr(wrap(Backend(opening)), method)("x", read_context())
    results = results_of(opened)
    opened.cancel()
    assert cancelled == [opening]
    assert results[0].check(CancelledError)


@pytest.mark.parametrize("call", ["start", "stop"])
def test_first_failure_of_several_backends_is_reported_and_the_others_are_logged(
    call: str,
) -> None:
    """No failure is lost."""
    overlay = OverlayBackend([Backend(problem="one"), Backend(problem="two")])
    with captured_log() as lines, pytest.raises(BackendUnavailable, match="one"):
        value(getattr(overlay, call)())
    assert any("another backend failed too" in line for line in lines)


def test_failure_to_clear_a_cache_is_logged() -> None:
    """A SIGHUP goes on with the other backends."""
    with captured_log() as lines:
        OverlayBackend([Backend(problem="one")]).forget()
    assert any("failed to clear its caches" in line for line in lines)


def farm(configs: MemoryBackend, common: MemoryBackend) -> NamePipeline:
    """Return all wrappers, as a configuration with all of them makes them."""
    mounts = Mounts(
        [
            Mount(prefix="/", backend=OverlayBackend([MemoryBackend(), common], ["a:", "b:"])),
            Mount(prefix="/lab/192.0.2.1/configs", backend=configs),
        ]
    )
    lab = Subtree(mounts, "/lab")
    return NamePipeline(
        UniqueRoot(lab, DirectoryName.IP, falls_back=True), [StripTrailing(), Slashes()]
    )


def test_name_passes_through_all_wrappers() -> None:
    """It is cleaned, then the client's directory and root are put in front, then mounts decide."""
    common = MemoryBackend({"lab/boot/x": b"common"}, "create")
    backend = farm(MemoryBackend({"x": b"config"}), common)
    context = read_context("x")
    assert PEER.host == "192.0.2.1"
    assert bytes(backend.open_reader("\\boot\\x\udcff", context).read(0, 9)) == b"common"
    assert bytes(backend.open_reader("configs\\x\n", context).read(0, 9)) == b"config"
    for name in ("configs\\y", "192.0.2.7/x"):
        with pytest.raises(FileNotFound):
            backend.open_reader(name, context)
    writer = backend.open_writer("\\new", write_context())
    writer.commit()
    assert "lab/192.0.2.1/new" in common.files


def test_name_is_explained_by_all_wrappers() -> None:
    """Each line says which wrapper has decided what."""
    backend = farm(MemoryBackend(), MemoryBackend({"lab/boot/x": b"common"}))
    assert value(backend.explain("boot\\x\udcff", read_context())) == [
        "name: strip trailing octets -> boot\\x5cx",
        "name: backslashes to slashes -> boot/x",
        "unique root: /192.0.2.1/boot/x",
        "client root: /lab/192.0.2.1/boot/x",
        "mount: /",
        "backend: a:",
        "ERROR 1: no such file",
        "backend: b:",
        "ERROR 1: no such file",
        "unique root: /boot/x",
        "client root: /lab/boot/x",
        "mount: /",
        "backend: a:",
        "ERROR 1: no such file",
        "backend: b:",
        "found: 6 octets",
    ]
