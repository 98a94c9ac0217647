"""Keep the last octets of a source that can only be read forward, so that they can be sent again.

A sender asks for the octets of a window a second time if a datagram was lost. A pipe, a stream or
a netascii file can't go back, so their readers keep these octets in memory.
"""

from __future__ import annotations


class ForwardWindow:
    """The octets of a source from `start` to the last one that was read.

    @ivar octets: these octets.
    @ivar start: the offset of the first of them in the source.
    """

    __slots__ = ("octets", "start")

    def __init__(self) -> None:
        self.octets = b""
        self.start = 0

    def move_to(self, offset: int) -> None:
        """Forget the octets before `offset`: they will not be read again.

        @param offset: from `start` to the end of the octets.
        """
        self.octets = self.octets[offset - self.start :]
        self.start = offset

    def append(self, piece: bytes) -> None:
        """Add the next octets of the source."""
        self.octets += piece
