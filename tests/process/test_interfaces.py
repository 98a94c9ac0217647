"""Test on which addresses and interfaces the daemon listens, on hosts of their own (Linux)."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.daemon import TWISTD
from tests.support.forked_command import ForkedCommand
from tests.support.hosts import Host, HostDaemon, needs_hosts

pytestmark = needs_hosts

#: Enough blocks for the second, connected socket of a download.
FILE = bytes(range(256)) * 200

PORTS = pytest.mark.parametrize("ports", [(), ("--single-port",)], ids=["own", "single"])

#: Addresses that the server does not have yet.
LATER = pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8:1::9"])


class Hosts:
    """A server and a client that two cables connect: `eth0` and `eth1` on both hosts.

    @ivar server: 192.0.2.1 and 2001:db8:1::1 on eth0, 198.51.100.1 and 2001:db8:2::1 on eth1.
    @ivar client: the same addresses with .2 and ::2.
    """

    def __init__(self) -> None:
        self.server, self.client = Host(), Host()
        for name in ("eth0", "eth1"):
            self.server.connect(self.client, name, name)
        for number, host in enumerate((self.server, self.client), 1):
            host.add_address(f"192.0.2.{number}/24", "eth0")
            host.add_address(f"198.51.100.{number}/24", "eth1")
            host.add_address(f"2001:db8:1::{number}/64", "eth0")
            host.add_address(f"2001:db8:2::{number}/64", "eth1")
            host.add_address(f"fe80::{number}/64", "eth0")

    def get_file(self, daemon: HostDaemon, address: str, *options: str) -> None:
        """Get the file from this address of the server."""
        done = self._start("20", daemon, address, *options).wait()
        assert not done.returncode, done.stderr
        got = daemon.root / f"got {address}"
        assert got.read_bytes() == FILE
        got.unlink()

    def are_unserved(self, daemon: HostDaemon, *addresses: str) -> bool:
        """Return whether the client can't get the file from any of these addresses."""
        all_started = [self._start("1", daemon, address) for address in addresses]
        return [started.wait().returncode for started in all_started] == [1] * len(addresses)

    def _start(
        self, retries: str, daemon: HostDaemon, address: str, *options: str
    ) -> ForkedCommand:
        command = ("get", "--port", daemon.port, "--retries", retries, "--timeout", "0.3")
        got = daemon.root / f"got {address}"
        return self.client.start_txtftp(*command, *options, address, "file", got)

    def close(self) -> None:
        self.server.close()
        self.client.close()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Return a server and a client."""
    made = Hosts()
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with a file."""
    (tmp_path / "file").write_bytes(FILE)
    return tmp_path


@PORTS
def test_link_local_address_is_served(hosts: Hosts, root: Path, ports: tuple[str, ...]) -> None:
    """The server listens on a link-local address, which has its interface as scope."""
    options = ("--write", "create", "--host", "fe80::1%eth0", *ports)
    with HostDaemon(hosts.server, root, *options) as daemon:
        daemon.wait_for_line(f"serving on fe80::1%eth0 port {daemon.port}$")
        hosts.get_file(daemon, "fe80::1%eth0")
        hosts.get_file(daemon, "fe80::1%eth0", "--bind", "fe80::2%eth0")
        done = hosts.client.txtftp(
            *("put", "--port", daemon.port, "fe80::1%eth0", root / "file", "new")
        )
        assert not done.returncode, done.stderr
        assert hosts.are_unserved(daemon, "2001:db8:1::1", "192.0.2.1")
    assert (root / "new").read_bytes() == FILE


@PORTS
def test_all_addresses_of_an_interface_are_served(
    hosts: Hosts, root: Path, ports: tuple[str, ...]
) -> None:
    """With an interface as --host, its addresses of both families are served, and no others."""
    with HostDaemon(hosts.server, root, "--host", "eth0", *ports) as daemon:
        for address in ("192.0.2.1", "2001:db8:1::1", "fe80::1%eth0"):
            hosts.get_file(daemon, address)
        assert hosts.are_unserved(daemon, "198.51.100.1", "2001:db8:2::1")


@PORTS
def test_addresses_that_come_and_go_are_followed(
    hosts: Hosts, root: Path, ports: tuple[str, ...]
) -> None:
    """An address that the interface gets later is served, and one that it loses is released."""
    # Otherwise the kernel would remove 192.0.2.7 together with 192.0.2.1.
    hosts.server.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries")
    with HostDaemon(hosts.server, root, "--host", "eth0", *ports) as daemon:
        for network, length in (("192.0.2.", 24), ("2001:db8:1::", 64)):
            old, new = f"{network}1", f"{network}7"
            hosts.server.add_address(f"{new}/{length}", "eth0")
            daemon.wait_for_line(f"serving on {new} port {daemon.port}$")
            hosts.get_file(daemon, new)
            hosts.server.ip(f"address delete {old}/{length} dev eth0")
            daemon.wait_for_line(f"{old} is gone: no longer serving on it")
            hosts.get_file(daemon, new)
        assert len(daemon.errors) == 0
        assert "Traceback" not in daemon.log


