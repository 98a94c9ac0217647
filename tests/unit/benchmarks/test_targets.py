"""Tests of how results are compared with the targets."""

from __future__ import annotations

import pytest

from benchmarks.load_list import loads
from benchmarks.loads import Sample
from benchmarks.results import Results
from benchmarks.servers import Server
from benchmarks.targets import TargetResult, target_results

#: The servers of the results, and the languages that say which ones are others.
SERVERS = {
    "ours": "",
    "pure": "",
    "before": "",
    "yardstick": "",
    "hpa": "C",
    "atftpd": "C",
    "dnsmasq": "C",
    "pytftp": "Python",
}


def _results(load: str, **values: float) -> dict[str, TargetResult]:
    """Return the results for the targets of one load, by the compared figure."""
    return _all_results({load: values})


def _all_results(values: dict[str, dict[str, float]]) -> dict[str, TargetResult]:
    known = [
        Server(name, name, lambda root, port: [], lambda: "1", language=language)
        for name, language in SERVERS.items()
    ]
    results = Results(known, [load for load in loads(False) if load.name in values], 1, 1, 1)
    for load, by_server in values.items():
        for server, value in by_server.items():
            results.samples[load, server] = [Sample(value)]
    return {result.figure: result for result in target_results(results)}


@pytest.mark.parametrize(("ours", "is_met"), [(100.0, True), (99.0, False)])
def test_many_clients_against_dnsmasq(ours: float, is_met: bool) -> None:
    """With 32 clients, ours must be as fast as dnsmasq."""
    result = _results("clients32", ours=ours, dnsmasq=100)["our speed / dnsmasq"]
    assert (result.target, result.is_met) == (1.0, is_met)


def test_the_faster_of_two_servers_counts() -> None:
    """tftpd-hpa and atftpd have one target: the faster one counts, and dnsmasq does not."""
    results = _results("small", ours=180, hpa=20, atftpd=100, dnsmasq=150, pytftp=170)
    result = results["our speed / faster of tftpd-hpa and atftpd"]
    assert (result.target, result.measured) == (1.8, 1.8)


def test_fastest_other_server_is_none_of_ours() -> None:
    """The yardstick and our variants are not other servers."""
    values = {"ours": 23.0, "pure": 50.0, "before": 50.0, "yardstick": 50.0, "pytftp": 10.0}
    results = _all_results({"lock512": values})
    result = results["our speed / fastest other server"]
    assert (result.target, result.measured) == (2.3, 2.3)


@pytest.mark.parametrize(
    ("load", "target"), [("clients32", 0.8), ("clients32-window4", 0.65), ("window16", 0.6)]
)
def test_yardstick_has_a_target_for_each_load(load: str, target: float) -> None:
    """Some loads have a target of their own against the yardstick."""
    result = _results(load, ours=70, yardstick=100)["our speed / C yardstick"]
    assert (result.target, result.measured) == (target, 0.7)


def test_cost_has_no_target_against_the_yardstick() -> None:
    """CPU time is compared only with that of the earlier version of ours."""
    assert list(_results("cpu-small", ours=10, before=10, yardstick=1)) == ["our speed / before"]


def test_thousand_clients_are_compared_with_ten() -> None:
    """The speed with 1,000 clients has a target relative to that with 10."""
    results = _all_results({"clients10": {"ours": 100}, "clients1000": {"ours": 75}})
    assert results["our speed / with 10 clients"].is_met
    results = _all_results({"clients10": {"ours": 100}, "clients1000": {"ours": 74}})
    assert not results["our speed / with 10 clients"].is_met


@pytest.mark.parametrize(
    ("load", "ours", "before", "is_met"),
    [
        ("small", 97, 100, True),
        ("small", 96, 100, False),
        ("cpu-small", 100, 97, True),
        ("cpu-small", 100, 96, False),
        ("many100", 100, 96, False),
    ],
)
def test_ours_may_not_become_slower(load: str, ours: float, before: float, is_met: bool) -> None:
    """An earlier version may be only a little faster, or cheaper."""
    result = _results(load, ours=ours, before=before)["our speed / before"]
    assert result.is_met is is_met


def test_memory_of_open_transfers_has_a_target() -> None:
    """5,000 open transfers must need no more memory than the version before."""
    loads_of_5000 = [load for load in loads(False) if load.name == "many5000"]
    servers = [
        Server(name, name, lambda root, port: [], lambda: "1", language="")
        for name in ("ours", "before")
    ]
    results = Results(servers, loads_of_5000, 1, 1, 1)
    results.samples["many5000", "before"] = [Sample(1.0, memory_per_transfer=5000)]
    for memory, is_met in ((5000, True), (5001, False)):
        results.samples["many5000", "ours"] = [Sample(1.0, memory_per_transfer=memory)]
        found = {result.figure: result for result in target_results(results)}
        assert found["our memory for each transfer / that before"].is_met is is_met
