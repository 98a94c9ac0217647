"""A directory for each client, named after its address (`--unique-root`)."""

from __future__ import annotations

import ipaddress
import re
from enum import Enum
from functools import lru_cache
from typing import Any

from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from twisted_tftp.backends.confined_names import MAX_CACHED_NAME, confined_path
from twisted_tftp.backends.explaining import describe_error, explain, is_not_found
from twisted_tftp.backends.overlay import open_first
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import FileNotFound
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend, lifecycle_of
from twisted_tftp.protocol.printable import printable

#: The most addresses and names for which a result is cached.
MAX_CACHED = 4096

#: The name of a directory that is named after a MAC address, in upper or lower case.
_MAC_DIRECTORY = re.compile(r"[0-9a-f]{2}(-[0-9a-f]{2}){5}\Z", re.IGNORECASE)


class DirectoryName(Enum):
    """What the directory of a client is named after."""

    #: Its IP address, as the log shows it: `10.1.2.3`, `2001:db8::5` or `fe80::5%eth0`.
    IP = "ip"
    #: Its MAC address in lower case, with hyphens: `52-54-00-12-34-56`.
    MAC = "mac"


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class UniqueRoot:
    """A backend that serves each client the files of its own directory in another backend.

    If a read falls back to the common root, the client's directory is asked first, and then the
    directory in which all these directories are. The directories of other clients do not exist for
    a client. An upload goes into the client's own directory in any case.
    """

    def __init__(self, backend: Any, named_after: DirectoryName, *, falls_back: bool = False):
        """Wrap an L{IFileBackend}.

        @param named_after: what the directory of a client is named after.
        @param falls_back: whether a file that is not in the client's directory is read from the
            common root; also if its MAC address is unknown.
        """
        self.backend = backend
        self._named_after = named_after
        self._falls_back = falls_back
        lifecycle = lifecycle_of(backend)
        self.check, self.start = lifecycle.check, lifecycle.start
        self.forget, self.stop = lifecycle.forget, lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file of the client's directory, or of the common root.

        @raise FileNotFound: there is no such file, or the client's directory is not known.
        @raise AccessViolation: the name leads out of the directory, or is that of a directory.
        """
        if not self._falls_back:
            return self.backend.open_reader(self._own_path(path, context), context)
        paths = self._paths(path, context)
        if not paths:
            raise FileNotFound()
        return open_first((self.backend,) * len(paths), paths, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file in the client's directory; L{open_reader} lists the exceptions."""
        return self.backend.open_writer(self._own_path(path, context), context)

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return a line for each name that is looked up, and what the wrapped backend says."""
        falls_back = self._falls_back
        paths = self._paths(path, context) if falls_back else [self._own_path(path, context)]
        lines: list[str] = []
        if self._directory(context) is None:
            lines.append(f"unique root: the MAC address of {context.peer.host} is not known")
        if not paths:
            lines.append(f"unique root: /{printable(path)} is of another client")
            lines += describe_error(FileNotFound())
        for each in paths:
            answer = yield explain(self.backend, each, context)
            lines += [f"unique root: /{printable(each)}", *answer]
            if not is_not_found(answer):
                break
        return lines

    def _paths(self, path: str, context: TransferContext) -> list[str]:
        """Return the paths of a name, in the order in which they are looked up."""
        common = confined_path(path)
        own = self._directory(context)
        paths = [] if own is None else [f"{own}/{common}"]
        first = _first_component(common)
        if first == own or not _is_of_client(first, self._named_after):
            paths.append(common)
        return paths

    def _own_path(self, path: str, context: TransferContext) -> str:
        """Return the path of a name in the client's directory."""
        directory = self._directory(context)
        if directory is None:
            raise FileNotFound(
                detail=f"the MAC address of {context.peer.host} is not in the neighbour table"
            )
        return f"{directory}/{confined_path(path)}"

    def _directory(self, context: TransferContext) -> str | None:
        """Return the name of the client's directory; None if it is not known."""
        if self._named_after is DirectoryName.IP:
            return _address_directory(context.peer.host)
        mac = context.mac
        return None if mac is None else mac.lower().replace(":", "-")


@lru_cache(MAX_CACHED)
def _address_directory(host: str) -> str:
    """Return an IP address as the name of a directory; an IPv4-mapped address becomes IPv4."""
    if not host.startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)


def _first_component(path: str) -> str:
    """Return the first component of a path; each backslash counts as a slash.

    Dots in front of it are left out, because `.` is not a component.
    """
    return path.lstrip("./\\").replace("\\", "/").partition("/")[0]


def _is_of_client(directory: str, named_after: DirectoryName) -> bool:
    """Return whether a name can be that of a client's directory."""
    decide = _cached_is_address if len(directory) <= MAX_CACHED_NAME else _is_address
    return decide(directory, named_after)


def _is_address(directory: str, named_after: DirectoryName) -> bool:
    """Return whether a name is a MAC address or an IP address, as `named_after` says."""
    if named_after is DirectoryName.MAC:
        return _MAC_DIRECTORY.match(directory) is not None
    try:
        ipaddress.ip_address(directory.partition("%")[0])
    except ValueError:
        return False
    return True


_cached_is_address = lru_cache(MAX_CACHED)(_is_address)
