"""Readers and writers that convert between local text files and netascii.

Transfers use them like files of octets. On a read, the length of the netascii text is known only
at the end, and an offset in it can't be converted to an offset in the file. So the reader reads
the file forward only, and keeps the last octets in a `ForwardWindow`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.protocol import netascii
from twisted_tftp.session.forward_window import ForwardWindow

#: The fewest octets of the file that are converted at a time.
MIN_PIECE = 4096


@implementer(IFileReader)
class NetasciiReader:
    """A reader that returns a local text file as netascii."""

    size = None

    def __init__(self, reader: IFileReader) -> None:
        self._reader = reader
        self._consumed = 0  # octets of the file converted so far
        self._window = ForwardWindow()  # netascii
        self._ended = reader.size == 0

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return `length` octets of netascii from `offset` on, fewer only at the end.

        @param offset: at least that of the last call.
        """
        window = self._window
        window.move_to(offset)
        while len(window.octets) < length and not self._ended:
            wanted = max(MIN_PIECE, length - len(window.octets))
            if self._reader.size is not None:
                wanted = min(wanted, self._reader.size - self._consumed)
            piece = self._reader.read(self._consumed, wanted)
            if isinstance(piece, Deferred):
                piece.addCallback(self._convert, wanted)
                return piece.addCallback(lambda _: self.read(offset, length))
            self._convert(piece, wanted)
        return window.octets[:length]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _convert(self, piece: bytes | memoryview, wanted: int) -> None:
        if len(piece) < wanted and self._reader.size is not None:
            raise TFTPError("the file changed while it was read")
        self._consumed += len(piece)
        self._window.append(netascii.encode(bytes(piece)))
        self._ended = len(piece) < wanted or self._consumed == self._reader.size


@implementer(IFileWriter)
class NetasciiWriter:
    """A writer that takes netascii and writes local text to a file."""

    def __init__(self, writer: IFileWriter) -> None:
        self._writer = writer
        self._decoder = netascii.Decoder()

    def write(self, data: bytes) -> Any:
        """Write the text of `data`, except for a CR at its end, which may be half of a pair."""
        text = self._decoder.decode(data)
        return self._writer.write(text) if text else None

    def commit(self) -> Any:
        """Write the CR that was kept, if there is one, and commit the file."""
        rest = self._decoder.decode(b"", final=True)
        written = self._writer.write(rest) if rest else None
        if isinstance(written, Deferred):
            return written.addCallback(lambda _: self._writer.commit())
        return self._writer.commit()

    def abort(self) -> Any:
        """Abort the file."""
        return self._writer.abort()
