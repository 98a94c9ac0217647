"""Find out which machine a file name is for: its MAC address, UUID or IP address.

Boot loaders ask for files whose names contain such a value:

 - PXELINUX and U-Boot: `pxelinux.cfg/` with `01-52-54-00-12-34-56`, a UUID, or the address in
   hexadecimal digits, of which they then remove one after the other: `C0A80101`, `C0A8010`, ...
 - GRUB: `grub.cfg-` with the same values, and in older versions the MAC address without `01-`.
 - iPXE scripts: any name with `${mac}`, `${mac:hexhyp}`, `${mac:hexraw}` or `${uuid}`.
 - The Raspberry Pi: a folder with the name of the MAC address.

A name proves nothing: any client can ask for any name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address

#: Pairs of hexadecimal digits with one separator: `aa-bb-...` or `aa:bb:...`.
_PAIRS = re.compile(
    r"(?<![0-9A-Za-z:])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2})+(?![0-9A-Za-z:])"
)

#: Twelve hexadecimal digits, and an extension.
_RAW_MAC = re.compile(r"([0-9A-Fa-f]{12})(?:\.[^/]*)?\Z")

#: A UUID.
_UUID = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)

#: The hexadecimal digits of an IPv4 address after the name of a configuration file.
_ADDRESS = re.compile(r"(?:.*\.cfg-)?([0-9A-F]{1,8})\Z")

#: All hexadecimal digits of an IPv4 address, and an extension: the kernel image of U-Boot.
_WHOLE_ADDRESS = re.compile(r"([0-9A-F]{8})(?:\.[^/]*)?\Z")

#: The folder in which PXELINUX looks for its configuration.
_PXELINUX_FOLDER = "pxelinux.cfg"

#: The hardware types that may precede a MAC address: Ethernet and IEEE 802 (ARP, RFC 1700).
_HARDWARE_TYPES = ("01", "06")

#: The pairs of hexadecimal digits in a MAC address.
_MAC_PAIRS = 6

#: The hexadecimal digits of an IPv4 address.
_ADDRESS_DIGITS = 8


@dataclass(frozen=True)
class MachineIdentity:
    """The values of a name that say for which machine it is.

    @ivar mac: the MAC address, such as `52:54:00:12:34:56`; None if the name has none.
    @ivar uuid: the UUID in lower case; None if the name has none.
    @ivar address: the IPv4 address of a name with all of its eight digits; None if there is none.
    @ivar network: the network, such as `192.168.1.0/24`, of a name with fewer digits of an
        address; None if there is none.
    @ivar pattern: the name with `{mac}`, `{uuid}`, `{address}` or `{network}` in the place of the
        value; None if the name has no such value.
    """

    mac: str | None = None
    uuid: str | None = None
    address: str | None = None
    network: str | None = None
    pattern: str | None = None


#: The identity of a name that has no such value.
NOBODY = MachineIdentity()


def identity_of(name: str) -> MachineIdentity:
    """Return what a file name says about its machine.

    The last component that has a value counts: a MAC address is tried first, then a UUID, then an
    address.
    """
    if "{" in name or "}" in name:
        return NOBODY  # so that a placeholder never comes from the network
    end = len(name)
    while end >= 0:
        start = name.rfind("/", 0, end) + 1
        component = name[start:end]
        found = _mac_in(component) or _uuid_in(component)
        if found is None and end == len(name):
            found = _address_in(component, name[:start])
        if found is not None:
            key, value, first, last = found
            pattern = f"{name[: start + first]}{{{key}}}{name[start + last :]}"
            return MachineIdentity(**{key: value}, pattern=pattern)
        end = start - 1
    return NOBODY


#: The name of a value, the value, and where it begins and ends in the component.
_Found = tuple[str, str, int, int]


def _mac_in(component: str) -> _Found | None:
    for pairs in _PAIRS.finditer(component):
        groups = pairs[0].split(pairs[1])
        start = pairs.start()
        if len(groups) == _MAC_PAIRS + 1 and groups[0] in _HARDWARE_TYPES:
            start += 3
            del groups[0]
        if len(groups) == _MAC_PAIRS:
            return "mac", ":".join(groups).lower(), start, pairs.end()
    raw = _RAW_MAC.match(component)
    if raw:
        return "mac", _with_colons(raw[1]), *raw.span(1)
    return None


def _uuid_in(component: str) -> _Found | None:
    found = _UUID.search(component)
    return None if found is None else ("uuid", found[0].lower(), *found.span())


def _address_in(component: str, folder: str) -> _Found | None:
    whole = _WHOLE_ADDRESS.match(component)
    if whole:
        return "address", str(IPv4Address(int(whole[1], 16))), *whole.span(1)
    found = _ADDRESS.match(component)
    if found is None:
        return None
    is_configuration = found.start(1) > 0 or folder.rstrip("/").endswith(_PXELINUX_FOLDER)
    if not is_configuration:
        return None
    digits = found[1]
    number = int(digits.ljust(_ADDRESS_DIGITS, "0"), 16)
    if len(digits) == _ADDRESS_DIGITS:
        return "address", str(IPv4Address(number)), *found.span(1)
    return "network", str(IPv4Network((number, 4 * len(digits)))), *found.span(1)


def normal_mac(text: str) -> str:
    """Return a MAC address in the form `52:54:00:12:34:56`.

    @param text: the same with hyphens, with the hardware type `01-`, or the twelve digits alone.
    @raise ValueError: it is not a MAC address.
    """
    found = _mac_in(text.strip())
    if found is None or found[2] not in (0, 3) or found[3] != len(text.strip()):
        raise ValueError(f"{text!r} is not a MAC address")
    return found[1]


def normal_uuid(text: str) -> str:
    """Return a UUID in lower case.

    @raise ValueError: it is not a UUID.
    """
    if not _UUID.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a UUID")
    return text.strip().lower()


def normal_address(text: str) -> str:
    """Return an IP address in its usual form.

    @raise ValueError: it is not an IP address.
    """
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _with_colons(digits: str) -> str:
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2)).lower()
