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

from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

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


class _OpenHow(ctypes.Structure):
    """The argument `struct open_how` of openat2."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_OPEN_HOW_SIZE = ctypes.sizeof(_OpenHow)


class FoundFile:
    """A regular file that was found and not yet opened. Call `close` at the end in any case.

    @ivar status: its status when it was found.
    """

    __slots__ = ("_path_descriptor", "status")

    def __init__(self, path_descriptor: int, status: os.stat_result) -> None:
        self._path_descriptor = path_descriptor
        self.status = status

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
        self._syscall = None
        if sys.platform == "linux":
            self._syscall = ctypes.CDLL(None, use_errno=True).syscall
            self._syscall.restype = ctypes.c_long
        # O_PATH finds a file without opening it: to open a device or a FIFO can have effects.
        flags = os.O_PATH | os.O_CLOEXEC if sys.platform == "linux" else 0
        self._root_how = ctypes.byref(_OpenHow(flags | os.O_DIRECTORY, 0, _RESOLVE_CACHED))
        self._file_how = ctypes.byref(
            _OpenHow(
                flags,
                0,
                _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH | _RESOLVE_CACHED,
            )
        )

    def detect_file_system(self) -> None:
        """Find out the type of the root's file system; this may block."""
        self._device = None
        if self._syscall is not None:
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
        root = self._openat2(_AT_FDCWD, self._root, self._root_how)
        if root < 0:
            return None
        try:
            if os.fstat(root).st_dev != self._device:
                self._device = None  # another file system was mounted at the root
                return None
            path_descriptor = self._openat2(root, name, self._file_how)
            error = ctypes.get_errno()
        finally:
            os.close(root)
        if path_descriptor < 0:
            if error == errno.ENOENT:
                raise FileNotFound()
            return None
        found = FoundFile(path_descriptor, os.fstat(path_descriptor))
        if not stat.S_ISREG(found.status.st_mode):
            found.close()
            raise AccessViolation("not a regular file")
        return found

    def directory_status(self, path: str) -> os.stat_result | None:
        """Return the status of a directory without blocking; None if it is not known at once.

        @param path: the path relative to the root; empty for the root itself.
        """
        if self._device is None:
            return None
        root = self._openat2(_AT_FDCWD, self._root, self._root_how)
        if root < 0:
            return None
        descriptor = -1
        try:
            status = os.fstat(root)
            if status.st_dev != self._device:
                return None
            if not path:
                return status
            name = path.encode("utf-8", "surrogateescape")
            descriptor = self._openat2(root, name, self._file_how)
            return None if descriptor < 0 else os.fstat(descriptor)
        finally:
            os.close(root)
            if descriptor >= 0:
                os.close(descriptor)

    def _openat2(self, directory: int, name: bytes, how: Any) -> int:
        descriptor: int = self._syscall(  # type: ignore[misc]
            _SYS_OPENAT2, directory, name, how, _OPEN_HOW_SIZE
        )
        if descriptor < 0 and ctypes.get_errno() == errno.ENOSYS:
            self._device = self._syscall = None  # before Linux 5.6
        return descriptor


def _kernel_name(path: str) -> bytes:
    """Return the path of a request as a path relative to the root, for the kernel."""
    return "/".join(components(path)).encode("utf-8", "surrogateescape")


_cached_name = lru_cache(maxsize=1024)(_kernel_name)
