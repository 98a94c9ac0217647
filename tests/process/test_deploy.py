"""Test the systemd unit: it is valid and restricted, and fits the server's defaults."""

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
from twisted_tftp.server.configuration import DEFAULT_GRACE
from twisted_tftp.server.descriptor_limit import DESCRIPTORS_PER_TRANSFER, OTHER_DESCRIPTORS
from twisted_tftp.tap import Options

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"

#: The protections that the unit can't use, by systemd's names, because it binds port 69 of the
#: machine, and may have to follow the addresses of an interface. (A user namespace would remove
#: the capability. The clock device is read-only.)
UNUSED = {
    *("AmbientCapabilities=", "CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)"),
    *("RestrictAddressFamilies=~AF_(INET|INET6)", "RestrictAddressFamilies=~AF_UNIX"),
    "RestrictAddressFamilies=~AF_NETLINK",
    *("PrivateNetwork=", "IPAddressDeny=", "PrivateUsers=", "RootDirectory=/RootImage="),
    "DeviceAllow=",
}

#: The protections that each drop-in can't use either.
DROP_INS = {
    "upload.conf": {"UMask="},
    "upload-overwrite.conf": {"UMask="},
    "fast.conf": {"RestrictSUIDSGID="},
}

#: The version of systemd whose names are above. Other versions may know other protections, or
#: give them other weights.
REFERENCE_VERSION = 252

#: The oldest version of systemd that can analyze a unit that is not installed.
OLDEST_VERSION = 250

#: The highest exposure, in tenths, that the reference version may compute (of at most 100).
MAX_EXPOSURE = 15

#: The highest exposure, in tenths, that another version may compute.
MAX_EXPOSURE_OTHER_VERSION = 20

UNITS = sorted(path.name for path in FOLDER.iterdir())

ANALYZE = shutil.which("systemd-analyze")


def version() -> int:
    """Return the version of systemd; 0 if it is not installed."""
    if ANALYZE is None:
        return 0
    told = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, timeout=60)
    match = re.match(r"systemd (\d+)", told.stdout)
    return int(match[1]) if match else 0


VERSION = version()

analyzed = pytest.mark.skipif(
    VERSION < OLDEST_VERSION, reason=f"needs systemd-analyze {OLDEST_VERSION}"
)


def installed(folder: Path, *drop_ins: str) -> Path:
    """Copy the unit to `folder` with the path of a program that exists; return its path."""

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
    """Run systemd-analyze, and return its status and output."""
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
def test_systemd_accepts_the_unit(drop_in: str | None, tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no error in the unit, with and without its drop-ins."""
    unit = installed(tmp_path, *filter(None, [drop_in]))
    done = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, done.stdout) == (0, "")


@analyzed
def test_exposure_of_the_unit_is_low(tmp_path: Path) -> None:
    """The exposure that `systemd-analyze security` computes is below a limit."""
    unit = installed(tmp_path)
    threshold = MAX_EXPOSURE if VERSION == REFERENCE_VERSION else MAX_EXPOSURE_OTHER_VERSION
    done = analyze("security", "--offline=yes", "--no-pager", f"--threshold={threshold}", unit)
    assert done.returncode == 0, done.stdout


@analyzed
@pytest.mark.parametrize("drop_in", [None, *DROP_INS])
def test_unit_uses_all_protections_of_systemd_but_the_listed_ones(
    drop_in: str | None, tmp_path: Path
) -> None:
    """Every protection that systemd checks is on, except those listed in UNUSED."""
    unit = installed(tmp_path, *filter(None, [drop_in]))
    done = analyze("security", "--offline=yes", "--json=short", unit)
    left = {check["name"] for check in json.loads(done.stdout) if check["set"] is False}
    named = UNUSED | DROP_INS.get(drop_in or "", set())
    if VERSION == REFERENCE_VERSION:
        assert left == named
    else:
        ours = settings_of("tftp.service")
        assert {name for name in left if name.partition("=")[0] in ours} <= named


@pytest.mark.parametrize("name", UNITS)
def test_command_line_of_the_unit_is_valid(name: str) -> None:
    """The plugin accepts the options in the command line of the unit."""
    command = settings_of(name).get("ExecStart")
    if command is None:
        assert name == "fast.conf"
        return
    words = shlex.split(command)
    assert words[-1] == "$TFTP_OPTIONS"
    options = Options()
    options.parseOptions(words[words.index("tftp") + 1 : -1])
    assert options.settings.root in ("/srv/tftp", "/var/lib/tftp")


def test_limits_of_the_unit_fit_the_defaults() -> None:
    """The unit allows the time of a drain, and the descriptors for `--max-transfers` transfers."""
    unit, options = settings_of("tftp.service"), Options()
    options.parseOptions([])
    assert int(unit["TimeoutStopSec"]) > options.settings.drain + DEFAULT_GRACE
    wanted = DESCRIPTORS_PER_TRANSFER * Policy().max_transfers + OTHER_DESCRIPTORS
    assert int(unit["LimitNOFILE"]) >= wanted
