"""Tests of the transfer log: one line for each transfer, with everything escaped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent

from twisted_tftp.context import (
    Direction,
    Endpoint,
    Outcome,
    TransferContext,
    TransferStatistics,
)
from twisted_tftp.protocol.printable import printable
from twisted_tftp.server import transfer_log
from twisted_tftp.server.transfer_log import MAX_COLLECTED, TransferLog


class Log:
    """A transfer log whose events are kept."""

    def __init__(self, verbose: bool = False) -> None:
        self.events: list[Any] = []
        self.clock = Clock()
        logger = Logger(namespace="test", observer=self.events.append)  # type: ignore[arg-type]
        self.log = TransferLog(verbose, self.clock, logger)

    @property
    def lines(self) -> list[str | None]:
        return [formatEvent(event) for event in self.events]


def statistics(filename: bytes = b"pxelinux.0", **more: Any) -> TransferStatistics:
    context = TransferContext(
        Endpoint("192.0.2.7", 2070),
        None,
        Direction.READ,
        filename,
        "octet",
        {"blksize": "1428\n"},
    )
    return TransferStatistics(context, started=10.0, **more)


def test_finished_transfer_is_one_line() -> None:
    """Peer, direction, file, outcome, octets, time, rate, options and retransmissions."""
    log = Log()
    log.log.finished(
        statistics(
            granted=(("blksize", "1428"), ("windowsize", "4")),
            octets=2_000_000,
            retransmissions=3,
            ended=12.0,
            outcome=Outcome.COMPLETED,
        )
    )
    assert log.lines == [
        'read "pxelinux.0" from 192.0.2.7:2070: completed, 2000000 octets in 2.000 s'
        " (1000 kB/s), options blksize=1428,windowsize=4, 3 retransmissions"
    ]


@pytest.mark.parametrize(
    ("octets", "announced", "mode", "outcome", "has_remark"),
    [
        (500, 600, "octet", Outcome.COMPLETED, True),
        (700, 600, "octet", Outcome.COMPLETED, True),
        (600, 600, "octet", Outcome.COMPLETED, False),
        (600, None, "octet", Outcome.COMPLETED, False),
        (600, 0, "octet", Outcome.COMPLETED, False),
        (500, 600, "netascii", Outcome.COMPLETED, False),
        (500, 600, "octet", Outcome.TIMED_OUT, False),
    ],
)
def test_upload_of_another_size_than_announced_has_a_remark(
    octets: int, announced: int | None, mode: str, outcome: Outcome, has_remark: bool
) -> None:
    """The line says how many octets the client had announced with tsize."""
    context = statistics().context._replace(
        direction=Direction.WRITE, mode=mode, announced_size=announced
    )
    log = Log()
    log.log.finished(
        TransferStatistics(context, started=10.0, octets=octets, ended=12.0, outcome=outcome)
    )
    [line] = log.lines
    assert line is not None
    assert f"{octets} octets" in line
    assert (", the client had announced 600 octets (tsize)" in line) is has_remark


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Outcome.COMPLETED, LogLevel.info),
        (Outcome.SIZE_PROBE, LogLevel.info),
        (Outcome.TIMED_OUT, LogLevel.warn),
        (Outcome.ABORTED, LogLevel.warn),
        (Outcome.FAILED, LogLevel.warn),
        (Outcome.REFUSED, LogLevel.warn),
    ],
)
def test_failures_are_logged_as_warnings(outcome: Outcome, level: Any) -> None:
    """A size probe is not a failure."""
    log = Log()
    log.log.finished(statistics(outcome=outcome, ended=10.0, error="why\nnot"))
    assert log.events[0]["log_level"] is level
    assert "why\\x0anot" in (log.lines[0] or "")


def test_requests_and_progress_are_logged_when_verbose_only() -> None:
    """By default there is one line, at the end of the transfer."""
    quiet, verbose = Log(), Log(verbose=True)
    for log in (quiet, verbose):
        log.log.started(statistics())
        log.log.progressed(statistics(octets=5))
    assert quiet.lines == []
    assert verbose.lines == [
        'read "pxelinux.0" from 192.0.2.7:2070 mode octet options blksize=1428\\x0a',
        'read "pxelinux.0" from 192.0.2.7:2070: 5 octets so far',
    ]


@given(st.binary())
def test_file_name_can_not_forge_a_log_line(name: bytes) -> None:
    """Whatever its octets are, the name is printable ASCII without quotes."""
    text = printable(name.decode("utf-8", "surrogateescape"))
    assert all(" " <= character <= "~" for character in text)
    assert '"' not in text


@pytest.mark.parametrize("field", ["name", "options", "error"])
def test_line_does_not_become_as_long_as_a_datagram(field: str) -> None:
    """An escape has four characters for each octet: the log would fill faster than the network."""
    log = Log(verbose=True)
    endless = 60000 * "\x01"
    transfer = TransferStatistics(
        TransferContext(
            Endpoint("192.0.2.7", 2070),
            None,
            Direction.WRITE,
            endless.encode() if field == "name" else b"file",
            "octet",
            {"blksize": endless if field == "options" else "512"},
        ),
        started=10.0,
        ended=10.0,
        outcome=Outcome.REFUSED,
        error=endless if field == "error" else "no such file",
    )
    log.log.started(transfer)
    log.log.progressed(transfer)
    log.log.finished(transfer)
    assert len(log.lines) == 3
    assert max(len(line or "") for line in log.lines) < 5000
    assert "..." in (log.lines[-1] or "")


def test_escapes_show_the_octets_of_the_name() -> None:
    """An escaped octet is shown in hexadecimal."""
    assert printable("a\nb\x1b[31m\\\udcff") == "a\\x0ab\\x1b[31m\\x5c\\xff"
    assert printable("é") == "\\xc3\\xa9"


def test_braces_in_a_name_are_not_interpreted() -> None:
    """The name is not a part of the log's format string."""
    log = Log()
    log.log.finished(statistics(b"{octets}", outcome=Outcome.COMPLETED, ended=10.0))
    assert '"{octets}"' in (log.lines[0] or "")


