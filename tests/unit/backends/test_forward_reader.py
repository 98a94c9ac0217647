"""Test the reader of sources that can only be read forward."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from twisted_tftp.backends.forward_reader import ForwardReader, cancellable_opening

CONTENT = bytes(range(256)) * 20


def reader(read: Any) -> Any:
    """Return a reader."""
    return ForwardReader(len(CONTENT), read, lambda: None)


def octets(result: Any) -> bytes:
    """Return what was read."""
    found: bytes = result.result if isinstance(result, Deferred) else result
    return found


def test_window_is_read_again_without_the_source() -> None:
    """The octets of the last read, and only these, are kept."""
    wanted: list[int] = []
    source = io.BytesIO(CONTENT)

    def read(length: int) -> bytes:
        wanted.append(length)
        return source.read(length)

    forward = reader(read)
    assert octets(forward.read(0, 2048)) == CONTENT[:2048]
    assert octets(forward.read(0, 2048)) == CONTENT[:2048]
    assert octets(forward.read(512, 2048)) == CONTENT[512:2560]
    assert octets(forward.read(2000, 560)) == CONTENT[2000:2560]
    assert wanted == [2048, 512]
    assert octets(forward.read(4000, 10)) == CONTENT[4000:4010]
    assert octets(forward.read(4010, 9999)) == CONTENT[4010:]
    assert octets(forward.read(5000, 9999)) == CONTENT[5000:]
    assert octets(forward.read(9000, 1)) == b""
    assert len(wanted) == 4, "the source was read after its end"


def test_read_waits_for_the_source() -> None:
    """A source may return a Deferred."""
    arriving: Deferred[bytes] = Deferred()
    reading = reader(lambda length: arriving).read(0, 512)
    assert not reading.called
    arriving.callback(CONTENT[:512])
    assert octets(reading) == CONTENT[:512]


@pytest.mark.parametrize("cancel", [False, True])
def test_file_of_a_cancelled_open_is_released(cancel: bool) -> None:
    """It is released when it arrives; otherwise it is delivered."""
    opening: Deferred[str] = Deferred()
    released: list[str] = []
    opened = cancellable_opening(opening, released.append)
    results: list[Any] = []
    opened.addBoth(results.append)
    if cancel:
        opened.cancel()
        assert results[0].check(CancelledError)
    opening.callback("a file")
    assert released == (["a file"] if cancel else [])
    assert cancel or results == ["a file"]


def test_failure_of_a_cancelled_open_is_dropped() -> None:
    """Nobody waits for it; without the cancel it is delivered."""
    results: list[Any] = []
    opening: Deferred[str] = Deferred()
    cancellable_opening(opening, results.append).addErrback(results.append)
    opening.errback(ValueError())
    assert results[0].check(ValueError)
    opening, results = Deferred(), []
    opened = cancellable_opening(opening, results.append).addErrback(lambda _: None)
    opened.cancel()
    opening.errback(ValueError())
    assert results == []
