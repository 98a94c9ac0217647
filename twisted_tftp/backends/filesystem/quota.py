"""Bound the octets that the files of a tree may have in all, uploads under way included."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable

from twisted_tftp.backends.naming import is_temporary
from twisted_tftp.errors import DiskFull

#: Seconds after which the tree is measured again: others may write to it and remove from it.
OUTDATED = 60.0

#: Where an upload does not fit, the tree is measured sooner: somebody may have made room, and
#: files that were replaced count until then. But a measurement waits for this many times as long
#: as the last one has taken, so that measuring takes a tenth of the time at most.
PAUSE_PER_MEASUREMENT = 10.0


def octets_below(root: str) -> int:
    """Return the octets of the regular files below `root`, each once, without temporary ones."""
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


class Quota:
    """How many octets the regular files beneath `root` have, and may have.

    Methods may block, and may be called from any thread.
    """

    def __init__(
        self,
        root: str,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[str], int] = octets_below,
    ) -> None:
        """Allow `limit` octets below the directory `root`.

        @param clock: seconds of a monotonic clock.
        @param measure: returns the octets of the files below a directory.
        """
        self._root = root
        self._limit = limit
        self._clock = clock
        self._octets_below = measure
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._used = 0  # by files that are in their places
        self._held = 0  # by temporary ones
        self._committed = 0  # since the last measurement began
        self._replaced = 0  # of those, what was there before them
        self._measured_at = float("-inf")
        self._took = 0.0  # seconds to measure it

    def check(self, octets: int) -> None:
        """Look whether a file of `octets` would fit now.

        @raise DiskFull: it would not.
        """
        if self._clock() - self._measured_at >= OUTDATED:
            self._measure()
        self._require(max(1, octets), 0)

    def forget(self) -> None:
        """Measure the tree at the next upload."""
        self._measured_at = float("-inf")

    def hold(self, octets: int) -> None:
        """Count `octets` more of a temporary file.

        @raise DiskFull: they do not fit; none is counted.
        """
        if not octets:
            return
        self._require(octets, octets)

    def release(self, octets: int) -> None:
        """Count a temporary file of `octets` out: it was removed."""
        with self._lock:
            self._held -= octets

    def commit(self, octets: int, replaced: int) -> None:
        """Count a temporary file as one in its place, where another one may have had `replaced`.

        Those are not taken off, since two uploads may have replaced one file, or one of its names:
        only a measurement can tell.
        """
        with self._lock:
            self._held -= octets
            self._used += octets
            self._committed += octets
            self._replaced += replaced

    def _require(self, octets: int, held: int) -> None:
        """Hold `held` octets where there is room for `octets`; measure before that is denied."""
        if self._hold_if_fits(octets, held):
            return
        with self._lock:
            may_fit = self._used + self._held - self._replaced + octets <= self._limit
        if may_fit or self._clock() - self._measured_at >= PAUSE_PER_MEASUREMENT * self._took:
            self._measure()
            if self._hold_if_fits(octets, held):
                return
        raise DiskFull("the quota of uploads is used up")

    def _hold_if_fits(self, octets: int, held: int) -> bool:
        with self._lock:
            if self._used + self._held + octets > self._limit:
                return False
            self._held += held
            return True

    def _measure(self) -> None:
        """Measure the tree; who comes meanwhile waits for what this finds."""
        asked_at = self._clock()
        with self._measuring:
            if self._measured_at > asked_at:
                return
            with self._lock:
                self._committed = self._replaced = 0
            began = self._clock()
            octets = self._octets_below(self._root)
            with self._lock:
                # What was committed meanwhile may have been seen or not; rather twice than never.
                self._used = octets + self._committed
            self._measured_at = self._clock()
            self._took = self._measured_at - began
