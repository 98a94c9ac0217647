"""Tests of the check of templates before the server starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.python import threadable

from tests.support.logs import captured_log
from tests.support.reactors import reactor, spin
from twisted_tftp.backends.template import syntax_check
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.frames import Limits
from twisted_tftp.backends.template.syntax_check import check_syntax
from twisted_tftp.config.check import problems_of
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.server.start_error import StartError

pytest.importorskip("jinja2")

__all__ = ["reactor"]


def problem(folder: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    """Return what is wrong with the templates of a folder."""
    with pytest.raises(BackendUnavailable) as caught:
        check_syntax(str(folder), limits)
    return str(caught.value)


def test_syntax_error_has_its_line(tmp_path: Path) -> None:
    """Also in a subdirectory; the other templates are not rendered."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.j2").write_text("x\n{% if %}\n")
    (tmp_path / "other.j2").write_text("{{ not_found() }}{{ 1 / 0 }}{{ undefined_name }}")
    (tmp_path / "no template").write_text("{% if %}")
    expected = f"template folder {str(tmp_path)!r}: a/b.j2, line 2: Expected an expression, "
    assert problem(tmp_path) == expected + "got 'end of statement block'"


def test_each_mistake_is_found(tmp_path: Path) -> None:
    """The message has the first ones."""
    for number in range(5):
        (tmp_path / f"{number}.j2").write_text("{{ x | nothing }}")
    (tmp_path / "0.j2").write_bytes(b"\n\xff")
    found = problem(tmp_path)
    assert "0.j2, line 2: not UTF-8; 1.j2, line 1: No filter named 'nothing'" in found
    assert found.endswith("; and 2 more")
    assert "\n" not in found


def test_links_and_other_files_are_no_mistakes(tmp_path: Path) -> None:
    """An editor leaves links that lead nowhere, and a FIFO does not block."""
    (tmp_path / ".#a.j2").symlink_to("user@host")
    (tmp_path / "out.j2").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "directory.j2").mkdir()
    os.mkfifo(tmp_path / "fifo.j2")
    check_syntax(str(tmp_path), Limits())


def test_template_that_needs_too_much_memory_is_a_mistake(tmp_path: Path) -> None:
    """The server is not touched by it."""
    (tmp_path / "a.j2").write_text("{{ [" + "1," * 300_000 + "] }}")
    assert "a.j2" in problem(tmp_path, Limits(memory=1_000_000))


def test_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed, and the message has the template."""
    (tmp_path / "a.j2").write_text("{{ [" + "1," * 500_000 + "] }}")
    monkeypatch.setattr(syntax_check, "PROCESS_LIMIT", 1.0)
    found = problem(tmp_path)
    assert found.endswith("compiling it takes longer than 1 s")


def test_calculation_without_end_is_a_mistake(tmp_path: Path) -> None:
    """Jinja2 calculates constants when it compiles: its time limit holds then too."""
    (tmp_path / "a.j2").write_text("{{ 9 ** (9 ** 9) }}")
    found = problem(tmp_path, Limits(seconds=0.5))
    assert found.endswith(": a.j2: compiling it takes longer than 0.5 s (time-limit)")


def test_templates_that_are_not_checked_are_counted(tmp_path: Path) -> None:
    """A folder of many templates does not stop the start."""
    with captured_log() as events:
        syntax_check._report(str(tmp_path), [{"next": "a.j2"}, {"left": 7}], 0, "")
    assert any("7 templates were not checked" in line for line in events)


def test_templates_behind_a_fatal_mistake_are_counted(tmp_path: Path) -> None:
    """A lack of memory ends the check, and the message says so."""
    (tmp_path / "a.j2").write_text("{{ [" + "1," * 300_000 + "] }}")
    for name in ("b.j2", "c.j2"):
        (tmp_path / name).write_text("{% if %}")
    found = problem(tmp_path, Limits(memory=8_000_000, seconds=20.0))
    assert found.endswith("more memory than it may use; 2 templates were not checked")


def test_missing_python_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with --chroot."""
    monkeypatch.setattr(sys, "executable", "/missing/python")
    assert problem(tmp_path).endswith("start a process to check it: No such file or directory")


def test_running_reactor_is_not_blocked(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check in the thread of the reactor leaves the templates out; a reload uses another one."""
    (tmp_path / "a.j2").write_text("{% if %}")
    backend = TemplateBackend(str(tmp_path), reactor=reactor)
    with pytest.raises(BackendUnavailable, match="line 1"):
        backend.check_content()
    monkeypatch.setattr(reactor, "running", True)
    monkeypatch.setattr(threadable, "ioThread", threadable.getThreadID() + 1)
    with pytest.raises(BackendUnavailable, match="line 1"):
        backend.check_content()
    monkeypatch.setattr(threadable, "ioThread", threadable.getThreadID())
    backend.check_content()


@pytest.mark.parametrize("wrapper", ["", "readonly:of="])
def test_check_and_start_report_a_syntax_error(reactor: Any, tmp_path: Path, wrapper: str) -> None:
    """With one line; nothing is compiled before the privileges of root are given up."""
    (tmp_path / "a.j2").write_text("x\n{% if %}")
    settings = parse_settings(
        {"backend": [f"{wrapper}template:{tmp_path}"], "port": "0", "host": ["127.0.0.1"]}
    )
    problem = f"template folder {str(tmp_path)!r}: a.j2, line 2: Expected an expression"
    (line,) = problems_of(settings)
    assert f": {problem}" in line
    service = make_service(settings, reactor)
    service.check_backend()
    service.privilegedStartService()
    with pytest.raises(StartError) as caught:
        service.startService()
    assert caught.value.text.startswith(f"tftp: {problem}")
    assert service.ports == []
    spin(reactor, lambda: not reactor.getDelayedCalls())


def test_all_mistakes_that_are_shown_fit_into_the_message(tmp_path: Path) -> None:
    """`--check` does not cut off the number of the mistakes that are left out."""
    for number in range(5):
        (tmp_path / f"{number}.j2").write_text("{% for a in b %}{% if a %}")
    settings = parse_settings({"backend": [f"template:{tmp_path}"]})
    (text,) = problems_of(settings)
    assert text.endswith("and 2 more")
