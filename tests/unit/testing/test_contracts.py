"""Tests of the contracts: each check fails for a backend that breaks its promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from tests.unit.testing.toy_backend import ToyBackend
from twisted_tftp.policy import UploadSettings, WriteMode
from twisted_tftp.testing import UploadContract

#: The names of all checks.
CHECKS = [name for name in dir(UploadContract) if name.startswith("test_")]

#: Each check, and the defects that it finds.
DEFECTS = {
    "test_interfaces_are_provided": [
        "the backend provides no interface",
        "the backend has no open_writer",
        "the reader provides no interface",
    ],
    "test_size_is_that_of_the_file": ["the size is wrong", "the size is a text"],
    "test_reads_have_the_wanted_length": [
        "reads may be short",
        "reads may be long",
        "the octets are a text",
    ],
    "test_read_may_be_repeated_or_skip_octets": ["offsets are ignored"],
    "test_reads_after_the_end_are_empty": ["the end is repeated"],
    "test_octets_do_not_change_until_the_next_read": ["readers share a buffer"],
    "test_readers_do_not_affect_each_other": ["a close closes all readers"],
    "test_missing_file_is_error_1": ["a missing file is ERROR 2"],
    "test_odd_names_are_refused": [
        "an odd name is no TFTPError",
        "an odd name is served",
        "a message has two lines",
    ],
    "test_reader_may_be_closed_at_any_time": [
        "a close closes nothing",
        "a close during a read is ignored",
    ],
    "test_cancelled_open_leaves_nothing_open": ["a cancelled open goes on"],
    "test_lifecycle_keeps_the_files": [
        "forget loses the files",
        "stop fails",
        "the lifecycle has no forget",
    ],
    "test_modes_that_are_not_declared_are_refused": ["an unknown write mode is accepted"],
    "test_writer_provides_its_interface": ["the writer provides no interface"],
    "test_upload_is_stored": ["an upload loses its end"],
    "test_upload_is_not_visible_before_the_commit": [
        "a write shows the octets",
        "an open writer shows its file",
    ],
    "test_aborted_upload_changes_nothing": [
        "an abort stores the file",
        "an abort removes the old file",
        "an abort closes nothing",
    ],
    "test_committed_upload_leaves_nothing_open": ["a commit closes nothing"],
    "test_existing_file_is_replaced_or_kept": ["overwrite replaces nothing"],
    "test_last_of_two_uploads_wins_or_fails": ["overwrite replaces nothing"],
    "test_open_reader_keeps_its_file": ["a reader sees the new content"],
    "test_cancelled_upload_leaves_nothing": [
        "a cancelled open goes on",
        "an open writer shows its file",
    ],
    "test_full_store_is_error_3": ["a full store has no code 3"],
    "test_odd_names_of_uploads_are_refused_or_stored": [
        "an odd name of an upload is no TFTPError",
        "an odd name of an upload is another file",
    ],
}

#: The checks that find other defects of a backend that must not replace files.
DEFECTS_OF_CREATE = {
    "test_existing_file_is_replaced_or_kept": ["create replaces", "create is ERROR 2"],
    "test_last_of_two_uploads_wins_or_fails": ["a late commit replaces"],
}


class TestToy(UploadContract):
    """A backend without a defect keeps all promises."""

    defect = ""
    backend: ToyBackend

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        self.backend = ToyBackend(files, self.clock, self.defect)
        return self.backend

    def make_full_backend(self, files: Mapping[str, bytes]) -> Any:
        self.backend = ToyBackend(files, self.clock, self.defect, space=60_000)
        return self.backend

    def open_resources(self) -> Collection[object]:
        return list(self.backend.opened)


class TestCreatingToy(TestToy):
    """The same for one that does not replace files."""

    uploads = UploadSettings(WriteMode.CREATE)
    may_replace = False


def test_each_check_can_fail() -> None:
    """Each one is in the table of defects."""
    assert sorted(DEFECTS) == sorted(CHECKS)


@pytest.mark.parametrize(
    ("check", "defect"), [(check, defect) for check, found in DEFECTS.items() for defect in found]
)
def test_defect_is_found(check: str, defect: str) -> None:
    """The check fails with a message."""
    contract = TestToy()
    contract.defect = defect
    with pytest.raises(AssertionError, match=r"\w"):
        getattr(contract, check)()


@pytest.mark.parametrize(
    ("check", "defect"),
    [(check, defect) for check, found in DEFECTS_OF_CREATE.items() for defect in found],
)
def test_defect_of_a_backend_that_creates_is_found(check: str, defect: str) -> None:
    """A file that exists must not be replaced, and the client gets ERROR 6."""
    contract = TestCreatingToy()
    contract.defect = defect
    with pytest.raises(AssertionError, match=r"\w"):
        getattr(contract, check)()


def test_missing_method_is_explained() -> None:
    """A contract needs a backend."""
    with pytest.raises(NotImplementedError, match="make_backend"):
        UploadContract().test_upload_is_stored()


def test_descriptor_that_stays_open_is_found(tmp_path: Any) -> None:
    """Without an override, the descriptors of the process are compared."""
    (tmp_path / "file").touch()
    contract = TestToy()
    files: list[Any] = []
    contract.start()
    contract.open_resources = lambda: UploadContract.open_resources(contract)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"stays open: \['.*/file'\]"):
        contract.check_nothing_stays_open(lambda: files.append((tmp_path / "file").open()))
    for file in files:
        file.close()
