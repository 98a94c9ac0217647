"""Test transfers through a tunnel with a lower MTU, whose router sends no ICMP (Linux)."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.hosts import (
    FAR,
    NEAR,
    NEAR_ROUTER,
    Host,
    HostDaemon,
    Sniffer,
    Tunnel,
    needs_hosts,
    tunnel,
)
from twisted_tftp.net.path_mtu import MTU_MAX_AGE

pytestmark = needs_hosts

#: Enough blocks of 1468 octets for the second, connected socket of a download.
FILE = bytes(range(256)) * 500

#: The bit of the flags of an IPv4 header that forbids fragmentation (RFC 791).
DONT_FRAGMENT = 0x40

#: The bit of a fragment that is not the last one of its datagram.
MORE_FRAGMENTS = 0x20

#: The opcodes of requests.
READ, WRITE = b"\0\1", b"\0\2"

#: The largest blocks that fit an MTU of 1400, by IP version.
FITTING = {4: b"1368", 6: b"1348"}

PORTS = pytest.mark.parametrize("ports", [(), ("--single-port",)], ids=["own", "single"])
WINDOWS = pytest.mark.parametrize("window", ["1", "16"])


@pytest.fixture(scope="module")
def path() -> Iterator[Tunnel]:
    """Return a tunnel with an MTU of 1400."""
    with tunnel() as made:
        yield made


@pytest.fixture(scope="module")
def narrow_path() -> Iterator[Tunnel]:
    """Return a tunnel with the lowest MTU of IPv6."""
    with tunnel(1280) as made:
        yield made


@PORTS
@WINDOWS
def test_large_blocks_reach_a_client_behind_a_tunnel(
    path: Tunnel, ports: tuple[str, ...], window: str, tmp_path: Path
) -> None:
    """The router may fragment what the server sends, so blocks of 1468 octets arrive."""
    (tmp_path / "file").write_bytes(FILE)
    got = tmp_path / "got"
    with HostDaemon(path.near, tmp_path, *ports) as daemon:
        done = path.far.txtftp(
            *("get", "--port", daemon.port, "--blksize", "1468", "--windowsize", window),
            *(NEAR[4], "file", got),
        )
        assert not done.returncode, done.stderr
        daemon.wait_for_line("blksize=1468.* completed|completed.*blksize=1468")
    assert got.read_bytes() == FILE


@PORTS
@WINDOWS
def test_large_blocks_of_a_client_reach_a_server_behind_a_tunnel(
    path: Tunnel, ports: tuple[str, ...], window: str, tmp_path: Path
) -> None:
    """The router may fragment what the client sends, so blocks of 1468 octets arrive."""
    (tmp_path / "local").write_bytes(FILE)
    options = ("--write", "create", "--mtu-fit", "never")
    with HostDaemon(path.far, tmp_path, *options, *ports) as daemon:
        done = path.near.txtftp(
            *("put", "--port", daemon.port, "--blksize", "1468", "--windowsize", window),
            *(FAR[4], tmp_path / "local", "file"),
        )
        assert not done.returncode, done.stderr
    assert (tmp_path / "file").read_bytes() == FILE


@PORTS
@WINDOWS
def test_no_datagram_forbids_fragmentation(
    path: Tunnel, ports: tuple[str, ...], window: str, tmp_path: Path
) -> None:
    """The bit DF is not set in any datagram of a server or a client, whatever its socket."""
    (tmp_path / "file").write_bytes(FILE)
    sniffer = Sniffer(path.near, "eth0")
    with HostDaemon(path.near, tmp_path, "--write", "overwrite", *ports) as daemon:
        common = ("--port", daemon.port, "--blksize", "1024", "--windowsize", window)
        doctor = path.far.start_txtftp(
            *("doctor", "--port", daemon.port, "--watch", "1", NEAR[4], "file")
        )
        for arguments in (
            ("get", *common, NEAR[4], "file", tmp_path / "got"),
            ("get", *common, NEAR[4], "missing", tmp_path / "got"),
            ("put", *common, NEAR[4], tmp_path / "got", "file"),
        ):
            path.far.txtftp(*arguments)
        doctor.wait()
    headers = sniffer.ipv4_headers()
    sniffer.close()
    assert not [header.hex() for header in headers if header[6] & DONT_FRAGMENT]
    # The header of a fragment that is not the first one is followed by octets of the file.
    senders = {
        (header[12:16], header[20:22])
        for header in headers
        if not header[6] & 0x1F and not header[7]
    }
    assert len(senders) > 10


def asked(
    client: Host, daemon: HostDaemon, server: str, *words: bytes, source: str = ""
) -> dict[bytes, bytes]:
    """Return the options that the daemon grants to a request of `client`.

    @param words: the opcode, and the name and value of each option.
    @param source: the address of the client; empty for the one that its route has.
    """
    opcode, *options = words
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sock = client.open_socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(10)
        sock.bind((source, 0))
        request = b"\0".join([opcode + b"file", b"octet", *options, b""])
        sock.sendto(request, (server, daemon.port))
        answer, transfer = sock.recvfrom(65536)
        assert answer[:2] == b"\0\6", answer
        sock.sendto(b"\0\5\0\0end\0", transfer)
    granted = answer[2:].split(b"\0")
    return dict(zip(granted[::2], granted[1::2], strict=False))


@PORTS
def test_granted_blocks_fit_the_route(
    path: Tunnel, ports: tuple[str, ...], tmp_path: Path
) -> None:
    """A block that fits Ethernet is lowered to what fits the route; a larger one is not."""
    (tmp_path / "file").write_bytes(FILE)
    with HostDaemon(path.far, tmp_path, "--write", "overwrite", *ports) as daemon:
        for (version, fitting), opcode in itertools.product(FITTING.items(), (READ, WRITE)):
            for option, value, expected in (
                (b"blksize", b"1468", fitting),
                (b"blksize", b"1432", fitting),
                (b"blksize", b"1200", b"1200"),
                (b"blksize", b"512", b"512"),
                (b"blksize", b"4096", b"4096"),
                (b"blksize2", b"1024", b"1024"),
            ):
                granted = asked(path.near, daemon, FAR[version], opcode, option, value)
                assert granted == {option: expected}, (version, opcode, value)


@PORTS
def test_mtu_fit_always_and_never(path: Tunnel, ports: tuple[str, ...], tmp_path: Path) -> None:
    """With `always` every block is lowered to what fits the route; with `never` none is."""
    (tmp_path / "file").write_bytes(FILE)
    for choice in ("always", "never"):
        with HostDaemon(path.far, tmp_path, "--mtu-fit", choice, *ports) as daemon:
            for (version, fitting), value in itertools.product(
                FITTING.items(), (b"1468", b"8192")
            ):
                granted = asked(path.near, daemon, FAR[version], READ, b"blksize", value)
                expected = fitting if choice == "always" else value
                assert granted[b"blksize"] == expected, (choice, version)


def test_changed_mtu_is_noticed(path: Tunnel, tmp_path: Path) -> None:
    """When the MTU of a route changes, later requests get other blocks; none is below 512."""
    (tmp_path / "file").write_bytes(FILE)
    # Each client has a route of its own, so the test waits once until the old MTUs are forgotten.
    clients = {"198.51.100.11": (1000, b"968"), "198.51.100.12": (400, b"512")}
    with HostDaemon(path.near, tmp_path) as daemon, ExitStack() as stack:

        def blksize(client: str) -> bytes:
            request = (NEAR[4], READ, b"blksize", b"1468")
            return asked(path.far, daemon, *request, source=client)[b"blksize"]

        for client, (mtu, _) in clients.items():
            path.far.add_address(f"{client}/24", "eth0")
            stack.callback(path.far.ip, f"address delete {client}/24 dev eth0")
            assert blksize(client) == b"1468"
            path.near.ip(f"route add {client} via {NEAR_ROUTER[4]} mtu lock {mtu}")
            stack.callback(path.near.ip, f"route delete {client}")
        deadline = time.monotonic() + MTU_MAX_AGE + 5
        for client, (_, expected) in clients.items():
            while blksize(client) != expected:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@PORTS
def test_client_without_reassembly_gets_a_file(
    path: Tunnel, ports: tuple[str, ...], tmp_path: Path
) -> None:
    """A client that asks for 1468 octets over a link with a lower MTU gets no fragment."""
    (tmp_path / "file").write_bytes(FILE)
    sniffer = Sniffer(path.near, "eth0")
    with HostDaemon(path.far, tmp_path, *ports) as daemon:
        for version, window in itertools.product((4, 6), ("1", "16")):
            done = path.near.txtftp(
                *("get", "--port", daemon.port, "--blksize", "1468", "--windowsize", window),
                *(FAR[version], "file", tmp_path / f"{version} {window}"),
            )
            assert not done.returncode, done.stderr
    fragments = [header for header in sniffer.ipv4_headers() if header[6] & MORE_FRAGMENTS]
    sniffer.close()
    assert not fragments


@PORTS
def test_blocks_of_the_client_fit_its_route(
    path: Tunnel, ports: tuple[str, ...], tmp_path: Path
) -> None:
    """By default txtftp asks for the largest blocks that its own link carries unfragmented."""
    (tmp_path / "file").write_bytes(FILE)
    with HostDaemon(path.near, tmp_path, "--write", "overwrite", *ports) as daemon:
        for way, names in (
            ("get", ("file", tmp_path / "got")),
            ("put", (tmp_path / "file", "other")),
        ):
            for version, fitting in FITTING.items():
                mark = daemon.mark()
                done = path.far.txtftp(way, "--port", daemon.port, NEAR[version], *names)
                assert not done.returncode, done.stderr
                completed = f"completed.*blksize={fitting.decode()},"
                daemon.wait_for_line(completed, start=mark)


@PORTS
@WINDOWS
def test_ipv6_blocks_of_1228_octets_fit_every_link(
    narrow_path: Tunnel, ports: tuple[str, ...], window: str, tmp_path: Path
) -> None:
    """With --max-blksize 1228, IPv6 transfers pass a tunnel of 1280 octets without ICMP."""
    (tmp_path / "file").write_bytes(FILE)
    options = ("--max-blksize", "1228", "--write", "create")
    with HostDaemon(narrow_path.near, tmp_path, *options, *ports) as daemon:
        common = ("--port", daemon.port, "--blksize", "1448", "--windowsize", window, NEAR[6])
        done = narrow_path.far.txtftp("get", *common, "file", tmp_path / "got")
        assert not done.returncode, done.stderr
        done = narrow_path.far.txtftp("put", *common, tmp_path / "got", "back")
        assert not done.returncode, done.stderr
    assert (tmp_path / "back").read_bytes() == FILE
