"""Test that the in.tftpd of Debian makes the same of names by the same map file."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.debian_packages import Unavailable, libraries, program
from tests.support.contexts import read_context
from tests.support.daemon import free_port
from twisted_tftp.backends.rename.map_rules import MapRules
from twisted_tftp.backends.rename.rules import read_map_file
from twisted_tftp.context import Endpoint
from twisted_tftp.errors import AccessViolation

pytestmark = pytest.mark.skipif(bool(os.geteuid()), reason="in.tftpd needs root")

HOST = "127.0.0.1"

#: The first octets of the datagrams (RFC 1350).
RRQ, DATA_1, ACK_1, ERROR = b"\0\1", b"\0\3\0\1", b"\0\4\0\1", b"\0\5"


@contextlib.contextmanager
def in_tftpd(root: Path, map_file: Path) -> Iterator[int]:
    """Run in.tftpd with a map file; return its port."""
    port = free_port()
    try:
        command = [program("in.tftpd", "tftpd-hpa"), "--foreground", "--listen", "--secure"]
    except Unavailable as reason:
        pytest.skip(str(reason))
    process = subprocess.Popen(
        [*command, "--address", f"{HOST}:{port}", "--map-file", str(map_file), str(root)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LD_LIBRARY_PATH": libraries()},
    )
    try:
        while ask(port, b"probe", seconds=0.1) is None:
            assert process.poll() is None, "in.tftpd has ended"
        yield port
    finally:
        process.kill()
        process.wait()


def ask(port: int, name: bytes, seconds: float = 20) -> bytes | None:
    """Return the content of a small file; for an ERROR, its code and text; None without answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(seconds)
        client.sendto(RRQ + name + b"\0octet\0", (HOST, port))
        try:
            answer, transfer = client.recvfrom(600)
        except TimeoutError:
            return None
        if answer.startswith(DATA_1):
            client.sendto(ACK_1, transfer)
        else:
            assert answer.startswith(ERROR)
        return answer


EXAMPLE = rb"""
ri	^[a-z]:				# drive letters
rg	\\	/
rg	\#	@
rg	/../	/..no../
e	^ok/			# used as they are
r	^[^/]	/boot/\0
a	\.pvt$			# private
"""

#: Map files, each with names to ask for.
CASES = [
    (EXAMPLE, [b"f", b"/f", b"C:f", b"c:\\x\\f", b"ok/a#b", b"a/b/../c", b"x.pvt", b"ok/x.pvt"]),
    (b"r foo bar", [b"foo-foo", b"foo", b"bar", b"f"]),
    (b"rg foo bar", [b"foo-foo", b"f"]),
    (b"g foo bar\nri FOO \\0x", [b"foo", b"fOo-"]),
    (b"r ^foo\nr a#b c", [b"foobar", b"xab"]),
    (b"r a\\#b c\nr a\\ b x\\ y", [b"xa#b", b"a b"]),
    (b"e ^a\nr ^ z", [b"ab", b"ba"]),
    (b"~e ^a\nr ^ z", [b"ab", b"ba"]),
    (b"r never x\nr ^b c\nrs ^a b\nr c d", [b"a", b"b", b"c"]),
    (b"r a|ab X\nr [[:digit:]]+ N\nr c{2} X\nr d?e* Y", [b"abc", b"a12b", b"ccc", b"deef"]),
    (b"r a.b X\nr ^c$ Y", [b"a\nb", b"c\nd", b"c"]),
    (b"r \\w+\\s X\nr \\bfoo\\b Y", [b"ab c", b"-foo-", b"food"]),
    (b"r ^(.*)-(.*)$ \\U\\1\\E-\\L\\2", [b"abC-DEF", b"a-B-c"]),
    (b"r ^(a)(b)$ \\U\\1z\\2", [b"ab"]),
    (b"r ^(c)?d \\1\\9x", [b"d", b"cd"]),
    (b"r ^ \\i-\\x-\\q-", [b"f"]),
    (b"r \xff+$", [b"pxelinux.0\xff\xff", b"\xfff"]),
    (b"r ^.$ X\nr \xc3\xa9 e", ["é".encode(), "café".encode()]),
    (b"rG ^ get-\nrP ^ put-\nr4 ^ four-\nr6 ^ six-", [b"f"]),
    (b"a ^x\n~a ^[a-y]", [b"xa", b"a", b"za", b"ya"]),
]


@pytest.mark.parametrize(("text", "names"), CASES)
def test_same_names_get_the_same_answers(text: bytes, names: list[bytes], tmp_path: Path) -> None:
    """in.tftpd serves the file whose name our rules find, or refuses what they refuse."""
    tmp_path.chmod(0o755)
    root, map_file = tmp_path / "root", tmp_path / "map"
    root.mkdir()
    map_file.write_bytes(text + b"\n")
    rules = MapRules(read_map_file(str(map_file)))
    expected = {}
    for name in names:
        shown = os.fsdecode(name)
        try:
            renamed = rules.apply(shown, read_context(shown, peer=Endpoint(HOST, 2000)))
        except AccessViolation:
            expected[name] = b"\0\5\0\2"
            continue
        path = root / renamed.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"the file {renamed}".encode("utf-8", "surrogateescape"))
        expected[name] = DATA_1 + path.read_bytes()
    with in_tftpd(root, map_file) as port:
        for name, answer in expected.items():
            got = ask(port, name)
            assert got is not None
            assert got[: len(answer)] == answer, name


@pytest.mark.parametrize(
    "line", [b"rz a b", b"r", b"r~ a b", b"r ( b", b"r *a b"], ids=lambda line: line.decode()
)
def test_in_tftpd_refuses_the_same_rules(line: bytes, tmp_path: Path) -> None:
    """A map file with a mistake starts neither server."""
    map_file = tmp_path / "map"
    map_file.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match="map:1: "):
        read_map_file(str(map_file))
    with pytest.raises(AssertionError, match="has ended"), in_tftpd(tmp_path, map_file):
        pass
