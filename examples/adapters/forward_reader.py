"""What both adapters need: a reader of a source that can only be read forward, and a safe open."""

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader


@implementer(IFileReader)
class ForwardReader:
    """Read a source forward, and keep the octets of the last read: they may be needed again.

    A server that has lost a datagram reads its window a second time, from the same offset.
    """

    def __init__(self, size, read, close):
        """Set up.

        @param size: octets of the source, or None.
        @param read: returns the next octets of the source, fewer than wanted only at its end.
        @param close: closes the source.
        """
        self.size = size
        self.close = close
        self._read = read
        self._octets = b""
        self._start = 0  # the offset of the first of these octets
        self._is_at_end = False

    def read(self, offset, length):
        """Return octets from `offset` on, as a Deferred if the source has to be read."""
        skipped = min(offset - self._start, len(self._octets))
        self._octets = self._octets[skipped:]
        self._start += skipped
        wanted = offset + length - self._start - len(self._octets)
        if wanted <= 0 or self._is_at_end:
            return self._octets[offset - self._start :][:length]
        return maybeDeferred(self._read, wanted).addCallback(self._append, wanted, offset, length)

    def _append(self, piece, wanted, offset, length):
        self._octets += piece
        self._is_at_end = len(piece) < wanted
        return self.read(offset, length)


def deliver(opening, release):
    """Return a Deferred that fires as `opening`. If it was cancelled, `release` gets the file."""
    opened = Deferred()

    def arrived(result):
        if not opened.called:
            opened.callback(result)
        elif not isinstance(result, Failure):
            release(result)

    opening.addBoth(arrived)
    return opened
