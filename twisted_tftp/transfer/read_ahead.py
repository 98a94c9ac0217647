"""Buffer octets that were read from a file before the window needs them."""

from __future__ import annotations

from twisted_tftp.transfer.machine import Buffer


class ReadAhead:
    """The octets of a file that a sender has read and may not have sent yet.

    @ivar size: how many octets to read at a time; 0 if a window is larger than the
        buffer: then nothing is buffered.
    @ivar start: the offset in the file of the first buffered octet.
    @ivar octets: the buffered octets.
    """

    __slots__ = ("octets", "size", "start")

    def __init__(self, size: int, window: int) -> None:
        """Set up an empty buffer of at most `size` octets for windows of `window` octets."""
        # A multiple of the window, so that the buffer never ends in the middle of a window.
        self.size = size // window * window
        self.start = 0
        self.octets = memoryview(b"")

    def fill(self, octets: Buffer, start: int) -> None:
        """Replace the buffered octets by those of the file from the offset `start` on."""
        self.octets = memoryview(octets)
        self.start = start

    def get(self, offset: int, length: int) -> memoryview | None:
        """Return `length` octets from `offset` on; None if they are not all buffered."""
        start = offset - self.start
        stop = start + length
        return self.octets[start:stop] if stop <= len(self.octets) else None
