"""State the contracts between the server, its backends and its observers."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface, implementer

# Zope's interfaces are called without self.


class IFileBackend(Interface):
    """A store of files. One transfer asks it for one reader or one writer."""

    def open_reader(path, context):  # type: ignore[no-untyped-def]
        """Open a file for reading.

        @param path: the name as the client sent it (str, UTF-8 with surrogateescape). It is
            not cleaned in any way: `..`, leading slashes and control characters come through.
        @param context: a L{twisted_tftp.context.TransferContext}.

        @return: an L{IFileReader}, or a Deferred that fires with one. The Deferred is cancelled
            when the client goes away; the backend then releases what it has opened.

        @raise FileNotFound: there is no such file (code 1).
        @raise AccessViolation: it may not be read, or is not a file (code 2).
        @raise TFTPError: anything else that the client is to be told (code 0, or the class's).

        An L{OSError} is translated (L{twisted_tftp.errors.from_os_error}); any other exception
        is logged, and the client is told code 0.
        """

    def open_writer(path, context):  # type: ignore[no-untyped-def]
        """Open a new file for writing; nothing is visible under its name before the commit.

        @param path: as for L{open_reader}.
        @param context: as for L{open_reader}; `context.announced_size` is the size that the
            client announced, in octets, or None.

        @return: an L{IFileWriter}, or a Deferred that fires with one, as for L{open_reader}.

        @raise AccessViolation: the name may not be written (code 2).
        @raise DiskFull: a file of the announced size does not fit (code 3).
        @raise FileAlreadyExists: the file exists and may not be replaced (code 6).
        """


class IBackendLifecycle(Interface):
    """What a backend may do when its service starts, reloads and stops.

    A backend need not provide it. One that wraps another backend provides it, and hands each call
    on (L{lifecycle_of}).
    """

    def check():  # type: ignore[no-untyped-def]
        """Find out whether files can be served; called before the ports are bound.

        @raise BackendUnavailable: they can't; its text is for the operator, in one line. The
            service does not start then.
        """

    def start():  # type: ignore[no-untyped-def]
        """Begin, such as with removing what a crash has left behind; the ports are bound.

        @return: None, or a Deferred. Requests are served meanwhile. A failure is logged, and the
            service goes on.
        """

    def forget():  # type: ignore[no-untyped-def]
        """Forget what is remembered of the files: the operator has changed them (SIGHUP)."""

    def stop():  # type: ignore[no-untyped-def]
        """End; the last transfer is over.

        @return: None, or a Deferred; the stop of the service waits for it. A failure is logged.
        """


@implementer(IBackendLifecycle)
class NoLifecycle:
    """The lifecycle of a backend that has nothing to do at any of these moments."""

    def check(self) -> None:
        """Find nothing wrong."""

    def start(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


def lifecycle_of(backend: Any) -> Any:
    """Return what has the methods of L{IBackendLifecycle} for `backend`: itself, or a stand-in."""
    return backend if IBackendLifecycle.providedBy(backend) else NoLifecycle()


class IFileReader(Interface):
    """An open file. A name that is replaced meanwhile does not change what is read."""

    size = Attribute("Octets of the file (int), or None where that is not known beforehand.")

    def read(offset, length):  # type: ignore[no-untyped-def]
        """Read octets. At most one read is under way at a time; `offset` never decreases.

        @param offset: octets from the start of the file.
        @param length: octets wanted, at least 1.

        @return: a bytes-like object that stays as it is until the next call, or a Deferred that
            fires with one. It has exactly `length` octets, fewer only at the end of the file,
            none past it.

        @raise OSError: reading failed (code 0).
        """

    def close():  # type: ignore[no-untyped-def]
        """Release the file; called once, at any moment, also while a read is under way."""


class IFileWriter(Interface):
    """A file being written. It is ended by one call of L{commit} or of L{abort}."""

    def write(data):  # type: ignore[no-untyped-def]
        """Take the next octets of the file. At most one write is under way at a time.

        @param data: bytes; the writer may keep them.

        @return: None, or a Deferred that fires when more can be taken.

        @raise DiskFull: there is no room (code 3).
        @raise OSError: writing failed; ENOSPC and EDQUOT become code 3.
        """

    def commit():  # type: ignore[no-untyped-def]
        """Make the file complete, durable and visible under its name, all or nothing.

        @return: None, or a Deferred that fires when that is so.

        @raise DiskFull: there is no room (code 3).
        @raise FileAlreadyExists: another file has taken the name meanwhile (code 6).
        """

    def abort():  # type: ignore[no-untyped-def]
        """Drop what was written; what stood under the name before stays as it was.

        Called at any moment before the commit began, or after it failed, also while a write
        is under way.

        @return: None, or a Deferred that fires when nothing is left behind.
        """


class ITransferObserver(Interface):
    """Is told of transfers: for logs, metrics, a status page.

    Each method gets the transfer's L{twisted_tftp.context.TransferStatistics}, the same object
    each time. An exception is logged and changes nothing.
    """

    def started(statistics):  # type: ignore[no-untyped-def]
        """A request was accepted for a look; no file is open yet."""

    def progressed(statistics):  # type: ignore[no-untyped-def]
        """Some time has passed; `octets` and `retransmissions` are brought up to date."""

    def finished(statistics):  # type: ignore[no-untyped-def]
        """The transfer is over; `outcome` and `ended` are set."""
