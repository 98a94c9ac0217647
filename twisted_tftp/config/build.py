"""Build what a service needs from settings: one backend out of many, and the client rules.

The backends are wrapped in each other, from the one that sees the name of the request to the one
that has the file: names, client root, unique root, mounts, overlay, upload rules, backend. What
has nothing to do is not built: for `--root` alone there is only the backend for the file system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.mounts import Mount as MountBackend
from twisted_tftp.backends.mounts import Mounts
from twisted_tftp.backends.names import NamePipeline, NameStep
from twisted_tftp.backends.overlay import OverlayBackend
from twisted_tftp.backends.paced import PacedBackend, Pacer
from twisted_tftp.backends.plugin import INNER, BackendSpec, make_backend
from twisted_tftp.backends.subtree import Subtree
from twisted_tftp.backends.unique_root import UniqueRoot
from twisted_tftp.backends.url_secrets import without_url_secrets
from twisted_tftp.backends.write_guard import WriteGuard
from twisted_tftp.config.farm import Client, Mount, PlacedBackend
from twisted_tftp.config.mistakes import Mistakes, Place
from twisted_tftp.config.name_steps import name_steps
from twisted_tftp.config.settings import Settings
from twisted_tftp.policy import Network, UploadSettings, WriteMode
from twisted_tftp.protocol.printable import printable_unicode
from twisted_tftp.server.access import Networks
from twisted_tftp.server.backend_check import NamedBackend
from twisted_tftp.server.client_rules import ClientRule, ClientSettings
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.transfer_log import TransferLog


@dataclass(frozen=True)
class Leaf:
    """A backend that the configuration names, without the wrappers around it.

    @ivar text: how the user has named it, without passwords and queries of URLs.
    @ivar backend: the L{IFileBackend}.
    @ivar place: where the configuration names it; None for the command line.
    """

    text: str
    backend: Any
    place: Place | None = None

    @property
    def name(self) -> str:
        """The name of the backend in messages: its file and line, if known, then its text."""
        text = printable_unicode(self.text)
        return text if self.place is None else f"{self.place}: {text}"


@dataclass(frozen=True)
class Built:
    """What was built.

    @ivar configuration: what the service needs.
    @ivar leaves: the backends that have the files.
    """

    configuration: Configuration
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class NameRules:
    """The rules that rewrite the names of requests.

    @ivar steps: the steps that apply them.
    @ivar mistakes: what is wrong in them.
    """

    steps: Sequence[NameStep]
    mistakes: Mistakes


def read_name_rules(settings: Settings) -> NameRules:
    """Read the map file, and make the steps that rewrite names. This may block."""
    mistakes = Mistakes()
    return NameRules(name_steps(settings, mistakes), mistakes)


def build(
    settings: Settings,
    reactor: Any = None,
    *,
    has_names: bool = False,
    name_rules: NameRules | None = None,
    earlier: Configuration | None = None,
) -> Built:
    """Build the backends and the rules of a service. Nothing is opened or started.

    Backends may use the reactor, so this is called in its thread.

    @param reactor: for threads and timers; None for the global one.
    @param has_names: whether `--explain` must be able to name the backend of `--root`.
    @param name_rules: the rules that were read; None to read them now, which may block.
    @param earlier: the configuration that this one will replace; None for the first one.
    @raise ConfigurationError: a backend or a rule can't be made.
    """
    if name_rules is None:
        name_rules = read_name_rules(settings)
    pacer = None if earlier is None or earlier.max_rate != settings.max_rate else earlier.pacer
    return _Builder(settings, reactor, has_names, pacer).build(name_rules)


class _Builder:
    """Makes the parts, and collects the mistakes that are found meanwhile."""

    def __init__(
        self, settings: Settings, reactor: Any, has_names: bool, pacer: Pacer | None
    ) -> None:
        self._settings = settings
        self._has_names = has_names or bool(settings.mounts)
        self._reactor = reactor
        self._mistakes = Mistakes()
        self._leaves: list[Leaf] = []
        self._pacer = pacer
        if pacer is None and settings.max_rate is not None:
            self._pacer = Pacer(settings.max_rate, monotonic)

    def build(self, name_rules: NameRules) -> Built:
        """Make all parts; see L{build}."""
        settings = self._settings
        tree = self._tree()
        self._mistakes.add_all_of(name_rules.mistakes)
        self._mistakes.raise_any()

        def backend_for(root: str | None, max_rate: int | None) -> Any:
            backend = tree if root is None else Subtree(tree, root)
            return self._paced(self._with_names(backend, name_rules.steps), max_rate)

        configuration = Configuration(
            backend_for(None, None),
            settings.policy,
            TransferLog(settings.verbose, self._reactor),
            UploadSettings(settings.write, settings.keep, settings.make_dirs),
            client_rules=tuple(map(_client_rule, settings.clients)),
            backend_for=backend_for,
            max_rate=settings.max_rate,
            port=settings.port,
            host=settings.host,
            drain=settings.drain,
            hooks=settings.hooks,
            pacer=self._pacer,
            named_backends=tuple(NamedBackend(leaf.name, leaf.backend) for leaf in self._leaves),
        )
        return Built(configuration, tuple(self._leaves))

    def _tree(self) -> Any:
        """Return the backend of all mounts; without mounts, that of `--root` or `--backend`."""
        settings = self._settings
        mounts = [self._mount(mount) for mount in settings.mounts]
        top = self._top()
        if not mounts:
            return top
        if top is not None:
            mounts.append(MountBackend(prefix="/", backend=top))
        return Mounts(mounts, ignore_case=settings.ignore_case)

    def _top(self) -> Any:
        """Return the backend of `--root` or `--backend`; None if only mounts are served."""
        settings = self._settings
        if settings.backend:
            place = settings.places.get("backend")
            named = [PlacedBackend(spec, place) for spec in settings.backend]
            return self._overlay(named, settings.write, "[tftp] backend")
        if settings.root is None:
            return None
        backend = FilesystemBackend(
            settings.root,
            settings.write.value,
            cache=settings.cache,
            quota=settings.upload_quota,
            follow_links=settings.follow_links,
            upload_mode=settings.upload_mode,
            make_dirs=settings.make_dirs,
            may_be_written=settings.accepts_uploads,
            ignore_case=settings.ignore_case,
            reactor=self._reactor,
        )
        name = f"filesystem:{settings.root}"
        self._leaves.append(Leaf(name, backend, settings.places.get("root")))
        return WriteGuard(backend, name) if self._has_names else backend

    def _mount(self, mount: Mount) -> MountBackend:
        """Return a mount with its backends."""
        return MountBackend(
            prefix=mount.prefix,
            backend=self._overlay(mount.backend, mount.write, "[[mount]] backend"),
            write=mount.write,
            keep=mount.keep,
            make_dirs=mount.make_dirs,
            may_use=_membership(mount.allow),
            may_write=_membership(mount.allow_write),
        )

    def _overlay(self, named: Sequence[PlacedBackend], write: WriteMode | None, key: str) -> Any:
        """Return one backend out of those that a key names; None if one can't be made.

        @param write: what the last one must be able to do with uploads; None if that is not known.
        """
        guards = []
        for each in named:
            guard = self._guard(each, key, is_alone=len(named) == 1)
            if guard is not None:
                guards.append(guard)
        if len(guards) < len(named):
            return None
        last = guards[-1]
        if write is not None and write not in last.write_modes:
            self._add(named[-1], key, f"{_shown(named[-1])} can't obey write = {write.value!r}")
        if len(guards) == 1:
            return last
        return OverlayBackend(guards, [_shown(each) for each in named])

    def _guard(self, named: PlacedBackend, key: str, *, is_alone: bool) -> WriteGuard | None:
        """Return a backend with the rules for uploads around it; None if it can't be made."""
        try:
            spec = _ignoring_case(named.spec) if self._settings.ignore_case else named.spec
            backend = make_backend(spec)
        except ValueError as error:
            self._add(named, key, str(error))
            return None
        text = _shown(named)
        self._leaves.append(Leaf(text, backend, named.place))
        return WriteGuard(backend, text if is_alone else "")

    def _add(self, named: PlacedBackend, key: str, text: str) -> None:
        """Add a mistake in the name of a backend."""
        self._mistakes.add(named.place, f"{key}: {text}" if named.place else text)

    def _with_names(self, tree: Any, steps: Sequence[NameStep]) -> Any:
        """Return a backend for the names that clients send.

        @param tree: the mounts, or a client root in them.
        """
        settings = self._settings
        if settings.unique_root is not None:
            falls_back = not settings.no_common_root
            tree = UniqueRoot(tree, settings.unique_root, falls_back=falls_back)
        return NamePipeline(tree, steps) if steps else tree

    def _paced(self, backend: Any, max_rate: int | None) -> Any:
        """Return a backend that limits the rate of all transfers, and maybe that of each one."""
        if self._pacer is None and max_rate is None:
            return backend
        return PacedBackend(
            backend,
            max_rate=max_rate,
            shared=self._pacer,
            reactor=self._reactor,
            clock=monotonic,
        )


