"""Check the backend for templates against the contract of reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from twisted_tftp.backends.template import worker
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.frames import take_answers, take_requests
from twisted_tftp.testing import BackendContract

pytest.importorskip("jinja2")


class NoProcess:
    """Renders in this process, a moment later, in the place of worker processes."""

    def __init__(self, clock: Any, folder: Path) -> None:
        from twisted_tftp.backends.template.environment import Renderer

        self._clock = clock
        self._renderer = Renderer(str(folder), 1024 * 1024)

    def render(self, request: bytes) -> Deferred[Any]:
        """Answer as a worker process does."""
        ((template, variables),) = take_requests(bytearray(request))
        answer, _ = worker._answer(self._renderer, template, variables)
        (decoded,) = take_answers(bytearray(answer), 1024 * 1024)
        rendered: Deferred[Any] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(0.05, rendered.callback, decoded)
        return rendered

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class TestTemplateBackend(BackendContract):
    """Templates of text."""

    files: Mapping[str, bytes] = {
        "empty": b"",
        "small": b"a\nb\n" * 100,
        "large": b"0123456789\xc3\xa4\n" * 12_000,
    }

    @pytest.fixture(autouse=True)
    def _use_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_backend(self, files: Mapping[str, bytes]) -> TemplateBackend:
        """Return a backend with a template for each file."""
        for name, content in files.items():
            (self.folder / f"{name}.j2").write_bytes(content)
        backend = TemplateBackend(str(self.folder), in_thread=maybeDeferred)
        backend._workers = NoProcess(self.clock, self.folder)  # type: ignore[assignment]
        return backend
