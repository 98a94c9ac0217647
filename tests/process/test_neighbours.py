"""Test the MAC addresses of clients: hosts that are joined by cables and routers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import TWISTD
from tests.support.hosts import FAR, Host, needs_hosts, tunnel

pytestmark = needs_hosts

#: Prints the MAC address of each host that it is given; the first argument is the interface.
SCRIPT = """
import sys
from twisted_tftp.net.neighbours import Neighbours

table = Neighbours(sys.argv[1] or None)
for host in sys.argv[2:]:
    print(table.mac_of(host))
"""


def macs_of(host: Host, *others: str, interface: str = "") -> list[str]:
    """Return what `host` knows of others."""
    return host.run(sys.executable, "-c", SCRIPT, interface, *others).split()


def mac_at(host: Host, interface: str) -> str:
    """Return the MAC address of an interface."""
    words = host.run("ip", "-oneline", "link", "show", interface).split()
    return words[words.index("link/ether") + 1]


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Provide two hosts that a cable joins: 192.0.2.1 and 192.0.2.2, fe80::1 and fe80::2."""
    one, other = hosts = Host(), Host()
    try:
        one.connect(other, "eth0", "eth0")
        for number, host in enumerate(hosts, 1):
            for address in ("192.0.2.{}/24", "2001:db8::{}/64", "fe80::{}/64"):
                host.add_address(address.format(number), "eth0")
        yield one, other
    finally:
        for host in hosts:
            host.close()


#: Sends datagrams to a closed port until ICMP reports that, as soon as the hosts are ready.
PING = """
import socket, sys

[(family, kind, protocol, _, address)] = socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_DGRAM)
with socket.socket(family, kind, protocol) as sock:
    sock.settimeout(0.2)
    sock.connect(address)
    for _ in range(100):
        try:
            sock.send(b".")
            sock.recv(1)
        except ConnectionRefusedError:
            break
        except TimeoutError:
            continue
    else:
        sys.exit("the host does not answer")
"""


def ping(host: Host, address: str) -> None:
    """Reach another host, so that each finds out the MAC address of the other one."""
    host.run(sys.executable, "-c", PING, address)


@pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8::2", "fe80::2%eth0"])
def test_mac_of_a_neighbour_is_known(address: str) -> None:
    """It is known after the first packet of the neighbour, also for a link-local address."""
    with two_hosts() as (one, other):
        assert macs_of(one, address) == ["None"]
        ping(one, address)
        mac = mac_at(other, "eth0")
        assert macs_of(one, address) == [mac]
        assert macs_of(one, address, interface="eth0") == [mac]
        assert macs_of(one, address.replace("%eth0", "%2")) == [mac]


def test_mapped_address_is_an_ipv4_address() -> None:
    """The neighbour table knows it as IPv4."""
    with two_hosts() as (one, other):
        ping(one, "192.0.2.2")
        assert macs_of(one, "::ffff:192.0.2.2") == [mac_at(other, "eth0")]


def test_client_that_sends_a_request_is_known() -> None:
    """A client asks for our MAC address first, and the kernel then learns its address."""
    with two_hosts() as (one, other):
        ping(other, "192.0.2.1")
        assert macs_of(one, "192.0.2.2") == [mac_at(other, "eth0")]


def test_entries_that_are_not_complete_are_unknown() -> None:
    """A host that does not answer has no MAC address; nor has one that no longer answers."""
    with two_hosts() as (one, _):
        one.ip("neigh add 192.0.2.7 dev eth0 nud incomplete")
        one.ip("neigh add 192.0.2.8 lladdr 52:54:00:12:34:56 dev eth0 nud failed")
        one.ip("neigh add 192.0.2.9 lladdr 52:54:00:12:34:57 dev eth0 nud permanent")
        one.ip("neigh add 192.0.2.10 lladdr 52:54:00:12:34:58 dev eth0 nud noarp")
        found = macs_of(one, *(f"192.0.2.{number}" for number in (7, 8, 9, 10, 1)))
        assert found == ["None", "None", "52:54:00:12:34:57", "None", "None"]


def test_one_of_many_neighbours_is_found() -> None:
    """The kernel is not asked for its whole table."""
    with two_hosts() as (one, _):
        one.run(
            *("sh", "-c"),
            "for i in $(seq 2 250); do"
            " echo neigh add 192.0.2.$i lladdr 52:54:00:00:00:$(printf %02x $i) dev eth0;"
            " done | ip -batch -",
        )
        assert macs_of(one, "192.0.2.200") == ["52:54:00:00:00:c8"]


@pytest.mark.parametrize("version", [4, 6])
def test_host_behind_a_router_is_unknown(version: int) -> None:
    """The MAC address of the router is not that of the client."""
    with tunnel() as joined:
        ping(joined.near, FAR[version])
        assert macs_of(joined.near, FAR[version]) == ["None"]
        # Another host of the network has claimed to be the client.
        joined.near.ip(f"neigh add {FAR[version]} lladdr 52:54:00:12:34:56 dev eth0")
        assert macs_of(joined.near, FAR[version]) == ["None"]


def test_explain_looks_for_neighbours_at_the_interface(tmp_path: Path) -> None:
    """The rule for a MAC address holds if the neighbour is behind `--interface`."""
    with two_hosts() as (one, other):
        mac = mac_at(other, "eth0")
        ping(one, "192.0.2.2")
        (tmp_path / "file").write_bytes(b"octets")
        path = tmp_path / "tftp.toml"
        path.write_text(f'[tftp]\nroot = "."\n[[client]]\nmac = "{mac}"\nmax_blksize = 1000\n')
        command = (str(TWISTD), "-n", "tftp", "--config", str(path), "--explain", "192.0.2.2")
        for interface, blksize in (("eth0", 1000), ("lo", 65464)):
            printed = one.run(*command, "--interface", interface, "file")
            assert (f"client rule for mac {mac}: " in printed) == (interface == "eth0")
            assert f"blksize={blksize}" in printed
