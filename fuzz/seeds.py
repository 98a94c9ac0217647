"""Create the first inputs: ordinary packets and transfers, which a fuzzer would find very late."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz import machines, server
from twisted_tftp.protocol import wire


def _requests() -> Iterator[bytes]:
    yield b"\0\1pxelinux.0\0octet\0"
    yield b"\0\2a\0NetASCII\0"
    yield (
        b"\0\1"
        + b"a/b c\xff\0octet\0tsize\0000\0BLKSIZE\0001428\0blksize\0008\0windowsize\00016\0"
    )
    yield b"\0\1a\0octet\0\0\0\0\0"
    yield b"\0\1a\0mail\0"
    yield b"\0\1a\0octet\0x\xff\0\x80\0"
    yield b"\0\1a\0octet\0blksize\000512"
    yield b"\0\6tsize\000123\0blksize\0001428\0"
    yield b"\0\6a\0001\0A\0002\0"
    yield b"\0\6blksize\0001428\0\0\0junk"
    yield b"\0\6blksize\0001428\0tsize\00012"
    yield b"\0\6tsize\000123\0windowsize\0"
    yield b"\0\1a\0BINARY\0blksize\00065465\0"
    yield b"\0\5\0\1no such file\0"
    yield b"\0\5\0\10" + "é\x1b\n".encode() + b"\xff\0rest"
    yield b"\0\5\0\0" + ("x" + "é" * 250).encode()
    yield b"\0\3\0\1octets"
    yield b"\0\4\xff\xff"


def _options() -> Iterator[bytes]:
    for fields in server.OPTIONS:
        for policy in range(5):
            yield bytes([policy, policy + 1, policy]) + fields + b"\xff" + fields
    everything = b"".join(
        name + b"\000100\0" for name in (b"blksize2", b"windowsize", b"timeout", b"a", b"b")
    )
    yield bytes([0, 1, 3]) + everything + b"rollover\0000\0utimeout\00020000\0tsize\0000\0x\0y\0"
    yield (
        bytes([1, 0, 0])
        + b"windowsize\0009\0blksize\000600\0\xffblksize\000500\0windowsize\0008\0"
    )
    yield bytes([1, 0, 0]) + b"windowsize\0009\0\xffwindowsize\00010\0"


def _texts() -> Iterator[bytes]:
    for cuts in (b"\0\0\0\0", b"\1\2\3\4"):
        yield cuts + b"one\ntwo\r\nthree\rfour\r\r\n\r\0\n\n\r"
        yield cuts + b"no end of a line"


def _do(kind: int, amount: int = 0) -> bytes:
    """Return an operation for a target of `machines` or `server`."""
    return bytes([kind | amount << 3])


#: The operation: the read or the write of the file that is under way ends.
_FINISH = _do(7)

#: The operation: the deadline passes.
_EXPIRE = _do(5, 1)

#: The operation: the machine is called before its deadline.
_WAKE = _do(5)

#: The operation: a few milliseconds pass.
_TIME = _do(4, 3)


def _machines() -> Iterator[bytes]:
    """Yield inputs for senders and receivers; most operations are the same for both."""
    for shape in (first | late for first in range(len(machines.SHAPES)) for late in (0, 128)):
        blksize, windowsize = machines.SHAPES[shape & 127]
        flagses = (4 | 8, 2 | 4 | 128, 1 | 4 | 8 | 64, 1 | 2 | 4 | 32)
        for flags, more in zip(flagses, (0, 1, blksize - 1, 3), strict=True):
            size = min(blksize * windowsize * 4, 600 // blksize * blksize) + more
            rollover = (shape + flags // 4) % 3
            head = bytes([shape, size >> 8, size & 0xFF, rollover, flags, 1, 0, shape % 4])
            yield head + (_do(0) + _FINISH + _TIME) * 20
            yield head + (_do(0) + _FINISH + _EXPIRE + _do(1, 9) + _WAKE) * 5
            yield head + (_do(0) + _FINISH) * 3 + (_do(1, 8) + _TIME) * 4 + _FINISH + _do(0)
            yield head + _do(6) * 3 + _EXPIRE + _do(2) + b"\0\1" + _do(3, 5) + b"\0\4\0\0\0"
            yield head + _do(0) + (_do(2, 9) + b"\1\4") * 2 + _do(7, 25) + b"a" + _FINISH
            yield head + (_do(7, 22) + _do(7, 23) + _FINISH + _TIME) * 4 + _do(7, 19) + b"abc"
    for rollover in range(3):  # a window that starts at the last block number
        head = bytes([128 | 1, 1, 0, rollover, 4 | 8 | 64, 1, 0, 0])
        yield head + (_do(0) + _FINISH) * 25


def _servers() -> Iterator[bytes]:
    for policy in range(4):
        for slow in (0, 1):
            for name in range(4):
                for options in range(0, 8, 2):
                    wait = _do(4, 9) * slow
                    read = _do(1, 1 | name << 1 | (name & 1) << 3) + bytes([options << 2])
                    yield bytes([policy, slow]) + read + wait + (_do(3) + b"\0" + wait * 2) * 6
            write = _do(1, 3 << 1) + bytes([(policy + 1) << 2])
            block, last = _do(5) + b"\0" + wait, _do(5) + b"\5" + wait * 3
            yield bytes([policy, slow]) + write + wait + block * 3 + last + last
            yield (
                bytes([policy, slow])
                + write
                + wait
                + _do(7, 1)
                + b"\0"
                + wait
                + _do(7)
                + b"\4\0\1ab"
            )
            yield bytes([policy, slow]) + write + _do(6) * 3 + write + _do(3, 16) + b"\0" + _do(6)
    plain = wire.encode_request(wire.Request(wire.Opcode.RRQ, b"text", wire.NETASCII, {}))
    yield bytes([0, 0]) + _do(0) + bytes([len(plain)]) + plain + (_do(3) + b"\0") * 4
    yield bytes([0, 0]) + _do(0, 3) + b"\6\0\1text\0" + _do(0, 2) + b"\2\0\5"


def _flows() -> Iterator[bytes]:
    add, ack, octets, stranger, look, take, write = 0, 1, 2, 3, 4, 5, 6
    every = 1 << 7
    for interval in (0, 1):
        for windowsize in range(6):
            # The file ends after 85 blocks of 100 octets; block number 0 follows 65535.
            offer = bytes([2, windowsize, 128 | 64, 255, 0, 255, 250])
            flow = bytes([interval, every | add | 1 << 5]) + offer
            yield flow + bytes([every | ack] * 12) + bytes([look, every | ack, every | take])
            yield flow + _do(ack) * 3 + _do(stranger, 3) + _do(write, 1) + _do(ack, 1)
            yield flow + _do(octets, 2) + b"\4\0\4\0\0" + _do(octets, 3) + b"\5\0\5\0\0x"
            yield flow[:4] + bytes([0]) + flow[5:] + bytes([every | ack] * 90)


SEEDS = {
    "request": _requests,
    "options": _options,
    "netascii": _texts,
    "sender": _machines,
    "receiver": _machines,
    "server": _servers,
    "flows": _flows,
}
