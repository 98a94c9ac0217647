"""Parse boot profiles: texts that list the requests of a machine's firmware during a boot.

Each line of a profile is one step; `#` starts a comment::

    size NAME [OPTION=NUMBER ...]   request the size of a file: answer the OACK with ERROR 8
    get NAME [OPTION=NUMBER ...]    fetch a file, which must exist
    try NAME [OPTION=NUMBER ...]    fetch a file that may be missing
    put NAME [OPTION=NUMBER ...]    store a small text, which names the machine
    think SECONDS                   wait

A name may contain the placeholders `{mac}`, `{MAC}`, `{ip}`, `{ipx}` and `{uuid}`. Values of the
machine replace them: its MAC address (02-00-...) in lower and in upper case, its IP address, the
IP address in hexadecimal digits, and its UUID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

#: The requests of PXELINUX 6 on a BIOS: the loader, its library, configuration files from the most
#: specific name to the default, and the kernel and initrd that the configuration names.
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

#: The requests of UEFI firmware and GRUB 2; GRUB asks for blocks of 1024 octets.
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

#: The requests of UEFI firmware alone: first the size, then the file in windows.
EFI = """
size bootx64.efi blksize=1468
get bootx64.efi tsize=0 blksize=1468 windowsize=4
"""

#: The requests of iPXE, loaded by a BIOS.
IPXE = """
size undionly.kpxe
get undionly.kpxe blksize=1456
think 0.5
try {mac}.ipxe blksize=1432 tsize=0
try boot.ipxe blksize=1432 tsize=0
get vmlinuz blksize=1432 tsize=0
get initrd.img blksize=1432 tsize=0
"""

#: The built-in profiles by name.
PROFILES: Mapping[str, str] = {"pxelinux": PXELINUX, "grub": GRUB, "efi": EFI, "ipxe": IPXE}

#: The longest wait of a step, in seconds.
MAX_THINK_TIME = 3600

_PLACEHOLDER = re.compile(r"\{(\w*)\}")

#: The names of the placeholders.
_PLACEHOLDERS = {"mac", "MAC", "ip", "ipx", "uuid"}


class BadProfile(ValueError):
    """A profile is not valid; the text says which line is wrong, and why."""


class StepKind(Enum):
    """What a machine does in a step; the value is the word in the profile."""

    #: Request the size of a file.
    SIZE = "size"
    #: Fetch a file, which must exist.
    GET = "get"
    #: Fetch a file that may be missing.
    TRY = "try"
    #: Store a small text.
    PUT = "put"
    #: Wait.
    THINK = "think"


@dataclass(frozen=True)
class BootStep:
    """One step of a profile.

    @ivar name: the file name, with placeholders; empty for `THINK`.
    @ivar options: the options of the request, in order.
    @ivar seconds: how long to wait for `THINK`, in seconds.
    """

    kind: StepKind
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class SimulatedMachine:
    """A simulated machine; its addresses are calculated from its `number` (0 or more)."""

    number: int

    def fill_in(self, name: str) -> str:
        """Return `name` with the values of this machine in place of the placeholders."""
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
        return _PLACEHOLDER.sub(lambda match: values[match[1]], name)


def parse_profile(text: str) -> list[BootStep]:
    """Parse a profile.

    @raise BadProfile: a line is not valid, or no line transfers a file.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                steps.append(_step(*words))
            except ValueError as error:
                raise BadProfile(f"line {number}: {error}") from None
    if not any(step.kind is not StepKind.THINK for step in steps):
        raise BadProfile("the profile has no file to transfer")
    return steps


def _step(word: str, *arguments: str) -> BootStep:
    """Parse the words of one line.

    @raise ValueError: they are not a step.
    """
    try:
        kind = StepKind(word)
    except ValueError:
        raise ValueError(f"{word!r} is neither size, get, try, put nor think") from None
    if kind is StepKind.THINK:
        return BootStep(kind, seconds=_think_time(*arguments))
    if not arguments:
        raise ValueError(f"{word} takes a name")
    name, *options = arguments
    unknown = set(_PLACEHOLDER.findall(name)) - _PLACEHOLDERS
    if unknown:
        raise ValueError(f"{{{min(unknown)}}} is neither mac, MAC, ip, ipx nor uuid")
    return BootStep(kind, name, dict(map(_option, options)))


def _think_time(*arguments: str) -> float:
    if len(arguments) != 1:
        raise ValueError("think takes a number of seconds")
    seconds = float(arguments[0])
    if not 0 <= seconds <= MAX_THINK_TIME:
        raise ValueError(f"think takes from 0 to {MAX_THINK_TIME} seconds")
    return seconds


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{text!r} is not OPTION=NUMBER")
    return name.lower(), value
