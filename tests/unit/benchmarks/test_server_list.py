"""Tests of the list of servers, and of the variants of our server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.debian_packages import Unavailable
from benchmarks.server_list import OURS, servers, variants
from benchmarks.servers import REPOSITORY, Server, environment


def _server(version: str) -> Server:
    return Server("a", "a", lambda root, port: [], lambda: version, windows_since=(2, 92))


@pytest.mark.parametrize(
    ("version", "grants"),
    [("2.90", False), ("2.92", True), ("2.100", True), ("3.0", True), ("?", False)],
)
def test_windows_depend_on_the_version(version: str, grants: bool) -> None:
    """A server grants windowsize from the given version on."""
    assert _server(version).grants_windows is grants


def test_missing_program_grants_no_windows() -> None:
    """A program that is missing has no version, and so no windows."""

    def version() -> str:
        raise Unavailable("not here")

    server = Server("a", "a", lambda root, port: [], version, windows_since=(1,))
    assert not server.grants_windows


def test_variants_are_not_measured_unless_asked_for() -> None:
    """Without the options for them, there is only one server of ours with a log."""
    assert variants(False, None) == []
    assert [server.name for server in servers(Path())].count("ours") == 1


def test_pure_variant_has_no_extension_module() -> None:
    """The variant in Python is told to leave its extension module out; the other one is not."""
    (pure,) = variants(True, None)
    assert environment(pure)["TFTP_OFFLOAD"] == "0"
    assert "TFTP_OFFLOAD" not in dict(OURS.environment)
    assert pure.command is OURS.command


def test_earlier_variant_runs_from_its_own_folder(tmp_path: Path) -> None:
    """The server of another checkout imports the package of that checkout."""
    package = tmp_path / "twisted_tftp"
    package.mkdir()
    (package / "__init__.py").touch()
    (before,) = variants(False, tmp_path)
    found = []
    for server in (OURS, before):
        command = [sys.executable, "-c", "import twisted_tftp; print(twisted_tftp.__file__)"]
        output = subprocess.check_output(
            command, env=environment(server), cwd=tmp_path.parent, text=True
        )
        found.append(Path(output.strip()).parent.parent)
    assert found == [REPOSITORY, tmp_path]
