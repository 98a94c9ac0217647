"""Open a file whose way there the kernel has in memory, at once or not at all.

`openat2` with RESOLVE_CACHED (Linux 5.12) never waits for a disk or a network, so it may be
called in the reactor; RESOLVE_BENEATH keeps it beneath the root, links and `..` included. What
it can't say, for whichever reason, is left to the walk in a thread (`backends.beneath`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from typing import Any

from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

_SYS_OPENAT2 = 437  # the same number on every architecture
_AT_FDCWD = -100
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH, _RESOLVE_CACHED = 0x02, 0x08, 0x20


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_SIZE = ctypes.sizeof(_How)


class CachedOpener:
    """Open regular files beneath `root` without ever blocking."""

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)
        self._syscall = None
        if sys.platform == "linux":
            self._syscall = ctypes.CDLL(None, use_errno=True).syscall
            self._syscall.restype = ctypes.c_long
        self._for_root = ctypes.byref(
            _How(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
        )
        self._for_file = ctypes.byref(
            _How(
                os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
                0,
                _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH | _RESOLVE_CACHED,
            )
        )

    def open(self, path: str) -> int | None:
        """Return the descriptor of a regular file, or None where only a thread can tell.

        @raise FileNotFound: there is surely no such file.
        @raise AccessViolation: it is not a regular file.
        """
        if self._syscall is None:
            return None
        name = "/".join(components(path)).encode("utf-8", "surrogateescape")
        root = self._openat2(_AT_FDCWD, self._root, self._for_root)
        if root < 0:
            return None
        try:
            descriptor = self._openat2(root, name, self._for_file)
            number = ctypes.get_errno()
        finally:
            os.close(root)
        if descriptor < 0:
            if number == errno.ENOENT:
                raise FileNotFound()
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise AccessViolation("not a regular file")
        return descriptor

    def _openat2(self, directory: int, name: bytes, how: Any) -> int:
        descriptor: int = self._syscall(  # type: ignore[misc]
            _SYS_OPENAT2, directory, name, how, _SIZE
        )
        if descriptor < 0 and ctypes.get_errno() == errno.ENOSYS:
            self._syscall = None  # before Linux 5.6
        return descriptor
