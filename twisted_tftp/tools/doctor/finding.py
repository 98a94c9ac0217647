"""What a check has found: a verdict, a text and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from twisted_tftp.protocol.printable import printable_unicode

#: The size in kB of a file for which no check is skipped; `rollover_check` needs the most.
RECOMMENDED_FILE_KB = 600

#: The advice if a check was skipped because the file is too short.
LARGER_FILE_ADVICE = f"give a FILE of at least {RECOMMENDED_FILE_KB} kB"

#: The text if a check was skipped because the file has too few octets.
TOO_SHORT = "the file is too short"

#: The text if a check was skipped because the server did not send the file.
NO_FIRST_BLOCK = "the first block did not arrive"

#: The text if a check was skipped because the server grants no windows.
NO_WINDOWS = "windowsize is not granted (RFC 7440)"


class Verdict(Enum):
    """The result of a check; the value is the word that is shown."""

    #: The server does what the RFCs and common clients require.
    OK = "ok"
    #: Transfers work, but they are slow, or an attacker can misuse the server.
    WARNING = "warning"
    #: Transfers fail, or the server violates an RFC.
    PROBLEM = "problem"
    #: The check could not be made with this server and this file.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    @ivar check: the name of the check.
    @ivar text: what was tried, and what has happened.
    @ivar advice: what this means for users, or what to do; empty if there is nothing to do.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        """Escape the text for a terminal: it may contain text that the server has sent."""
        object.__setattr__(self, "text", printable_unicode(self.text))


def too_short(check: str) -> Finding:
    """Return the finding of a check that needs a longer file."""
    return Finding(check, Verdict.SKIPPED, TOO_SHORT, LARGER_FILE_ADVICE)


def worst_verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict of the findings; skipped checks do not count."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in (Verdict.PROBLEM, Verdict.WARNING):
        if verdict in verdicts:
            return verdict
    return Verdict.OK
