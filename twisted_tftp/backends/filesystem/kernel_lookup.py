"""Find files whose path the kernel has in its caches, without waiting for a disk.

`openat2` with RESOLVE_CACHED (Linux 5.12) looks up a path without waiting for a disk, so it may be
called in the reactor. With RESOLVE_BENEATH, links and `..` cannot lead out of the root. On network
file systems and FUSE, open() may wait even for a cached path, so only local file systems are used.
All other cases are left to the walk in a thread (`backends.filesystem.path_walk`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted_tftp.backends.filesystem.content_cache import Identity, identity
from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

try:
    from twisted_tftp.backends.filesystem import _openat2
except ImportError:  # not built: no compiler, or not on Linux
    _openat2 = None  # type: ignore[assignment]

#: The number of the system call openat2; it is the same on all architectures.
_SYS_OPENAT2 = 437

# From linux/fcntl.h and linux/openat2.h.
_AT_FDCWD = -100
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_RESOLVE_CACHED = 0x20

#: The longest path, in characters, whose conversion for the kernel is cached.
MAX_CACHED_PATH = 128

#: The file systems whose open() and fstat() do not wait if the name is in the kernel's caches.
LOCAL_FILE_SYSTEMS = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs", "iso9660"),
        *("tmpfs", "ramfs"),
    )
)

#: The local file systems that keep files in memory only.
MEMORY_FILE_SYSTEMS = frozenset(("tmpfs", "ramfs"))


#: A file that was found: an O_PATH descriptor, the mode, and the values of its `Identity`.
Found = tuple[int, int, int, int, int, int, int]

#: Finds a file below a root: see `OpenAt2.find_beneath`.
FindBeneath = Callable[[bytes, bytes, int], Found | None]

#: The same as `OpenAt2.find_beneath`, in C, in half of the time; None if it was not built.
_find_beneath_in_c: FindBeneath | None = None if _openat2 is None else _openat2.find_beneath


class _OpenHow(ctypes.Structure):
    """The argument `struct open_how` of openat2."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_OPEN_HOW_SIZE = ctypes.sizeof(_OpenHow)

# O_PATH finds a file without opening it: to open a device or a FIFO can have effects.
_PATH_FLAGS = os.O_PATH | os.O_CLOEXEC if sys.platform == "linux" else 0

_ROOT_HOW = ctypes.byref(_OpenHow(_PATH_FLAGS | os.O_DIRECTORY, 0, _RESOLVE_CACHED))

_FILE_HOW = ctypes.byref(
    _OpenHow(
        _PATH_FLAGS,
        0,
        _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH | _RESOLVE_CACHED,
    )
)


class FoundFile:
    """A regular file that was found and not yet opened. Call `close` at the end in any case.

    @ivar identity: its identity when it was found.
    """

    __slots__ = ("_path_descriptor", "identity")

    def __init__(self, path_descriptor: int, identity: Identity) -> None:
        self._path_descriptor = path_descriptor
        self.identity = identity

    def open(self) -> int | None:
        """Return a descriptor for reading; None if the file must be opened in a thread."""
        try:
            # This opens the file that was found, even if another file has its name now.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{self._path_descriptor}", flags)
        except OSError:
            return None  # not readable, or no /proc

    def close(self) -> None:
        """Close the O_PATH descriptor; a descriptor that `open` has returned stays open."""
        os.close(self._path_descriptor)


