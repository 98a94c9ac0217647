"""Install the package with a C compiler and without one, and serve a file."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.environment import TWISTD, copy_package, install, make_environment
from tests.support.marks import linux
from tests.support.peer import LOCALHOST, Peer, peer

__all__ = ["peer"]  # fixtures

pytestmark = linux

#: The served file: more than one block.
CONTENT = bytes(range(256)) * 20

#: Environment variables that the daemon does not inherit: they choose another package, or table.
REMOVED = {"PYTHONPATH", "TFTP_OFFLOAD"}

#: A program in place of the compiler; it fails.
NO_COMPILER = "/bin/false"

#: Whether the C module can be built.
CAN_BUILD = bool(shutil.which("cc")) and Path(sysconfig.get_path("include"), "Python.h").exists()


class InstalledDaemon(Daemon):
    """A daemon in an environment of its own.

    @ivar variables: more environment variables.
    """

    variables: dict[str, str]

    def command(self) -> list[str]:
        return [self.executable, "-c", TWISTD, *super().command()[1:]]

    def environment(self) -> dict[str, str]:
        inherited = super().environment().items()
        return {name: value for name, value in inherited if name not in REMOVED} | self.variables


def installed(folder: Path, **variables: str) -> tuple[Path, str]:
    """Install the package; return the Python of its environment, and what pip has written."""
    python = make_environment(folder / "environment")
    copy_package(folder / "sources")
    return python, install(python, [folder / "sources"], **variables)


def first_lines(python: Path, folder: Path, peer: Peer, **variables: str) -> list[str]:
    """Let a daemon serve a file, and return what it says about the C module."""
    (folder / "file").write_bytes(CONTENT)
    daemon = InstalledDaemon(folder, hosts=[LOCALHOST], executable=python)
    daemon.variables = variables
    with daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        return [line.partition("] ")[2] for line in daemon.lines if "C module" in line]


@pytest.mark.skipif(not CAN_BUILD, reason="needs a C compiler and Python.h")
def test_compiler_builds_the_module(tmp_path: Path, peer: Peer) -> None:
    """The daemon uses the module, unless TFTP_OFFLOAD=0 refuses it; one line says which."""
    python, _ = installed(tmp_path)
    assert first_lines(python, tmp_path, peer) == ["downloads use the C module"]
    (line,) = first_lines(python, tmp_path, peer, TFTP_OFFLOAD="0")
    assert line == "downloads do not use the C module: TFTP_OFFLOAD=0"


def test_package_is_installed_without_a_compiler(tmp_path: Path, peer: Peer) -> None:
    """pip writes nothing about it, and the daemon serves without the module."""
    python, written = installed(tmp_path, CC=NO_COMPILER)
    assert not [line for line in written.splitlines() if "offload" in line or "error" in line]
    (line,) = first_lines(python, tmp_path, peer)
    assert line == "downloads do not use the C module: it is not installed"
