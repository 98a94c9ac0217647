"""Serve clients during a flood of requests from forged addresses.

A forged address does not answer. So a transfer whose peer does not answer is ended when a new one
needs its place. If very many peers do not answer, only hosts that ask again are served: clients
ask again, and the same forged address seldom comes twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, islice

from twisted_tftp.policy import Policy
from twisted_tftp.server.session import ServerSession

#: The time that a peer has for its first answer, before its transfer may be ended for another one,
#: in seconds.
TIME_TO_ANSWER = 0.1

#: How many transfers are examined to find one that may be ended.
SESSIONS_PER_SEARCH = 16

#: How many transfers of each group are examined for each request.
SESSIONS_PER_REVIEW = 2

#: The number of peers without an answer up to which there is no flood, however small
#: `max-transfers` is.
MIN_SILENT_IN_FLOOD = 100

#: If `max-transfers` divided by this number is larger than `MIN_SILENT_IN_FLOOD`, that is the
#: limit.
SILENT_SHARE_IN_FLOOD = 10

#: The number of timeouts after which the transfer of a silent peer is ended and no longer counted.
#: By then the peer was sent four datagrams, unless it has negotiated a timeout of minutes.
TIMEOUTS_UNTIL_GIVEN_UP = 16.0

#: The size of the memory for the hosts that have asked, in octets.
HOST_SLOTS = 1 << 23

#: How long a request of a host is remembered, in seconds. Firmware asks again after 1 to 10 s.
RECENT_SECONDS = 15


class UnansweredTransfers:
    """The running transfers whose peers have not answered, in two groups.

    The transfers of a group are in the order in which they were examined last. A transfer whose
    peer has answered stays in its group until it is examined again.

    @ivar new: the transfers whose peers had no time to answer yet.
    @ivar silent: the transfers whose peers had time to answer and have not.
    """

    def __init__(self) -> None:
        self.new: OrderedDict[ServerSession, None] = OrderedDict()
        self.silent: OrderedDict[ServerSession, None] = OrderedDict()

    def add(self, session: ServerSession) -> None:
        """Add a session that is about to start."""
        self.new[session] = None

    def remove(self, session: ServerSession) -> None:
        """Remove a session that no longer runs."""
        self.new.pop(session, None)
        self.silent.pop(session, None)

    def sort(self, session: ServerSession, now: float) -> None:
        """Move a running session to the end of its group; remove it if its peer has answered."""
        new, silent = self.new, self.silent
        if now - session.first_answer_at < TIME_TO_ANSWER:
            new[session] = None
            new.move_to_end(session)
        elif session.peer_has_answered:
            self.remove(session)
        else:
            new.pop(session, None)
            silent[session] = None
            silent.move_to_end(session)


class RecentHosts:
    """A memory of fixed size for the hosts that have asked recently.

    Each host has one of `HOST_SLOTS` octets: the second of its last request. A hash that an
    attacker can't predict chooses the octet, so few hosts of a flood share one.
    """

    def __init__(self) -> None:
        self._seconds = bytearray()  # seconds modulo 255, from 1 on; 0 for no request

    def add(self, host: str, now: float) -> bool:
        """Note a request of `host`; return whether it had asked in the last `RECENT_SECONDS`."""
        if not self._seconds:
            self._seconds = bytearray(HOST_SLOTS)
        slot, second = hash(host) % HOST_SLOTS, int(now) % 255 + 1
        before, self._seconds[slot] = self._seconds[slot], second
        return before > 0 and (second - before) % 255 <= RECENT_SECONDS


class FloodDefence:
    """Recognise a flood, and end transfers whose peers do not answer."""

    def __init__(
        self,
        policy: Policy,
        unanswered: UnansweredTransfers,
        receive_waiting: Callable[[ServerSession], None],
    ) -> None:
        """Set up the defence of a request port.

        @param unanswered: the transfers of all request ports of the server.
        @param receive_waiting: reads what the peer of a session has sent so far. It is called
            before the session is ended.
        """
        self._unanswered = unanswered
        self._receive_waiting = receive_waiting
        self._most_silent = max(MIN_SILENT_IN_FLOOD, policy.max_transfers // SILENT_SHARE_IN_FLOOD)
        self._time_until_given_up = TIMEOUTS_UNTIL_GIVEN_UP * policy.timeout

    @property
    def is_flood(self) -> bool:
        """Whether so many peers do not answer that their addresses must be forged."""
        return len(self._unanswered.silent) > self._most_silent

    def review(self, now: float) -> None:
        """Examine some transfers, and end those whose peers have not answered for very long.

        Call this for each request. It examines a few transfers, and more of them in a flood, so
        that transfers whose peers have answered meanwhile do not count.
        """
        new, silent = self._unanswered.new, self._unanswered.silent
        self._examine(new, SESSIONS_PER_REVIEW, now)
        self._examine(silent, SESSIONS_PER_REVIEW, now)
        if self.is_flood:
            self._examine(silent, SESSIONS_PER_SEARCH, now)

    def make_room(self, now: float) -> bool:
        """End the oldest transfer whose peer had time to answer and has not.

        @return: whether there was one.
        """
        unanswered = self._unanswered
        for session in list(islice(chain(unanswered.silent, unanswered.new), SESSIONS_PER_SEARCH)):
            if now - session.first_answer_at >= TIME_TO_ANSWER and self._end_if_unanswered(
                session
            ):
                return True
            if not session.is_finished:
                unanswered.sort(session, now)
        return False

    def _examine(self, sessions: OrderedDict[ServerSession, None], count: int, now: float) -> None:
        """Sort the first `count` sessions; end those whose peers were sent something long ago."""
        sort, long_ago = self._unanswered.sort, now - self._time_until_given_up
        for session in list(islice(sessions, count)):
            if session.first_answer_at < long_ago and self._end_if_unanswered(session):
                continue
            if not session.is_finished:
                sort(session, now)

    def _end_if_unanswered(self, session: ServerSession) -> bool:
        """End a session whose peer was sent something and has not answered.

        @return: whether it was ended here.
        """
        self._receive_waiting(session)
        if session.is_finished or session.peer_has_answered:
            return False
        session.end_for_room()
        return True
