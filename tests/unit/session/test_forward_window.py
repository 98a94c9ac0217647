"""Tests of the window of octets that readers of forward-only sources keep."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.session.forward_window import ForwardWindow


def test_new_window_is_empty_and_starts_at_0() -> None:
    """Before the first read the window has no octets, and its offset in the source is 0."""
    window = ForwardWindow()
    assert (window.octets, window.start) == (b"", 0)


def test_octets_stay_until_the_window_moves_past_them() -> None:
    """Octets that were read are available until the window moves to a later offset."""
    window = ForwardWindow()
    window.append(b"0123")
    window.append(b"4567")
    window.move_to(0)
    assert window.octets == b"01234567"
    window.move_to(6)
    assert (window.octets, window.start) == (b"67", 6)


def test_window_can_move_to_the_end_of_what_was_read() -> None:
    """At the end of what was read the window is empty, and the next octets start there."""
    window = ForwardWindow()
    window.append(b"0123")
    window.move_to(4)
    assert (window.octets, window.start) == (b"", 4)
    window.append(b"45")
    window.move_to(5)
    assert window.octets == b"5"


@given(st.binary(max_size=200), st.data())
def test_window_is_always_a_slice_of_the_source(source: bytes, data: st.DataObject) -> None:
    """After any reads and moves, it is the source from `start` to the last octet read."""
    window, consumed = ForwardWindow(), 0
    for _ in range(10):
        piece = source[consumed : consumed + data.draw(st.integers(0, 50), label="piece")]
        window.append(piece)
        consumed += len(piece)
        window.move_to(data.draw(st.integers(window.start, consumed), label="offset"))
        assert window.octets == source[window.start : consumed]
