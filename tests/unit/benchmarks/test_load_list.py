"""Tests of the list of loads."""

from __future__ import annotations

import pytest

from benchmarks.load_list import faulty_networks, loads
from benchmarks.loads import Load
from benchmarks.servers import Server
from benchmarks.targets import RIVAL_TARGETS, YARDSTICK_TARGETS

quick_or_not = pytest.mark.parametrize("quick", [False, True])


@quick_or_not
def test_loads_have_different_names(quick: bool) -> None:
    """No two loads have the same name, because results are kept by name."""
    names = [load.name for load in loads(quick)]
    assert len(set(names)) == len(names)


def test_targets_are_about_loads_that_exist() -> None:
    """Each target names a load that is measured."""
    names = {load.name for load in loads(False)}
    assert {name for name, _, _ in RIVAL_TARGETS} | set(YARDSTICK_TARGETS) <= names


@quick_or_not
def test_windows_of_firmware_are_measured(quick: bool) -> None:
    """There are reads and uploads in windows of 4, by one client and by many, and with loss."""
    found = {(load.clients, load.upload) for load in loads(quick) if load.windowsize == 4}
    assert {(1, False), (32, False), (1, True)} <= found
    assert any(network.windowsize == 4 and network.loss for network in faulty_networks(quick))


@quick_or_not
def test_cost_is_measured_under_loads_whose_speed_is_measured(quick: bool) -> None:
    """Each load that measures CPU time is one that measures speed, with a pinned server."""
    all_loads = {load.name: load for load in loads(quick)}
    costs = [load for load in all_loads.values() if load.pinned]
    assert {load.counts_files for load in costs} == {False, True}
    for load in costs:
        speed = all_loads[load.name.removeprefix("cpu-")]
        assert (load.clients, load.blksize, load.windowsize, load.asking) == (
            *(speed.clients, speed.blksize, speed.windowsize),
            speed.asking,
        )
        assert load.lower_is_better
        assert not speed.lower_is_better


@pytest.mark.parametrize(("clients", "reason"), [(100, ""), (101, "too many")])
def test_server_is_not_measured_with_too_many_clients(clients: int, reason: str) -> None:
    """A server has at most as many clients at once as it can serve."""
    server = Server("a", "a", lambda root, port: [], lambda: "1", max_transfers=100)
    load = Load("crowd", "", (), clients=clients, transfers=1000)
    assert load.skip_reason(server) == reason


def test_held_transfers_count_as_open() -> None:
    """Transfers that are held open are all open at once, however few advance at a time."""
    server = Server("a", "a", lambda root, port: [], lambda: "1", max_transfers=100)
    load = Load("held", "", (), clients=8, transfers=101, hold=True)
    assert load.skip_reason(server) == "too many"
