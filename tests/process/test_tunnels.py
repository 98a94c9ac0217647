"""Test transfers through a tunnel with a lower MTU, whose router sends no ICMP (Linux)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import FAR, NEAR, HostDaemon, Sniffer, Tunnel, needs_hosts, tunnel

pytestmark = needs_hosts

#: Enough blocks of 1468 octets for the second, connected socket of a download.
FILE = bytes(range(256)) * 500

#: The bit of the flags of an IPv4 header that forbids fragmentation (RFC 791).
DONT_FRAGMENT = 0x40

PORTS = pytest.mark.parametrize("ports", [(), ("--single-port",)], ids=["own", "single"])
WINDOWS = pytest.mark.parametrize("window", ["1", "16"])


@pytest.fixture(scope="module")
def path() -> Iterator[Tunnel]:
    """Return a tunnel with an MTU of 1400."""
    with tunnel() as made:
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
    options = ("--write", "create")
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
        for arguments in (
            ("get", *common, NEAR[4], "file", tmp_path / "got"),
            ("get", *common, NEAR[4], "missing", tmp_path / "got"),
            ("put", *common, NEAR[4], tmp_path / "got", "file"),
            ("doctor", "--port", daemon.port, "--watch", "1", NEAR[4], "file"),
        ):
            path.far.txtftp(*arguments)
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