def test_address_may_be_given_besides_its_interface(hosts: Hosts, root: Path) -> None:
    """An address of an interface can be given too; it stays bound when the interface loses it."""
    with HostDaemon(hosts.server, root, "--host", "eth0", "--host", "192.0.2.1") as daemon:
        daemon.wait_for_line("serving on 2001:db8:1::1 ")
        hosts.get_file(daemon, "192.0.2.1")
        assert daemon.log.count("serving on 192.0.2.1 ") == 1
        hosts.server.ip("address delete 192.0.2.1/24 dev eth0")
        hosts.server.ip("address delete 2001:db8:1::1/64 dev eth0")
        daemon.wait_for_line("2001:db8:1::1 is gone")
        hosts.server.add_address("192.0.2.1/24", "eth0")
        hosts.get_file(daemon, "192.0.2.1")
        assert "192.0.2.1 is gone" not in daemon.log


def test_deleted_scope_does_not_stop_the_others(hosts: Hosts, root: Path) -> None:
    """If the interface of a link-local address is deleted, other interfaces are still followed."""
    hosts.server.ip("link add dev later type veth peer name other")
    hosts.server.ip("link set later up")
    hosts.server.add_address("fe80::5/64", "later")
    options = ("--host", "fe80::5%later", "--host", "eth0")
    with HostDaemon(hosts.server, root, *options) as daemon:
        daemon.wait_for_line("serving on fe80::5%later ")
        hosts.server.ip("link delete dev later")
        hosts.server.add_address("192.0.2.7/24", "eth0")
        daemon.wait_for_line("serving on 192.0.2.7 ")
        hosts.get_file(daemon, "192.0.2.7")
        assert "Traceback" not in daemon.log


def test_new_ipv6_address_is_served_when_it_can_be_used(hosts: Hosts, root: Path) -> None:
    """An address is bound after the kernel has checked that no other host has it."""
    with HostDaemon(hosts.server, root, "--host", "eth0") as daemon:
        hosts.server.ip(
            "address add 2001:db8:1::8/64 dev eth0"
        )  # with duplicate address detection
        daemon.wait_for_line(f"serving on 2001:db8:1::8 port {daemon.port}$")
        hosts.get_file(daemon, "2001:db8:1::8")
        assert "can't listen" not in daemon.log


def test_interface_may_get_its_first_address_later(hosts: Hosts, root: Path) -> None:
    """The daemon starts although the interface has no address; with --freebind, no interface."""
    hosts.server.ip("link add dev later type veth peer name other")
    with HostDaemon(hosts.server, root, "--host", "later") as daemon:
        daemon.wait_for_line("waiting for an address of later")
        hosts.server.add_address("203.0.113.1/24", "later")
        daemon.wait_for_line("serving on 203.0.113.1 ")
    with HostDaemon(hosts.server, root, "--host", "vlan7", "--freebind") as daemon:
        daemon.wait_for_line("waiting for an address of vlan7")
        hosts.server.ip("link set dev later name vlan7")
        daemon.wait_for_line("serving on 203.0.113.1 ")
        hosts.server.ip("link delete dev vlan7")
        daemon.wait_for_line("203.0.113.1 is gone")


@PORTS
def test_transfers_use_only_the_given_interface(
    hosts: Hosts, root: Path, ports: tuple[str, ...]
) -> None:
    """With --interface, requests of other interfaces are ignored, and files go through it."""
    options = ("--write", "create", "--interface", "eth0", *ports)
    with HostDaemon(hosts.server, root, *options) as daemon:
        for address in ("192.0.2.1", "2001:db8:1::1", "fe80::1%eth0"):
            for window in ("1", "16"):
                hosts.get_file(daemon, address, "--windowsize", window)
        done = hosts.client.txtftp(
            *("put", "--port", daemon.port, "192.0.2.1", root / "file", "new")
        )
        assert not done.returncode, done.stderr
        assert hosts.are_unserved(daemon, "198.51.100.1", "2001:db8:2::1")
    assert (root / "new").read_bytes() == FILE