def test_lines_of_many_transfers_are_collected() -> None:
    """The first line is logged at once, the next ones together; after a pause it starts again."""
    log = Log()
    for number in range(5):
        name = f"f{number}".encode()
        log.log.finished(statistics(name, outcome=Outcome.COMPLETED, ended=10.0))
    assert len(log.lines) == 1
    log.clock.advance(0.2)
    assert len(log.lines) == 2
    gathered = (log.lines[1] or "").splitlines()
    assert [line.split('"')[1] for line in gathered] == ["f1", "f2", "f3", "f4"]
    log.clock.advance(0.2)
    assert log.clock.getDelayedCalls() == []
    log.log.finished(statistics(outcome=Outcome.COMPLETED, ended=10.0))
    assert len(log.lines) == 3


def test_line_that_can_not_be_made_loses_no_other_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception is logged in its place."""
    make = transfer_log._line

    def fail_for_some(each: TransferStatistics, is_success: bool) -> str:
        if each.context.filename == b"f2":
            raise ZeroDivisionError
        return make(each, is_success)

    monkeypatch.setattr(transfer_log, "_line", fail_for_some)
    log = Log()
    for number in range(5):
        name = f"f{number}".encode()
        log.log.finished(statistics(name, outcome=Outcome.COMPLETED, ended=10.0))
    log.clock.advance(0.2)
    texts = " ".join(line or "" for line in log.lines)
    assert [name for name in ("f0", "f1", "f2", "f3", "f4") if f'"{name}"' in texts] == [
        *("f0", "f1", "f3", "f4")
    ]
    assert "could not be made" in texts


def test_very_many_lines_are_written_before_the_pause() -> None:
    """Thousands of transfers in a tenth of a second must not be written, and kept, all at once."""
    log = Log()
    for _ in range(1 + MAX_COLLECTED + 1):
        log.log.finished(statistics(outcome=Outcome.COMPLETED, ended=10.0))
    assert [len((line or "").splitlines()) for line in log.lines] == [1, MAX_COLLECTED]
    log.clock.advance(0.2)
    assert len(log.lines) == 3


def test_lines_of_failures_are_not_collected() -> None:
    """Each failure is logged when it happens."""
    log = Log()
    for _ in range(3):
        log.log.finished(statistics(outcome=Outcome.FAILED, ended=10.0))
    assert len(log.lines) == 3


def test_flood_of_failures_is_summarised_once_a_minute() -> None:
    """2,000 failures a minute have lines; the others are counted in one line."""
    log = Log()
    for number in range(5000):
        name = f"f{number}".encode()
        log.log.finished(statistics(name, outcome=Outcome.TIMED_OUT, ended=10.0))
    assert len(log.lines) == 2000
    log.clock.advance(60)
    assert len(log.lines) == 2001
    assert (log.lines[-1] or "").startswith(
        'further failed transfers: 3000, the last: read "f4999" from '
    )
    assert log.clock.getDelayedCalls() == []
    log.log.finished(statistics(outcome=Outcome.FAILED, ended=10.0))
    assert len(log.lines) == 2002
    log.clock.advance(60)
    assert len(log.lines) == 2002


def test_flush_logs_the_count_of_failures() -> None:
    """The summary is logged before the minute is over."""
    log = Log()
    for _ in range(2001):
        log.log.finished(statistics(outcome=Outcome.REFUSED, ended=10.0))
    log.log.flush()
    assert (log.lines[-1] or "").startswith("further failed transfers: 1, the last: ")
    assert log.clock.getDelayedCalls() == []


def test_flush_logs_the_collected_lines() -> None:
    """No line is lost at a stop, and no timer is left."""
    log = Log()
    for _ in range(3):
        log.log.finished(statistics(outcome=Outcome.COMPLETED, ended=10.0))
    log.log.flush()
    assert len(log.lines) == 2
    assert log.clock.getDelayedCalls() == []
    log.log.flush()
    assert len(log.lines) == 2
