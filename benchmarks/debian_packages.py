"""Find a server's program, or unpack its Debian package into a cache without installing it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Unavailable(Exception):
    """A server can't run on this machine; the text says why."""


def program(name: str, package: str) -> str:
    """Return the path of a program, installed or unpacked from its package in the cache.

    The package is not installed, because the packages of TFTP servers conflict with each other.

    @raise Unavailable: there is no such program, and its package can't be downloaded.
    """
    installed = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if installed:
        return installed
    path = _cache() / package / "usr" / "sbin" / name
    if not path.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise Unavailable(f"{name} is not installed, and there is no apt-get to download it")
        try:
            with _lock():
                _unpack(package, set())
        except subprocess.CalledProcessError:
            raise Unavailable(f"{package} could not be downloaded; try apt-get update") from None
    return str(path)


def libraries() -> str:
    """Return the folders of the unpacked libraries, for LD_LIBRARY_PATH."""
    return ":".join(sorted({str(path.parent) for path in _cache().glob("*/**/lib*.so.*")}))


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "twisted-tftp-bench"


@contextmanager
def _lock() -> Iterator[None]:
    """Wait until no other process unpacks packages."""
    _cache().mkdir(parents=True, exist_ok=True)
    with open(_cache() / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(package: str, done: set[str]) -> None:
    """Unpack a package, and the libraries that it needs and that are not installed."""
    done.add(package)
    folder = _cache() / package
    if not folder.exists():
        downloads = _cache() / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        _output(["apt-get", "download", package], downloads)
        partial = folder.with_suffix(".partial")
        (archive,) = downloads.glob(f"{package}_*.deb")
        _output(["dpkg", "-x", str(archive), str(partial)], downloads)
        archive.unlink()
        partial.rename(folder)
    needs = _output(["apt-cache", "depends", "--important", package], _cache())
    for name in re.findall(r"^ *(?:Pre)?Depends: (lib[^\s:]+)", needs, re.MULTILINE):
        known = subprocess.run(["dpkg", "-s", name], capture_output=True, text=True)
        if name not in done and "Status: install ok installed" not in known.stdout:
            _unpack(name, done)


def _output(command: list[str], folder: Path) -> str:
    """Run a command in `folder`, and return its output."""
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=120
    ).stdout