@PORTS
def test_answers_leave_through_the_given_interface(
    hosts: Hosts, root: Path, ports: tuple[str, ...]
) -> None:
    """With --interface, routes through other interfaces are not used."""
    hosts.server.ip("link add dev sink0 type veth peer name sink1")
    for name in ("sink0", "sink1"):
        hosts.server.ip(f"link set {name} up")
    hosts.server.ip("route add 192.0.2.2/32 dev sink0")
    hosts.server.ip("-6 route add 2001:db8:1::2/128 dev sink0")
    with HostDaemon(hosts.server, root, *ports) as daemon:
        assert hosts.are_unserved(daemon, "192.0.2.1", "2001:db8:1::1")
    with HostDaemon(hosts.server, root, "--interface", "eth0", *ports) as daemon:
        for address in ("192.0.2.1", "2001:db8:1::1"):
            for window in ("1", "16"):
                hosts.get_file(daemon, address, "--windowsize", window)


@LATER
def test_address_that_is_not_there_yet_is_an_error(hosts: Hosts, root: Path, address: str) -> None:
    """Without --freebind, the daemon does not start before its address exists."""
    done = run(
        *(TWISTD, "-n", "--pidfile=", "tftp", "--root", root, "--port", 6969, "--host", address),
        prefix=hosts.server.prefix,
    )
    assert done.returncode == 1
    assert f"can't listen on {address} port 6969: " in done.stderr


@PORTS
@LATER
def test_address_that_is_not_there_yet_can_be_bound(
    hosts: Hosts, root: Path, ports: tuple[str, ...], address: str
) -> None:
    """With --freebind, the daemon starts before its address exists, and serves on it later."""
    length = "64" if ":" in address else "24"
    with HostDaemon(hosts.server, root, "--host", address, "--freebind", *ports) as daemon:
        assert hosts.are_unserved(daemon, address)
        hosts.server.add_address(f"{address}/{length}", "eth0")
        for window in ("1", "16"):
            hosts.get_file(daemon, address, "--windowsize", window)


def broadcasting_socket(host: Host) -> socket.socket:
    """Return a socket of the client that may send to broadcast addresses."""
    sock = host.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.bind(("192.0.2.2", 0))
    sock.settimeout(10)
    return sock


@PORTS
def test_broadcast_is_answered_only_if_wanted(
    hosts: Hosts, root: Path, ports: tuple[str, ...]
) -> None:
    """With --broadcast, requests to a broadcast address are answered, from a unicast address."""
    some = (
        "--host",
        "192.0.2.1",
        "--host",
        "192.0.2.255",
        "--host",
        "255.255.255.255",
        "--broadcast",
    )
    for options, is_answered in (((), False), (("--broadcast",), True), (some, True)):
        with HostDaemon(hosts.server, root, *options, *ports) as daemon, ExitStack() as stack:
            clients = [stack.enter_context(broadcasting_socket(hosts.client)) for _ in range(2)]
            for client, address in zip(clients, ("192.0.2.255", "255.255.255.255"), strict=True):
                client.sendto(b"\0\1file\0octet\0", (address, daemon.port))
            if not is_answered:
                readable, _, _ = select.select(clients, [], [], 1)
                assert not readable
                continue
            for client in clients:
                content = b""
                for number in range(1, len(FILE) // 512 + 2):
                    block, source = client.recvfrom(600)
                    assert source[0] == "192.0.2.1"
                    assert (source[1] == daemon.port) == bool(ports)
                    assert block[:4] == b"\0\3" + number.to_bytes(2, "big")
                    content += block[4:]
                    client.sendto(b"\0\4" + block[2:4], source)
                assert content == FILE


def test_multicast_is_never_answered(hosts: Hosts, root: Path) -> None:
    """--broadcast does not allow requests to a multicast address: no transfer starts."""
    script = "import socket; print(socket.if_nametoindex('eth0'))"
    scope = int(hosts.client.run(sys.executable, "-c", script))
    with HostDaemon(hosts.server, root, "--broadcast", "--verbose") as daemon:
        for address in (("ff02::1", daemon.port, 0, scope), ("224.0.0.1", daemon.port)):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with hosts.client.open_socket(family, socket.SOCK_DGRAM) as client:
                if family == socket.AF_INET6:
                    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, scope)
                else:
                    own = socket.inet_aton("192.0.2.2")
                    client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
                client.settimeout(1)
                client.sendto(b"\0\1file\0octet\0", address)
                with pytest.raises(TimeoutError):
                    client.recvfrom(600)
        # A server can't answer from a multicast address, so the log decides. It has a line for
        # each transfer, and at the end one for each kind of request that was not served.
        hosts.get_file(daemon, "192.0.2.1")
        daemon.wait_for_line('read "file" from 192.0.2.2.*: completed')
    assert daemon.log.count('read "file"') == 2  # its start and its end
    assert "no socket" not in daemon.log
