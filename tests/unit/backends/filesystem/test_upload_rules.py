"""Tests of the rules in the context of an upload: they replace those of the backend."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from zope.interface.verify import verifyObject

from tests.support.backends import error_of
from tests.support.contexts import write_context
from tests.support.deferreds import value
from twisted_tftp.backends import FilesystemBackend, MemoryBackend
from twisted_tftp.errors import AccessViolation, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IWriteModes
from twisted_tftp.policy import UploadSettings, WriteMode

#: The name of a temporary file.
STRAY = ".tftp-upload-0123456789abcdef"

#: The backends that obey the rules of a request.
KINDS = ["filesystem", "memory"]


def backend_of(kind: str, root: Path, write: str, **arguments: Any) -> Any:
    """Return a backend with the files of `root` that runs its threads at once."""
    if kind == "filesystem":
        return FilesystemBackend(str(root), write, in_thread=maybeDeferred, **arguments)
    return MemoryBackend({path.name: path.read_bytes() for path in root.iterdir()}, write)


def stored(backend: Any, name: str) -> bytes:
    """Return the content of a file of a backend."""
    if isinstance(backend, MemoryBackend):
        return backend.files[name]
    return (Path(backend.root) / name).read_bytes()


def upload(backend: Any, name: str, write: str | None = None, **settings: Any) -> None:
    """Store `new` under a name; if `write` is not None, by rules that the request brings."""
    rules = None if write is None else UploadSettings(WriteMode(write), **settings)
    writer = value(backend.open_writer(name, write_context(name, uploads=rules)))
    value(writer.write(b"new"))
    value(writer.commit())


@pytest.mark.parametrize("kind", KINDS)
def test_backend_says_which_write_modes_it_obeys(kind: str, tmp_path: Path) -> None:
    """The two backends provide `IWriteModes`."""
    backend = backend_of(kind, tmp_path, "never")
    verifyObject(IWriteModes, backend)
    assert {WriteMode.NEVER, WriteMode.CREATE, WriteMode.OVERWRITE} <= set(backend.write_modes)


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_the_request_replace_the_write_mode(kind: str, tmp_path: Path) -> None:
    """They may allow less than the backend does, or more."""
    (tmp_path / "old").write_bytes(b"old")
    strict, lax = (backend_of(kind, tmp_path, write) for write in ("never", "overwrite"))
    assert isinstance(error_of(lambda: upload(strict, "new")), AccessViolation)
    assert isinstance(error_of(lambda: upload(lax, "new", "never")), AccessViolation)
    for backend in (strict, lax):
        exists = error_of(lambda backend=backend: upload(backend, "old", "create"))
        assert isinstance(exists, FileAlreadyExists)
        assert stored(backend, "old") == b"old"
    upload(strict, "new", "create")
    upload(strict, "old", "overwrite")
    assert [stored(strict, name) for name in ("new", "old")] == [b"new", b"new"]


def test_memory_backend_has_no_versions(tmp_path: Path) -> None:
    """The mode `version` is refused, as its own mode and in a request."""
    with pytest.raises(ValueError, match="version"):
        MemoryBackend(write="version")
    backend = MemoryBackend()
    assert isinstance(error_of(lambda: upload(backend, "f", "version")), AccessViolation)


def test_memory_backend_obeys_the_rules_at_the_commit() -> None:
    """With `create`, the first commit of a name wins, whatever the backend's own mode is."""
    backend = MemoryBackend(write="overwrite")
    rules = UploadSettings(WriteMode.CREATE)
    writer = backend.open_writer("f", write_context("f", uploads=rules))
    upload(backend, "f", "create")
    with pytest.raises(FileAlreadyExists):
        writer.commit()


def test_directories_are_made_if_the_rules_of_the_request_say_so(tmp_path: Path) -> None:
    """`make_dirs` of the rules replaces that of the backend, in both directions."""
    never = backend_of("filesystem", tmp_path, "create")
    always = backend_of("filesystem", tmp_path, "create", make_dirs=True)
    assert isinstance(error_of(lambda: upload(always, "a/f", "create")), FileNotFound)
    assert not (tmp_path / "a").exists()
    upload(never, "a/f", "create", make_dirs=True)
    assert stat.S_ISDIR((tmp_path / "a").stat().st_mode)
    upload(always, "b/f")
    assert isinstance(error_of(lambda: upload(never, "c/f")), FileNotFound)


def test_leftovers_are_removed_at_the_start_if_uploads_may_come(tmp_path: Path) -> None:
    """The service knows whether the rules of a request may allow an upload."""
    (tmp_path / STRAY).write_bytes(b"x")
    value(backend_of("filesystem", tmp_path, "never").start())
    assert (tmp_path / STRAY).exists()
    value(backend_of("filesystem", tmp_path, "never", may_be_written=True).start())
    assert not (tmp_path / STRAY).exists()


def test_leftovers_are_removed_before_the_first_upload_that_a_request_allows(
    tmp_path: Path,
) -> None:
    """A backend that was not told about uploads removes them once, then never again."""
    (tmp_path / STRAY).write_bytes(b"x")
    backend = backend_of("filesystem", tmp_path, "never")
    value(backend.start())
    upload(backend, "first", "create")
    assert not (tmp_path / STRAY).exists()
    (tmp_path / STRAY).write_bytes(b"x")
    upload(backend, "second", "create")
    assert (tmp_path / STRAY).exists()
