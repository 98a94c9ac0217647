"""The systemd unit means what it says, gives little away, and fits the server's defaults."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_tftp.policy import Policy
from twisted_tftp.server.service import DESCRIPTORS, GRACE, OTHER_DESCRIPTORS
from twisted_tftp.tap import Options

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"

#: What is left to a service that binds port 69 of the machine, in systemd's names. (Another user
#: namespace would take the capability away, and time's device is there to be read only.)
LEFT = {
    *("AmbientCapabilities=", "CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)"),
    *("RestrictAddressFamilies=~AF_(INET|INET6)", "RestrictAddressFamilies=~AF_UNIX"),
    *("PrivateNetwork=", "IPAddressDeny=", "PrivateUsers=", "RootDirectory=/RootImage="),
    "DeviceAllow=",
}

#: What the drop-ins leave too.
DROP_INS = {"upload.conf": {"UMask="}, "fast.conf": {"RestrictSUIDSGID="}}

#: The version of systemd that names what is above; others may know more, or weigh it otherwise.
#: The oldest one that judges units which are not installed.
JUDGE, OLDEST = 252, 250

#: Tenths of what the judge calls the exposure, of 100 at most; and what others may.
EXPOSURE, EXPOSURE_ELSEWHERE = 14, 20

UNITS = sorted(path.name for path in FOLDER.iterdir())

ANALYZE = shutil.which("systemd-analyze")


def version() -> int:
    """Return the version of systemd, 0 where there is none."""
    if ANALYZE is None:
        return 0
    told = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, timeout=60)
    match = re.match(r"systemd (\d+)", told.stdout)
    return int(match[1]) if match else 0


VERSION = version()

analyzed = pytest.mark.skipif(VERSION < OLDEST, reason=f"needs the systemd-analyze of {OLDEST}")


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
@pytest.mark.parametrize("drop_in", [None, *DROP_INS])
def test_systemd_understands_the_unit(drop_in: str | None, tmp_path: Path) -> None:
    """Each setting is known and has a value that can be."""
    unit = installed(tmp_path, *filter(None, [drop_in]))
    done = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, done.stdout) == (0, "")


@analyzed
def test_unit_is_little_exposed(tmp_path: Path) -> None:
    """What a server that was taken over could do is bounded."""
    unit = installed(tmp_path)
    threshold = EXPOSURE if VERSION == JUDGE else EXPOSURE_ELSEWHERE
    done = analyze("security", "--offline=yes", "--no-pager", f"--threshold={threshold}", unit)
    assert done.returncode == 0, done.stdout


@analyzed
@pytest.mark.parametrize("drop_in", [None, *DROP_INS])
def test_nothing_is_left_to_the_unit_but_what_it_needs(
    drop_in: str | None, tmp_path: Path
) -> None:
    """Each of systemd's bolts is shot, but for those that are named."""
    unit = installed(tmp_path, *filter(None, [drop_in]))
    done = analyze("security", "--offline=yes", "--json=short", unit)
    left = {check["name"] for check in json.loads(done.stdout) if check["set"] is False}
    named = LEFT | DROP_INS.get(drop_in or "", set())
    if VERSION == JUDGE:
        assert left == named
    else:
        ours = settings_of("tftp.service")
        assert {name for name in left if name.partition("=")[0] in ours} <= named


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
