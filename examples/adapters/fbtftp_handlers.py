"""Serve what the handlers of an fbtftp server return, without a process for each request."""

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import IFileBackend, IFileReader
from twisted_tftp.session.forward_window import ForwardWindow


@implementer(IFileBackend)
class FbtftpBackend:
    """The files of an fbtftp server; `get_handler` is that method of it."""

    def __init__(self, get_handler, in_thread=deferToThread):
        self._get_handler, self._in_thread = get_handler, in_thread

    def open_reader(self, path, context):
        opening = Deferred()  # it has been called, if it was cancelled

        def opened(data):
            data.close() if opening.called else opening.callback(Reader(data, self._in_thread))

        self._in_thread(self._open, path, context).addCallbacks(
            opened, lambda failure: opening.called or opening.errback(failure)
        )
        return opening

    def _open(self, path, context):
        options = {**context.options, "mode": context.mode, "default_timeout": 1, "retries": 5}
        local = tuple(context.local or ("0.0.0.0", 69))
        handler = self._get_handler(local, tuple(context.peer), path, options)
        error = handler._stats.error  # the handler catches what `get_response_data` raises
        if error:
            kind = FileNotFound if error["error_code"] == FileNotFound.code else TFTPError
            raise kind(detail=error["error_message"])
        return handler._response_data

    def open_writer(self, path, context):
        raise AccessViolation()


@implementer(IFileReader)
class Reader:
    """A `ResponseData`; it only goes forward, so the octets of one window are kept."""

    def __init__(self, data, in_thread):
        self.size, self._data, self._in_thread = data.size(), data, in_thread
        self._window, self._reading = ForwardWindow(), succeed(None)

    def read(self, offset, length):
        window = self._window
        missing = offset + length - window.start - len(window.octets)
        self._reading = self._in_thread(self._data.read, missing) if missing > 0 else succeed(b"")
        self._reading.addCallback(window.append).addCallback(lambda _: window.move_to(offset))
        return self._reading.addCallback(lambda _: window.octets[:length])

    def close(self):
        self._reading.addBoth(lambda _: self._data.close())  # a thread may still read
