"""Tests of the benchmark's C programs, run against each other, and of its report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, processes
from benchmarks.__main__ import _lacks_modules
from benchmarks.loads import (
    FaultyNetwork,
    Load,
    Sample,
    Store,
    Tools,
    build,
    fill,
    run_load,
    run_over,
)
from benchmarks.results import NetworkKey, Results
from benchmarks.server_list import servers
from benchmarks.servers import HOST, Running, Server, start
from benchmarks.tables import ratios, summary
from benchmarks.targets import target_results

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


#: The seconds after which the load generator stops. Unless something is broken, it ends earlier.
LONGEST = 60

#: The seconds after which a wait for a program fails.
TIMEOUT = 90


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return build(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store(Load("test", "a file", (("one", 300_000), ("two", 1000)))) as made:
        (made.root / "empty").touch()
        fill(made.root / "even", 1428 * 20)
        yield made


@pytest.fixture(scope="module")
def yardstick(
    tools: Tools, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    (server,) = [each for each in servers(tools.yardstick) if each.name == "yardstick"]
    running = start(server, store.root, tmp_path_factory.mktemp("logs") / "log")
    yield running
    running.stop()


def _load(tools: Tools, running: Running, *arguments: str) -> dict[str, Any]:
    *options, name = arguments
    command = [str(tools.load), "-l", str(LONGEST), *options]
    command += [HOST, str(running.port), *name.split()]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [[], ["-b", "1428"], ["-b", "1428", "-w", "16"], ["-b", "1428", "-w", "64", "-g"]],
    ids=["plain", "blksize", "window", "offload"],
)
@pytest.mark.parametrize("clients", ["1", "7"])
def test_client_fetches_files(
    tools: Tools, store: Store, yardstick: Running, options: list[str], clients: str
) -> None:
    """Files of all lengths arrive complete, with all options."""
    arguments = [*options, "-c", clients, "-n", "20", "-f", str(store.root)]
    result = _load(tools, yardstick, *arguments, "one two empty even")
    sizes = 300_000 + 1000 + 0 + 1428 * 20
    assert (result["transfers"], result["failures"], result["wrong"]) == (20, 0, 0)
    assert result["octets"] == 5 * sizes


@pytest.mark.parametrize("place", [0, 1427, 299_999])
def test_client_notices_a_wrong_octet(
    tools: Tools, store: Store, yardstick: Running, tmp_path: Path, place: int
) -> None:
    """One different octet is an error, at any position."""
    content = bytearray((store.root / "one").read_bytes())
    content[place] ^= 1
    (tmp_path / "one").write_bytes(content)
    result = _load(tools, yardstick, "-b", "1428", "-w", "8", "-f", str(tmp_path), "one")
    assert result["wrong"] == 1


@pytest.mark.parametrize("change", [-1, 1])
def test_client_notices_a_wrong_length(
    tools: Tools, store: Store, yardstick: Running, tmp_path: Path, change: int
) -> None:
    """A file that is too long or too short is an error."""
    content = (store.root / "one").read_bytes() + b"more"
    (tmp_path / "one").write_bytes(content[: 300_000 + change])
    result = _load(tools, yardstick, "-b", "1428", "-f", str(tmp_path), "one")
    assert result["wrong"] == 1


@pytest.mark.parametrize("options", [[], ["-w", "16"], ["-w", "64", "-g"]])
def test_client_uploads_files(
    tools: Tools, store: Store, yardstick: Running, options: list[str]
) -> None:
    """An uploaded file can be fetched."""
    source = str(store.root / "one")
    sent = _load(tools, yardstick, "-u", "-b", "1428", *options, "-f", source, "up%")
    back = _load(tools, yardstick, "-b", "1428", "-f", source, "up0")
    assert (sent["transfers"], sent["octets"]) == (1, 300_000)
    assert (back["transfers"], back["wrong"]) == (1, 0)


def test_client_reports_an_error_of_the_server(tools: Tools, yardstick: Running) -> None:
    """A refused request fails with the server's text."""
    result = _load(tools, yardstick, "missing")
    assert (result["failures"], result["error"]) == (1, "none")


