"""Test the local files of a client."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import content, error_of, request_context
from tests.support.deferreds import value
from twisted_tftp.client.local_file import LocalFile
from twisted_tftp.errors import FileNotFound


def local_file(path: Path) -> LocalFile:
    return LocalFile(path, in_thread=maybeDeferred, write_behind=False)


def test_backslash_in_a_local_name_is_not_a_slash(tmp_path: Path) -> None:
    """The user has chosen the name, so another file is neither read nor written."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"another")
    file = local_file(tmp_path / "sub\\file")
    error = error_of(lambda: file.open_reader(request_context()))
    assert isinstance(error, FileNotFound)
    writer = value(file.open_writer(request_context()))
    value(writer.write(b"octets"))
    value(writer.commit())
    assert (tmp_path / "sub" / "file").read_bytes() == b"another"
    assert content(value(file.open_reader(request_context()))) == b"octets"


def test_umask_gives_the_mode_of_a_local_file(tmp_path: Path) -> None:
    """The user's own files are made like those of other programs."""
    was = os.umask(0o027)
    try:
        writer = value(local_file(tmp_path / "new").open_writer(request_context()))
        value(writer.commit())
    finally:
        os.umask(was)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_local_file_that_cannot_be_replaced_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a mount of its own; its content changes when the download is complete."""

    def busy(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "file").write_bytes(b"old content")
    inode = (tmp_path / "file").stat().st_ino
    writer = value(local_file(tmp_path / "file").open_writer(request_context()))
    value(writer.write(b"new"))
    assert (tmp_path / "file").read_bytes() == b"old content"
    monkeypatch.setattr(os, "rename", busy)
    value(writer.commit())
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_ino == inode
    assert os.listdir(tmp_path) == ["file"]
