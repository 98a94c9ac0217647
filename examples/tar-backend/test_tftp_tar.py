"""Tests of the backend `tar`: run `pytest` in this folder."""

import io
import tarfile

import pytest
from tftp_tar import TarBackend, from_arguments
from twisted.internet.defer import maybeDeferred

from twisted_tftp.errors import BackendUnavailable, FileNotFound, TFTPError
from twisted_tftp.testing import BackendContract, MemoryNetwork


def write_archive(path, files, mode="w:"):
    """Write an archive; a content that is a text is the name that a hard link leads to."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


class TestContract(BackendContract):
    """The backend keeps the promises of the interfaces."""

    @pytest.fixture(autouse=True)
    def _use_folder(self, tmp_path):
        self.path = str(tmp_path / "files.tar")

    def make_backend(self, files):
        write_archive(self.path, files)
        return TarBackend(self.path, in_thread=maybeDeferred)


@pytest.fixture
def path(tmp_path):
    """Return the path of an archive."""
    path = str(tmp_path / "files.tar")
    write_archive(path, {"./boot/vmlinuz": b"kernel", "boot/link": "./boot/vmlinuz"})
    return path


def network(path, folder=""):
    """Return a server with the backend."""
    return MemoryNetwork(TarBackend(path, folder, in_thread=maybeDeferred))


def test_members_are_served(path):
    """A leading `./` makes no difference; a hard link is the file that it leads to."""
    for name in ("boot/vmlinuz", "/boot/vmlinuz", "boot/link"):
        assert network(path).fetch(name) == b"kernel"
    assert network(path, "boot").fetch("/vmlinuz") == b"kernel"
    with pytest.raises(FileNotFound):
        network(path, "boot").fetch("../boot/vmlinuz")


def test_archive_may_be_replaced(path, tmp_path):
    """A reader goes on with the old archive, a new one gets the new archive."""
    backend = TarBackend(path, in_thread=maybeDeferred)
    reader = backend.open_reader("boot/vmlinuz", None).result
    write_archive(tmp_path / "new.tar", {"boot/vmlinuz": b"other"})
    (tmp_path / "new.tar").rename(path)
    assert reader.read(0, 10).result == b"kernel"
    assert MemoryNetwork(backend).fetch("boot/vmlinuz") == b"other"


def test_archive_that_cannot_be_read_is_reported(path, tmp_path):
    """Before the start in one line; during a transfer with ERROR 0."""
    with pytest.raises(BackendUnavailable, match="No such file"):
        TarBackend(str(tmp_path / "missing")).check()
    write_archive(path, {"file": b"x"}, "w:gz")
    with pytest.raises(BackendUnavailable, match="tar archive"):
        TarBackend(path).check()
    with pytest.raises(TFTPError, match="the archive cannot be read"):
        network(path).fetch("file")


def test_arguments_are_checked():
    """The archive is needed, and there is one keyword."""
    assert isinstance(from_arguments("/srv/a.tar", {"folder": "boot"}), TarBackend)
    with pytest.raises(ValueError, match="needs an archive"):
        from_arguments("", {})
    with pytest.raises(ValueError, match="did you mean folder"):
        from_arguments("/srv/a.tar", {"flder": "boot"})
