"""Several backends in one tree of names: each mount serves the names below its prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from twisted_tftp.backends.confined_names import MAX_CACHED_NAME, confined, prefix_components
from twisted_tftp.backends.explaining import describe_error, explain
from twisted_tftp.backends.lifecycles import CombinedLifecycle
from twisted_tftp.backends.naming import with_slashes
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend
from twisted_tftp.policy import UploadSettings, WriteMode

#: The most names whose mount is cached.
MAX_CACHED_MOUNTS = 4096


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A backend, the prefix of its names, and the rules for its clients.

    @ivar prefix: the components in front of each name, such as `/configs`; `/` for all names.
    @ivar backend: an L{IFileBackend}; it gets the names without the prefix.
    @ivar write: which files may be written; None for the rule of the request.
    @ivar keep: how many versions of a file are kept; None for the rule of the request.
    @ivar make_dirs: whether an upload makes missing directories; None for the rule of the request.
    @ivar may_use: returns whether a host may read and write files of this mount; None if each may.
    @ivar may_write: returns whether a host that may use the mount may write; None if each may.
    """

    prefix: str
    backend: Any
    write: WriteMode | None = None
    keep: int | None = None
    make_dirs: bool | None = None
    may_use: Callable[[str], bool] | None = None
    may_write: Callable[[str], bool] | None = None

    def check_read(self, host: str) -> None:
        """Check that a host may read files of this mount.

        @raise AccessViolation: it may not.
        """
        if self.may_use is not None and not self.may_use(host):
            raise AccessViolation(
                "your address may not read here", f"{host} is not in allow of {self}"
            )

    def check_write(self, host: str) -> None:
        """Check that a host may write files of this mount.

        @raise AccessViolation: it may not.
        """
        for may, key in ((self.may_use, "allow"), (self.may_write, "allow_write")):
            if may is not None and not may(host):
                raise AccessViolation(
                    "your address may not write here", f"{host} is not in {key} of {self}"
                )

    def uploads_for(self, uploads: UploadSettings | None) -> UploadSettings | None:
        """Return the rules for an upload into this mount.

        @param uploads: the rules of the request; None if there are none.
        @return: these rules, with what the mount sets; None if there are none at all.
        """
        changes: dict[str, Any] = {}
        if self.write is not None:
            changes["write"] = self.write
        if self.keep is not None:
            changes["keep"] = self.keep
        if self.make_dirs is not None:
            changes["make_dirs"] = self.make_dirs
        return replace(uploads or UploadSettings(), **changes) if changes else uploads

    def __str__(self) -> str:
        """Return what the mount is called in the log."""
        return f"the mount {_shown(prefix_components(self.prefix))}"


class _Table:
    """The mounts by prefix, and the names whose mount is cached."""

    def __init__(self, mounts: Iterable[Mount], ignore_case: bool) -> None:
        """Set up.

        @param ignore_case: whether a prefix matches in upper and lower case. An exact match wins
            over another one of the same length, then the first prefix in sort order.
        @raise ValueError: a prefix is not valid, or two mounts have the same one.
        """
        self._exact: dict[tuple[str, ...], Mount] = {}
        self._folded: dict[tuple[str, ...], Mount] = {}
        for mount in mounts:
            prefix = prefix_components(mount.prefix)
            if prefix in self._exact:
                raise ValueError(f"two mounts have the prefix {_shown(prefix)}")
            self._exact[prefix] = mount
        if ignore_case:
            for prefix in sorted(self._exact):
                self._folded.setdefault(_fold(prefix), self._exact[prefix])
        self._depth = max(map(len, self._exact), default=0)
        self._cached = lru_cache(MAX_CACHED_MOUNTS)(self._find)

    def find(self, path: str) -> tuple[Mount, str]:
        """Return the mount of a name, and the name without the prefix.

        @raise FileNotFound: no mount has that name.
        @raise AccessViolation: the name is that of a directory, or a `..` leads out of a mount.
        """
        return (self._cached if len(path) <= MAX_CACHED_NAME else self._find)(path)

    def _find(self, path: str) -> tuple[Mount, str]:
        mount, inner = self._look_up(path)
        slashed = with_slashes(path)
        if slashed is not None:
            # The backend may take backslashes for slashes. That must not lead to the directory of
            # another mount.
            other, other_inner = self._look_up(slashed)
            if other is not mount:
                mount, inner = other, other_inner
        if mount is None:
            raise FileNotFound(detail="no mount has this name")
        if not inner:
            raise AccessViolation("not a regular file")
        return mount, inner

    def _look_up(self, path: str) -> tuple[Mount | None, str]:
        """Return the mount with the longest prefix of `path`, and the path without the prefix."""
        parts = confined(path, self._is_prefix)
        for length in range(min(len(parts), self._depth), -1, -1):
            mount = self._mount_at(parts[:length])
            if mount is not None:
                return mount, "/".join(parts[length:])
        return None, ""

    def _is_prefix(self, parts: Sequence[str]) -> bool:
        return len(parts) <= self._depth and self._mount_at(parts) is not None

    def _mount_at(self, parts: Sequence[str]) -> Mount | None:
        """Return the mount whose prefix has exactly these components; None if there is none."""
        mount = self._exact.get(tuple(parts))
        if mount is None and self._folded:
            mount = self._folded.get(_fold(parts))
        return mount


