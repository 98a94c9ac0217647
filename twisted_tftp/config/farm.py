"""The mounts, client rules and rename rules of a configuration, as immutable objects."""

from __future__ import annotations

from dataclasses import dataclass

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.config.mistakes import Place
from twisted_tftp.policy import Network, WriteMode


@dataclass(frozen=True)
class PlacedBackend:
    """A backend that the user has named.

    @ivar spec: its name and arguments; paths are absolute.
    @ivar place: where the configuration names it; None for the command line.
    """

    spec: BackendSpec
    place: Place | None = None


@dataclass(frozen=True)
class Mount:
    """A part of the tree of names (a `[[mount]]`), and the backends that serve it.

    @ivar prefix: the components of the names begin with those of this path, such as `/configs`.
    @ivar backend: the backends, which are tried in order if a file is not found.
    @ivar place: where the configuration defines it; None for the command line.
    @ivar write: which files may be written; None for what else holds.
    @ivar keep: how many versions of a file are kept; None for what else holds.
    @ivar make_dirs: whether uploads make missing directories; None for what else holds.
    @ivar allow: networks that may use it; empty for all.
    @ivar allow_write: networks that may write there; empty for all.
    """

    prefix: str
    backend: tuple[PlacedBackend, ...]
    place: Place | None = None
    write: WriteMode | None = None
    keep: int | None = None
    make_dirs: bool | None = None
    allow: tuple[Network, ...] = ()
    allow_write: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Client:
    """The rules for some clients (a `[[client]]`). None for a key that it does not set.

    @ivar place: where the configuration defines it.
    @ivar network: the clients, by their addresses.
    @ivar mac: the client, by its MAC address.
    @ivar refuse: options that are never granted.
    @ivar max_blksize: the largest block size, in octets.
    @ivar max_windowsize: the largest window, in blocks.
    @ivar timeout: the first retransmission timeout, in seconds.
    @ivar root: a path inside the mounts, in which all names of these clients are looked up.
    @ivar write: which files may be written.
    @ivar rate: new requests per second of each client.
    @ivar max_rate: octets per second of each transfer.
    """

    place: Place
    network: Network | None = None
    mac: str | None = None
    refuse: frozenset[str] | None = None
    max_blksize: int | None = None
    max_windowsize: int | None = None
    timeout: float | None = None
    root: str | None = None
    write: WriteMode | None = None
    rate: float | None = None
    max_rate: int | None = None

    @property
    def subject(self) -> Network | str | None:
        """The clients that it is about: a network or a MAC address."""
        return self.mac if self.network is None else self.network


@dataclass(frozen=True)
class Rename:
    """A rule that rewrites names (a `[[rename]]`).

    @ivar rule: one line of a map file.
    @ivar place: where the configuration defines it.
    """

    rule: str
    place: Place
