"""Slow local files for downloads."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_tftp.backends.memory import MemoryBackend, MemoryWriter


class SlowSink(MemoryWriter):
    """A sink whose writes end when the test fires their Deferreds."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self.room: list[Deferred[None]] = []
        self.committed = False

    def write(self, data: bytes) -> Any:
        assert not self.committed
        assert all(each.called for each in self.room), "one write at a time"
        super().write(data)
        self.room.append(Deferred())
        return self.room[-1]

    def commit(self) -> None:
        assert all(each.called for each in self.room)
        self.committed = True
        super().commit()
