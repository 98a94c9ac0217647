"""Test a backend of another distribution: it is installed, found and served."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.daemon import CHECKOUT, Daemon
from tests.support.environment import TWISTD, install, make_environment
from tests.support.peer import LOCALHOST, Peer, peer

__all__ = ["peer"]  # fixtures

#: The distribution with the backend.
EXAMPLE = CHECKOUT / "examples" / "tar-backend"


class PluginDaemon(Daemon):
    """A daemon in an environment of its own that serves a backend instead of a directory."""

    backend = ""

    def command(self) -> list[str]:
        command = super().command()
        root = command.index("--root")
        command[root : root + 2] = ["--backend", self.backend]
        return [self.executable, "-c", TWISTD, *command[1:]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment in which the example is installed."""
    python = make_environment(tmp_path_factory.mktemp("environment"), [CHECKOUT])
    sources = tmp_path_factory.mktemp("sources")
    shutil.copytree(EXAMPLE, sources / "tar-backend")
    write_guide(sources / "per-machine")
    install(python, [*sources.iterdir()])
    return python


def write_guide(folder: Path) -> None:
    """Write the distribution that the guide for backends explains."""
    blocks = re.findall(
        r"^```(?:python|toml)\n(.*?)^```",
        (CHECKOUT / "docs" / "backends.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    backend, _, function, plugin, project = blocks[:5]
    (folder / "twisted" / "plugins").mkdir(parents=True)
    (folder / "per_machine.py").write_text(f"{backend}\n\n{function}")
    (folder / "twisted" / "plugins" / "per_machine_plugin.py").write_text(plugin)
    (folder / "pyproject.toml").write_text(project)


def twistd(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `twistd tftp` to its end, outside the checkout."""
    return subprocess.run(
        [python, "-c", TWISTD, "tftp", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={**os.environ, "COLUMNS": "80"},
    )


def test_plugin_is_listed(python: Path) -> None:
    """`--help-backends` lists it beside those of this package."""
    found = twistd(python, "--help-backends")
    assert found.returncode == 0, found.stderr
    assert "\ntar: the members of a tar archive that is not compressed\n" in found.stdout
    assert "\n    folder=DIR: names start in this folder" in found.stdout
    assert re.findall(r"^(\w+): ", found.stdout, re.MULTILINE)[:1] == ["filesystem"]


def test_plugin_is_served(python: Path, tmp_path: Path, peer: Peer) -> None:
    """A client gets a member of the archive."""
    (tmp_path / "vmlinuz").write_bytes(b"kernel" * 100)
    archive = tmp_path / "files.tar"
    with tarfile.open(archive, "w:") as files:
        files.add(tmp_path / "vmlinuz", "boot/vmlinuz")
    daemon = PluginDaemon(tmp_path, hosts=[LOCALHOST], executable=python)
    daemon.backend = f"tar:{archive},folder=boot"
    with daemon:
        assert peer.fetch(b"vmlinuz", (LOCALHOST, daemon.port)) == b"kernel" * 100


def test_plugin_of_the_guide_is_served(python: Path, tmp_path: Path, peer: Peer) -> None:
    """It is a complete distribution."""
    daemon = PluginDaemon(tmp_path, hosts=[LOCALHOST], executable=python)
    daemon.backend = "per-machine"
    with daemon:
        found = peer.fetch(b"grub.cfg", (LOCALHOST, daemon.port))
    assert found == f"set machine={LOCALHOST}\n".encode()


def test_archive_that_is_missing_ends_the_start(python: Path, tmp_path: Path) -> None:
    """With one line."""
    found = twistd(python, "--port", "0", "--backend", f"tar:{tmp_path}/missing.tar")
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("tftp: tar archive")
    assert "No such file" in line


def test_broken_plugin_is_reported_in_one_line(python: Path, tmp_path: Path, peer: Peer) -> None:
    """The log has the module and the reason; other plugins are served."""
    packages = next((python.parents[1] / "lib").glob("python*/site-packages"))
    module = packages / "twisted" / "plugins" / "broken_backend_plugin.py"
    module.write_text("import no_such_module_at_all\n")
    (tmp_path / "file").write_bytes(b"octets")
    try:
        daemon = PluginDaemon(tmp_path, hosts=[LOCALHOST], executable=python)
        daemon.backend = f"filesystem:{tmp_path}"
        with daemon:
            assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == b"octets"
            daemon.wait_for_line(
                "the plugin module twisted.plugins.broken_backend_plugin is broken: "
                "ModuleNotFoundError: No module named 'no_such_module_at_all'"
            )
    finally:
        module.unlink()
