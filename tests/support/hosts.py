"""Hosts with a network of their own (Linux network namespaces), and daemons that run on them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.daemon import Daemon, StartFailed
from tests.support.forked_command import ForkedCommand, txtftp
from tests.support.worker_network import enter_network

#: The protocol numbers of IPv4 and of all packets, from linux/if_ether.h.
ETH_P_IP, ETH_P_ALL = 0x0800, 3

#: The option for a receive buffer above the limit of unprivileged users.
SO_RCVBUFFORCE = 33

#: The addresses of the two ends of a L{Tunnel}, by IP version.
NEAR = {4: "192.0.2.1", 6: "2001:db8:1::1"}
FAR = {4: "198.51.100.1", 6: "2001:db8:2::1"}

#: The addresses of its router, towards each end.
NEAR_ROUTER = {4: "192.0.2.254", 6: "2001:db8:1::fe"}
FAR_ROUTER = {4: "198.51.100.254", 6: "2001:db8:2::fe"}


def _may_make_hosts() -> bool:
    command = ["unshare", "--net", "ip", "link", "add", "dev", "one", "type", "veth"]
    try:
        return not subprocess.run(command, capture_output=True).returncode
    except OSError:
        return False


#: The mark of tests that need hosts.
needs_hosts = pytest.mark.skipif(
    not _may_make_hosts(), reason="needs root, network namespaces and ip"
)


class Host:
    """A host: it exists until `close`.

    @ivar prefix: a command that runs the command behind it on this host.
    """

    def __init__(self) -> None:
        """Make a host whose only interface is `lo`."""
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up && exec sleep 3600"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self._network = f"/proc/{self._holder.pid}/ns/net"
        self.prefix = ("nsenter", f"--net={self._network}")
        self.ip("link set lo up")

    def run(self, *command: str | Path | int) -> str:
        """Run a command on this host, and return its output.

        @raise AssertionError: the command failed.
        """
        done = run(*command, prefix=self.prefix)
        assert not done.returncode, (command, done.stdout, done.stderr)
        return done.stdout

    def ip(self, arguments: str) -> None:
        """Run `ip` with these words."""
        self.run("ip", *arguments.split())

    def txtftp(self, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
        """Run `txtftp` on this host."""
        return self.start_txtftp(*arguments).wait()

    def start_txtftp(self, *arguments: str | Path | int) -> ForkedCommand:
        """Start `txtftp` on this host."""
        return ForkedCommand(txtftp, "txtftp", *arguments, network=self._network)

    def connect(self, other: Host, name: str, other_name: str, mtu: int = 1500) -> None:
        """Connect this host's interface `name` to `other_name` of `other` by a cable."""
        self.ip(
            f"link add dev {name} mtu {mtu} type veth"
            f" peer name {other_name} mtu {mtu} netns {other._holder.pid}"
        )
        self.ip(f"link set {name} up")
        other.ip(f"link set {other_name} up")

    def add_address(self, address: str, interface: str) -> None:
        """Give an interface an address, such as `192.0.2.1/24`, that can be used at once."""
        self.ip(f"address add {address} dev {interface}" + " nodad" * (":" in address))

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket on this host."""

        def open_there() -> socket.socket:
            enter_network(self._network)
            return socket.socket(family, kind, protocol)

        # Only this thread enters the namespace, and it ends after the call.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(open_there).result()

    def close(self) -> None:
        """End the host; its interfaces disappear."""
        self._holder.kill()
        with self._holder:
            pass


class HostDaemon(Daemon):
    """A daemon on a L{Host}; it serves on all addresses, or those of its options."""

    def __init__(self, host: Host, root: str | Path, *options: str, **settings: Any) -> None:
        super().__init__(root, *options, hosts=(), prefix=host.prefix, **settings)

    def wait_until_serving(self) -> None:
        try:
            self.wait_for_line("serving on .* port|waiting for ")
        except AssertionError as error:
            raise StartFailed(str(error)) from None


class Tunnel:
    """Two hosts with an MTU of 1500 on one side of a router, and a lower one on the other side.

    The router tells no host about this: it sends no ICMP, as behind many firewalls.

    @ivar near: the host with an MTU of 1500: `NEAR`.
    @ivar far: the host whose link has the lower MTU: `FAR`.
    """

    def __init__(self, mtu: int) -> None:
        self.near, self._router, self.far = self._hosts = Host(), Host(), Host()
        self.near.connect(self._router, "eth0", "near")
        self.far.connect(self._router, "eth0", "far", mtu)
        for version, length in ((4, 24), (6, 64)):
            for end, address, interface, router in (
                (self.near, NEAR, "near", NEAR_ROUTER),
                (self.far, FAR, "far", FAR_ROUTER),
            ):
                end.add_address(f"{address[version]}/{length}", "eth0")
                self._router.add_address(f"{router[version]}/{length}", interface)
                end.ip(f"-{version} route add default via {router[version]}")
            # What the router itself would send (iif lo), such as ICMP, has no route.
            self._router.ip(f"-{version} rule add pref 1 iif lo blackhole")
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self._router.run("sh", "-c", f"echo 1 >/proc/sys/net/{name}")

    def close(self) -> None:
        for host in self._hosts:
            host.close()


@contextlib.contextmanager
def tunnel(mtu: int = 1400) -> Iterator[Tunnel]:
    """Provide a L{Tunnel} that has this MTU."""
    made = Tunnel(mtu)
    try:
        yield made
    finally:
        made.close()


class Sniffer:
    """A socket that sees each packet of an interface of a host."""

    def __init__(self, host: Host, interface: str) -> None:
        self._sock = host.open_socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * 1024 * 1024)
        self._sock.bind((interface, ETH_P_ALL))
        self._sock.setblocking(False)

    def ipv4_headers(self) -> list[bytes]:
        """Return the IPv4 and UDP headers of all IPv4 packets that have passed."""
        headers = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, protocol, *_) = self._sock.recvfrom(28)
                if protocol == ETH_P_IP:
                    headers.append(packet)
        return headers

    def close(self) -> None:
        self._sock.close()
