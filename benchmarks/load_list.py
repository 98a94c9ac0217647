"""List the loads and the simulated networks that servers are measured with."""

from __future__ import annotations

import dataclasses

from benchmarks.loads import FaultyNetwork, Load

MB = 1_000_000

#: Requests of 1,000 clients that wait for an answer at a time. The usual receive buffer of a
#: server's socket (208 KiB) has room for them, so no client waits a second to repeat one.
MAX_ASKING = 64

#: The windows of the loads, in blocks; EDK2's firmware asks for 4.
WINDOWS = (4, 16, 64)

#: The name and the size of the file that is read over simulated networks.
LOSS_FILE = ("two", 2 << 20)


def loads(quick: bool) -> list[Load]:
    """Return all loads except those over simulated networks; small ones if `quick`."""
    reads = _reads(quick)
    (small,) = [load for load in reads if load.name == "small"]
    log = dataclasses.replace(
        small, name="log", title="3 kB files, our log on and off", only=("ours", "quiet")
    )
    return [*reads, *_uploads(quick), *_held(quick), *_costs(), log]


def _octets(full: int, quick: bool) -> int:
    """Return the size of a file that one client reads or writes."""
    return full // 20 if quick else full


def _reads(quick: bool) -> list[Load]:
    """Return the reads whose speed is measured."""
    large = (("one", _octets(200 * MB, quick)),)
    medium = (("one", _octets(50 * MB, quick)),)
    return [
        Load("lock512", "1 client, lock step, blksize 512", medium, blksize=512),
        Load("lock1428", "1 client, lock step, blksize 1428", large),
        *_reads_at_once(quick),
        *(
            Load(
                f"window{size}{'-gro' * gro}",
                f"1 client, window {size}{', GRO' * gro}",
                large,
                windowsize=size,
                offload=gro,
            )
            for size in WINDOWS
            for gro in (False, True)
        ),
    ]


def _uploads(quick: bool) -> list[Load]:
    """Return the uploads."""
    large = (("one", _octets(200 * MB, quick)),)
    medium = (("one", _octets(50 * MB, quick)),)
    return [
        Load("put", "upload, lock step", medium, upload=True),
        *(
            Load(
                f"put{size}",
                f"upload, window {size}",
                large,
                windowsize=size,
                upload=True,
                offload=True,
            )
            for size in WINDOWS
        ),
    ]


def _reads_at_once(quick: bool) -> list[Load]:
    """Return the reads by several clients at once."""
    whole = tuple((f"mega{number:02}", 1 << 20) for number in range(32))
    parts = tuple((f"part{number:02}", 256 << 10) for number in range(32))
    smalls = tuple((f"small{number:03}", 3000) for number in range(500))
    clients32 = Load(
        "clients32",
        "32 clients, lock step, 1 MiB each",
        whole,
        clients=32,
        transfers=32 if quick else 320,
    )
    return [
        clients32,
        dataclasses.replace(
            clients32,
            name="clients32-window4",
            title="32 clients, window 4, 1 MiB each",
            windowsize=4,
        ),
        *(
            Load(
                f"clients{count}",
                f"{count:,} clients, lock step, 256 KiB each",
                parts,
                clients=count,
                transfers=1000,
                asking=MAX_ASKING,
            )
            for count in (10, 1000)
        ),
        Load(
            "image1000",
            "1,000 clients, lock step, one file of 1 MiB",
            whole[:1],
            clients=1000,
            transfers=1000,
            asking=MAX_ASKING,
        ),
        Load(
            "small",
            "3 kB files, 32 at a time",
            smalls,
            unit="files/s",
            clients=32,
            transfers=1000 if quick else 5000,
        ),
    ]


def _held(quick: bool) -> list[Load]:
    """Return the loads that hold transfers open."""
    steps = 10_000 if quick else 100_000
    return [
        Load(
            f"many{count}",
            f"{count:,} transfer{'s' * (count > 1)} open",
            ((f"steps{count}", max(4, steps // count) * 512 - 1),),
            unit="µs per packet",
            clients=min(count, 8),
            transfers=count,
            blksize=512,
            hold=True,
        )
        for count in (1, 10, 100, 1000, 5000, 10_000)
    ]


def _costs() -> list[Load]:
    """Return the loads that measure CPU time: some of the reads, with the server on one core.

    They are as large in a quick run, because the system counts in ticks of 10 ms.
    """
    known = {load.name: load for load in _reads(False)}
    known["lock1428"] = dataclasses.replace(known["lock1428"], files=(("one", 50 * MB),))
    known["small"] = dataclasses.replace(known["small"], transfers=20_000)
    return [
        dataclasses.replace(
            known[name],
            name=f"cpu-{name}",
            title=f"CPU: {known[name].title}",
            unit=f"CPU µs per {'file' if name == 'small' else 'packet'}",
            pinned=True,
        )
        for name in ("lock1428", "clients32", "clients1000", "clients32-window4", "small")
    ]


def faulty_networks(quick: bool) -> list[FaultyNetwork]:
    """Return the simulated networks; a few of them if `quick`."""
    if quick:
        return [FaultyNetwork(size, loss, 0.2) for size in (1, 4, 16) for loss in (0.0, 0.02)]
    disordered = [
        FaultyNetwork(size, loss, 0.2, disorder=0.02)
        for size in (1, 4, 8, 16, 64)
        for loss in (0.0, 0.02)
    ]
    return disordered + [
        FaultyNetwork(size, loss, round_trip, seed)
        for round_trip in (0.2, 5, 20)
        for size in (1, 4, 8, 16, 64)
        for loss in (0.0, 0.005, 0.02, 0.05)
        for seed in ((1, 2, 3) if round_trip < 1 else (1,))
    ]
