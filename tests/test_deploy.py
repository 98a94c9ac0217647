"""The systemd unit means what it says, gives little away, and fits the server's defaults."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_tftp.policy import Policy
from twisted_tftp.service import DESCRIPTORS, GRACE, OTHER_DESCRIPTORS
from twisted_tftp.tap import Options

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "systemd"

#: Tenths of what `systemd-analyze security` calls the exposure, of 100 at most: what systemd 252
#: says of the unit, and of it with the drop-in that gives some up.
EXPOSURE = {"upload.conf": 14, "fast.conf": 16}

UNITS = sorted(path.name for path in FOLDER.iterdir())

ANALYZE = shutil.which("systemd-analyze")
analyzed = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def installed(folder: Path, *drop_ins: str) -> Path:
    """Copy the unit to `folder`, with a program that exists, and return it."""

    def copy(name: str, to: Path) -> None:
        text = (FOLDER / name).read_text()
        to.write_text(text.replace("/opt/tftp/bin/twistd", sys.executable))

    unit = folder / "tftp.service"
    copy(unit.name, unit)
    below = folder / "tftp.service.d"
    below.mkdir()
    for name in drop_ins:
        copy(name, below / name)
    return unit


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )


def settings_of(name: str) -> dict[str, str]:
    """Return the last value of each setting of a unit file."""
    return dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / name).read_text(), re.MULTILINE))


@analyzed
@pytest.mark.parametrize("drop_in", [None, *EXPOSURE])
def test_systemd_understands_the_unit(drop_in: str | None, tmp_path: Path) -> None:
    """Each setting is known and has a value that can be."""
    unit = installed(tmp_path, *filter(None, [drop_in]))
    done = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, done.stdout) == (0, "")


@analyzed
@pytest.mark.parametrize("drop_in", EXPOSURE)
def test_unit_is_little_exposed(drop_in: str, tmp_path: Path) -> None:
    """What a server that was taken over could do is bounded, also with a drop-in."""
    unit = installed(tmp_path, drop_in)
    threshold = f"--threshold={EXPOSURE[drop_in]}"
    done = analyze("security", "--offline=yes", "--no-pager", threshold, unit)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level for tftp.service: 1." in done.stdout


@pytest.mark.parametrize("name", UNITS)
def test_command_line_of_the_unit_is_understood(name: str) -> None:
    """The options after `tftp` are ours."""
    command = settings_of(name).get("ExecStart")
    if command is None:
        assert name == "fast.conf"
        return
    words = shlex.split(command)
    assert words[-1] == "$TFTP_OPTIONS"
    options = Options()
    options.parseOptions(words[words.index("tftp") + 1 : -1])
    assert options.settings.root in ("/srv/tftp", "/var/lib/tftp")


def test_unit_leaves_room_for_the_defaults() -> None:
    """A stop is not cut short, and as many descriptors are allowed as transfers may need."""
    unit, options = settings_of("tftp.service"), Options()
    options.parseOptions([])
    assert int(unit["TimeoutStopSec"]) > options.settings.drain + GRACE
    wanted = DESCRIPTORS * Policy().max_transfers + OTHER_DESCRIPTORS
    assert int(unit["LimitNOFILE"]) >= wanted
