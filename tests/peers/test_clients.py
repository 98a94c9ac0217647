"""Test the daemon with the TFTP clients of other projects: tftp-hpa, atftp, curl and busybox.

The comments about clients describe those of Debian 12: tftp-hpa 5.2, atftp 0.8.0, curl 7.88.1
and busybox 1.35.0.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import IPV6, TIMEOUT, Daemon, can_bind

#: Seconds for one run of a client; the largest file takes about 7.
CLIENT_TIMEOUT = 60

#: The block size of clients that request one; its multiples are not multiples of 512.
BLKSIZE = 1428

MIB = 1024 * 1024

#: Sizes of files: near the block sizes, and many whole blocks, after which an empty block comes.
SIZES = [0, 1, 511, 512, 513, BLKSIZE - 1, BLKSIZE, BLKSIZE + 1, 25 * BLKSIZE, MIB]

#: The size of a file of more than 65535 blocks of 512 octets.
BIG = 66_000 * 512

Done = subprocess.CompletedProcess[str]


class Client:
    """A client program; a subclass knows its command line.

    @cvar failure: the exit status if the server refuses a read.
    @cvar explains_on: the stream that shows the server's message.
    """

    program: str
    failure = 1
    explains_on = "stderr"

    def __init__(self, *options: str, granted: tuple[str, ...] = ()) -> None:
        """Set up a way to call the client.

        @param options: more options for its command line.
        @param granted: the options that the server must grant, `name=value`.
        """
        self.options = options
        self.granted = granted

    def __str__(self) -> str:
        """Return a name for the ID of the test."""
        return " ".join([self.program, *self.options]).replace(" --", " ").replace("option ", "")

    def get(self, port: int, remote: str, local: Path, host: str = "127.0.0.1") -> Done:
        """Run the client to read `remote` into `local`."""
        raise NotImplementedError

    def put(self, port: int, local: Path, remote: str, host: str = "127.0.0.1") -> Done:
        """Run the client to write `local` to `remote`."""
        raise NotImplementedError

    def run(self, *arguments: str | Path | int) -> Done:
        """Run the program, and return its status and output."""
        path = shutil.which(self.program)
        if path is None:
            pytest.skip(f"{self.program} is not installed")
        return subprocess.run(
            [path, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=CLIENT_TIMEOUT,
        )


class TftpHpa(Client):
    """tftp-hpa, which requests no options."""

    program = "tftp"
    # With -c its exit status is always 0, and it shows the server's error on its standard output,
    # for reads and writes.
    failure = 0
    explains_on = "stdout"

    def __init__(self, mode: str = "binary") -> None:
        super().__init__()
        self.mode = mode

    def get(self, port: int, remote: str, local: Path, host: str = "127.0.0.1") -> Done:
        return self.run(host, port, "-m", self.mode, "-c", "get", remote, local)

    def put(self, port: int, local: Path, remote: str, host: str = "127.0.0.1") -> Done:
        return self.run(host, port, "-m", self.mode, "-c", "put", local, remote)


class Atftp(Client):
    """atftp; it requests the options that are given with `--option`."""

    program = "atftp"
    failure = 255

    def get(self, port: int, remote: str, local: Path, host: str = "127.0.0.1") -> Done:
        return self._run("--get", port, remote, local, host)

    def put(self, port: int, local: Path, remote: str, host: str = "127.0.0.1") -> Done:
        return self._run("--put", port, remote, local, host)

    def _run(self, what: str, port: int, remote: str, local: Path, host: str) -> Done:
        options = [word for option in self.options for word in ("--option", option)]
        files = ("--remote-file", remote, "--local-file", local)
        return self.run(*options, what, *files, host, port)


class Curl(Client):
    """curl, which requests tsize, blksize and timeout by default.

    It can't request only tsize, and no windowsize.
    """

    program = "curl"
    failure = 68

    def get(self, port: int, remote: str, local: Path, host: str = "127.0.0.1") -> Done:
        return self._run("--output", local, port, remote, host)

    def put(self, port: int, local: Path, remote: str, host: str = "127.0.0.1") -> Done:
        return self._run("--upload-file", local, port, remote, host)

    def _run(self, what: str, local: Path, port: int, remote: str, host: str) -> Done:
        where = f"[{host}]" if ":" in host else host
        # Only --verbose shows the server's message: for each error, curl 7.88 itself says
        # "getpeername() failed with errno 107: Transport endpoint is not connected".
        url = f"tftp://{where}:{port}/{remote}"
        return self.run("--globoff", "--no-progress-meter", "-v", *self.options, what, local, url)


class Busybox(Client):
    """busybox tftp, which requests tsize, and with -b a blksize of at least 24."""

    program = "busybox"

    def get(self, port: int, remote: str, local: Path, host: str = "127.0.0.1") -> Done:
        return self.run("tftp", *self.options, "-g", "-r", remote, "-l", local, host, port)

    def put(self, port: int, local: Path, remote: str, host: str = "127.0.0.1") -> Done:
        return self.run("tftp", *self.options, "-p", "-r", remote, "-l", local, host, port)


PLAIN: list[Client] = [TftpHpa(), Atftp(), Curl(), Busybox()]

VARIANTS: list[Client] = [
    *PLAIN,
    Atftp(f"blksize {BLKSIZE}", granted=(f"blksize={BLKSIZE}",)),
    Atftp("windowsize 8", granted=("windowsize=8",)),
    # The manual of atftp says "tsize enable", but for a read atftp sends the word "enable". It is
    # no size, so it is not granted; the file arrives nevertheless.
    Atftp("tsize enable"),
    Atftp("tsize 0", granted=("tsize=SIZE",)),
    Atftp("timeout 3", granted=("timeout=3",)),
    Atftp(
        f"blksize {BLKSIZE}",
        "windowsize 16",
        "tsize 0",
        "timeout 3",
        granted=(f"blksize={BLKSIZE}", "windowsize=16", "tsize=SIZE", "timeout=3"),
    ),
    Curl("--tftp-no-options"),
    Curl("--tftp-blksize", str(BLKSIZE), granted=("tsize=SIZE", f"blksize={BLKSIZE}")),
    Busybox("-b", str(BLKSIZE), granted=("tsize=SIZE", f"blksize={BLKSIZE}")),
]

each_client = pytest.mark.parametrize("client", PLAIN, ids=str)
each_variant = pytest.mark.parametrize("client", VARIANTS, ids=str)
each_size = pytest.mark.parametrize("size", SIZES)


def octets(size: int) -> bytes:
    """Return `size` octets that are the same in each run and have no period."""
    return random.Random(size).randbytes(size)


def encoded(text: bytes) -> bytes:
    """Return `text` in netascii (RFC 764), encoded octet by octet."""
    pairs = {ord("\n"): b"\r\n", ord("\r"): b"\r\0"}
    return b"".join(pairs.get(octet, bytes([octet])) for octet in text)


def assert_same(path: Path, expected: bytes, done: Done) -> None:
    """Check the content of `path`; if it is wrong, show the client's output."""
    actual = path.read_bytes() if path.exists() else None
    # No assert on the contents: pytest would take minutes to show how two megabytes differ.
    same = actual == expected
    size = None if actual is None else len(actual)
    assert same, f"{path.name}: {size} octets, expected {len(expected)}; {done}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a file of each size, named by its size."""
    directory = tmp_path_factory.mktemp("files")
    for size in SIZES:
        (directory / str(size)).write_bytes(octets(size))
    return directory


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon that takes and replaces files; its root is its own directory."""
    root = tmp_path_factory.mktemp("root")
    for size in SIZES:
        (root / str(size)).write_bytes(octets(size))
    with Daemon(root, "--write", "overwrite", "--verbose") as running:
        yield running


@each_variant
@each_size
def test_client_reads_files_of_all_sizes(
    client: Client, size: int, daemon: Daemon, tmp_path: Path
) -> None:
    """Each client reads files whose sizes are near multiples of its block size."""
    local = tmp_path / "local"
    done = client.get(daemon.port, str(size), local)
    assert done.returncode == 0, done
    assert_same(local, octets(size), done)


@each_variant
@each_size
def test_client_writes_files_of_all_sizes(
    client: Client, size: int, daemon: Daemon, files: Path
) -> None:
    """Each client writes files whose sizes are near multiples of its block size."""
    remote = f"put-{VARIANTS.index(client)}-{size}"
    done = client.put(daemon.port, files / str(size), remote)
    assert done.returncode == 0, done
    assert_same(daemon.root / remote, octets(size), done)


@pytest.mark.parametrize("client", [one for one in VARIANTS if one.granted], ids=str)
@pytest.mark.parametrize("direction", ["read", "write"])
def test_requested_options_are_granted(
    client: Client, direction: str, daemon: Daemon, files: Path, tmp_path: Path
) -> None:
    """The daemon grants the options that the client was told to request."""
    start = daemon.mark()
    size = 25 * BLKSIZE
    if direction == "read":
        name = str(size)
        client.get(daemon.port, name, tmp_path / "local")
    else:
        name = "options"
        client.put(daemon.port, files / str(size), name)
    line = daemon.wait_for_line(
        f'{direction} "{name}" .*completed.* options (\\S+), ', start=start
    )
    expected = {option.replace("SIZE", str(size)) for option in client.granted}
    assert expected <= set(line[1].split(","))


@pytest.mark.parametrize("client", [Curl(), Curl("--tftp-no-options")], ids=str)
def test_curl_reads_an_empty_file_without_an_error(
    client: Client, daemon: Daemon, tmp_path: Path
) -> None:
    """The daemon sends no tsize of 0 to curl, which rejects it ("invalid tsize -:0:- value")."""
    start = daemon.mark()
    local = tmp_path / "local"
    done = client.get(daemon.port, "0", local)
    assert (done.returncode, local.read_bytes()) == (0, b""), done
    assert "tsize" not in done.stderr, done
    line = daemon.wait_for_line('read "0" .*completed, 0 octets .* options (\\S+), ', start=start)
    assert line[1] == ("none" if client.options else "blksize=512,timeout=6")


@each_client
def test_client_reads_a_file_of_more_than_65535_blocks(
    client: Client, daemon: Daemon, tmp_path: Path
) -> None:
    """Each client reads a file whose block numbers roll over."""
    content = octets(BIG)
    (daemon.root / "big").write_bytes(content)
    local = tmp_path / "local"
    start = daemon.mark()
    done = client.get(daemon.port, "big", local)
    (daemon.root / "big").unlink()
    assert done.returncode == 0, done.returncode
    assert_same(local, content, done)
    local.unlink()
    assert_blocks_of_512(daemon, "read", "big", start)


@each_client
def test_client_writes_a_file_of_more_than_65535_blocks(
    client: Client, daemon: Daemon, tmp_path: Path
) -> None:
    """Each client writes a file whose block numbers roll over."""
    content = octets(BIG)
    local = tmp_path / "local"
    local.write_bytes(content)
    start = daemon.mark()
    done = client.put(daemon.port, local, "big")
    local.unlink()
    assert done.returncode == 0, done.returncode
    assert_same(daemon.root / "big", content, done)
    (daemon.root / "big").unlink()
    assert_blocks_of_512(daemon, "write", "big", start)


def assert_blocks_of_512(daemon: Daemon, direction: str, name: str, start: int) -> None:
    """Check in the log that no blksize was negotiated."""
    line = daemon.wait_for_line(
        f'{direction} "{name}" .*completed, {BIG} octets .* options (\\S+), ', start=start
    )
    assert "blksize=" not in line[1] or "blksize=512" in line[1].split(",")


def texts() -> dict[str, bytes]:
    """Return texts with line ends and lone CRs before, at and after block boundaries."""
    found = {
        f"{name}-at-{before}": b"x" * before + end + b"y" * 600 + end + b"z"
        for name, end in (("lf", b"\n"), ("cr", b"\r"), ("crlf", b"\r\n"), ("crnul", b"\r\0"))
        for before in (509, 510, 511, 512)
    }
    for name, end in (("lf", b"\n"), ("cr", b"\r"), ("crlf", b"\r\n")):
        # In netascii: one octet less than a block, exactly a block, and one octet more.
        found |= {f"{name}-ends-{before}": b"x" * before + end for before in (509, 510, 511)}
    draw = random.Random(764)
    pieces = [b"\r", b"\n", b"\r\n", b"\0", b"a", b"bc"]
    found["line-ends-everywhere"] = b"".join(draw.choices(pieces, k=5000))
    found["empty"] = b""
    return found


TEXTS = texts()

# tftp-hpa and atftp translate correctly, also a pair across a block boundary. So the stored text
# is compared, and the number of octets in the log shows that it was sent as netascii.
NETASCII: list[Client] = [
    TftpHpa("ascii"),
    Atftp("mode netascii"),
    Atftp("mode netascii", "windowsize 4", f"blksize {BLKSIZE}"),
]


@pytest.mark.parametrize("client", NETASCII, ids=str)
@pytest.mark.parametrize("name", TEXTS)
def test_client_reads_a_text_in_netascii_mode(
    client: Client, name: str, daemon: Daemon, tmp_path: Path
) -> None:
    """In netascii mode a client gets the same text that the daemon has."""
    (daemon.root / name).write_bytes(TEXTS[name])
    local = tmp_path / "local"
    start = daemon.mark()
    done = client.get(daemon.port, name, local)
    assert done.returncode == 0, done
    assert_same(local, TEXTS[name], done)
    daemon.wait_for_line(f'read "{name}" from .* mode netascii', start=start)
    daemon.wait_for_line(f"completed, {len(encoded(TEXTS[name]))} octets", start=start)


@pytest.mark.parametrize("client", NETASCII, ids=str)
@pytest.mark.parametrize("name", TEXTS)
def test_client_writes_a_text_in_netascii_mode(
    client: Client, name: str, daemon: Daemon, tmp_path: Path
) -> None:
    """In netascii mode the daemon stores the same text that the client has."""
    local = tmp_path / "local"
    local.write_bytes(TEXTS[name])
    start = daemon.mark()
    done = client.put(daemon.port, local, f"put-{name}")
    assert done.returncode == 0, done
    assert_same(daemon.root / f"put-{name}", TEXTS[name], done)
    daemon.wait_for_line(f'write "put-{name}" from .* mode netascii', start=start)
    daemon.wait_for_line(f"completed, {len(encoded(TEXTS[name]))} octets", start=start)


@pytest.mark.parametrize("name", TEXTS)
def test_daemon_sends_netascii_by_rfc_764(name: str, daemon: Daemon, tmp_path: Path) -> None:
    """The daemon sends netascii as in RFC 764; curl stores it without translation."""
    (daemon.root / name).write_bytes(TEXTS[name])
    local = tmp_path / "local"
    done = Curl("--use-ascii").get(daemon.port, name, local)
    assert done.returncode == 0, done
    assert_same(local, encoded(TEXTS[name]), done)


@each_client
@pytest.mark.skipif(not IPV6, reason="this machine has no ::1")
def test_client_reads_and_writes_over_ipv6(
    client: Client, daemon: Daemon, files: Path, tmp_path: Path
) -> None:
    """Each client reads and writes a file at ::1."""
    local = tmp_path / "local"
    start = daemon.mark()
    done = client.get(daemon.port, str(MIB), local, host="::1")
    assert_same(local, octets(MIB), done)
    daemon.wait_for_line(rf'read "{MIB}" from \[::1\]:\d+: completed', start=start)
    done = client.put(daemon.port, files / str(MIB), "ipv6", host="::1")
    assert_same(daemon.root / "ipv6", octets(MIB), done)


@pytest.fixture(scope="module")
def single_port_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon that answers from its request port."""
    root = tmp_path_factory.mktemp("single-port")
    with Daemon(root, "--write", "overwrite", "--single-port") as running:
        yield running


