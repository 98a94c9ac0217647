"""Find the known name that a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a wrong one; None if none is similar."""
    known = list(known)
    near = get_close_matches(name, known, n=len(known) or 1)
    return min(near, key=lambda each: number_of_typos(name, each), default=None)


def number_of_typos(left: str, right: str) -> int:
    """Return the number of typos by which two names differ.

    A typo is a character that is missing, added or replaced, or two that are swapped.
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, left_character in enumerate(left, 1):
        before, above, row = row, before, [i]
        for j, right_character in enumerate(right, 1):
            typos = min(
                before[j] + 1,
                row[j - 1] + 1,
                before[j - 1] + (left_character != right_character),
            )
            if i > 1 and j > 1 and left[i - 2 : i] == right_character + right[j - 2]:
                typos = min(typos, above[j - 2] + 1)
            row.append(typos)
    return row[-1]
