"""Test the example of a boot farm: it is installed, checked, served and booted from."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import CHECKOUT, Daemon
from tests.support.environment import TWISTD, copy_package, install, make_environment
from tests.support.peer import LOCALHOST, Peer, peer

__all__ = ["peer"]  # fixtures

#: The examples.
EXAMPLES = CHECKOUT / "examples"

#: The machines that boot at the same time; the hosts file has as many.
MACHINES = 30

#: Seconds for a command.
COMMAND_TIMEOUT = 120

#: What the template of PXELINUX makes of an entry of the hosts file.
CONFIGURATION = """\
DEFAULT {role}

LABEL install
  KERNEL vmlinuz
  APPEND initrd=initrd.img hostname={name} BOOTIF=01-{dashed}

LABEL local
  LOCALBOOT 0
"""

#: The name of a version of an upload.
VERSION = re.compile(r"switch\.cfg\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")


class FarmDaemon(Daemon):
    """A daemon that serves the farm, with the Python of an environment."""

    def command(self) -> list[str]:
        return [
            *(self.executable, "-c", TWISTD, "-n", "--pidfile=", "tftp"),
            *("--config", str(self.root / "tftp.toml")),
            *("--port", str(self.port), "--host", LOCALHOST),
        ]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has this package and the backend `tar`."""
    python = make_environment(tmp_path_factory.mktemp("environment"))
    sources = tmp_path_factory.mktemp("sources")
    copy_package(sources / "twisted-tftp")
    shutil.copytree(EXAMPLES / "tar-backend", sources / "tar-backend")
    install(python, [*sources.iterdir()])
    return python


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example, with its files."""
    folder = tmp_path_factory.mktemp("examples") / "farm"
    made = shutil.ignore_patterns("files", "configs", "release.tar")
    shutil.copytree(EXAMPLES / "farm", folder, ignore=made)
    subprocess.run(["sh", str(folder / "make-files.sh")], check=True, timeout=COMMAND_TIMEOUT)
    return folder


@pytest.fixture(scope="module")
def daemon(python: Path, farm: Path) -> Iterator[Daemon]:
    """Return a daemon that serves the farm."""
    with FarmDaemon(farm, hosts=[LOCALHOST], executable=python) as running:
        yield running


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        cwd="/",
        env={**os.environ, "COLUMNS": "80"},
    )


def explain(python: Path, farm: Path, host: str, name: str) -> list[str]:
    """Return the lines of `--explain` for a file that is found."""
    configuration = ("--config", farm / "tftp.toml")
    found = run(python, "-c", TWISTD, "tftp", *configuration, "--explain", host, name)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.replace(str(farm), "FARM").splitlines()


def fetch(peer: Peer, daemon: Daemon, name: str) -> bytes:
    """Read a file of the daemon."""
    return peer.fetch(name.encode(), (LOCALHOST, daemon.port))


def test_installed_package_is_used(python: Path) -> None:
    """Neither the checkout nor another installation of it is tested."""
    found = run(python, "-c", "import twisted_tftp as package; print(package.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(python.parents[1])


def test_configuration_is_valid(python: Path, farm: Path) -> None:
    """`--check` finds no mistake, and each backend can serve its files."""
    found = run(python, "-c", TWISTD, "tftp", "--config", farm / "tftp.toml", "--check")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "the configuration is valid\n"


def test_names_of_windows_are_explained(python: Path, farm: Path) -> None:
    """The drive letter, backslashes and upper case are gone, and the rules for the client hold."""
    lines = explain(python, farm, "10.1.2.3", r"C:\Boot\x86\wdsnbp.com")
    assert [line for line in lines if line.startswith("client rule for network 10.1.2.0/24: ")]
    assert [line for line in lines if line.startswith("map file ")] == [
        "map file ri ^/?[a-z]:/: -> Boot/x86/wdsnbp.com (FARM/windows.map:3)",
        "map file ri ^/?boot/x86/ boot/: -> boot/wdsnbp.com (FARM/windows.map:4)",
    ]
    assert lines[-2:] == ["found: 30,000 octets", "options: blksize=1228 windowsize=4 timeout=5"]


def test_root_of_the_lab_is_explained(python: Path, farm: Path) -> None:
    """Its machines get the files of the archive."""
    lines = explain(python, farm, "10.2.0.9", "vmlinuz")
    assert lines[-5:-1] == [
        "client root: /archive/vmlinuz",
        "mount: /archive",
        "backend: tar:FARM/release.tar,folder=release",
        "found: 500,000 octets",
    ]


def test_file_of_a_machine_is_explained(python: Path, farm: Path) -> None:
    """The template that answers is named."""
    lines = explain(python, farm, "10.9.0.1", "pxelinux.cfg/01-02-00-00-00-00-05")
    assert "template: pxelinux.cfg/01-{mac}.j2" in lines
    assert lines[-2].startswith("found: ")


def test_every_machine_boots(python: Path, farm: Path, daemon: Daemon) -> None:
    """Each machine gets its files, and stores its own configuration as a version."""
    profile = EXAMPLES / "farm" / "boot.profile"
    options = ("--clients", str(MACHINES), "--json", "-q", "--profile", profile)
    command = (python, "-m", "twisted_tftp", "storm", LOCALHOST, "--port", str(daemon.port))
    found = run(*command, *options)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout + daemon.log
    report = json.loads(found.stdout)
    assert report["booted"] == MACHINES
    assert report["files"]["pxelinux.cfg/01-{mac}"]["count"] == MACHINES
    stored = [path for path in (farm / "configs").glob("02-*.cfg") if path.is_symlink()]
    assert len(stored) == MACHINES
    for path in stored:
        assert path.read_text().startswith(f"This is the configuration of {path.stem} ")


def test_each_machine_has_its_own_configuration(farm: Path, daemon: Daemon, peer: Peer) -> None:
    """The name, the role and the MAC address in it are those of the hosts file."""
    with open(farm / "hosts.csv", encoding="utf-8") as file:
        entries = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(entries) == MACHINES
    for entry in entries:
        dashed = entry["mac"].replace(":", "-")
        expected = CONFIGURATION.format(**entry, dashed=dashed).encode()
        assert fetch(peer, daemon, f"pxelinux.cfg/01-{dashed}") == expected
        menu = fetch(peer, daemon, f"grub/grub.cfg-01-{dashed}").decode()
        verb = {"install": "Install", "local": "Boot"}[entry["role"]]
        assert f'menuentry "{verb} {entry["name"]}' in menu


def test_uploads_become_versions(python: Path, farm: Path, daemon: Daemon, tmp_path: Path) -> None:
    """Both uploads of a name are kept, and the name is that of the newest."""
    for content in ("first\n", "second\n"):
        (tmp_path / "switch.cfg").write_text(content)
        put = ("put", "--port", str(daemon.port), LOCALHOST, tmp_path / "switch.cfg")
        found = run(python, "-m", "twisted_tftp", *put, "configs/switch.cfg")
        assert found.returncode == 0, found.stderr
    newest = farm / "configs" / "switch.cfg"
    assert newest.read_text() == "second\n"
    assert VERSION.fullmatch(os.readlink(newest))
    versions = [path for path in newest.parent.iterdir() if VERSION.fullmatch(path.name)]
    assert sorted(path.read_text() for path in versions) == ["first\n", "second\n"]


@pytest.mark.parametrize("name", [r"\Boot\x86\wdsnbp.com", r"c:\\BOOT\\X86\\wdsnbp.com"])
def test_names_of_windows_are_served(farm: Path, daemon: Daemon, peer: Peer, name: str) -> None:
    """Backslashes, a drive letter and upper case make no difference."""
    found = fetch(peer, daemon, name)
    assert found == (farm / "files" / "boot" / "wdsnbp.com").read_bytes()


def test_archive_is_served(daemon: Daemon, peer: Peer) -> None:
    """The backend of the other distribution has the old release."""
    assert len(fetch(peer, daemon, "archive/vmlinuz")) == 500_000


def test_commands_of_the_page_work(farm: Path) -> None:
    """Each path of the example's page exists, and each command names its configuration."""
    page = (EXAMPLES / "farm" / "README.md").read_text()
    commands = re.findall(r"examples/[\w./-]+", page)
    assert set(commands) >= {"examples/farm/tftp.toml", "examples/farm/boot.profile"}
    for path in commands:
        assert (CHECKOUT / path).exists(), path
