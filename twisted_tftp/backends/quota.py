"""Bound the octets that the files of a tree may have in all, uploads under way included."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable

from twisted_tftp.backends.naming import is_temporary
from twisted_tftp.errors import DiskFull

#: Seconds after which the tree is measured anew: others may write to it and remove from it. Where
#: an upload does not fit it is measured sooner, since somebody may have made room.
OUTDATED, SOON = 60.0, 1.0


class Quota:
    """How many octets the regular files beneath `root` have, and may have.

    Methods may block, and may be called from any thread.
    """

    def __init__(self, root: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `limit` octets beneath the directory `root`."""
        self._root = root
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._used = 0  # by files that are in their places
        self._held = 0  # by temporary ones
        self._committed = 0  # since the present measurement began
        self._measured_at = -OUTDATED

    def check(self, octets: int) -> None:
        """Look whether a file of `octets` would fit now.

        @raise DiskFull: it would not.
        """
        self._measure_if_older(OUTDATED)
        if not self._fits(octets):
            self._measure_if_older(SOON)
            with self._lock:
                self._refuse_unless_fits(octets)

    def forget(self) -> None:
        """Measure the tree at the next upload."""
        self._measured_at = -OUTDATED

    def hold(self, octets: int) -> None:
        """Count `octets` more of a temporary file.

        @raise DiskFull: they do not fit; none is counted.
        """
        with self._lock:
            self._refuse_unless_fits(octets)
            self._held += octets

    def release(self, octets: int) -> None:
        """Count a temporary file of `octets` out: it was removed."""
        with self._lock:
            self._held -= octets

    def commit(self, octets: int, replaced: int) -> None:
        """Count a temporary file as one that took the place of another of `replaced` octets."""
        with self._lock:
            self._held -= octets
            self._used += octets - replaced
            self._committed += octets

    def _fits(self, octets: int) -> bool:
        return self._used + self._held + octets <= self._limit

    def _refuse_unless_fits(self, octets: int) -> None:
        if not self._fits(octets):
            raise DiskFull("the quota of uploads is used up")

    def _measure_if_older(self, age: float) -> None:
        with self._measuring:  # who comes meanwhile waits for what this finds
            if self._clock() - self._measured_at < age:
                return
            with self._lock:
                self._committed = 0
            octets = _octets_beneath(self._root)
            with self._lock:
                # What was committed meanwhile may have been seen or not; rather twice than never.
                self._used = octets + self._committed
            self._measured_at = self._clock()


def _octets_beneath(root: str) -> int:
    """Return the octets of the regular files beneath `root`, each once, without temporary ones."""
    octets = 0
    linked: set[tuple[int, int]] = set()
    for directory, _, names in os.walk(root):
        for name in names:
            if is_temporary(name):
                continue
            try:
                status = os.lstat(os.path.join(directory, name))
            except OSError:
                continue  # removed meanwhile
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                if identity in linked:
                    continue
                linked.add(identity)
            octets += status.st_size
    return octets
