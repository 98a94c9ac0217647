"""Test the local files of a client."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
