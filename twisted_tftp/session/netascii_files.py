"""Show a reader or a writer of local text as netascii, so that a transfer moves octets only.

On a read the length is not known before the end, and an offset on the wire can't be turned into
one of the file; so the reader runs forward over the file and keeps what the last window needs.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.protocol import netascii

#: Octets of the file that are translated at a time, at least.
PIECE = 4096


@implementer(IFileReader)
class NetasciiReader:
    """Read a file of local text as netascii."""

    size = None

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._consumed = 0  # octets of the file translated so far
        self._window = b""  # netascii from `_start` on
        self._start = 0
        self._ended = reader.size == 0

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return netascii from `offset`, which is at or after that of the last call."""
        self._window = self._window[offset - self._start :]
        self._start = offset
        while len(self._window) < length and not self._ended:
            wanted = max(PIECE, length - len(self._window))
            if self._reader.size is not None:
                wanted = min(wanted, self._reader.size - self._consumed)
            piece = self._reader.read(self._consumed, wanted)
            if isinstance(piece, Deferred):
                piece.addCallback(self._translate, wanted)
                return piece.addCallback(lambda _: self.read(offset, length))
            self._translate(piece, wanted)
        return self._window[:length]

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _translate(self, piece: bytes | memoryview, wanted: int) -> None:
        if len(piece) < wanted and self._reader.size is not None:
            raise TFTPError("the file changed while it was read")
        self._consumed += len(piece)
        self._window += netascii.encode(bytes(piece))
        self._ended = len(piece) < wanted or self._consumed == self._reader.size


@implementer(IFileWriter)
class NetasciiWriter:
    """Write netascii to a file as local text."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._decoder = netascii.Decoder()

    def write(self, data: bytes) -> Any:
        """Write the text that is sure by now."""
        text = self._decoder.decode(data)
        return self._writer.write(text) if text else None

    def commit(self) -> Any:
        """Write the CR that was held back, if there is one, and commit."""
        rest = self._decoder.decode(b"", final=True)
        written = self._writer.write(rest) if rest else None
        if isinstance(written, Deferred):
            return written.addCallback(lambda _: self._writer.commit())
        return self._writer.commit()

    def abort(self) -> Any:
        """Drop the file."""
        return self._writer.abort()