def _client_rule(client: Client) -> ClientRule:
    """Return the rule of a `[[client]]` for the server."""
    settings = ClientSettings(
        refuse=client.refuse,
        max_blksize=client.max_blksize,
        max_windowsize=client.max_windowsize,
        timeout=client.timeout,
        root=client.root,
        write=client.write,
        rate=client.rate,
        max_rate=client.max_rate,
    )
    return ClientRule(settings, network=client.network, mac=client.mac)


def _shown(named: PlacedBackend) -> str:
    """Return the text of a backend for messages, without secrets."""
    return without_url_secrets(str(named.spec))


def _ignoring_case(spec: BackendSpec) -> BackendSpec:
    """Return a spec whose backend for the file system ignores the case of names, if it says not.

    @raise ValueError: the wrapped backend in it is not valid.
    """
    keywords = dict(spec.keywords)
    if spec.name == "filesystem":
        keywords.setdefault("ignore-case", "yes")
    if INNER in keywords:
        keywords[INNER] = str(_ignoring_case(BackendSpec.parse(keywords[INNER])))
    return BackendSpec(spec.name, spec.argument, keywords)


def _membership(networks: Sequence[Network]) -> Any:
    """Return a function that tells whether a host is in one of the networks; None for all."""
    return Networks(networks).allows if networks else None
