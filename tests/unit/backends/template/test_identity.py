"""Tests of names that say which machine they are for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.backends.template.identity import (
    NOBODY,
    MachineIdentity,
    identity_of,
    normal_address,
    normal_mac,
    normal_uuid,
)

MAC = "52:54:00:ab:34:56"

UUID = "b8945908-d6a6-41a9-611d-74a6ab80b83d"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("pxelinux.cfg/01-52-54-00-ab-34-56", "pxelinux.cfg/01-{mac}"),
        ("/pxelinux.cfg/01-52-54-00-AB-34-56", "/pxelinux.cfg/01-{mac}"),
        ("grub/grub.cfg-01-52-54-00-ab-34-56", "grub/grub.cfg-01-{mac}"),
        ("grub/grub.cfg-52-54-00-ab-34-56", "grub/grub.cfg-{mac}"),
        ("ipxe/52:54:00:ab:34:56", "ipxe/{mac}"),
        ("ipxe/52-54-00-ab-34-56.ipxe", "ipxe/{mac}.ipxe"),
        ("ipxe/525400AB3456.ipxe", "ipxe/{mac}.ipxe"),
        ("ipxe/boot-52:54:00:ab:34:56.ipxe", "ipxe/boot-{mac}.ipxe"),
        ("52-54-00-ab-34-56/config.txt", "{mac}/config.txt"),
    ],
)
def test_mac_is_found(name: str, pattern: str) -> None:
    """All spellings become one."""
    assert identity_of(name) == MachineIdentity(mac=MAC, pattern=pattern)


@pytest.mark.parametrize(
    "name",
    [
        "pxelinux.cfg/default",
        "52-54-00-ab-34",
        "09-52-54-00-ab-34-56",
        "01-02-52-54-00-ab-34-56",
        "52-54:00-ab:34-56",
        "x52:54:00:ab:34:56",
        "52:54:00:ab:34:56x",
        "525400ab34567",
        "5254-00ab-3456",
        "",
        "/",
    ],
)
def test_other_names_have_no_mac(name: str) -> None:
    """A part of a longer word is not a MAC address."""
    assert identity_of(name) == NOBODY


def test_uuid_is_found() -> None:
    """PXELINUX, U-Boot and GRUB ask for it first."""
    name = f"pxelinux.cfg/{UUID.upper()}"
    assert identity_of(name) == MachineIdentity(uuid=UUID, pattern="pxelinux.cfg/{uuid}")
    name = f"grub/grub.cfg-{UUID}"
    assert identity_of(name) == MachineIdentity(uuid=UUID, pattern="grub/grub.cfg-{uuid}")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("pxelinux.cfg/C0A80101", "pxelinux.cfg/{address}"),
        ("grub/grub.cfg-C0A80101", "grub/grub.cfg-{address}"),
        ("C0A80101.img", "{address}.img"),
    ],
)
def test_address_is_found(name: str, pattern: str) -> None:
    """All eight digits are an address."""
    assert identity_of(name) == MachineIdentity(address="192.168.1.1", pattern=pattern)


@pytest.mark.parametrize("digits", range(1, 8))
@pytest.mark.parametrize("prefix", ["pxelinux.cfg/", "boot/pxelinux.cfg/", "grub/grub.cfg-"])
def test_fewer_digits_are_a_network(prefix: str, digits: int) -> None:
    """PXELINUX removes one digit after the other."""
    network = str(IPv4Network((IPv4Address("192.168.1.1"), 4 * digits), strict=False))
    assert identity_of(prefix + "C0A80101"[:digits]) == MachineIdentity(
        network=network, pattern=prefix + "{network}"
    )


@pytest.mark.parametrize("name", ["ABC", "BAD/CAFE", "pxelinux.cfg/c0a80101", "C0A801011"])
def test_short_words_elsewhere_are_no_network(name: str) -> None:
    """A few hexadecimal digits are an address only where boot loaders ask for one."""
    assert identity_of(name) == NOBODY


def test_placeholder_in_a_name_is_not_one() -> None:
    """A client can't select a pattern itself."""
    assert identity_of("{mac}/52:54:00:ab:34:56") == NOBODY


@given(st.binary(min_size=6, max_size=6), st.sampled_from(":-"), st.booleans(), st.booleans())
def test_every_mac_is_found(octets: bytes, separator: str, is_upper: bool, has_type: bool) -> None:
    """Any six octets, in each spelling."""
    text = octets.hex(separator)
    name = text.upper() if is_upper else text
    name = f"01{separator}{name}" if has_type else name
    assert identity_of(f"cfg/{name}.cfg").mac == octets.hex(":")
    assert normal_mac(name) == octets.hex(":")


@given(st.text(max_size=60))
def test_any_text_is_a_name(name: str) -> None:
    """No name is an error; a pattern is the name with one placeholder in the place of a value."""
    found = identity_of(name)
    values = [found.mac, found.uuid, found.address, found.network]
    assert len([value for value in values if value is not None]) == (found != NOBODY)
    assert found.pattern is None or found.pattern.count("{") == 1


@given(st.text(alphabet="0123456789ABCDEFabcdef:-./{}gx", max_size=60))
def test_any_text_of_digits_is_a_name(name: str) -> None:
    """The same for texts that look like addresses."""
    test_any_text_is_a_name.hypothesis.inner_test(name)  # type: ignore[attr-defined]


def test_values_of_a_file_have_one_form() -> None:
    """Values that are none of these are refused with their text."""
    assert normal_mac(" 01-52-54-00-AB-34-56 ") == normal_mac("525400AB3456") == MAC
    assert normal_uuid(UUID.upper()) == UUID
    assert normal_address("2001:DB8::0001") == "2001:db8::1"
    for convert in (normal_mac, normal_uuid, normal_address):
        for text in ("", "x", f"{MAC} {MAC}", f"a-{MAC}"):
            with pytest.raises(ValueError, match="is not a"):
                convert(text)
