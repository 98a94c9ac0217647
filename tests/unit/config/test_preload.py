"""Test the imports before a chroot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from twisted_tftp.backend_maker import BackendMaker
from twisted_tftp.config import preload


def test_modules_of_backends_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if some of them are missing or broken, even by an exit."""
    (tmp_path / "late_good.py").write_text("")
    (tmp_path / "late_broken.py").write_text("raise SystemExit(1)")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("late_missing", "late_broken", "late_good")
    makers = {name: BackendMaker(name, "help", f"{name}.from_arguments") for name in names}
    monkeypatch.setattr(preload, "installed_plugins", lambda: {**makers, "other": object()})
    preload.import_late_modules()
    assert {"late_good", "twisted_tftp.backends.rename.map_rules"} <= sys.modules.keys()
    del sys.modules["late_good"]
