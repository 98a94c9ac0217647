"""Check that the memory, descriptors and other resources of a process do not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: The resources of a process at one moment: name to amount.
Sample = dict[str, float]


@dataclass(frozen=True)
class Watch:
    """A resource that must not grow.

    @ivar returns: whether its value at the end is compared with that at the start; otherwise its
        highest value in the last quarter is compared with that in the first quarter.
    @ivar factor: the later value may be this many times the earlier one, plus `slack`.
    @ivar slack: see `factor`.
    @ivar most: the highest value allowed at any time.
    @ivar unit: values are divided by this in the table.
    """

    name: str
    returns: bool
    factor: float = 1.0
    slack: float = 0.0
    most: float = float("inf")
    unit: int = 1


@dataclass(frozen=True)
class ResourceVerdict:
    """The values of one resource, and whether they grow.

    @ivar problem: how they grow; empty if they do not.
    """

    watch: Watch
    start: float
    first: float
    greatest: float
    last: float
    end: float
    problem: str = ""


def judge(watch: Watch, start: Sample, samples: Sequence[Sample], end: Sample) -> ResourceVerdict:
    """Judge one resource.

    @param start: the sample of the idle process, after it had done everything once.
    @param samples: at least four samples during the traffic, at equal intervals.
    @param end: the sample of the process when it is idle again.
    @raise ValueError: there are fewer than four samples.
    """
    quarter = len(samples) // 4
    if not quarter:
        raise ValueError("needs four samples")
    name = watch.name
    values = [sample[name] for sample in samples]
    first, last = max(values[:quarter]), max(values[-quarter:])
    greatest = max(values)
    was, became = (start[name], end[name]) if watch.returns else (first, last)
    problem = ""
    if became > was * watch.factor + watch.slack:
        problem = "does not return" if watch.returns else "grows"
    elif max(greatest, end[name]) > watch.most:
        problem = f"above {watch.most:g}"
    return ResourceVerdict(watch, start[name], first, greatest, last, end[name], problem)


def rows(verdicts: Sequence[ResourceVerdict]) -> list[list[str]]:
    """Return the rows of a table; the first one is its head."""
    head = ["watched", "start", "1st quarter", "max", "last quarter", "end", "verdict"]
    return [
        head,
        *(
            [
                each.watch.name,
                *(
                    f"{value / each.watch.unit:,.0f}"
                    for value in (each.start, each.first, each.greatest, each.last, each.end)
                ),
                each.problem or "flat",
            ]
            for each in verdicts
        ),
    ]
