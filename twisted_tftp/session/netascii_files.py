"""Convert between local text files and netascii while they are read and written (RFC 764).

The reader and the writer here wrap those of the local file. The length of the netascii text is
known only at its end, and an offset in it can't be converted to an offset in the file. So the
reader reads the file forward only, and keeps the last octets in a `ForwardWindow`.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_tftp.context import StoredFile
from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.protocol import netascii
from twisted_tftp.session.forward_window import ForwardWindow

#: The fewest octets of the file that are read and converted at a time.
MIN_PIECE = 4096


@implementer(IFileReader)
class NetasciiReader:
    """A reader that returns the text of another reader as netascii."""

    size = None

    def __init__(self, reader: IFileReader) -> None:
        self._reader = reader
        self._consumed = 0  # octets of the file converted so far
        self._window = ForwardWindow()  # netascii
        self._ended = reader.size == 0

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return `length` octets of netascii from `offset` on, fewer only at the end.

        @param offset: not less than that of the last call.
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
    """A writer that converts netascii to local text for another writer."""

    def __init__(self, writer: IFileWriter) -> None:
        self._writer = writer
        self._decoder = netascii.Decoder()

    def write(self, data: bytes) -> Deferred[None] | None:
        """Write the text of `data`. A CR at its end waits for the octet that follows it."""
        text = self._decoder.decode(data)
        written: Deferred[None] | None = self._writer.write(text) if text else None
        return written

    def commit(self) -> Deferred[StoredFile | None] | StoredFile | None:
        """Write the CR that still waits, if there is one, and commit the file."""
        rest = self._decoder.decode(b"", final=True)
        written = self._writer.write(rest) if rest else None
        if isinstance(written, Deferred):
            return written.addCallback(lambda _: self._writer.commit())
        committed: Deferred[StoredFile | None] | StoredFile | None = self._writer.commit()
        return committed

    def abort(self) -> Deferred[None] | None:
        """Abort the file."""
        aborted: Deferred[None] | None = self._writer.abort()
        return aborted
