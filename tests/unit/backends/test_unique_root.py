"""Tests of `--unique-root`: each client has a directory of its own, named after its address."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.support.contexts import PEER, read_context, write_context
from tests.support.deferreds import value
from twisted_tftp.backends import unique_root
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.mounts import Mounts
from twisted_tftp.backends.unique_root import DirectoryName, UniqueRoot
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend

#: The files of all clients.
FILES = {
    "192.0.2.1/x": b"own",
    "192.0.2.9/x": b"another's",
    "192.0.2.9/y": b"another's",
    "52-54-00-12-34-56/x": b"own, by MAC",
    "52-54-00-12-34-99/y": b"another's, by MAC",
    "x": b"common",
    "z": b"common",
    "10.0/z": b"no address",
}


class Recorder:
    """A backend that returns the name that it is asked for, instead of a file."""

    def open_reader(self, path: str, context: Any) -> str:
        return path


def context_of(host: str = PEER.host, mac: str | None = None) -> TransferContext:
    """Return the context of a read by a client with these addresses."""
    return read_context(
        peer=PEER._replace(host=host), find_mac=lambda each: mac if each == host else None
    )


MAC = context_of(mac="52:54:00:12:34:56")


def served(name: str, context: TransferContext, named_after: str, falls_back: bool) -> bytes:
    """Return the octets that a client gets."""
    root = UniqueRoot(MemoryBackend(FILES), DirectoryName(named_after), falls_back=falls_back)
    return bytes(value(root.open_reader(name, context)).read(0, 100))


@pytest.mark.parametrize(
    ("host", "directory"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::5", "2001:db8::5"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:0:1", "::ffff:0:0:1"),
    ],
)
def test_directory_is_named_after_the_address(host: str, directory: str) -> None:
    """It is the address as the log shows it; an IPv4-mapped address is one of IPv4."""
    root = UniqueRoot(Recorder(), DirectoryName.IP)
    assert root.open_reader("/a/x", context_of(host)) == f"{directory}/a/x"


def test_directory_is_named_after_the_mac_address() -> None:
    """It is written in lower case and with hyphens, as dnsmasq does."""
    root = UniqueRoot(Recorder(), DirectoryName.MAC)
    context = context_of(mac="AA:bb:cc:00:11:22")
    assert root.open_reader("x", context) == "aa-bb-cc-00-11-22/x"


@pytest.mark.parametrize("falls_back", [False, True])
def test_file_of_the_own_directory_comes_first(falls_back: bool) -> None:
    """A common file of the same name does not matter."""
    assert served("x", context_of(), "ip", falls_back) == b"own"
    assert served("x", MAC, "mac", falls_back) == b"own, by MAC"


def test_common_file_is_served_only_if_that_is_wanted() -> None:
    """Without the fallback, only the client's directory exists."""
    assert served("z", context_of(), "ip", True) == b"common"
    assert served("10.0/z", context_of(), "ip", True) == b"no address"
    for name in ("z", "192.0.2.1/x", "192.0.2.9/x"):
        with pytest.raises(FileNotFound):
            served(name, context_of(), "ip", False)


@pytest.mark.parametrize(
    "name", ["192.0.2.9/y", "/192.0.2.9/y", "a/../192.0.2.9/y", "192.0.2.9\\y", ".\\192.0.2.9\\y"]
)
def test_directory_of_another_client_does_not_exist(name: str) -> None:
    """The fallback does not serve it, however the name is written."""
    with pytest.raises(FileNotFound):
        served(name, context_of(), "ip", True)


@pytest.mark.parametrize("name", ["52-54-00-12-34-99/y", "52-54-00-AB-34-99/y"])
def test_directory_of_another_mac_address_does_not_exist(name: str) -> None:
    """Upper and lower case make no difference: the file system may ignore it."""
    root = UniqueRoot(MemoryBackend({name: b""}), DirectoryName.MAC, falls_back=True)
    for context in (MAC, context_of()):
        with pytest.raises(FileNotFound):
            root.open_reader(name, context)


