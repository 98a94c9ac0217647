"""Run all checks of a server in order."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.tools.doctor.finding import LARGER_FILE_ADVICE, Finding, Verdict
from twisted_tftp.tools.doctor.manual_transfer import DEFAULT_TIMEOUT, DEFAULT_WATCH, Target
from twisted_tftp.tools.doctor.netascii_check import check_netascii
from twisted_tftp.tools.doctor.option_checks import (
    check_blksize,
    check_options,
    check_windowsize,
)
from twisted_tftp.tools.doctor.request_checks import (
    answers,
    check_answer,
    check_missing_file,
    check_repeated_request,
    silent_address,
)
from twisted_tftp.tools.doctor.retransmission_checks import (
    check_duplicate_ack,
    check_foreign_ack,
    check_gap,
    check_retransmission,
)
from twisted_tftp.tools.doctor.rollover_check import check_rollover

#: A check: it runs transfers with a server, and returns what it has found.
Check = Callable[[Target], Finding]

#: The checks that need an existing file, by their names, in order. They run after a check that the
#: server sends the file.
FILE_CHECKS: dict[str, Check] = {
    "options": check_options,
    "blksize": check_blksize,
    "windowsize": check_windowsize,
    "gap": check_gap,
    "duplicate ACK": check_duplicate_ack,
    "foreign ACK": check_foreign_ack,
    "repeated request": check_repeated_request,
    "retransmission": check_retransmission,
    "netascii": check_netascii,
    "rollover": check_rollover,
}

#: The name of the finding about the checks that need a file, if there is none.
OTHER_CHECKS = "other checks"


class Doctor:
    """The checks of one server.

    @ivar findings: the findings so far.
    """

    def __init__(
        self,
        server: SocketAddress,
        filename: str | None,
        timeout: float = DEFAULT_TIMEOUT,
        watch: float = DEFAULT_WATCH,
        other_addresses: Sequence[SocketAddress] = (),
    ) -> None:
        """Prepare the checks; nothing is sent yet.

        @param server: the socket address of the request port.
        @param filename: an existing file; None to check only whether the server answers.
        @param timeout: how long to wait for an answer, in seconds.
        @param watch: how long to send no ACK and count the retransmissions, in seconds.
        @param other_addresses: the addresses that clients try after `server`; the first address
            that answers is checked.
        """
        self.findings: list[Finding] = []
        self._has_file = filename is not None
        if filename is None:
            filename = f"txtftp-doctor-{secrets.token_hex(8)}"  # a file that does not exist
        self._targets = [
            Target(server, filename, timeout, watch) for server in (server, *other_addresses)
        ]

    def examine(
        self, on_finding: Callable[[Finding], None] = lambda finding: None
    ) -> list[Finding]:
        """Run the checks; if the first one finds a problem, run no others.

        @param on_finding: called with each finding as soon as it is known.
        """
        first = check_answer if self._has_file else check_missing_file
        *others, last = self._targets
        answering = next((each for each in others if answers(each)), last)
        for silent in others[: self._targets.index(answering)]:
            self._note(silent_address(silent), on_finding)
        finding = self._note(first(answering), on_finding)
        if finding.verdict is Verdict.PROBLEM:
            return self.findings
        if not self._has_file:
            self._note(_skipped_without_file(), on_finding)
            return self.findings
        for check in FILE_CHECKS.values():
            self._note(check(answering), on_finding)
        return self.findings

    def _note(self, finding: Finding, on_finding: Callable[[Finding], None]) -> Finding:
        self.findings.append(finding)
        on_finding(finding)
        return finding


def _skipped_without_file() -> Finding:
    text = f"there is no FILE for {', '.join(FILE_CHECKS)}"
    return Finding(OTHER_CHECKS, Verdict.SKIPPED, text, LARGER_FILE_ADVICE)
