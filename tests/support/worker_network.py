"""Give each worker of pytest-xdist a network of its own, with only a loopback interface.

Some tests leave clients that are dead, or forge addresses of 127.0.0.0/8. Their servers then send
to ports that a test of another worker may use a moment later.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

#: The flag of setns(2) and unshare(2) for a network namespace, from linux/sched.h.
CLONE_NEWNET = 0x40000000

#: The network namespace of the calling thread.
_OWN = "/proc/thread-self/ns/net"

#: What sets up the loopback interface. If a family has no address but 127.0.0.1 or ::1,
#: getaddrinfo(3) with AI_ADDRCONFIG finds nothing: in.tftpd and the client of tftp-hpa fail.
_LOOPBACK_COMMANDS = (
    "link set lo up",
    "address add 203.0.113.250/32 dev lo",
    "address add 2001:db8::250/128 dev lo",
)

#: The descriptor of the network namespace in which the worker was started; None if it stays there.
_outer: int | None = None


def enter_network(path: str) -> None:
    """Move the calling thread into the network namespace with this path.

    @raise OSError: it may not, or there is no such namespace.
    """
    with open(path) as namespace:
        _enter(namespace.fileno())


def isolate() -> None:
    """Move the calling thread, and all that it starts, into a network that has only loopback.

    Without root or the command `ip`, or on another system than Linux, it stays where it is.
    """
    global _outer
    if not shutil.which("ip"):
        return
    try:
        outer = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        _call("unshare", CLONE_NEWNET)
    except (OSError, AttributeError):
        return
    _outer = outer
    for command in _LOOPBACK_COMMANDS:
        # Without IPv6 the last one fails; the tests with IPv6 are then skipped.
        subprocess.run(["ip", *command.split()], stderr=subprocess.DEVNULL)


@contextmanager
def outer_network() -> Iterator[None]:
    """Let the calling thread use the network of pytest, to download something."""
    if _outer is None:
        yield
        return
    with open(_OWN) as own:
        _enter(_outer)
        try:
            yield
        finally:
            _enter(own.fileno())


def _enter(descriptor: int) -> None:
    _call("setns", descriptor, CLONE_NEWNET)


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library that returns 0.

    @raise OSError: it returns something else.
    @raise AttributeError: this system has no such function.
    """
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
