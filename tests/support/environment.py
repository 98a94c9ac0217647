"""Make a Python environment of its own for a test, and install distributions in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import CHECKOUT
from tests.support.worker_network import outer_network

#: Seconds for the installation.
INSTALL_TIMEOUT = 120

#: Settings of pip, also when it installs what builds a distribution: no byte code, which takes
#: long, and no question for a newer pip.
PIP_SETTINGS = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

#: What runs `twistd`, with the Python of the environment.
TWISTD = "from twisted.scripts.twistd import run; run()"

#: What the distribution of this package is built from.
_PACKAGE_SOURCES = ("README.md", "LICENSE", "pyproject.toml", "setup.cfg", "setup.py")

#: Folders with code in the distribution of this package.
_PACKAGE_FOLDERS = ("twisted", "twisted_tftp")


def make_environment(folder: Path, seen: Sequence[Path] = ()) -> Path:
    """Make an environment, and return its Python.

    It also sees the packages of the environment that runs the tests.

    @param seen: more folders with packages that it sees, before those.
    """
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    paths = [*map(str, seen), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "outside.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in paths)
    )
    return folder / "bin" / "python"


def install(python: Path, sources: Sequence[Path], **variables: str) -> str:
    """Install distributions as a user does it: pip fetches what builds them.

    @param sources: the folders; the build writes into them.
    @param variables: more environment variables of pip.
    @return: what pip has written.
    """
    with outer_network():
        done = subprocess.run(
            [python, "-m", "pip", "install", "--no-deps", *sources],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
            env={**os.environ, **PIP_SETTINGS, **variables},
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def copy_package(folder: Path) -> None:
    """Copy the sources of this package, without its C module, into a new folder."""
    folder.mkdir()
    for name in _PACKAGE_SOURCES:
        shutil.copy(CHECKOUT / name, folder)
    for name in _PACKAGE_FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.so")
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
