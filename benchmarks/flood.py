"""Flood a server on loopback with requests from forged addresses: `python -m benchmarks.flood`.

All addresses in 127.0.0.0/8 belong to this machine, so any of them may be a source address without
a privilege. The answers of the server go to sockets that are never read.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import ipaddress
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from types import FrameType

#: Sockets, and so source ports, of the requests.
SOCKETS = 64

#: Datagrams that are sent by one system call.
BATCH = 64

#: If the flood is late by more seconds than this, the datagrams of the time before are not sent.
_MAX_DELAY = 0.25

#: The addresses, as numbers, that the source addresses are chosen from.
_HOSTS = range(0x7F000002, 0x7FFFFFFE)

#: A struct sockaddr_in.
_ADDRESS = struct.Struct("=H2s4s8x")

#: A struct in_pktinfo: interface, source address, destination address.
_SOURCE = struct.Struct("=i4s4s")

#: A struct cmsghdr: length, level, type.
_CONTROL = struct.Struct("@Nii")

#: The constant has a name from Python 3.14 on.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)


class _Vector(ctypes.Structure):
    """A struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Head(ctypes.Structure):
    """A struct msghdr of Linux."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """A struct mmsghdr: a message, and the number of octets sent."""

    _fields_ = (("head", _Head), ("sent", ctypes.c_uint))


def packets(name: str) -> list[bytes]:
    """Return the datagrams of a flood: mostly requests for the server's file `name`.

    Of 16 datagrams, one is a write request, two request a missing file, and three are malformed.
    """
    file = name.encode()
    octet, options = b"\0octet\0", b"blksize\x001428\0windowsize\x0016\0tsize\x000\0"
    return [
        *[b"\0\1" + file + octet] * 4,
        *[b"\0\1" + file + octet + options] * 5,
        b"\0\1" + file + b"\0netascii\0",
        *[b"\0\1missing-" + os.urandom(4).hex().encode() + octet for _ in range(2)],
        b"\0\2flood-" + os.urandom(4).hex().encode() + octet + b"timeout\x001\0",
        b"\0\1" + file,
        b"\0\7" + file + octet,
        os.urandom(40),
    ]


class Flood:
    """A flood: its sockets, and a batch of datagrams that lack only their source addresses.

    @ivar sent: how many datagrams were sent.
    """

    def __init__(self, host: str, port: int, contents: Sequence[bytes]) -> None:
        """Prepare to send `contents` in turn to a server.

        @raise ValueError: `host` is not an IPv4 loopback address, so forged datagrams would leave
            this machine.
        """
        address = ipaddress.ip_address(host)
        if address.version != 4 or not address.is_loopback:
            raise ValueError(f"{host} is not in 127.0.0.0/8")
        self.sent = 0
        self._sockets: list[socket.socket] = []
        for _ in range(SOCKETS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            # The sockets have all addresses, so that an answer causes no ICMP error.
            sock.bind(("", 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            self._sockets.append(sock)
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._target = ctypes.create_string_buffer(
            _ADDRESS.pack(socket.AF_INET, port.to_bytes(2, "big"), address.packed)
        )
        self._contents = [ctypes.create_string_buffer(octets, len(octets)) for octets in contents]
        space = socket.CMSG_SPACE(_SOURCE.size)
        self._stride, self._source_at = space, socket.CMSG_LEN(_SOURCE.size) - _SOURCE.size
        control = _CONTROL.pack(socket.CMSG_LEN(_SOURCE.size), socket.IPPROTO_IP, _IP_PKTINFO)
        self._controls = bytearray(control.ljust(space, b"\0") * BATCH)
        controls = ctypes.addressof(ctypes.c_char.from_buffer(self._controls))
        self._vectors = (_Vector * BATCH)()
        self._messages = (_Message * BATCH)()
        for index, message in enumerate(self._messages):
            content = self._contents[index % len(contents)]
            self._vectors[index] = _Vector(ctypes.addressof(content), len(content))
            head = message.head
            head.name, head.name_size = ctypes.addressof(self._target), _ADDRESS.size
            head.vectors, head.vector_count = ctypes.addressof(self._vectors[index]), 1
            head.control, head.control_size = controls + index * space, space

    def send(self, count: int) -> None:
        """Send up to `BATCH` datagrams, each from another address."""
        controls, at = self._controls, self._source_at
        for _ in range(count):
            source = random.choice(_HOSTS).to_bytes(4, "big")
            _SOURCE.pack_into(controls, at, 0, source, bytes(4))
            at += self._stride
        sock = random.choice(self._sockets)
        done = self._sendmmsg(sock.fileno(), self._messages, count, 0)
        if done < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.sent += done

    def run(self, rate: float, seconds: float) -> float:
        """Send `rate` datagrams a second for `seconds`; return the seconds that it took."""
        began = time.monotonic()
        due = 0.0  # datagrams since the beginning
        now = began
        while now - began < seconds:
            owed = (now - began) * rate - due
            if owed > rate * _MAX_DELAY:
                due += owed - rate * _MAX_DELAY
            elif owed < BATCH:
                time.sleep((BATCH - owed) / rate)
            else:
                self.send(BATCH)
                due += BATCH
            now = time.monotonic()
        return now - began

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            sock.close()


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Flood a server, and print the number and rate of the datagrams."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("host", help="an address in 127.0.0.0/8")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=20_000, help="requests a second [20000]")
    parser.add_argument("--seconds", type=float, default=60, help="for how long [60]")
    parser.add_argument("--file", default="file", help="the name of a file on the server [file]")
    arguments = parser.parse_args()
    if not (arguments.rate > 0 and arguments.seconds > 0 and 0 < arguments.port < 65536):
        parser.error("PORT, --rate and --seconds must be positive")
    try:
        flood = Flood(arguments.host, arguments.port, packets(arguments.file))
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _end)
    began = time.monotonic()
    with contextlib.closing(flood), contextlib.suppress(KeyboardInterrupt):
        print(f"flooding {arguments.host} port {arguments.port}", flush=True)
        flood.run(arguments.rate, arguments.seconds)
    took = time.monotonic() - began
    print(f"{flood.sent} requests in {took:.1f} s, {flood.sent / took:.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