def _shown(prefix: Sequence[str]) -> str:
    """Return a prefix as text."""
    return f"/{'/'.join(prefix)}"


def _fold(parts: Sequence[str]) -> tuple[str, ...]:
    """Return components without the difference of upper and lower case."""
    return tuple(part.casefold() for part in parts)


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class Mounts:
    r"""A backend of mounts: the longest prefix of whole components decides which mount is asked.

    A name that its mount does not have is not looked for in another one, and no name leads from a
    mount into another one:

     - `..` is resolved as text. It may not leave the mount that the components before it lead to.
     - A name whose backslashes would lead to another mount as slashes gets slashes.
     - With `ignore_case`, names that differ from a prefix only in case belong to its mount.

    The backend of `/` can serve the directory in which those of the other mounts are: nobody gets
    around the rules of a mount.

    @ivar mounts: the mounts.
    """

    def __init__(self, mounts: Iterable[Mount], *, ignore_case: bool = False) -> None:
        """Set up.

        @param ignore_case: whether prefixes match in upper and lower case, in reads only. It must
            be set if a backend of a mount finds names in upper and lower case.
        @raise ValueError: a prefix is not valid, or two mounts have the same one.
        """
        self.mounts = tuple(mounts)
        self._writes = _Table(self.mounts, ignore_case=False)
        self._reads = _Table(self.mounts, ignore_case=True) if ignore_case else self._writes
        self._lifecycle = CombinedLifecycle(mount.backend for mount in self.mounts)
        self.check, self.start = self._lifecycle.check, self._lifecycle.start
        self.forget, self.stop = self._lifecycle.forget, self._lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file of the mount that the name belongs to.

        @raise FileNotFound: no mount has that name.
        @raise AccessViolation: the client may not read there, or the name is that of a directory.
        """
        mount, inner = self._reads.find(path)
        if mount.may_use is not None:
            mount.check_read(context.peer.host)
        return mount.backend.open_reader(inner, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file of the mount that the name belongs to; its rules are in the context.

        @raise FileNotFound: no mount has that name.
        @raise AccessViolation: the client may not write there, or the name is that of a directory.
        """
        mount, inner = self._writes.find(path)
        mount.check_write(context.peer.host)
        uploads = mount.uploads_for(context.uploads)
        return mount.backend.open_writer(inner, context._replace(uploads=uploads))

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return a line with the prefix of the mount, and what its backend says."""
        mount, inner = self._reads.find(path)
        line = f"mount: {_shown(prefix_components(mount.prefix))}"
        try:
            mount.check_read(context.peer.host)
        except TFTPError as error:
            return [line, *describe_error(error)]
        answer = yield explain(mount.backend, inner, context)
        return [line, *answer]