@each_variant
@pytest.mark.parametrize("size", [513, MIB])
def test_client_reads_and_writes_with_a_single_port(
    client: Client, size: int, single_port_daemon: Daemon, files: Path, tmp_path: Path
) -> None:
    """With --single-port each client writes a file and reads it back."""
    remote, local = f"{VARIANTS.index(client)}-{size}", tmp_path / "local"
    done = client.put(single_port_daemon.port, files / str(size), remote)
    assert done.returncode == 0, done
    assert_same(single_port_daemon.root / remote, octets(size), done)
    done = client.get(single_port_daemon.port, remote, local)
    assert done.returncode == 0, done
    assert_same(local, octets(size), done)


@each_client
def test_transfers_use_a_port_of_the_range(client: Client, files: Path, tmp_path: Path) -> None:
    """With --port-range each transfer has a port of the range."""
    low = next(
        port
        for port in random.sample(range(20001, 32760), 1000)
        if all(can_bind("127.0.0.1", one) for one in range(port, port + 4))
    )
    root, local = tmp_path / "root", tmp_path / "local"
    root.mkdir()
    options = ("--port-range", f"{low}:{low + 3}", "--write", "create")
    with Daemon(root, *options, hosts=["127.0.0.1"], ports=range(32761, 32768)) as daemon:
        done = client.put(daemon.port, files / str(MIB), "file")
        assert_same(root / "file", octets(MIB), done)
        done = client.get(daemon.port, "file", local)
        assert_same(local, octets(MIB), done)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendto(b"\0\1file\0octet\0", ("127.0.0.1", daemon.port))
            block, address = sock.recvfrom(1024)
            assert block[:4] == b"\0\3\0\1"
            assert low <= address[1] <= low + 3
            sock.sendto(b"\0\5\0\0\0", address)


