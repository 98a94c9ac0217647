"""Make a file for each machine from a template."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain_opening
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.threads import READ_THREADS, InThread, Threads
from twisted_tftp.backends.memory import MemoryReader
from twisted_tftp.backends.template import frames
from twisted_tftp.backends.template.content_store import DEFAULT_CAPACITY, ContentStore
from twisted_tftp.backends.template.folder import FoundTemplate, NeedsThread, State, TemplateFolder
from twisted_tftp.backends.template.frames import Answer, FrameError, Limits
from twisted_tftp.backends.template.hosts import FoundHost, HostAnswer, IHostSource, Machine
from twisted_tftp.backends.template.identity import normal_address, normal_mac
from twisted_tftp.backends.template.syntax_check import check_syntax
from twisted_tftp.backends.template.worker_process import RenderError
from twisted_tftp.backends.template.workers import DEFAULT_COUNT, QueueFull, Workers
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, BackendUnavailable, FileNotFound, TFTPError
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IContentCheck,
    IExplainable,
    IFileBackend,
)

#: What the client is told if a template fails.
FAILED = "the template failed"

#: The answer if there is no source of entries.
NO_SOURCE = HostAnswer(None, "there is no hosts file (`hosts`)")


@implementer(IHostSource)
class NoHosts:
    """A source without entries."""

    def check(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def find(self, machine: Machine) -> FoundHost:
        """Return that there is no entry."""
        return NO_SOURCE


@implementer(IFileBackend, IBackendLifecycle, IContentCheck, IExplainable)
class TemplateBackend:
    """A backend whose files are made from the templates of a folder, `NAME.j2` for `NAME`.

    The content is fixed when the transfer starts. Templates are rendered in worker processes.

    @param folder: the path of the folder.
    @param hosts: the entries of machines, an L{IHostSource}; None for no entries.
    @param verify_mac: whether a name is only for the machine that the kernel's neighbour table
        has for the client's address.
    @param limits: what may be used for one template.
    @param workers: the most worker processes.
    @param cache: the memory for rendered files, in octets; 0 for none.
    @param reactor: the reactor; None for the global one.
    @param in_thread: calls a function in a thread; None for a pool of threads.
    @param lookup: finds files in the kernel's caches; None for a new one.
    @param clock: returns the time in seconds since 1970, for `now`.
    """

    def __init__(
        self,
        folder: str,
        *,
        hosts: Any = None,
        verify_mac: bool = False,
        limits: Limits | None = None,
        workers: int = DEFAULT_COUNT,
        cache: int = DEFAULT_CAPACITY,
        reactor: Any = None,
        in_thread: InThread | None = None,
        lookup: KernelLookup | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set up, without opening the folder and without a process."""
        folder = os.path.abspath(folder)  # a worker process has another working directory
        in_thread = in_thread or Threads("tftp-template", READ_THREADS, reactor)
        self._folder = TemplateFolder(folder, in_thread, lookup)
        self._hosts = hosts or NoHosts()
        self._verify_mac = verify_mac
        self._clock = clock
        self._contents = ContentStore(cache)
        self._limits = limits or Limits()
        self._reactor = reactor
        self._workers = Workers(folder, self._limits, count=workers, reactor=reactor)

    # -- IFileBackend ----------------------------------------------------------------------

    def open_reader(
        self, path: str, context: TransferContext
    ) -> MemoryReader | Deferred[MemoryReader]:
        """Render the template for a name, unless the file is cached.

        @raise FileNotFound: there is no template for the name, or the template calls `not_found`.
        @raise AccessViolation: `verify_mac` is set, and the name is for another machine.
        @raise TFTPError: the template fails.
        """
        try:
            found = self._folder.find(path)
        except NeedsThread:
            searching = self._folder.find_in_thread(path)
            return searching.addCallback(lambda found: self._open(found, context))
        return self._open(found, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Refuse the upload."""
        raise AccessViolation("this server does not accept files", "templates are not uploaded")

    # -- the steps of a read ---------------------------------------------------------------

    def _open(
        self, found: FoundTemplate, context: TransferContext
    ) -> MemoryReader | Deferred[MemoryReader]:
        """Find the entry of the machine, and then the content."""
        named = found.machine
        own_mac = _mac_of(context) if named.mac is None or self._verify_mac else None
        if self._verify_mac and named.mac is not None and named.mac != own_mac:
            raise AccessViolation(detail=_another_machine(named.mac, own_mac))
        is_named = named.pattern is not None
        machine = Machine(
            # If the name is for a machine, the entry of the client is not that machine's.
            named.mac if is_named else own_mac,
            named.uuid,
            named.address,
            context.peer.host,
            found.name,
            is_named=is_named,
        )
        values = self._values(found, named.mac or own_mac, context)
        host = self._hosts.find(machine)
        if isinstance(host, Deferred):
            return host.addCallback(
                lambda answer: self._open_for(answer, found, machine, own_mac, values)
            )
        return self._open_for(host, found, machine, own_mac, values)

    def _values(
        self, found: FoundTemplate, mac: str | None, context: TransferContext
    ) -> dict[str, str]:
        """Return the JSON text of each variable but `host`; unknown ones are left out."""
        values = {
            "name": found.name,
            "mac": mac,
            "uuid": found.machine.uuid,
            "address": found.machine.address,
            "network": found.machine.network,
            "client.host": context.peer.host,
            "client.port": context.peer.port,
            "now": self._clock(),
        }
        return {name: json.dumps(value) for name, value in values.items() if value is not None}

    def _open_for(
        self,
        host: HostAnswer,
        found: FoundTemplate,
        machine: Machine,
        own_mac: str | None,
        values: dict[str, str],
    ) -> MemoryReader | Deferred[MemoryReader]:
        """Return the file for a machine whose entry is known: from the cache if possible."""
        if host.entry is None:
            values["host_problem"] = json.dumps(host.problem)
            if self._verify_mac and machine.is_named and found.machine.mac is None:
                _check_named(machine, own_mac)
        else:
            values["host"] = host.entry
            if self._verify_mac and found.machine.mac is None:
                _check_entry(json.loads(host.entry), own_mac, machine.client)
        try:
            content = self._contents.get(found.template, values, self._folder.state_of)
        except NeedsThread:
            names = self._contents.files_of(found.template, values)
            looking = self._folder.states_in_thread(names)
            return looking.addCallback(lambda states: self._cached(found, values, states.get))
        return self._render(found, values) if content is None else MemoryReader(content)

    def _cached(
        self, found: FoundTemplate, values: dict[str, str], state_of: Callable[[str], State]
    ) -> MemoryReader | Deferred[MemoryReader]:
        """Return the file from the cache if the states of its files allow that."""
        content = self._contents.get(found.template, values, state_of)
        return self._render(found, values) if content is None else MemoryReader(content)

    def _render(self, found: FoundTemplate, values: dict[str, str]) -> Deferred[MemoryReader]:
        """Render the template in a worker process."""
        try:
            request = frames.request(found.template, values)
        except FrameError as error:
            raise TFTPError(FAILED, f"{found.template}: {error}") from None
        answered: Deferred[Any] = self._workers.render(request)

        def use(answer: Answer) -> MemoryReader:
            failure = answer.header.get("failed")
            if failure is not None:
                raise TFTPError(FAILED, _where(failure))
            if "not_found" in answer.header:
                raise FileNotFound(detail=f"{found.template} calls not_found")
            self._contents.add(found.template, values, answer.header, answer.content)
            return MemoryReader(answer.content)

        def fail(failure: Any) -> MemoryReader:
            failure.trap(RenderError)
            if failure.check(QueueFull):
                raise TFTPError("the server is busy", failure.getErrorMessage())
            raise TFTPError(FAILED, f"{found.template}: {failure.getErrorMessage()}")

        return answered.addCallbacks(use, fail)

    # -- IBackendLifecycle -----------------------------------------------------------------

    def check(self) -> None:
        """Check that the folder is a directory, and read the hosts file.

        @raise BackendUnavailable: one of them can't be used.
        """
        if not os.path.isdir(self._folder.path):
            raise BackendUnavailable(f"template folder {self._folder.path!r} is not a directory")
        self._hosts.check()

    def check_content(self) -> None:
        """Check the syntax of all templates, except in the thread of a running reactor.

        There it would block for seconds.

        @raise BackendUnavailable: one has a syntax error.
        """
        if not self._is_in_running_reactor():
            check_syntax(self._folder.path, self._limits)

    def _is_in_running_reactor(self) -> bool:
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor
        return bool(getattr(reactor, "running", False)) and isInIOThread()

    def start(self) -> None:
        """Start the first worker process."""
        self._workers.start()

    def forget(self) -> None:
        """Discard all cached data: rendered files, and entries of machines."""
        self._contents.clear()
        self._folder.forget()
        self._hosts.forget()

    def stop(self) -> Deferred[None]:
        """End the worker processes."""
        return self._workers.stop()

    # -- IExplainable ----------------------------------------------------------------------

    def explain(self, path: str, context: TransferContext) -> Deferred[list[str]]:
        """Return the lines that say which template answers, and with what result."""
        finding = self._folder.find_in_thread(path)
        opened = finding.addCallbacks(lambda found: [f"template: {found.template}"], lambda _: [])

        def open_file(lines: list[str]) -> Deferred[list[str]]:
            return explain_opening(self, path, context).addCallback(lines.__add__)

        return opened.addCallback(open_file)


def _mac_of(context: TransferContext) -> str | None:
    """Return the MAC address of the client; None if it is unknown."""
    mac = context.mac
    return None if mac is None else normal_mac(mac)


def _check_named(machine: Machine, own_mac: str | None) -> None:
    """Check that a name is not for another machine, when the hosts have no entry for it.

    @raise AccessViolation: it has a UUID, or an IP address that is not that of the client.
    """
    if machine.uuid is not None or machine.address not in (None, machine.client):
        raise AccessViolation(detail=_another_machine(machine.uuid or machine.address, own_mac))


def _check_entry(entry: dict[str, Any], own_mac: str | None, host: str) -> None:
    """Check that an entry is that of the client: it must have its MAC address or its IP address.

    @raise AccessViolation: it may be that of another machine.
    """
    mac = entry.get("mac")
    if mac is None:
        if _is_same_address(entry.get("address"), host):
            return
    elif own_mac is not None and isinstance(mac, str):
        with contextlib.suppress(ValueError):  # a service may answer with any text
            mac = normal_mac(mac)
        if mac == own_mac:
            return
    raise AccessViolation(detail=_another_machine(mac, own_mac))


def _is_same_address(address: Any, host: str) -> bool:
    """Return whether an entry has the IP address of a client; a zone of `host` is ignored."""
    if not isinstance(address, str):
        return False
    try:
        return normal_address(address) == normal_address(host.partition("%")[0])
    except ValueError:
        return False


def _another_machine(mac: Any, own_mac: str | None) -> str:
    """Return the log text for a request that is for another machine than the client."""
    wanted = f"the file is for {mac}" if mac else "the entry has no mac"
    return f"{wanted}, the neighbour table has {own_mac or 'no entry'} for the client (verify-mac)"


def _where(failure: dict[str, Any]) -> str:
    """Return where and why a template has failed."""
    line = f", line {failure['line']}" if failure["line"] else ""
    return f"{failure['template']}{line}: {failure['reason']}"
