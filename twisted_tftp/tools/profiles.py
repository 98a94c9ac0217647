"""Say what the firmware of a machine asks for when it boots: profiles, as readable text.

A profile has one step a line; `#` begins a comment:

    size NAME [OPTION=VALUE ...]    ask for the size: take the OACK and answer ERROR 8
    get NAME [OPTION=VALUE ...]     fetch a file, which must be there
    try NAME [OPTION=VALUE ...]     fetch a file that may be missing
    think SECONDS                   do something else

`{mac}`, `{MAC}`, `{ip}`, `{ipx}` and `{uuid}` in a name are those of the machine: 02-00-... in
small and in large letters, an address, the address in hexadecimal digits, and a UUID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

#: What PXELINUX 6 asks for from a BIOS: itself, its library, a configuration by ever less of the
#: machine's address, and what that names.
PXELINUX = """
size pxelinux.0
get pxelinux.0 blksize=1456
get ldlinux.c32 tsize=0 blksize=1408
try pxelinux.cfg/{uuid} tsize=0 blksize=1408
try pxelinux.cfg/01-{mac} tsize=0 blksize=1408
try pxelinux.cfg/{ipx} tsize=0 blksize=1408
try pxelinux.cfg/default tsize=0 blksize=1408
get vmlinuz tsize=0 blksize=1408
get initrd.img tsize=0 blksize=1408
"""

#: What UEFI firmware and GRUB 2 ask for; GRUB asks for blocks of 1024 octets.
GRUB = """
size grubx64.efi blksize=1468
get grubx64.efi tsize=0 blksize=1468 windowsize=4
try grub/x86_64-efi/command.lst blksize=1024 tsize=0
try grub/x86_64-efi/fs.lst blksize=1024 tsize=0
try grub/grub.cfg-01-{mac} blksize=1024 tsize=0
try grub/grub.cfg-{ipx} blksize=1024 tsize=0
try grub/grub.cfg blksize=1024 tsize=0
get vmlinuz blksize=1024 tsize=0
get initrd.img blksize=1024 tsize=0
"""

#: What UEFI firmware asks for alone: the size first, then the file in windows.
EFI = """
size bootx64.efi blksize=1468
get bootx64.efi tsize=0 blksize=1468 windowsize=4
"""

#: What iPXE asks for, chained from a BIOS.
IPXE = """
size undionly.kpxe
get undionly.kpxe blksize=1456
think 0.5
try {mac}.ipxe blksize=1432 tsize=0
try boot.ipxe blksize=1432 tsize=0
get vmlinuz blksize=1432 tsize=0
get initrd.img blksize=1432 tsize=0
"""

PROFILES: Mapping[str, str] = {"pxelinux": PXELINUX, "grub": GRUB, "efi": EFI, "ipxe": IPXE}

_NAMES = re.compile(r"\{(\w*)\}")


class BadProfile(ValueError):
    """A line of a profile is none; the text says which and why."""


@dataclass(frozen=True)
class BootStep:
    """One line of a profile.

    @ivar kind: "size", "get", "try" or "think".
    @ivar name: the file's name, with its braces; empty to think.
    @ivar options: what is asked for, in its order.
    @ivar seconds: for how long to think.
    """

    kind: str
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Machine:
    """The machine `number` (from 0) of a storm; its addresses follow from its number."""

    number: int

    def fill(self, name: str) -> str:
        """Return `name` with what is in braces filled in."""
        octets = (0x0200_0000_0000 + self.number).to_bytes(6, "big")
        mac = "-".join(f"{octet:02x}" for octet in octets)
        address = (10 << 24) + (self.number + 1) % 2**24
        values = {
            "mac": mac,
            "MAC": mac.upper(),
            "ip": ".".join(str(octet) for octet in address.to_bytes(4, "big")),
            "ipx": f"{address:08X}",
            "uuid": str(UUID(int=self.number)),
        }
        return _NAMES.sub(lambda found: values[found[1]], name)


def parse_profile(text: str) -> list[BootStep]:
    """Read a profile.

    @raise BadProfile: a line is none, or there is none that fetches anything.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                steps.append(_step(*words))
            except (TypeError, ValueError) as error:
                raise BadProfile(f"line {number}: {error}") from None
    if not any(step.kind != "think" for step in steps):
        raise BadProfile("there is nothing to fetch in it")
    return steps


def _step(kind: str, *words: str) -> BootStep:
    if kind == "think":
        if len(words) != 1:
            raise ValueError("think takes a number of seconds")
        seconds = float(words[0])
        if not 0 <= seconds <= 3600:
            raise ValueError("think takes from 0 to 3600 seconds")
        return BootStep(kind, seconds=seconds)
    if kind not in ("size", "get", "try"):
        raise ValueError(f"{kind!r} is neither size, get, try nor think")
    if not words:
        raise ValueError(f"{kind} takes a name")
    name, *pairs = words
    unknown = set(_NAMES.findall(name)) - {"mac", "MAC", "ip", "ipx", "uuid"}
    if unknown:
        raise ValueError(f"{{{min(unknown)}}} is neither mac, MAC, ip, ipx nor uuid")
    options: dict[str, str] = {}
    for pair in pairs:
        option, equals, value = pair.partition("=")
        if not equals or not value.isascii() or not value.isdigit():
            raise ValueError(f"{pair!r} is no OPTION=NUMBER")
        options[option.lower()] = value
    return BootStep(kind, name, options)
