"""Rewrite names by a list of rename rules, as tftp-hpa does.

The rules are tried from the first to the last. Two things differ from version 5.2 of tftp-hpa, the
last release; its later sources do the same as this module. The operator `s` starts again at the
very first rule, as the manual page says (5.2 starts at the second one). The text of the operator
`a` is the whole text of the ERROR (5.2 adds parts of the name).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from twisted_tftp.backends.naming import MAX_PATH
from twisted_tftp.backends.rename.rules import Rule
from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.errors import AccessViolation
from twisted_tftp.protocol.printable import printable, printable_unicode

#: How many times rules are tried for one name, in addition to once for each rule. After that, the
#: rules are considered an endless loop.
MAX_STEPS = 1024

#: The most names whose results are kept.
MAX_CACHED_NAMES = 4096

#: The longest name whose result is kept, in characters.
MAX_CACHED_NAME = 256

#: The most matches that `--explain` shows: rules in an endless loop have many.
MAX_EXPLAINED = 20

#: An address for names whose rules do not use the address, by whether it is an IPv6 address.
_FAMILIES = ("0.0.0.0", "::")

#: Called with each rule that matches, and the name that results.
OnMatch = Callable[[Rule, str], None]


class MapRules:
    """A step of the pipeline of names that applies rename rules.

    @ivar name: what `--explain` calls the step.
    """

    def __init__(self, rules: Sequence[Rule], name: str = "rename") -> None:
        """Set up the step; `name` is what `--explain` calls it."""
        self.name = name
        self._rules = tuple(rules)
        self._uses_address = any(rule.replacement.uses_address for rule in rules)
        self._cached_result = lru_cache(maxsize=MAX_CACHED_NAMES)(self._result)

    def apply(self, name: str, context: TransferContext) -> str:
        """Return the name after all rules.

        @raise AccessViolation: a rule refuses the request, or the rules never end.
        """
        host = context.peer.host
        # The same rules are applied to all hosts of a family, unless a rule uses the address.
        key = host if self._uses_address else _FAMILIES[":" in host]
        result = self._cached_result if len(name) <= MAX_CACHED_NAME else self._result
        renamed = result(name, context.direction is Direction.READ, key)
        if isinstance(renamed, str):
            return renamed
        raise AccessViolation(*renamed)

    def trace(self, name: str, context: TransferContext) -> list[tuple[str, str]]:
        """Return the texts of the rules that match, each with the name that results.

        @raise AccessViolation: as in L{apply}.
        """
        matches: list[tuple[str, str]] = []
        self._trace(name, context, lambda rule, after: matches.append((rule.text, after)))
        return matches

    def explain(self, name: str, context: TransferContext) -> list[str]:
        """Return a line for each rule that matches: its text, the resulting name, and its place.

        If the rules refuse the request, the lines are about those that matched before.
        """
        matches: list[tuple[Rule, str]] = []
        with suppress(AccessViolation):
            self._trace(name, context, lambda *match: matches.append(match))
        lines = []
        for rule, after in matches[:MAX_EXPLAINED]:
            place = f" ({rule.place})" if rule.place else ""
            lines.append(
                f"{self.name} {printable_unicode(rule.text)}: -> {printable(after)}{place}"
            )
        if len(matches) > MAX_EXPLAINED:
            lines.append(f"{self.name}: {len(matches) - MAX_EXPLAINED} more matches")
        return lines

    def _trace(self, name: str, context: TransferContext, on_match: OnMatch) -> None:
        is_read = context.direction is Direction.READ
        self._rewrite(name, is_read, context.peer.host, on_match)

    def _result(self, name: str, is_read: bool, host: str) -> str | tuple[str, str]:
        """Return the name after all rules; or the message and the detail of a refusal."""
        try:
            return self._rewrite(name, is_read, host, _ignore)
        except AccessViolation as error:
            return error.message, error.detail

    def _rewrite(self, name: str, is_read: bool, host: str, on_match: OnMatch) -> str:
        """Apply all rules.

        @param is_read: whether the request is a read.
        @param host: the address of the client, or any of its family.
        @raise AccessViolation: a rule refuses the request, or the rules never end.
        """
        excluded = ("P" if is_read else "G") + ("4" if ":" in host else "6")
        rules = [rule for rule in self._rules if rule.operators.isdisjoint(excluded)]
        octets = name.encode("utf-8", "surrogateescape")
        position = 0
        steps = MAX_STEPS + len(rules)
        for _ in range(steps):
            if position >= len(rules):
                return _text(octets)
            rule = rules[position]
            match = rule.expression.search(octets)
            if (match is None) != ("~" in rule.operators):
                position += 1
                continue
            octets = _apply(rule, octets, match, host)
            on_match(rule, _text(octets))
            if "e" in rule.operators:
                return _text(octets)
            if "s" in rule.operators:
                position = 0
            elif not {"r", "g"} <= rule.operators:
                position += 1
        raise AccessViolation(
            "the name cannot be rewritten", f"after {steps} steps the rename rules still match"
        )


def _apply(rule: Rule, octets: bytes, match: Any, host: str) -> bytes:
    """Return a name after a rule that matches it.

    @raise AccessViolation: the rule refuses the request, or the name becomes too long.
    """
    if "a" in rule.operators:
        message = "" if rule.replacement.is_empty else _text(rule.replacement.expand(match, host))
        raise AccessViolation(message, f"the rename rule '{rule.text}' refuses it")
    if "r" not in rule.operators:
        return octets
    replacement = rule.replacement.expand(match, host)
    octets = octets[: match.start()] + replacement + octets[match.end() :]
    if len(octets) > MAX_PATH:
        raise AccessViolation(
            "the name cannot be rewritten", f"the rename rule '{rule.text}' makes it too long"
        )
    return octets


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _ignore(rule: Rule, name: str) -> None:
    """Do nothing."""
