"""Test that a busy service takes hundreds of configurations and loses no transfer."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from tests.support.logs import no_errors_logged
from tests.support.memory_server import close_client
from tests.support.reactors import outcome, reactor, spin
from tests.support.ruled_network import network_rule
from twisted_tftp.backends import FilesystemBackend, MemoryBackend
from twisted_tftp.client import TFTPClient
from twisted_tftp.context import Outcome
from twisted_tftp.interfaces import IBackendLifecycle
from twisted_tftp.policy import Policy
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.service import TFTPService
from twisted_tftp.testing import Recorder

__all__ = ["reactor"]

#: How many clients transfer files all the time, and how often the service is reconfigured.
CLIENTS, RELOADS = 50, 200

#: How many transfers end between two reloads.
TRANSFERS_PER_RELOAD = 5

#: The octets of each file: twenty windows.
SIZE = 40_000


@implementer(IBackendLifecycle)
class NumberedBackend(MemoryBackend):
    """A backend whose file consists of one octet, the number of its configuration.

    @ivar is_stopped: whether its service has stopped it.
    """

    def __init__(self, number: int, stops: list[int]) -> None:
        super().__init__({"file": bytes([number % 256]) * SIZE}, "create")
        self.number = number
        self.is_stopped = False
        self._stops = stops

    def check(self) -> None:
        pass

    def start(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def stop(self) -> None:
        assert not self.is_stopped
        self.is_stopped = True
        self._stops.append(self.number)

    def open_reader(self, path: str, context: Any) -> Any:
        return FileInUse(self, super().open_reader(path, context))

    def open_writer(self, path: str, context: Any) -> Any:
        return FileInUse(self, super().open_writer(path, context))


class FileInUse:
    """A reader or writer that fails if its backend was stopped."""

    def __init__(self, backend: NumberedBackend, file: Any) -> None:
        self._backend = backend
        self._file = file

    def __getattr__(self, name: str) -> Any:
        assert not self._backend.is_stopped
        return getattr(self._file, name)


class Reloads:
    """A service that is reconfigured while clients read and write files.

    @ivar finished: how many transfers have completed.
    @ivar results: the results of the clients that have ended: None, or a failure.
    """

    def __init__(self, reactor: Any, single_port: bool) -> None:
        self.finished = 0
        self.count = 0
        self.stops: list[int] = []
        self.recorder = Recorder()
        self.backends: list[weakref.ref[NumberedBackend]] = []
        self.results: list[Any] = []
        self._reactor = reactor
        self._single_port = single_port
        self.service = TFTPService.from_configuration(self._configuration(), reactor)

    def _configuration(self) -> Configuration:
        """Return the next configuration; it differs from the one before in all that can change."""
        backend = NumberedBackend(self.count, self.stops)
        self.backends.append(weakref.ref(backend))
        rule = network_rule("127.0.0.0/8", max_windowsize=4 + self.count % 3)
        return Configuration(
            backend,
            Policy(
                single_port=self._single_port,
                max_blksize=512 + self.count % 100,
                rate=1e6 - self.count % 2,
                unproven_rate=10**9 + self.count % 2,
            ),
            self.recorder,
            client_rules=(rule,) if self.count % 2 else (),
            port=0,
            host=("127.0.0.1",),
            drain=30,
        )

    def start_client(self, client: TFTPClient, number: int) -> None:
        """Let a client transfer files."""
        self._run(client, number).addBoth(self.results.append)

    def _run(self, client: TFTPClient, number: int) -> Deferred[None]:
        """Transfer a file, and the next one after it, until there were enough reloads."""
        sink = io.BytesIO()
        turn = 0

        def ended(result: Any) -> Any:
            self.finished += 1
            content = sink.getvalue()
            if not turn % 4:
                assert content == content[:1] * SIZE
            if self.finished % TRANSFERS_PER_RELOAD == 0 and self.count < RELOADS:
                self.count += 1
                assert self.service.reconfigure(self._configuration()) == []
            return next_transfer() if self.count < RELOADS else None

        def next_transfer() -> Deferred[None]:
            nonlocal turn
            turn += 1
            sink.seek(0)
            sink.truncate()
            if turn % 4:
                upload = io.BytesIO(bytes([number]) * SIZE)
                transfer = client.put(upload, f"{number}-{turn}")
            else:
                transfer = client.get("file", sink)
            return transfer.addCallback(ended)

        return next_transfer()


@pytest.mark.parametrize("single_port", [False, True])
def test_reloads_lose_no_transfer(reactor: Any, single_port: bool) -> None:
    """Each file comes from one configuration, and each old backend is stopped and released."""
    reloads = Reloads(reactor, single_port)
    service = reloads.service
    service.startService()
    port = service.ports[0].getHost().port
    clients = [
        TFTPClient(reactor, "127.0.0.1", port, in_thread=maybeDeferred, windowsize=8)
        for _ in range(CLIENTS)
    ]
    for number, client in enumerate(clients):
        reloads.start_client(client, number)
    with no_errors_logged():
        spin(reactor, lambda: len(reloads.results) == CLIENTS, 100)
        for client in clients:
            close_client(reactor, client)
        assert reloads.results == [None] * CLIENTS
        assert reloads.count == RELOADS
        spin(reactor, lambda: not service.transfers.running)
        service.transfers.end_dallying(len(service.transfers))
        assert len(reloads.stops) == RELOADS
        outcome(reactor, service.stopService())
    assert set(reloads.recorder.outcomes) == {Outcome.COMPLETED}
    assert len(reloads.recorder.outcomes) == reloads.finished
    assert sorted(reloads.stops) == list(range(RELOADS + 1))
    gc.collect()
    assert [each() is None for each in reloads.backends] == [True] * RELOADS + [False]


def test_reloads_leave_no_threads_and_no_backends(reactor: Any, tmp_path: Path) -> None:
    """Each backend has used its threads for reading and for writing."""
    backends: list[weakref.ref[FilesystemBackend]] = []
    (tmp_path / "file").write_text("content")
    triggers = reactor._eventTriggers["shutdown"].during
    threads = threading.active_count()

    def configuration() -> Configuration:
        backend = FilesystemBackend(str(tmp_path), "create", reactor=reactor)
        backends.append(weakref.ref(backend))
        return Configuration(backend, host=("127.0.0.1",), port=0)

    def use_threads() -> None:
        backend = service.backend
        assert outcome(reactor, backend.remove_unfinished_uploads()) == 0
        outcome(reactor, backend._in_read_thread(backend._open, "file")).discard()

    service = TFTPService.from_configuration(configuration(), reactor)
    service.startService()
    use_threads()
    at_start = len(triggers)
    for _ in range(RELOADS):
        service.reconfigure(configuration())
        use_threads()
    gc.collect()
    spin(reactor, lambda: len(triggers) == at_start)
    # Those of the present backend: one or two in each pool.
    spin(reactor, lambda: threading.active_count() <= threads + 4)
    assert [each() is None for each in backends] == [True] * RELOADS + [False]
    outcome(reactor, service.stopService())
    reactor.fireSystemEvent("shutdown")
