"""Serve the files of a backend that was written for python-tx-tftp."""

from tftp import errors as theirs
from twisted.internet.defer import maybeDeferred
from twisted.python import context as call_context
from zope.interface import implementer

from twisted_tftp import errors
from twisted_tftp.backends.forward_reader import ForwardReader, cancellable_opening
from twisted_tftp.interfaces import IFileBackend, IFileWriter

ERRORS = {
    theirs.FileNotFound: errors.FileNotFound,
    theirs.AccessViolation: errors.AccessViolation,
    theirs.FileExists: errors.FileAlreadyExists,
    theirs.Unsupported: errors.IllegalOperation,
    theirs.BackendError: errors.TFTPError,  # the base class of the others: last
}


def call(method, *arguments):
    """Call a method of a backend, a reader or a writer; its exception becomes one of ours."""

    def translate(failure):  # the text may contain paths: only the log gets it
        raise ERRORS[failure.trap(*ERRORS)](detail=str(failure.value))

    return maybeDeferred(method, *arguments).addErrback(translate)


@implementer(IFileBackend)
class TxTftpBackend:
    def __init__(self, backend):
        self._backend = backend

    def open_reader(self, path, context):
        opened = self._open(self._backend.get_reader, path, context).addCallback(make_reader)
        return cancellable_opening(opened, lambda reader: reader.close())

    def open_writer(self, path, context):
        opened = self._open(self._backend.get_writer, path, context).addCallback(TxTftpWriter)
        return cancellable_opening(opened, lambda writer: writer.abort())

    def _open(self, method, path, context):
        if "\0" in path:
            raise errors.FileNotFound()
        addresses = {"remote": tuple(context.peer), "local": tuple(context.local or (None, None))}
        return call(call_context.call, addresses, method, path.encode("utf-8", "surrogateescape"))


def make_reader(reader):
    return ForwardReader(reader.size, lambda length: call(reader.read, length), reader.finish)


@implementer(IFileWriter)
class TxTftpWriter:
    def __init__(self, writer):
        self.write = lambda data: call(writer.write, data)
        self.commit = lambda: call(writer.finish)
        self.abort = lambda: call(writer.cancel)
