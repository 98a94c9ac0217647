"""Tests of the backends that a user names: they are made, guarded and listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.backends import octets_of
from tests.support.contexts import read_context, write_context
from tests.support.deferreds import value
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.explaining import explain
from twisted_tftp.backends.plugin import BackendSpec, installed_plugins
from twisted_tftp.backends.plugin_search import search
from twisted_tftp.backends.write_guard import WriteGuard
from twisted_tftp.config.backends import help_text
from twisted_tftp.config.build import build
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.errors import AccessViolation
from twisted_tftp.policy import UploadSettings
from twisted_tftp.server.start_error import StartError


def backend_of(*texts: str) -> Any:
    """Return the backend that is built of some texts."""
    return build(parse_settings({"backend": list(texts)}), Clock()).configuration.backend


def test_one_backend_is_guarded(tmp_path: Path) -> None:
    """No upload passes whose rules forbid it; its explanation begins with its text."""
    (tmp_path / "file").write_bytes(b"octets")
    backend = backend_of(f"filesystem:{tmp_path}")
    assert isinstance(backend, WriteGuard)
    assert isinstance(backend.backend, FilesystemBackend)
    with pytest.raises(AccessViolation):
        backend.open_writer("x", write_context(uploads=UploadSettings()))
    explained = value(explain(backend_of("memory"), "x", read_context()))
    assert explained == ["backend: memory", "ERROR 1: no such file"]


def test_several_backends_are_asked_in_order() -> None:
    """The last one gets the uploads."""
    backend = backend_of("memory", "memory:capacity=5")
    first, second = (guard.backend for guard in backend.backends)
    assert all(isinstance(guard, WriteGuard) for guard in backend.backends)
    second.files.update(f=b"second", g=b"second")
    first.files.update(f=b"first")
    assert (octets_of(backend, "f"), octets_of(backend, "g")) == (b"first", b"second")
    explained = value(explain(backend, "f", read_context()))
    assert explained[0] == "backend: memory"


def test_service_serves_the_backend(tmp_path: Path) -> None:
    """`--backend` replaces the root."""
    backend = BackendSpec("filesystem", str(tmp_path))
    service: Any = make_service(parse_settings({"backend": [str(backend)]}), None)
    service.check_backend()
    tmp_path.rmdir()
    with pytest.raises(StartError, match="is not a directory"):
        service.check_backend()


def test_backend_that_cannot_be_made_ends_the_start() -> None:
    """With one line."""
    with pytest.raises(StartError) as caught:
        make_service(parse_settings({"backend": ["nosuch:x"]}), None)
    assert caught.value.text.startswith("tftp: there is no backend 'nosuch'")


def test_help_lists_the_backends_with_their_arguments() -> None:
    """Each line of a plugin's help is a line, or is wrapped."""
    lines = help_text(80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    for name, plugin in installed_plugins().items():
        first, *others = plugin.help.strip().splitlines()
        assert any(line.startswith(f"{name}: {first[:20]}") for line in lines)
        for other in others:
            assert any(line.startswith(f"    {other[:20]}") for line in lines), other


def test_help_lists_broken_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the others."""
    assert "broken" not in help_text(80)
    monkeypatch.setattr(search(), "problems", ["the plugin module x is broken: why"])
    assert help_text(80).endswith("\n\nthe plugin module x is broken: why")
