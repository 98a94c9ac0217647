"""Open a file whose way there the kernel has in memory, at once or not at all.

`openat2` with RESOLVE_CACHED (Linux 5.12) looks a path up without waiting for a disk, so it may
be called in the reactor; RESOLVE_BENEATH keeps it beneath the root, links and `..` included. A
file system may still wait in its own open(), as those of networks and FUSE do; so this is for
local ones only. What can't be told here, for whichever reason, is left to the walk in a thread
(`backends.filesystem.path_walk`).
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

_SYS_OPENAT2 = 437  # the same number on every architecture
_AT_FDCWD = -100
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS = 0x01, 0x02
_RESOLVE_BENEATH, _RESOLVE_CACHED = 0x08, 0x20

#: File systems whose open() and fstat() wait for nothing once the name is in memory.
LOCAL = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs", "iso9660"),
        *("tmpfs", "ramfs"),
    )
)


#: Of these, those whose files are memory and nothing else.
MEMORY = frozenset(("tmpfs", "ramfs"))


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_SIZE = ctypes.sizeof(_How)


class Found:
    """A regular file that was found and is not open yet. Close it, when it is open too.

    @ivar status: what it was when it was found.
    """

    __slots__ = ("_place", "status")

    def __init__(self, place: int, status: os.stat_result) -> None:
        self._place = place
        self.status = status

    def open(self) -> int | None:
        """Return a descriptor for reading, or None where only a thread can tell what is wrong."""
        try:
            # The very file that was looked at, whatever has its name now.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{self._place}", flags)
        except OSError:
            return None  # not readable, or no /proc

    def close(self) -> None:
        """Let go of it."""
        os.close(self._place)


def file_system_type(device: int) -> str:
    """Return the type of the file system with the number `device`, as mountinfo has it."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for mount in mounts:
            fields = mount.split()
            if fields[2] == number:
                return fields[fields.index("-") + 1]
    return ""


class CachedOpener:
    """Find regular files beneath `root` without ever blocking.

    It finds nothing before `learn` has found the root on a local file system, and nothing on
    another one that is mounted beneath.

    @ivar in_memory: what it finds is memory, so that reading it waits for nothing.
    """

    def __init__(self, root: str, type_of: Callable[[int], str] = file_system_type) -> None:
        """Set up for `root`.

        @param type_of: returns the type of the file system with a device number.
        """
        self._type_of = type_of
        self._root = os.fsencode(root)
        self._device: int | None = None  # that of the root, where it is local
        self.in_memory = False
        self._syscall = None
        if sys.platform == "linux":
            self._syscall = ctypes.CDLL(None, use_errno=True).syscall
            self._syscall.restype = ctypes.c_long
        # A file is found before it is opened: to open a device, or a FIFO that somebody waits
        # for at the other end, can do things that nobody asked for.
        found = os.O_PATH | os.O_CLOEXEC if sys.platform == "linux" else 0
        self._for_root = ctypes.byref(_How(found | os.O_DIRECTORY, 0, _RESOLVE_CACHED))
        self._for_file = ctypes.byref(
            _How(
                found,
                0,
                _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH | _RESOLVE_CACHED,
            )
        )

    def learn(self) -> None:
        """Look at which file system the root is; this may block."""
        self._device = None
        if self._syscall is not None:
            device = os.stat(self._root).st_dev
            kind = self._type_of(device)
            if kind in LOCAL:
                self.in_memory = kind in MEMORY
                self._device = device

    def forget(self) -> None:
        """Find nothing before `learn` is called again."""
        self._device = None

    def find(self, path: str) -> Found | None:
        """Return the regular file of that name, or None where only a thread can tell.

        @raise FileNotFound: there is surely no such file.
        @raise AccessViolation: it is not a regular file.
        """
        if self._device is None:
            return None
        name = (_remembered if len(path) <= REMEMBERED_PATH else _relative)(path)
        root = self._openat2(_AT_FDCWD, self._root, self._for_root)
        if root < 0:
            return None
        try:
            if os.fstat(root).st_dev != self._device:
                self._device = None  # something else was mounted there
                return None
            place = self._openat2(root, name, self._for_file)
            number = ctypes.get_errno()
        finally:
            os.close(root)
        if place < 0:
            if number == errno.ENOENT:
                raise FileNotFound()
            return None
        found = Found(place, os.fstat(place))
        if not stat.S_ISREG(found.status.st_mode):
            found.close()
            raise AccessViolation("not a regular file")
        return found

    def _openat2(self, directory: int, name: bytes, how: Any) -> int:
        descriptor: int = self._syscall(  # type: ignore[misc]
            _SYS_OPENAT2, directory, name, how, _SIZE
        )
        if descriptor < 0 and ctypes.get_errno() == errno.ENOSYS:
            self._device = self._syscall = None  # before Linux 5.6
        return descriptor


def _relative(path: str) -> bytes:
    return "/".join(components(path)).encode("utf-8", "surrogateescape")


#: Names of so many characters are remembered as the kernel takes them.
REMEMBERED_PATH = 128
_remembered = lru_cache(maxsize=1024)(_relative)
