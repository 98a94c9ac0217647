"""Serve clients during a flood of requests from forged addresses.

A forged address does not answer. So if there is no room for a new transfer, one whose peer has not
answered is ended. If very many peers do not answer, only hosts that ask again are served: clients
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

#: How many transfers of each group are examined for each request.
SESSIONS_PER_REVIEW = 2

#: How many transfers are examined to find one that may be ended. In a flood, as many silent ones
#: are examined for each request too.
SESSIONS_PER_SEARCH = 16

#: There is no flood while at most this number of peers are silent, however small `max_transfers`
#: is.
MIN_SILENT_IN_FLOOD = 100

#: There is no flood while at most `max_transfers` divided by this number of peers are silent.
SILENT_SHARE_IN_FLOOD = 10

#: The transfer of a silent peer is ended after this multiple of `timeout`, and no longer counted.
#: By then the server has sent four datagrams, unless the peer has negotiated a long timeout.
TIMEOUTS_UNTIL_GIVEN_UP = 16.0


class UnansweredTransfers:
    """The running transfers whose peers have not answered, in two groups.

    In each group, the transfer that was examined last is at the end. A transfer whose peer has
    answered stays in its group until it is examined again.

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

    def regroup(self, session: ServerSession, now: float) -> None:
        """Move a running session to the end of its group; if its peer has answered, remove it."""
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
        @param receive_waiting: lets a session receive what its peer has sent so far. It is called
            before a session is ended, because the answer may be in its socket.
        """
        self._unanswered = unanswered
        self._receive_waiting = receive_waiting
        self._max_silent = max(MIN_SILENT_IN_FLOOD, policy.max_transfers // SILENT_SHARE_IN_FLOOD)
        self._time_until_given_up = TIMEOUTS_UNTIL_GIVEN_UP * policy.timeout

    @property
    def is_flood(self) -> bool:
        """Whether so many peers do not answer that their addresses must be forged."""
        return len(self._unanswered.silent) > self._max_silent

    def review(self, now: float) -> None:
        """Examine some transfers, and end those whose peers have not answered for too long.

        Call this for each request. It examines a few transfers, and more of them in a flood.
        Transfers whose peers have answered meanwhile then no longer count as silent.
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
                unanswered.regroup(session, now)
        return False

    def _examine(self, sessions: OrderedDict[ServerSession, None], count: int, now: float) -> None:
        """Regroup the first `count` sessions; end those whose peers are silent for too long."""
        regroup, long_ago = self._unanswered.regroup, now - self._time_until_given_up
        for session in list(islice(sessions, count)):
            if session.first_answer_at < long_ago and self._end_if_unanswered(session):
                continue
            if not session.is_finished:
                regroup(session, now)

    def _end_if_unanswered(self, session: ServerSession) -> bool:
        """End a session whose peer has not answered; look into its socket first.

        @return: whether this method has ended it.
        """
        self._receive_waiting(session)
        if session.is_finished or session.peer_has_answered:
            return False
        session.end_for_room()
        return True
