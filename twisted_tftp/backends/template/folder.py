"""Find the template that answers for a file name, without blocking where that is possible.

`NAME.j2` answers for `NAME`. If there is no such file, and the name has a MAC address, a UUID or
an IP address, the template of its pattern answers: `pxelinux.cfg/01-{mac}.j2` for all machines.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from twisted_tftp.backends.filesystem.content_cache import Identity, identity
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.backends.filesystem.threads import InThread
from twisted_tftp.backends.naming import components
from twisted_tftp.backends.template.identity import MachineIdentity, identity_of
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError, from_os_error

#: The end of the name of a template.
SUFFIX = ".j2"

#: The state of a file; None if there is no such file.
State = Identity | None


class FoundTemplate(NamedTuple):
    """The template that answers for a name.

    @ivar name: the file name, without leading slashes.
    @ivar template: the path of the template below the folder.
    @ivar machine: what the name says about its machine.
    """

    name: str
    template: str
    machine: MachineIdentity


class NeedsThread(Exception):
    """The answer can't be found without blocking."""


class TemplateFolder:
    """A folder of templates.

    @ivar path: its path.
    """

    def __init__(self, path: str, in_thread: InThread, lookup: KernelLookup | None = None) -> None:
        """Set up, without opening the folder.

        @param in_thread: calls a function in a thread.
        @param lookup: finds files in the kernel's caches; None for a new one.
        """
        self.path = path
        self._in_thread = in_thread
        self._lookup = lookup or KernelLookup(path)

    def forget(self) -> None:
        """Discard what is known of the folder's file system."""
        self._lookup.forget_file_system()

    def find(self, path: str) -> FoundTemplate:
        """Find the template for the path of a request.

        @raise FileNotFound: there is none.
        @raise NeedsThread: call L{find_in_thread}.
        """
        name = name_of(path)
        if self._exists(name + SUFFIX):
            return FoundTemplate(name, name + SUFFIX, identity_of(name))
        machine = identity_of(name)
        if machine.pattern is not None and self._exists(machine.pattern + SUFFIX):
            return FoundTemplate(name, machine.pattern + SUFFIX, machine)
        raise FileNotFound()

    def _exists(self, template: str) -> bool:
        """Return whether there is a template.

        @raise NeedsThread: that would block.
        """
        return self.state_of(template) is not None

    def state_of(self, template: str) -> State:
        """Return the state of a file below the folder.

        @raise NeedsThread: that would block.
        """
        try:
            found = self._lookup.find(template)
        except TFTPError:
            return None
        if found is None:
            raise NeedsThread
        state = found.identity
        found.close()
        return state

    def find_in_thread(self, path: str) -> Deferred[FoundTemplate]:
        """Find the template for the path of a request in a thread.

        @return: fails with L{FileNotFound} if there is none, and with L{AccessViolation} if it is
            a link that leads out of the folder.
        """
        return self._in_thread(self._find_slowly, path)

    def _find_slowly(self, path: str) -> FoundTemplate:
        name = name_of(path)
        machine = identity_of(name)
        try:
            self._lookup.detect_file_system()
            if _state_of(self.path, name + SUFFIX) is not None:
                return FoundTemplate(name, name + SUFFIX, machine)
            if machine.pattern is not None:
                template = machine.pattern + SUFFIX
                if _state_of(self.path, template) is not None:
                    return FoundTemplate(name, template, machine)
        except OSError as error:
            raise from_os_error(error) from error
        raise FileNotFound()

    def states_in_thread(self, templates: Iterable[str]) -> Deferred[dict[str, State]]:
        """Return the state of each file, looked up in a thread."""
        names = tuple(templates)
        return self._in_thread(lambda: {name: self._state_or_none(name) for name in names})

    def _state_or_none(self, template: str) -> State:
        try:
            return _state_of(self.path, template)
        except (AccessViolation, OSError):
            return None


def name_of(path: str) -> str:
    """Return the name that the path of a request stands for.

    @raise FileNotFound: no template can answer for it.
    @raise AccessViolation: only a directory can have that name.
    """
    parts = components(path)
    # Not a violation: another backend may have a file of that name. A placeholder must not come
    # from the network.
    if ".." in parts or "{" in path:
        raise FileNotFound(detail="no template has such a name")
    return "/".join(parts)


def _state_of(folder: str, template: str) -> State:
    """Return the state of a file; this may block.

    @raise AccessViolation: it is a link that leads out of the folder.
    @raise OSError: it can't be looked up.
    """
    try:
        with resolve(folder, template) as resolved:
            status = resolved.stat()
    except (FileNotFound, FileNotFoundError, NotADirectoryError):
        return None
    return identity(status) if stat.S_ISREG(status.st_mode) else None