def test_client_holds_transfers_open(tools: Tools, store: Store, yardstick: Running) -> None:
    """All transfers are open at the same time, and then all complete."""
    load = Load("held", "", (("one", 300_000),), clients=8, transfers=50, blksize=512, hold=True)
    sample = run_load(load, yardstick, store, tools, LONGEST)
    assert sample.value is not None
    assert sample.lost == 0


def test_client_limits_requests_without_an_answer(tools: Tools) -> None:
    """No more clients ask at a time than the limit says; the others wait."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        command = [str(tools.load), "-c", "10", "-n", "10", "-a", "3", "-l", "1"]
        command += [HOST, str(silent.getsockname()[1]), "one"]
        subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT)
        silent.setblocking(False)
        clients: set[tuple[str, int]] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                clients.add(silent.recvfrom(2048)[1])
    assert len(clients) == 3


def test_answer_lets_the_next_client_ask(tools: Tools) -> None:
    """A client that has an answer makes room for another request, before its transfer ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(TIMEOUT)
        # It stops before a client gives its transfer up.
        command = [str(tools.load), "-c", "10", "-n", "10", "-a", "3", "-l", "8"]
        command += [HOST, str(server.getsockname()[1]), "one"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            clients: set[tuple[str, int]] = set()
            while len(clients) < 10:
                packet, address = server.recvfrom(2048)
                if packet[1] == 1:
                    clients.add(address)
                    server.sendto(b"\0\3\0\1" + bytes(512), address)
            process.kill()


@pytest.mark.parametrize(
    ("unit", "units"), [("CPU µs per file", 10), ("CPU µs per packet", 10 * 300_000 / 1428)]
)
def test_cost_is_the_cpu_time_of_a_unit(
    tools: Tools,
    store: Store,
    yardstick: Running,
    monkeypatch: pytest.MonkeyPatch,
    unit: str,
    units: float,
) -> None:
    """The CPU time that the server used is divided by the files, or by the packets."""
    times = [processes.CpuTime(1.0, 1.0)] * 2 + [processes.CpuTime(1.5, 2.0)] * 2
    monkeypatch.setattr(processes, "cpu_time", lambda pid: times.pop(0))
    load = Load("cost", "", (("one", 300_000),), unit, transfers=10, pinned=True)
    sample = run_load(load, yardstick, store, tools, LONGEST)
    assert (sample.user, sample.system) == pytest.approx((0.5e6 / units, 1e6 / units))
    assert sample.value == pytest.approx(1.5e6 / units)


def test_relay_without_loss(tools: Tools, store: Store, yardstick: Running) -> None:
    """Over a relay that only delays, a file arrives without extra datagrams."""
    sample = run_over(FaultyNetwork(16, 0.0, 0.2), yardstick, store, tools, LONGEST)
    assert sample.value is not None
    assert sample.sent_over_needed == 1


def test_relay_drops_the_given_share(tools: Tools, store: Store, yardstick: Running) -> None:
    """About the given share of datagrams is dropped, and the file still arrives."""
    relay = subprocess.Popen(
        [str(tools.relay), "-l", "0.25", "-s", "7", HOST, str(yardstick.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    port = relay.stdout.readline().strip()
    # Each of these is one datagram up, the request, and one down, the answer.
    command = [str(tools.load), "-c", "400", "-n", "400", "-b", "1428", "-f", str(store.root)]
    done = subprocess.run(
        [*command, "-l", "1", HOST, port, "empty"], stdout=subprocess.PIPE, timeout=TIMEOUT
    )
    output, _ = relay.communicate(timeout=TIMEOUT)
    passed = json.loads(output)
    result = json.loads(done.stdout)
    share = (passed["dropped_up"] + passed["dropped_down"]) / (passed["up"] + passed["down"])
    assert 0.2 < share < 0.3
    assert result["wrong"] == 0


def test_relay_repeats_and_reorders(tools: Tools, store: Store, yardstick: Running) -> None:
    """Repeated and reordered datagrams do not change the file."""
    relay = subprocess.Popen(
        [str(tools.relay), "-r", "0.5", "-d", "100", HOST, str(yardstick.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    port = relay.stdout.readline().strip()
    command = [str(tools.load), "-b", "0", "-f", str(store.root), "-l", str(LONGEST)]
    done = subprocess.run([*command, HOST, port, "empty"], stdout=subprocess.PIPE, timeout=TIMEOUT)
    output, _ = relay.communicate(timeout=TIMEOUT)
    assert json.loads(done.stdout)["wrong"] == 0
    assert json.loads(output)["up"] >= 1


def _server(name: str, language: str) -> Server:
    return Server(name, name, lambda root, port: [], lambda: "1", language=language)


def test_report_has_ratios_of_medians() -> None:
    """A load that a server can't do has no ratio."""
    load = Load("small", "small files", (), unit="files/s")
    results = Results(
        [_server("ours", ""), _server("atftpd", "C"), _server("hpa", "C")], [load], 3, 1, 1
    )
    results.samples["small", "ours"] = [Sample(9.0), Sample(30.0), Sample(31.0)]
    results.samples["small", "atftpd"] = [Sample(10.0), Sample(11.0), Sample(20.0)]
    results.samples["small", "hpa"] = [Sample(100.0), Sample(note="failed")]
    assert ratios(results).splitlines()[-1].split("|")[2:5] == [
        " 30 files/s ",
        " 2.73   ",
        " none ",
    ]
    (result,) = target_results(results)
    assert result.measured == pytest.approx(30 / 11)
    assert result.is_met
    assert "failed" not in summary(results)


def test_page_shows_the_parts_of_cpu_time(tmp_path: Path) -> None:
    """The page has time in user mode and in the kernel, except of a server that forks."""
    pytest.importorskip("matplotlib")
    load = Load("cpu", "CPU of small files", (), "CPU µs per file", pinned=True)
    forking = dataclasses.replace(_server("hpa", "C"), forks=True, discards_cpu=True)
    results = Results([_server("ours", ""), forking], [load], 1, 1, 1)
    results.samples["cpu", "ours"] = [Sample(12.0, user=5.0, system=7.0)]
    results.samples["cpu", "hpa"] = [Sample(24.0)]
    page.write(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| CPU of small files")]
    cells = [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows]
    assert ["12 CPU µs per file", "2.00"] in cells
    assert ["12 (5 + 7)", "24"] in cells
    assert "Not divided for hpa" in text
    assert (tmp_path / "cpu.svg").exists()


def test_parts_of_cpu_time_add_up_to_the_median() -> None:
    """The median is divided as the time of all rounds is, so its parts add up to it."""
    results = Results([_server("ours", "")], [], 3, 1, 1)
    results.samples["cpu", "ours"] = [
        Sample(10.0, user=9.0, system=1.0),
        Sample(12.0, user=3.0, system=9.0),
        Sample(18.0, user=8.0, system=10.0),
    ]
    assert results.cost("cpu", "ours") == pytest.approx((6, 6))


def test_transfer_without_an_end_counts_as_the_longest() -> None:
    """The median of the times counts a transfer that did not end as longer than all others."""
    results = Results([_server("ours", "")], [], 1, 1, 60)
    for seed, sample in enumerate([Sample(1.0), Sample(note=">60"), Sample(note=">60")]):
        results.network_samples[FaultyNetwork(1, 0.02, 5, seed), "ours"] = [sample]
    assert results.network_time(NetworkKey(1, 0.02, 5, 0.0), "ours") == (None, ">60")


def test_checkout_whose_c_modules_were_not_built_is_noticed(tmp_path: Path) -> None:
    """A server with them must not be compared with one without; old checkouts have none."""
    package = tmp_path / "twisted_tftp" / "net"
    package.mkdir(parents=True)
    assert not _lacks_modules(tmp_path)
    (package / "_offload.c").touch()
    assert _lacks_modules(tmp_path)
    (package / "_offload.cpython-311-x86_64-linux-gnu.so").touch()
    assert not _lacks_modules(tmp_path)
