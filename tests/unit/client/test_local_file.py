"""Test the local files of a client."""

from __future__ import annotations

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
