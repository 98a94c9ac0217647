"""Limit the total size of the files below a directory, including running uploads."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable

from twisted_tftp.backends.naming import is_temporary
from twisted_tftp.errors import DiskFull

#: How long a measurement of the tree is used, in seconds. Other programs may add and remove files.
MAX_AGE = 60.0

#: The shortest time between two measurements, as a multiple of the time that the last one took.
#: If an upload does not fit, the tree is measured earlier than after `MAX_AGE`, because files may
#: have been removed or replaced; but at most about a tenth of the time must go into measuring.
PAUSE_PER_MEASUREMENT = 10.0


def octets_below(root: str) -> int:
    """Return the total size of the regular files below `root`, without temporary files.

    A file with several names (hard links) is counted once.
    """
    octets = 0
    linked: set[tuple[int, int]] = set()
    pending = [root]  # not recursive: a tree may be deeper than Python's limit of calls
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # it was removed meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
                    elif not is_temporary(entry.name):
                        octets += _new_octets(status, linked)
    return octets


def _new_octets(status: os.stat_result, linked: set[tuple[int, int]]) -> int:
    """Return the size of a regular file; 0 if it is something else, or was counted already.

    @param linked: device and inode of the files with several names; that of the file is added.
    """
    if not stat.S_ISREG(status.st_mode):
        return 0
    if status.st_nlink > 1:
        identity = (status.st_dev, status.st_ino)
        if identity in linked:
            return 0
        linked.add(identity)
    return status.st_size


class Quota:
    """The limit of the total size of the files below a directory, and their current size.

    The methods may block, and may be called in any thread.
    """

    def __init__(
        self,
        root: str,
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[str], int] = octets_below,
    ) -> None:
        """Set up, without measuring.

        @param root: the directory.
        @param limit: the most octets of all files.
        @param clock: returns the time in seconds of a monotonic clock.
        @param measure: returns the total size of the files below a directory.
        """
        self._root = root
        self._limit = limit
        self._clock = clock
        self._octets_below = measure
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        # All are numbers of octets:
        self._used = 0  # of the other files
        self._reserved = 0  # of temporary files, which have no name yet
        self._committed = 0  # of uploads that were committed since the last measurement began
        self._replaced = 0  # of the files that those uploads have replaced
        self._measured_at = float("-inf")
        self._measuring_time = 0.0  # seconds that the last measurement took

    def check(self, octets: int) -> None:
        """Check that a file of `octets` would fit now.

        @raise DiskFull: it would not.
        """
        if self._clock() - self._measured_at >= MAX_AGE:
            self._measure()
        self._check_and_reserve(max(1, octets), 0)

    def discard_measurement(self) -> None:
        """Forget the size of the tree, so that it is measured at the next upload."""
        self._measured_at = float("-inf")

    def reserve(self, octets: int) -> None:
        """Count `octets` that will be appended to a temporary file.

        @raise DiskFull: they do not fit. They are not counted then.
        """
        if not octets:
            return
        self._check_and_reserve(octets, octets)

    def release(self, octets: int) -> None:
        """Count a temporary file of `octets` no more: it was removed."""
        with self._lock:
            self._reserved -= octets

    def commit(self, octets: int, replaced: int) -> None:
        """Count a temporary file as a file: it got its name.

        @param octets: the size of the file.
        @param replaced: the size of the file that had the name before, or 0. It is not subtracted
            before the next measurement, because the file may have other names, or two uploads may
            have replaced it at the same time.
        """
        with self._lock:
            self._reserved -= octets
            self._used += octets
            self._committed += octets
            self._replaced += replaced

    def _check_and_reserve(self, octets: int, reserve: int) -> None:
        """Check that `octets` fit, and reserve `reserve` octets; measure the tree if necessary."""
        if self._reserve_if_fits(octets, reserve):
            return
        with self._lock:
            may_fit = self._used + self._reserved - self._replaced + octets <= self._limit
        if (
            may_fit
            or self._clock() - self._measured_at >= PAUSE_PER_MEASUREMENT * self._measuring_time
        ):
            self._measure()
            if self._reserve_if_fits(octets, reserve):
                return
        detail = f"would exceed --upload-quota {self._limit:,}"
        raise DiskFull("the quota of uploads is used up", detail)

    def _reserve_if_fits(self, octets: int, reserve: int) -> bool:
        with self._lock:
            if self._used + self._reserved + octets > self._limit:
                return False
            self._reserved += reserve
            return True

    def _measure(self) -> None:
        """Measure the tree; calls in other threads wait for the result and use it."""
        asked_at = self._clock()
        with self._measuring:
            if self._measured_at > asked_at:
                return
            with self._lock:
                self._committed = self._replaced = 0
            began = self._clock()
            octets = self._octets_below(self._root)
            with self._lock:
                # An upload that was committed meanwhile may have been measured or not. To be safe,
                # it is counted, maybe twice.
                self._used = octets + self._committed
            self._measured_at = self._clock()
            self._measuring_time = self._measured_at - began
