"""Directories with one file, for daemons to serve."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

#: The content of `file`.
CONTENT = random.Random(1350).randbytes(5000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory with the file `file`."""
    directory = tmp_path / "root"
    directory.mkdir()
    (directory / "file").write_bytes(CONTENT)
    return directory


@pytest.fixture
def open_root() -> Iterator[Path]:
    """Return a directory with the file `file`, which every user can reach and write to.

    The directories of `tmp_path` belong to the user that runs the tests.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        (directory / "file").write_bytes(CONTENT)
        (directory / "file").chmod(0o644)
        yield directory


@pytest.fixture
def deep_root(tmp_path: Path) -> Iterator[Path]:
    """Return a directory with more levels of directories below it than Python calls functions."""
    made = [tmp_path / "deep"]
    for _ in range(sys.getrecursionlimit() + 100):
        made.append(made[-1] / "d")
    for path in made:
        path.mkdir()
    yield made[0]
    subprocess.run(["rm", "-r", made[0]], check=True)  # pytest's own clean-up is recursive


def temporary_files(root: Path) -> list[str]:
    """Return the names of the temporary files of unfinished uploads, anywhere below `root`."""
    return [path.name for path in root.rglob(".tftp-upload-*")]