def test_client_can_name_its_own_directory_with_the_fallback() -> None:
    """The common root has it, like any other directory."""
    assert served("192.0.2.1/x", context_of(), "ip", True) == b"own"


def test_client_of_unknown_mac_address_gets_common_files_only() -> None:
    """Without the fallback it gets nothing, and the log says why."""
    assert served("x", context_of(), "mac", True) == b"common"
    with pytest.raises(FileNotFound) as caught:
        served("x", context_of(), "mac", False)
    assert caught.value.message == "no such file"
    assert caught.value.detail == "the MAC address of 192.0.2.1 is not in the neighbour table"


@pytest.mark.parametrize("falls_back", [False, True])
def test_upload_goes_into_the_own_directory(falls_back: bool) -> None:
    """Common files can't be written, also not by a client whose MAC address is unknown."""
    backend = MemoryBackend({"x": b"common"}, "overwrite")
    root = UniqueRoot(backend, DirectoryName.MAC, falls_back=falls_back)
    writer = root.open_writer("x", write_context(find_mac=MAC.find_mac))
    writer.write(b"uploaded")
    writer.commit()
    with pytest.raises(FileNotFound, match="no such file"):
        root.open_writer("x", write_context())
    assert backend.files == {"x": b"common", "52-54-00-12-34-56/x": b"uploaded"}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../192.0.2.9/x", AccessViolation),
        ("..\\192.0.2.9\\x", AccessViolation),
        ("a/../../x", AccessViolation),
        ("a/", AccessViolation),
        ("", FileNotFound),
    ],
)
@pytest.mark.parametrize("falls_back", [False, True])
def test_name_that_leads_out_of_the_directory_is_refused(
    name: str, error: type[TFTPError], falls_back: bool
) -> None:
    """It is refused before the fallback is tried."""
    with pytest.raises(error):
        served(name, context_of(), "ip", falls_back)
    root = UniqueRoot(MemoryBackend({}, "create"), DirectoryName.IP, falls_back=falls_back)
    with pytest.raises(error):
        root.open_writer(name, write_context())


def test_explanation_shows_each_name_that_is_looked_up() -> None:
    """The common root is named if the client's directory has no such file."""
    root = UniqueRoot(MemoryBackend(FILES), DirectoryName.IP, falls_back=True)
    assert value(root.explain("z", context_of())) == [
        "unique root: /192.0.2.1/z",
        "ERROR 1: no such file",
        "unique root: /z",
        "found: 6 octets",
    ]
    assert len(value(root.explain("x", context_of()))) == 2


def test_explanation_of_a_name_that_does_not_exist_for_the_client() -> None:
    """The directory of another client, if the own one is not known."""
    root = UniqueRoot(MemoryBackend(), DirectoryName.MAC, falls_back=True)
    assert value(root.explain("52-54-00-12-34-99/y", context_of())) == [
        "unique root: the MAC address of 192.0.2.1 is not known",
        "unique root: /52-54-00-12-34-99/y is of another client",
        "ERROR 1: no such file",
    ]


def test_interfaces_are_implemented() -> None:
    """It is itself a backend, with a lifecycle and an explanation."""
    for interface in (IFileBackend, IBackendLifecycle, IExplainable):
        verifyObject(interface, UniqueRoot(Mounts([]), DirectoryName.IP))


def test_long_names_are_not_cached() -> None:
    """Names from the network that nobody asks for twice can't fill the memory."""
    backend = UniqueRoot(MemoryBackend(), DirectoryName.IP, falls_back=True)
    unique_root._cached_is_address.cache_clear()
    for name in ("n" * 4000, "short", "10.0.0.9%" + "n" * 4000):
        with pytest.raises(FileNotFound):
            backend.open_reader(name, read_context())
    assert unique_root._cached_is_address.cache_info().currsize == 1