def assert_explained(client: Client, done: Done, status: int, message: str) -> None:
    """Check that a client has failed and shows the server's message."""
    assert done.returncode == status, done
    assert message in getattr(done, client.explains_on), done


@each_variant
def test_client_reports_a_missing_file(client: Client, daemon: Daemon, tmp_path: Path) -> None:
    """A client that requests a missing file fails and shows the server's message."""
    done = client.get(daemon.port, "missing", tmp_path / "local")
    assert_explained(client, done, client.failure, "no such file")


#: What curl prints for ERROR 6 and for ERROR 2; other clients show the server's message.
CURL_EXISTS, CURL_DENIED = 73, 69


@each_client
def test_create_mode_does_not_replace_a_file(client: Client, files: Path, tmp_path: Path) -> None:
    """With --write create a second upload is refused, and the first file stays as it is."""
    root = tmp_path / "root"
    root.mkdir()
    with Daemon(root, "--write", "create", hosts=["127.0.0.1"]) as daemon:
        first = client.put(daemon.port, files / "513", "file")
        assert first.returncode == 0, first
        second = client.put(daemon.port, files / "512", "file")
    status = CURL_EXISTS if isinstance(client, Curl) else client.failure
    assert_explained(client, second, status, "the file exists already")
    assert_same(root / "file", octets(513), second)
    assert [path.name for path in root.iterdir()] == ["file"]


@each_client
def test_uploads_are_refused_by_default(client: Client, files: Path, tmp_path: Path) -> None:
    """Without --write an upload is refused and leaves no file."""
    root = tmp_path / "root"
    root.mkdir()
    with Daemon(root, hosts=["127.0.0.1"]) as daemon:
        done = client.put(daemon.port, files / "513", "file")
    status = CURL_DENIED if isinstance(client, Curl) else client.failure
    assert_explained(client, done, status, "this server does not accept files")
    assert not list(root.iterdir())
