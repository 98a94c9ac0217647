"""The table of the running transfers: it finds and counts them, and reports when none is left."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.server.flood_defence import UnansweredTransfers
from twisted_tftp.server.process_memory import trim_memory
from twisted_tftp.server.replaced_requests import ReplacedRequests
from twisted_tftp.server.session import ServerSession, SessionKey
from twisted_tftp.session.window_budget import WindowBudget

#: The most complete writes that still answer a repeated last block. Each holds a socket.
MAX_DALLYING = 1000

#: If there were at least this many sessions at a time, free memory is given back to the operating
#: system when nine tenths of them have ended.
MANY_SESSIONS = 1000


class _Group:
    """Sessions whose common end is awaited.

    @ivar left: how many have not ended.
    @ivar released: fires when none is left.
    """

    def __init__(self, size: int) -> None:
        self.left = size
        self.released: Deferred[None] = Deferred()


class Transfers:
    """The sessions of all request ports of one server.

    A session runs until its outcome is known; a complete write dallies after that. A session is
    found by the peer's socket address, or by its key: that address and the local address that the
    request reached.

    @ivar running: the number of sessions that run.
    @ivar by_peer: the sessions of each peer's port, the oldest first; usually there is one.
    @ivar window_budget: the memory that is left for the windows of all sessions.
    @ivar replaced_requests: requests that newer ones have replaced.
    @ivar unanswered: the running sessions whose peers have not answered, for the flood defence.
    """

    def __init__(self, trim_memory: Callable[[], None] = trim_memory) -> None:
        """Set up an empty table.

        @param trim_memory: gives free memory back to the operating system.
        """
        self._trim_memory = trim_memory
        self.window_budget = WindowBudget()
        self.replaced_requests = ReplacedRequests()
        self.unanswered = UnansweredTransfers()
        self._sessions: set[ServerSession] = set()
        self._peak = 0  # the most sessions at a time since memory was trimmed
        # Each request needs these two, so they are no properties.
        self.by_peer: dict[SocketAddress, list[ServerSession]] = {}
        self.running = 0
        self._running_by_host: dict[str, int] = {}  # the number of running sessions of each host
        self._dallying: dict[ServerSession, None] = {}
        self._groups: dict[ServerSession, _Group] = {}  # the sessions of groups that were closed
        self._waiting_for_none_running: list[Deferred[None]] = []
        self._waiting_for_none_left: list[Deferred[None]] = []

    @property
    def running_hosts(self) -> int:
        """The number of hosts that have running sessions."""
        return len(self._running_by_host)

    def running_of_host(self, host: str) -> int:
        """Return the number of running sessions of a peer's host."""
        return self._running_by_host.get(host, 0)

    def __len__(self) -> int:
        """Return the number of sessions, including those that dally."""
        return len(self._sessions)

    def find(self, key: SessionKey) -> ServerSession | None:
        """Return the newest session of `key` that is not closed, or None."""
        for session in reversed(self.by_peer.get(key[0], ())):
            if session.key == key and not session.is_closed:
                return session
        return None

    def sessions_of_peer(self, peer: SocketAddress) -> list[ServerSession]:
        """Return the sessions of a peer's port that are not closed, the newest first."""
        sessions = self.by_peer.get(peer)
        if sessions is None:
            return []
        return [session for session in reversed(sessions) if not session.is_closed]

    def add(self, session: ServerSession) -> None:
        """Add a session that is about to start."""
        self._sessions.add(session)
        self.unanswered.add(session)
        self.by_peer.setdefault(session.key[0], []).append(session)
        self.running += 1
        host = session.context.peer.host
        self._running_by_host[host] = self._running_by_host.get(host, 0) + 1

    def note_finished(self, session: ServerSession) -> None:
        """Note that the outcome of a session is known: it dallies, or is about to end."""
        self.running -= 1
        self.unanswered.remove(session)
        host = session.context.peer.host
        left = self._running_by_host[host] - 1
        if left:
            self._running_by_host[host] = left
        else:
            del self._running_by_host[host]
        self._dallying[session] = None
        if len(self._dallying) > MAX_DALLYING:
            self.end_dallying(1)
        if not self.running:
            _fire(self._waiting_for_none_running)

    def remove(self, session: ServerSession) -> None:
        """Remove a session that has released everything."""
        count = len(self._sessions)
        if count > self._peak:
            self._peak = count
        self._sessions.discard(session)
        if self._peak >= MANY_SESSIONS and count <= self._peak // 10:
            self._peak = count
            self._trim_memory()
        self._dallying.pop(session, None)
        if self._groups:
            self._remove_from_group(session)
        peer = session.key[0]
        others = self.by_peer[peer]
        if len(others) == 1:
            del self.by_peer[peer]
        else:
            others.remove(session)
        if not self._sessions:
            _fire(self._waiting_for_none_left)

    def close_group(self) -> Deferred[None]:
        """Close the current group of sessions: those that were added since the last call.

        @return: fires when every session of the group has released everything.
        """
        members = [session for session in self._sessions if session not in self._groups]
        if not members:
            return succeed(None)
        group = _Group(len(members))
        self._groups.update(dict.fromkeys(members, group))
        return group.released

    def _remove_from_group(self, session: ServerSession) -> None:
        """Remove a session from its group, if that was closed."""
        group = self._groups.pop(session, None)
        if group is not None:
            group.left -= 1
            if not group.left:
                group.released.callback(None)

    def end_dallying(self, count: int = 100) -> int:
        """End up to `count` sessions that dally, the oldest first; return how many were ended."""
        oldest = [session for session in self._dallying if not session.is_closed][:count]
        for session in oldest:
            session.cancel()
        return len(oldest)

    def when_none_runs(self) -> Deferred[None]:
        """Return a Deferred that fires when no session runs; it may be cancelled."""
        return _wait(self._waiting_for_none_running, self.running)

    def cancel_all(self, message: str, detail: str = "") -> Deferred[None]:
        """End every session, and send `message` to the peers of those that run.

        @param detail: the reason for the log; empty if the message says everything.
        @return: a Deferred that fires when every session has released everything.
        """
        for session in list(self._sessions):
            session.cancel(message, detail)
        return _wait(self._waiting_for_none_left, len(self._sessions))


def _wait(waiting: list[Deferred[None]], count: int) -> Deferred[None]:
    if not count:
        return succeed(None)
    deferred: Deferred[None] = Deferred(waiting.remove)
    waiting.append(deferred)
    return deferred


def _fire(waiting: list[Deferred[None]]) -> None:
    fired, waiting[:] = waiting[:], []
    for deferred in fired:
        deferred.callback(None)
