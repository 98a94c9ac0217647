"""Serve a backend that was written for python-tx-tftp, such as those of MAAS."""

from twisted.internet.defer import maybeDeferred, succeed
from zope.interface import implementer

from twisted_tftp.errors import AccessViolation, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter
from twisted_tftp.session.forward_window import ForwardWindow

# The exceptions of `tftp.errors`, by name: this module does not need python-tx-tftp.
ERRORS = {"FileNotFound": FileNotFound, "FileExists": FileAlreadyExists}
ERRORS.update(dict.fromkeys(("AccessViolation", "Unsupported"), AccessViolation))


@implementer(IFileBackend)
class TxTFTPBackend:
    """The files of an `IBackend` of python-tx-tftp; its file names are octets."""

    def __init__(self, backend):
        self._backend = backend

    def open_reader(self, path, context):
        opened = maybeDeferred(self._backend.get_reader, path.encode("utf-8", "surrogateescape"))
        return opened.addCallbacks(ForwardReader, translate)

    def open_writer(self, path, context):
        opened = maybeDeferred(self._backend.get_writer, path.encode("utf-8", "surrogateescape"))
        return opened.addCallbacks(Writer, translate)


def translate(failure):
    """Raise our exception for one of python-tx-tftp."""
    for kind in type(failure.value).__mro__:
        if kind.__name__ in ERRORS:
            raise ERRORS[kind.__name__](detail=str(failure.value))
    return failure


@implementer(IFileReader)
class ForwardReader:
    """A reader that only goes forward; the octets of one window are kept, to be sent again."""

    def __init__(self, reader):
        self.size = getattr(reader, "size", None)
        self.close = getattr(reader, "finish", lambda: None)
        self._read, self._window = reader.read, ForwardWindow()

    def read(self, offset, length):
        window = self._window
        missing = offset + length - window.start - len(window.octets)
        read = maybeDeferred(self._read, missing) if missing > 0 else succeed(b"")
        read.addCallback(window.append).addCallback(lambda _: window.move_to(offset))
        return read.addCallback(lambda _: window.octets[:length])


@implementer(IFileWriter)
class Writer:
    """A writer; python-tx-tftp has other names for the same calls."""

    def __init__(self, writer):
        self.write, self._finish, self.abort = writer.write, writer.finish, writer.cancel

    def commit(self):
        return maybeDeferred(self._finish).addErrback(translate)
