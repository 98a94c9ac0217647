"""Judge whether what a process holds stays as it is: the samples of a soak, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What a process holds at one moment, name to number.
Sample = dict[str, float]


@dataclass(frozen=True)
class Watch:
    """One number that is watched.

    @ivar unit: divides it for the table.
    @ivar returns: whether it is as at the start when all is over; if not, its greatest value in
        the last quarter is compared with that in the first.
    @ivar factor: of the value that it is compared with, and `slack` above that, it may be.
    @ivar most: never more than this.
    """

    name: str
    returns: bool
    factor: float = 1.0
    slack: float = 0.0
    most: float = float("inf")
    unit: int = 1


@dataclass(frozen=True)
class Verdict:
    """One number's course, and why it is not flat: nothing where it is."""

    watch: Watch
    start: float
    first: float
    greatest: float
    last: float
    end: float
    complaint: str = ""


def judge(watch: Watch, start: Sample, samples: Sequence[Sample], end: Sample) -> Verdict:
    """Judge one number.

    @param start: when all was idle, and everything had been done once.
    @param samples: while there was traffic, at least four, at even distances.
    @param end: when all is idle again.
    @raise ValueError: there are too few samples to tell.
    """
    quarter = len(samples) // 4
    if not quarter:
        raise ValueError("needs four samples")
    name = watch.name
    values = [sample[name] for sample in samples]
    first, last = max(values[:quarter]), max(values[-quarter:])
    greatest = max(values)
    was, became = (start[name], end[name]) if watch.returns else (first, last)
    complaint = ""
    if became > was * watch.factor + watch.slack:
        complaint = "does not return" if watch.returns else "grows"
    elif max(greatest, end[name]) > watch.most:
        complaint = f"above {watch.most:g}"
    return Verdict(watch, start[name], first, greatest, last, end[name], complaint)


def rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Return the rows of a table, its head first."""
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
                each.complaint or "flat",
            ]
            for each in verdicts
        ),
    ]
