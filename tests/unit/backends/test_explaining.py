"""Test what `--explain` says about a backend that does not explain itself."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface import implementer

from tests.support.contexts import read_context
from twisted_tftp.backends.explaining import explain
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.errors import AccessViolation
from twisted_tftp.interfaces import IExplainable


def lines(backend: Any, path: str) -> list[str]:
    """Return what is said about a read of `path`."""
    result: list[list[str]] = []
    explain(backend, path, read_context(path)).addCallback(result.append)
    return result[0]


def test_file_is_found_with_its_size_or_refused_with_its_error() -> None:
    """The file is opened, as for a client, and closed again."""
    backend = MemoryBackend({"a": bytes(1234)})
    assert lines(backend, "a") == ["found: 1,234 octets"]
    assert lines(backend, "b") == ["ERROR 1: no such file"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AccessViolation("no", "why"), "ERROR 2: no (why)"),
        (PermissionError(13, "x"), "ERROR 2: access denied"),
        (ValueError("bad\nname"), r"the backend fails: bad\x0aname"),
    ],
)
def test_failure_is_one_escaped_line(error: Exception, expected: str) -> None:
    """Whatever the backend raises, the operator sees one line."""

    class Failing:
        def open_reader(self, path: str, context: Any) -> None:
            raise error

    assert lines(Failing(), "a")[0].startswith(expected)


def test_wrapper_explains_itself() -> None:
    """A backend that provides IExplainable is asked instead of opened."""

    @implementer(IExplainable)
    class Wrapper:
        def explain(self, path: str, context: Any) -> list[str]:
            return [f"{path} it is"]

    assert lines(Wrapper(), "a") == ["a it is"]
