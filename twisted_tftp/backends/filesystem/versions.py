"""Name the versions of a file, which are its uploads, each kept as a file of its own.

An upload of `NAME` is kept as `NAME.2026-11-21T10-30-00Z`, with the time of its commit in UTC; the
second one of the same second is `NAME.2026-11-21T10-30-00Z-2`. `NAME` itself is a symbolic link to
the newest one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

#: The format of the time in the name of a version.
TIME_FORMAT = "%Y-%m-%dT%H-%M-%SZ"

#: The longest name of a file of which versions are kept, in octets. A name in a directory may have
#: 255: a dot, the time, a dash and a number of up to five digits are appended.
MAX_NAME_WITH_VERSIONS = 255 - len(".2026-11-21T10-30-00Z-99999")

#: What looks like the name of a version, even if no version is named so.
_LOOKS_LIKE_VERSION = re.compile(
    rb"(?s)(.+)\.(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?", re.ASCII
)

#: The number of a version that is not the first one of its second, as it is written.
_NUMBER = re.compile(rb"[2-9]|[1-9]\d+", re.ASCII)


class Version(NamedTuple):
    """A version of a file. Versions are sorted by time, then by number.

    @ivar time: the time of its commit, as in its name; texts of this format sort as times do.
    @ivar number: 1 for the first one of that second, 2 for the second one, and so on.
    """

    time: str
    number: int

    def name_of(self, name: bytes) -> bytes:
        """Return the name of this version of the file `name`."""
        suffix = "" if self.number == 1 else f"-{self.number}"
        return b"%b.%b" % (name, f"{self.time}{suffix}".encode())


def utc(seconds: float) -> str:
    """Return a time as in the name of a version.

    @param seconds: since 1970.
    """
    return time.strftime(TIME_FORMAT, time.gmtime(seconds))


def looks_like_version(name: bytes) -> bool:
    """Return whether `name` looks like that of a version, whatever the file is."""
    return _LOOKS_LIKE_VERSION.fullmatch(name) is not None


def parse(name: bytes) -> tuple[bytes, Version] | None:
    """Return the name of a file, and the version of it that is named `name`; None if it is none.

    Names that only look similar are none: those with a day that does not exist, or with a number
    that is written in another way.
    """
    match = _LOOKS_LIKE_VERSION.fullmatch(name)
    if match is None:
        return None
    file, moment, number = match.groups()
    if number is not None and not _NUMBER.fullmatch(number):
        return None
    text = moment.decode()
    try:
        datetime.strptime(text, TIME_FORMAT)
    except ValueError:
        return None
    return file, Version(text, 1 if number is None else int(number))


def versions_among(names: Iterable[bytes], file: bytes) -> set[Version]:
    """Return the versions of the file `file` that have one of `names`."""
    prefix = file + b"."
    found = set()
    for name in names:
        parsed = parse(name) if name.startswith(prefix) else None
        if parsed is not None and parsed[0] == file:
            found.add(parsed[1])
    return found


def next_version(versions: Iterable[Version], moment: str) -> Version:
    """Return the version with the time `moment` that comes after all `versions` of that time."""
    numbers = [version.number for version in versions if version.time == moment]
    return Version(moment, max(numbers, default=0) + 1)


def is_version_link(name: bytes, target: bytes) -> bool:
    """Return whether a symbolic link leads to a version of the file that it names.

    @param name: the name of the link.
    @param target: what the link contains.
    """
    parsed = parse(target)
    return parsed is not None and parsed[0] == name
