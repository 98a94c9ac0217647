"""Serve the files of a handler that was written for fbtftp 0.5."""

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_tftp.backends.forward_reader import ForwardReader, cancellable_opening
from twisted_tftp.errors import AccessViolation, ErrorCode, FileNotFound, TFTPError
from twisted_tftp.interfaces import IFileBackend


@implementer(IFileBackend)
class FbtftpBackend:
    def __init__(self, get_handler, in_thread=deferToThread):
        """Set up; `get_handler` is the method of the `BaseServer`, without `self`."""
        self._get_handler = get_handler
        self._in_thread = in_thread

    def open_reader(self, path, context):
        opening = self._in_thread(self._open, path, context).addCallback(self._make_reader)
        return cancellable_opening(opening, lambda reader: reader.close())

    def open_writer(self, path, context):
        raise AccessViolation("this server does not accept files", "fbtftp has no uploads")

    def _open(self, path, context):
        """Let a handler open its file; called in a thread. The handler is never started."""
        name = path.encode("utf-8", "surrogateescape").decode("latin-1")
        # The handler expects the last two of these too, which are not options of the client.
        options = {**context.options, "mode": context.mode, "default_timeout": 1, "retries": 5}
        local = tuple(context.local or ("::", 69))
        handler = self._get_handler(local, tuple(context.peer), name, options)
        error = handler._stats.error if handler else {"error_message": "there is no handler"}
        if error:
            kind = error.get("error_code") == ErrorCode.FILE_NOT_FOUND and FileNotFound
            raise (kind or TFTPError)(detail=error["error_message"])
        try:
            return handler._response_data, handler._response_data.size()
        except BaseException:
            handler._response_data.close()
            raise

    def _make_reader(self, opened):
        source, size = opened
        lock = DeferredLock()  # the file is closed after the read that is under way
        return ForwardReader(
            size,
            lambda length: lock.run(self._in_thread, read_fully, source, length),
            lambda: lock.run(self._in_thread, source.close),
        )


def read_fully(source, length):
    """Read `length` octets in a thread. A source may return fewer; only none is its end."""
    pieces = []
    while length > 0 and (piece := source.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
