"""The interfaces that backends and observers implement, and the server calls."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface, implementer

# Methods of a Zope interface are declared without `self`.


class IFileBackend(Interface):
    """A store of files. A transfer opens one reader or one writer in it."""

    def open_reader(path, context):  # type: ignore[no-untyped-def]
        """Open a file for reading.

        The client gets the ERROR that L{twisted_tftp.errors.from_os_error} selects for an
        `OSError`. Any other exception is logged, and the client gets an ERROR with code 0.

        @param path: the file name as the client sent it (str, UTF-8 with surrogateescape). It is
            not checked: it may contain `..`, leading slashes and control characters.
        @param context: a L{twisted_tftp.context.TransferContext}.

        @return: an L{IFileReader}, or a Deferred that fires with one. The Deferred is cancelled
            when the transfer ends; the backend must then close what it has opened.

        @raise FileNotFound: there is no such file (code 1).
        @raise AccessViolation: it may not be read, or is not a regular file (code 2).
        @raise TFTPError: any other failure to report to the client (code 0, or that of the
            subclass).
        """

    def open_writer(path, context):  # type: ignore[no-untyped-def]
        """Open a new file for writing. It is not visible under its name before the commit.

        @param path: as for L{open_reader}.
        @param context: as for L{open_reader}; `context.announced_size` is the size that the
            client announced, in octets, or None.

        @return: an L{IFileWriter}, or a Deferred that fires with one, as for L{open_reader}.

        @raise AccessViolation: the name may not be written (code 2).
        @raise DiskFull: a file of the announced size does not fit (code 3).
        @raise FileAlreadyExists: the file exists and may not be replaced (code 6).
        """


class IBackendLifecycle(Interface):
    """The calls that a backend gets when its service starts, reloads and stops.

    This interface is optional. A backend that wraps another backend provides it, and passes each
    call on (L{lifecycle_of}).
    """

    def check():  # type: ignore[no-untyped-def]
        """Check whether files can be served. Called before the ports are bound.

        It may wait for a disk, and must not use the reactor: a reload calls it in a thread. At
        the start it is called in the main thread, maybe twice.

        @raise BackendUnavailable: they cannot. The text is one line that tells the operator why.
            The service then does not start.
        """

    def start():  # type: ignore[no-untyped-def]
        """Start; for instance, remove the temporary files of a crash. Called after the bind.

        @return: None, or a Deferred. Requests are served before it fires. A failure is logged, and
            the service continues. L{stop} waits for it, for 10 seconds at most; then it is
            cancelled.
        """

    def forget():  # type: ignore[no-untyped-def]
        """Discard all cached data about the files: the operator may have changed them (SIGHUP)."""

    def stop():  # type: ignore[no-untyped-def]
        """Stop. Called after the last transfer has ended.

        `--explain` calls it too, without L{start}.

        @return: None, or a Deferred that the service waits for before it stops: for 10 seconds at
            most, then it is cancelled. A failure is logged.
        """


@implementer(IBackendLifecycle)
class NoLifecycle:
    """The lifecycle of a backend that does not provide L{IBackendLifecycle}: it does nothing."""

    def check(self) -> None:
        """Do nothing."""

    def start(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


def lifecycle_of(backend: Any) -> Any:
    """Return `backend` if it provides L{IBackendLifecycle}, otherwise a L{NoLifecycle}."""
    return backend if IBackendLifecycle.providedBy(backend) else NoLifecycle()


class IContentCheck(Interface):
    """A backend that can check the content of its files, such as the syntax of templates.

    This interface is optional. The method is called for each backend that the configuration
    names. A backend that wraps another one, such as `readonly:of=BACKEND`, passes the call on.
    """

    def check_content():  # type: ignore[no-untyped-def]
        """Check the files, after L{IBackendLifecycle.check}; this may take some seconds.

        Called once at the start, when the process has given up the privileges of root and its
        ports are bound; and by `--check`. A reload calls it in a thread.

        @raise BackendUnavailable: a file has a mistake. The text is one line that tells the
            operator where and why. The service then does not start.
        """


class IWriteModes(Interface):
    """A backend that obeys the rules for uploads in the context of each request.

    This interface is optional. Without it, the server refuses an upload if `write` is `never`, or
    if it is `create` and L{IFileBackend.open_reader} finds the file; `version` is refused when the
    service starts.
    """

    write_modes = Attribute(
        "The values of L{WriteMode<twisted_tftp.policy.WriteMode>} that it obeys (a collection). "
        "If `context.uploads` is not None, it replaces the backend's own settings."
    )


class IExplainable(Interface):
    """A backend that can say what it does with a name (`--explain`).

    Backends that wrap others provide it, so that the operator sees which one is asked. This
    interface is optional. What a backend without it does is found by opening the file.
    """

    def explain(path, context):  # type: ignore[no-untyped-def]
        """Return how a read request for `path` would be answered.

        It calls L{twisted_tftp.backends.explaining.explain} for the backends that it wraps.

        @return: a list of lines for the operator, the first step first; or a Deferred of one.
        """


class IBackendPlugin(Interface):
    """A kind of backend that a user can name: `NAME:ARGUMENT,key=value,...`.

    Plugins are found as those of Twisted itself: in the modules of `twisted/plugins/` of any
    distribution, each of which assigns objects that provide this interface to names.
    """

    name = Attribute("The word before the colon (str): lower-case letters, digits and `-`.")

    help = Attribute(
        "What the backend does, for `--help-backends` (str): one line. Further lines explain the "
        "argument and each keyword."
    )

    def from_arguments(argument, keywords):  # type: ignore[no-untyped-def]
        """Make a backend. Called in the reactor's thread: it opens nothing that may block.

        @param argument: the text after the colon, without the keywords; it may be empty (str).
        @param keywords: the keywords and their values (a dict of str to str). Those that the
            plugin does not know are mistakes of the user.

        @return: an L{IFileBackend}.

        @raise ValueError: the argument or a keyword is not valid. The text is one line for the
            user.
        """


class IPathArguments(Interface):
    """A plugin some of whose arguments are paths of files.

    This interface is optional. A relative path in a configuration file starts at the folder of
    that file; the plugin gets an absolute one.
    """

    paths = Attribute("The names of the keywords that are paths; an empty name is the argument.")


class IFileReader(Interface):
    """A file that is open for reading. It stays the same file if its name is replaced."""

    size = Attribute("Octets of the file (int), or None if that is not known in advance.")

    def read(offset, length):  # type: ignore[no-untyped-def]
        """Read octets. At most one read is under way at a time; `offset` never decreases.

        @param offset: octets from the start of the file.
        @param length: octets wanted, at least 1.

        @return: a bytes-like object that does not change until the next call, or a Deferred that
            fires with one. It has exactly `length` octets, fewer only at the end of the file, and
            none after the end.

        @raise OSError: reading failed (code 0).
        """

    def close():  # type: ignore[no-untyped-def]
        """Close the file. Called once, at any time, even while a read is under way."""


class IFileWriter(Interface):
    """A file that is open for writing. One call of L{commit} or L{abort} ends it."""

    def write(data):  # type: ignore[no-untyped-def]
        """Write the next octets of the file. At most one write is under way at a time.

        @param data: bytes; the writer may keep them.

        @return: None, or a Deferred that fires when the next octets can be written.

        @raise DiskFull: there is no space (code 3).
        @raise OSError: writing failed; ENOSPC and EDQUOT become code 3.
        """

    def commit():  # type: ignore[no-untyped-def]
        """Make the whole file durable and visible under its name, or fail and change nothing.

        @return: None, or a Deferred that fires when this is done. Instead of None, it may be a
            L{twisted_tftp.context.StoredFile}, which tells hooks where the file is.

        @raise DiskFull: there is no space (code 3).
        @raise FileAlreadyExists: a file with this name was created since the writer was opened
            (code 6).
        """

    def abort():  # type: ignore[no-untyped-def]
        """Discard what was written. A file that had the name before stays unchanged.

        Called at any time before the commit starts, or after it failed, even while a write is
        under way.

        @return: None, or a Deferred that fires when the written data is removed.
        """


class ITransferObserver(Interface):
    """An observer of transfers, for logs, metrics or a status page.

    Each method gets the transfer's L{twisted_tftp.context.TransferStatistics}, always the same
    object. An exception of an observer is logged and does not affect the transfer.
    """

    def started(statistics):  # type: ignore[no-untyped-def]
        """A request has passed the checks of the server. Its file is not open yet."""

    def progressed(statistics):  # type: ignore[no-untyped-def]
        """Another 32 MiB or more were transferred; `octets` and `retransmissions` are current."""

    def finished(statistics):  # type: ignore[no-untyped-def]
        """The transfer has ended; `outcome` and `ended` are set."""
