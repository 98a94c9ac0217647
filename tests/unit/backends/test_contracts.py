"""Each backend of the package keeps the promises of the interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import ManualThreads, slow_lookup
from twisted_tftp.backends import FilesystemBackend, MemoryBackend, ReadOnlyBackend
from twisted_tftp.backends.mounts import Mount, Mounts
from twisted_tftp.backends.names import NamePipeline, Slashes, StripTrailing
from twisted_tftp.backends.overlay import OverlayBackend
from twisted_tftp.backends.subtree import Subtree
from twisted_tftp.backends.unique_root import DirectoryName, UniqueRoot
from twisted_tftp.backends.write_guard import WriteGuard
from twisted_tftp.policy import UploadSettings, WriteMode
from twisted_tftp.testing import BackendContract, UploadContract

#: The rules of a request.
CREATE = UploadSettings(WriteMode.CREATE)
OVERWRITE = UploadSettings(WriteMode.OVERWRITE)


class TestMemory(UploadContract):
    """The memory backend with its own write mode."""

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        return MemoryBackend(files, "overwrite")

    def make_full_backend(self, files: Mapping[str, bytes]) -> Any:
        return MemoryBackend(files, "overwrite", sum(map(len, files.values())) + 60_000)


class TestMemoryThatCreates(TestMemory):
    """The memory backend that does not replace files, because the rules say so."""

    uploads = CREATE
    may_replace = False


class TestReadOnly(BackendContract):
    """The read-only wrapper."""

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        return ReadOnlyBackend(MemoryBackend(files, "overwrite"))

    def modes_of(self, backend: Any) -> set[WriteMode]:
        return set()


class InFolder(UploadContract):
    """The filesystem backend, for a folder with the files."""

    folder: Path
    own_mode = "overwrite"

    @pytest.fixture(autouse=True)
    def _use_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_backend(self, files: Mapping[str, bytes], **options: Any) -> Any:
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        return FilesystemBackend(str(self.folder), self.own_mode, **self.options(), **options)

    def make_full_backend(self, files: Mapping[str, bytes]) -> Any:
        quota = sum(map(len, files.values())) + 60_000
        return self.make_backend(files, quota=quota)

    def options(self) -> dict[str, Any]:
        """Return further arguments of the backend."""
        return {"in_thread": maybeDeferred}


class TestFilesystem(InFolder):
    """The filesystem backend that replaces files, without threads."""


class TestFilesystemThatCreates(InFolder):
    """The filesystem backend that does not replace files."""

    own_mode = "create"
    may_replace = False


class TestFilesystemWithRules(InFolder):
    """The filesystem backend whose requests have rules."""

    own_mode = "never"
    uploads = OVERWRITE


class TestFilesystemWithStrictRules(InFolder):
    """The filesystem backend whose rules are stricter than its own."""

    uploads = CREATE
    may_replace = False


class TestFilesystemInThreads(InFolder):
    """The filesystem backend in threads that the test runs; every file is opened in one."""

    threads: ManualThreads

    def options(self) -> dict[str, Any]:
        self.threads = ManualThreads()
        return {"in_thread": self.threads, "cache": 0, "lookup": slow_lookup(self.folder)}

    def advance(self) -> None:
        if self.threads.calls:
            self.threads.run()


class TestGuardThatCreates(UploadContract):
    """The guard around a backend that knows no write modes."""

    uploads = CREATE
    may_replace = False

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        memory = MemoryBackend(files, "overwrite")

        class Careless(OverlayBackend):
            """A backend that replaces every file."""

            def open_writer(self, path: str, context: Any) -> Any:
                return memory.open_writer(path, context._replace(uploads=None))

        return WriteGuard(Careless([memory]))


class TestGuardThatReplaces(TestGuardThatCreates):
    """The same with the other mode."""

    uploads = OVERWRITE
    may_replace = True


class TestOverlay(UploadContract):
    """Files of both backends; uploads go to the second one."""

    may_replace = True
    uploads = OVERWRITE

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        first = {"empty": files["empty"]}
        second = {name: content for name, content in files.items() if name not in first}
        return OverlayBackend([MemoryBackend(first), MemoryBackend(second)])


class TestFilesystemThatKeepsVersions(InFolder):
    """The filesystem backend that keeps each upload; its name leads to the newest one."""

    own_mode = "never"
    uploads = UploadSettings(WriteMode.VERSION, keep=2)


class TestMounts(UploadContract):
    """A mount for all names."""

    uploads = OVERWRITE

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        everything = Mount(prefix="/", backend=MemoryBackend(files))
        return Mounts([everything, Mount(prefix="/other", backend=MemoryBackend())])


class TestSubtree(UploadContract):
    """A part of a backend's names."""

    uploads = OVERWRITE

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        inner = {f"lab/{name}": content for name, content in files.items()}
        return Subtree(MemoryBackend(inner), "/lab")


class TestUniqueRoot(UploadContract):
    """A directory for the client, and the common root."""

    uploads = OVERWRITE

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        return UniqueRoot(MemoryBackend(files), DirectoryName.IP, falls_back=True)


class TestNamePipeline(UploadContract):
    """Names that are rewritten before the backend sees them."""

    uploads = OVERWRITE

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        return NamePipeline(MemoryBackend(files), [StripTrailing(), Slashes()])
