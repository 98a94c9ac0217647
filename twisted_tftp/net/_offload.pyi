"""Types of the C module; `offload.py` describes the methods."""

from typing import Any

from twisted_tftp.net.offload import FlowOwner, Found
from twisted_tftp.transfer.machine import Buffer

class Table:
    """A table of flows."""

    def __init__(self, epoll: int, measure_interval: float, size: int, /) -> None: ...
    def add(
        self,
        descriptor: int,
        owner: FlowOwner,
        peer: bytes | None,
        segments: int,
        octets: Buffer,
        position: int,
        is_file_end: bool,
        awaited: int,
        blksize: int,
        windowsize: int,
        sent_at: float,
        measure_at: float,
        is_first: bool,
        /,
    ) -> bool: ...
    def report(self, descriptor: int, is_end: bool, is_brief: bool = ..., /) -> Any: ...
    def poll(self, most: int, until: float, idle_until: float, /) -> Found: ...
    def close(self) -> None: ...