def file_system_type(device: int) -> str:
    """Return the type of the file system with a device number; empty if it is unknown."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for mount in mounts:
            fields = mount.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return ""


class OpenAt2:
    """A caller of openat2 through ctypes: it opens paths that the kernel has cached, with O_PATH.

    @ivar is_missing: whether this system does not have it.
    """

    def __init__(self) -> None:
        self._syscall: Any = None
        self.is_missing = sys.platform != "linux"
        if not self.is_missing:
            self._syscall = ctypes.CDLL(None, use_errno=True).syscall
            self._syscall.restype = ctypes.c_long

    def open_root(self, path: bytes, device: int) -> int | None:
        """Return the descriptor of a directory; None if it is not cached, or not on `device`.

        @raise OSError: ENOSYS, if the system does not have openat2.
        """
        descriptor: int = self._syscall(_SYS_OPENAT2, _AT_FDCWD, path, _ROOT_HOW, _OPEN_HOW_SIZE)
        if descriptor < 0:
            if ctypes.get_errno() == errno.ENOSYS:  # before Linux 5.6
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            return None
        if os.fstat(descriptor).st_dev != device:
            os.close(descriptor)
            return None
        return descriptor

    def open_beneath(self, root: int, name: bytes) -> int:
        """Return the descriptor of a file below the directory `root`.

        @raise OSError: the file is not found at once, or not on the same file system.
        """
        descriptor: int = self._syscall(_SYS_OPENAT2, root, name, _FILE_HOW, _OPEN_HOW_SIZE)
        if descriptor < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return descriptor

    def find_beneath(self, root: bytes, name: bytes, device: int) -> Found | None:
        """Find a file below the directory with the path `root`, which must be on `device`.

        @return: None if the root is not found at once on that device.
        @raise OSError: as for L{open_root} and L{open_beneath}.
        """
        directory = self.open_root(root, device)
        if directory is None:
            return None
        try:
            descriptor = self.open_beneath(directory, name)
        finally:
            os.close(directory)
        status = os.fstat(descriptor)
        return (descriptor, status.st_mode, *identity(status))


class KernelLookup:
    """Find regular files below a root without blocking.

    It finds files only after L{detect_file_system} has found that the root is on a local file
    system, and only on that file system: not on others that are mounted below the root.

    @ivar in_memory: whether the file system keeps files in memory, so that reads never wait.
    """

    def __init__(self, root: str, type_of: Callable[[int], str] = file_system_type) -> None:
        """Set up; files are found only after L{detect_file_system} was called.

        @param root: the path of a directory.
        @param type_of: returns the type of the file system that has a device number.
        """
        self._type_of = type_of
        self._root = os.fsencode(root)
        self._device: int | None = None  # of the root, if it is on a local file system
        self.in_memory = False
        self._openat2 = OpenAt2()
        self._find_beneath: FindBeneath = _find_beneath_in_c or self._openat2.find_beneath

    def detect_file_system(self) -> None:
        """Find out the type of the root's file system; this may block."""
        self._device = None
        if not self._openat2.is_missing:
            device = os.stat(self._root).st_dev
            kind = self._type_of(device)
            if kind in LOCAL_FILE_SYSTEMS:
                self.in_memory = kind in MEMORY_FILE_SYSTEMS
                self._device = device

    def forget_file_system(self) -> None:
        """Forget the file system of the root; files are found only after the next detection."""
        self._device = None

    def find(self, path: str) -> FoundFile | None:
        """Return the regular file with that path; None if it must be looked up in a thread.

        @raise FileNotFound: there is no such file.
        @raise AccessViolation: it is not a regular file.
        """
        if self._device is None:
            return None
        name = (_cached_name if len(path) <= MAX_CACHED_PATH else _kernel_name)(path)
        try:
            found = self._find_beneath(self._root, name, self._device)
        except FileNotFoundError:
            raise FileNotFound() from None
        except OSError as error:
            if error.errno == errno.ENOSYS:
                self._openat2.is_missing = True
                self._device = None
            return None
        if found is None:
            self._device = None  # another file system may have been mounted at the root
            return None
        file = FoundFile(found[0], found[2:])
        if not stat.S_ISREG(found[1]):
            file.close()
            raise AccessViolation("not a regular file")
        return file

    def directory_status(self, path: str) -> os.stat_result | None:
        """Return the status of a directory without blocking; None if it is not known at once.

        @param path: the path relative to the root; empty for the root itself.
        """
        if self._device is None:
            return None
        try:
            root = self._openat2.open_root(self._root, self._device)
        except OSError:
            return None
        if root is None:
            return None
        try:
            if not path:
                return os.fstat(root)
            descriptor = self._openat2.open_beneath(root, path.encode("utf-8", "surrogateescape"))
        except OSError:
            return None
        finally:
            os.close(root)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)


def _kernel_name(path: str) -> bytes:
    """Return the path of a request as a path relative to the root, for the kernel."""
    return "/".join(components(path)).encode("utf-8", "surrogateescape")


_cached_name = lru_cache(maxsize=1024)(_kernel_name)
