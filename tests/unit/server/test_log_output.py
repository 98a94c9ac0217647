"""Tests of the log's output: a file that can be reopened, collected lines, and syslog."""

from __future__ import annotations

import io
import os
import re
import syslog
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, formatEvent

from twisted_tftp.server.log_lines import LogLines
from twisted_tftp.server.log_output import FileObserver, ReopenableFile, SyslogObserver

#: Two lines that are one and a half seconds apart.
LINES = LogLines([(1_000_000_000.4, "first"), (1_000_000_001.9, "second")], "name#info")

#: A line with a time stamp and a level.
STAMPED = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[name#info\] "


def events_of(level: Any, text: str, **fields: Any) -> Any:
    """Return the event of one call of a logger."""
    events: list[Any] = []
    logger = Logger(namespace="name", observer=events.append)  # type: ignore[arg-type]
    logger.emit(level, text, **fields)
    return events[0]


def test_each_collected_line_has_its_own_time_and_level() -> None:
    """The file observer writes them as if each were an event of its own."""
    file = io.StringIO()
    FileObserver(file)(events_of(LogLevel.info, "{lines}", lines=LINES))
    first, second = file.getvalue().splitlines()
    assert re.fullmatch(STAMPED + "first", first)
    assert re.fullmatch(STAMPED + "second", second)
    assert int(second[17:19]) - int(first[17:19]) == 1


def test_other_events_are_written_as_twistd_writes_them() -> None:
    """Further lines of one text are indented, so that they can't be mistaken for events."""
    file = io.StringIO()
    FileObserver(file)(events_of(LogLevel.info, "one\ntwo"))
    assert re.fullmatch(STAMPED + "one\n\ttwo\n", file.getvalue())


def test_other_observers_get_a_text_with_time_stamps() -> None:
    """The first line has the time of the event, which the observer adds."""
    text = formatEvent(events_of(LogLevel.info, "{lines}", lines=LINES))
    assert text is not None
    assert re.fullmatch(f"first\n{STAMPED}second", text)


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (LogLevel.debug, syslog.LOG_DEBUG),
        (LogLevel.info, syslog.LOG_INFO),
        (LogLevel.warn, syslog.LOG_WARNING),
        (LogLevel.error, syslog.LOG_ERR),
        (LogLevel.critical, syslog.LOG_ALERT),
    ],
)
def test_level_is_the_priority_in_syslog(level: Any, priority: int) -> None:
    """A warning is a warning, and not information."""
    sent: list[tuple[int, str]] = []
    observer = SyslogObserver("tftp", lambda *line: sent.append(line))
    observer(events_of(level, "one\ntwo"))
    assert sent == [(priority, f"[name#{level.name}] one"), (priority, "\ttwo")]


def test_collected_lines_are_separate_in_syslog() -> None:
    """They have no time stamps: syslog adds its own."""
    sent: list[tuple[int, str]] = []
    observer = SyslogObserver("tftp", lambda *line: sent.append(line))
    observer(events_of(LogLevel.info, "{lines}", lines=LINES))
    assert [text for _, text in sent] == ["[name#info] first", "[name#info] second"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("action", ["reopen", "rotate"])
def test_new_log_file_has_the_mode_of_the_old_one(action: str, mode: int, tmp_path: Path) -> None:
    """The umask of a daemon, and a mode that the operator has set, make no difference."""
    path = tmp_path / "log"
    file = ReopenableFile(str(path))
    path.chmod(mode)
    umask = os.umask(0o077)
    try:
        if action == "reopen":
            path.rename(tmp_path / "moved")
        getattr(file, action)()
    finally:
        os.umask(umask)
    file.write("new\n")
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == mode


def test_file_that_logrotate_has_created_keeps_its_mode(tmp_path: Path) -> None:
    """`create 0640` of logrotate decides, and not the mode of the old file."""
    path = tmp_path / "log"
    path.touch(0o600)
    file = ReopenableFile(str(path))
    path.rename(tmp_path / "moved")
    path.touch()
    path.chmod(0o640)
    file.reopen()
    assert path.stat().st_mode & 0o777 == 0o640
