"""What a check has found: a verdict, a text and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from twisted_tftp.protocol.printable import printable_unicode


class Verdict(Enum):
    """The result of a check; the value is the word that is shown."""

    #: The server does what the RFCs and common clients require.
    OK = "ok"
    #: Transfers work, but they are slow, or the server can be misused.
    WARNING = "warning"
    #: Transfers fail, or the server violates an RFC.
    PROBLEM = "problem"
    #: The check could not be made with this server and this file.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    @ivar check: the name of the check.
    @ivar text: what the check has found.
    @ivar advice: what to do about it; empty if there is nothing to do.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        """Escape the text for a terminal: it may contain text that the server has sent."""
        object.__setattr__(self, "text", printable_unicode(self.text))


def worst_verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of the findings; skipped checks do not count."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in (Verdict.PROBLEM, Verdict.WARNING):
        if verdict in verdicts:
            return verdict
    return Verdict.OK
