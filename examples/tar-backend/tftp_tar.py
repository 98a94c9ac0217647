"""Serve the members of a tar archive: `twistd tftp --backend tar:/srv/images.tar`.

A release of boot files is then one file, and is replaced at once.
"""

import os
import posixpath
import tarfile

from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_tftp.backends.plugin import reject_unknown, take_text
from twisted_tftp.errors import AccessViolation, BackendUnavailable, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend, IFileReader


def from_arguments(argument, keywords):
    """Make the backend that the user has named.

    @raise ValueError: an argument is not valid.
    """
    folder = take_text(keywords, "folder")
    reject_unknown(keywords, ["folder"])
    if not argument:
        raise ValueError("it needs an archive, such as tar:/srv/images.tar")
    return TarBackend(argument, folder)


def member_name(path):
    """Return a name without a leading slash and without `.` and empty components."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def identity_of(status):
    """Return what changes if an archive is replaced or written."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Archive:
    """An open archive. It is closed when the backend and all readers have released it.

    @ivar identity: what changes if another archive has the name.
    @ivar members: the name of each regular file, and its place: the first octet, the number.
    """

    def __init__(self, path):
        """Open the archive and read the headers of its members; this blocks.

        @raise OSError: it cannot be read.
        @raise tarfile.TarError: it is no tar archive, or it is compressed.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.identity = identity_of(os.fstat(self._descriptor))
        self.members = {}
        with (
            open(self._descriptor, "rb", closefd=False) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            for member in archive:
                name = member_name(member.name)
                if member.islnk():
                    self.members[name] = self.members[member_name(member.linkname)]
                elif member.isreg() and not member.issparse():
                    self.members[name] = (member.offset_data, member.size)

    def __del__(self):
        """Close the archive."""
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def read(self, start, length):
        """Read octets of the archive; this blocks."""
        return os.pread(self._descriptor, length, start)


@implementer(IFileBackend, IBackendLifecycle)
class TarBackend:
    """A backend that serves the regular files of a tar archive."""

    def __init__(self, path, folder="", in_thread=deferToThread):
        """Set up, without opening the archive.

        @param path: the archive.
        @param folder: the folder of the archive in which names start.
        @param in_thread: calls a function in a thread.
        """
        self._path = path
        self._folder = folder
        self._in_thread = in_thread
        self._archive = None

    def open_reader(self, path, context):
        """Find a member, in a thread: to see whether the archive was replaced may block."""
        # Nothing is open for this transfer before the Deferred fires, so it may be cancelled.
        return self._in_thread(self._open, member_name(posixpath.join(self._folder, f"./{path}")))

    def open_writer(self, path, context):
        """Refuse the upload.

        @raise AccessViolation: always.
        """
        raise AccessViolation("this server does not accept files", "archives are only read")

    def check(self):
        """Read the headers of the archive.

        @raise BackendUnavailable: it cannot be read.
        """
        try:
            self._current()
        except (OSError, tarfile.TarError, KeyError) as error:
            raise BackendUnavailable(f"tar archive {self._path!r}: {error}") from None

    def start(self):
        """Do nothing."""

    def forget(self):
        """Read the headers again at the next request."""
        self._archive = None

    def stop(self):
        """Release the archive."""
        self._archive = None

    def _open(self, name):
        """Return a reader of a member; called in a thread."""
        try:
            archive = self._current()
        except (tarfile.TarError, KeyError) as error:
            raise TFTPError("the archive cannot be read", f"{self._path}: {error}") from None
        if name not in archive.members:
            raise FileNotFound()
        start, size = archive.members[name]
        return TarReader(archive, start, size, self._in_thread)

    def _current(self):
        """Return the archive that has the name now."""
        archive = self._archive
        if archive is None or archive.identity != identity_of(os.stat(self._path)):
            archive = self._archive = Archive(self._path)
        return archive


@implementer(IFileReader)
class TarReader:
    """A reader of one member of an archive."""

    def __init__(self, archive, start, size, in_thread):
        """Set up.

        @param archive: the L{Archive}.
        @param start: the place of its first octet in the archive.
        @param size: the octets of the member.
        @param in_thread: calls a function in a thread.
        """
        self.size = size
        self._archive = archive
        self._start = start
        self._in_thread = in_thread

    def read(self, offset, length):
        """Read octets in a thread, which keeps the archive open until it has them."""
        length = max(0, min(length, self.size - offset))
        return self._in_thread(self._archive.read, self._start + offset, length)

    def close(self):
        """Release the archive."""
        self._archive = None
