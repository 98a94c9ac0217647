"""A pytest plugin for CI: a skipped test is a failed run."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the skipped tests."""
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(
            f"skipped, which is an error in CI: {report.nodeid}: {report.longrepr}"
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
