"""Keep serving clients while a flood of requests comes from forged addresses.

Nobody answers what is sent to a forged address. So a transfer whose peer does not answer is ended
when there is no room for a new one. And where very many peers do not answer, only hosts that ask
again are served: clients do, and forged addresses seldom come twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, islice

from twisted_tftp.policy import Policy
from twisted_tftp.server.session import ServerSession

#: Seconds that a peer has to answer what it was sent first, before its transfer may be ended for
#: another one.
TIME_TO_ANSWER = 0.1

#: Transfers that are looked at each time to find one that may be ended.
SESSIONS_PER_SEARCH = 16

#: Transfers of each kind that are looked at for each request, to know how many are unanswered.
SESSIONS_PER_REVIEW = 2

#: Peers that do not answer: with no more than these there is no flood, however few transfers are
#: allowed.
MIN_SILENT_IN_FLOOD = 100

#: The same as a part of `max-transfers`: one in so many.
SILENT_SHARE_IN_FLOOD = 10

#: Timeouts after which a peer that has not answered is no longer counted, but given up. By then it
#: was sent four datagrams, unless it has negotiated a timeout of minutes.
TIMEOUTS_UNTIL_GIVEN_UP = 16.0

#: Octets in which it is noted which hosts have asked.
HOST_SLOTS = 1 << 23

#: Seconds for which a host is known to have asked: firmware asks again after one to ten.
RECENT_SECONDS = 15


class UnansweredTransfers:
    """The running transfers whose peers have not answered, in two groups.

    Each group is in the order in which its transfers were looked at last. A transfer that was
    answered stays in its group until it is looked at again.

    @ivar new: those whose peers had no time to answer yet.
    @ivar silent: those whose peers had time to answer and have not.
    """

    def __init__(self) -> None:
        self.new: OrderedDict[ServerSession, None] = OrderedDict()
        self.silent: OrderedDict[ServerSession, None] = OrderedDict()

    def add(self, session: ServerSession) -> None:
        """Take a session that is about to start."""
        self.new[session] = None

    def remove(self, session: ServerSession) -> None:
        """Forget a session that no longer runs."""
        self.new.pop(session, None)
        self.silent.pop(session, None)

    def sort(self, session: ServerSession, now: float) -> None:
        """Put a running session at the end of its group; in none if its peer has answered."""
        new, silent = self.new, self.silent
        if now - session.offered_at < TIME_TO_ANSWER:
            new[session] = None
            new.move_to_end(session)
        elif session.answered:
            self.remove(session)
        else:
            new.pop(session, None)
            silent[session] = None
            silent.move_to_end(session)


class RecentHosts:
    """A memory of fixed size for the hosts that have asked lately.

    Each host has one of `HOST_SLOTS` octets, with the second in which it asked last. A hash that
    nobody else can predict chooses the octet, so few hosts of a flood share one.
    """

    def __init__(self) -> None:
        self._seconds = bytearray()  # modulo 255, and 0 for never

    def add(self, host: str, now: float) -> bool:
        """Note that `host` asks; return whether it had asked in the last `RECENT_SECONDS`."""
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
        catch_up: Callable[[ServerSession], None],
    ) -> None:
        """Make the defence of a request port.

        @param unanswered: the transfers of all request ports of the server.
        @param catch_up: reads what the peer of a session has sent so far; called before the
            session is ended.
        """
        self._unanswered = unanswered
        self._catch_up = catch_up
        self._most_silent = max(MIN_SILENT_IN_FLOOD, policy.max_transfers // SILENT_SHARE_IN_FLOOD)
        self._time_until_given_up = TIMEOUTS_UNTIL_GIVEN_UP * policy.timeout

    @property
    def is_flood(self) -> bool:
        """Whether so many peers do not answer that their addresses must be forged."""
        return len(self._unanswered.silent) > self._most_silent

    def review(self, now: float) -> None:
        """Look at some transfers; end those whose peers have not answered for very long.

        To be called at each request. It looks at a few, and at some more while there seems to be
        a flood, so that transfers that were answered meanwhile do not count.
        """
        new, silent = self._unanswered.new, self._unanswered.silent
        self._look_at(new, SESSIONS_PER_REVIEW, now)
        self._look_at(silent, SESSIONS_PER_REVIEW, now)
        if self.is_flood:
            self._look_at(silent, SESSIONS_PER_SEARCH, now)

    def make_room(self, now: float) -> bool:
        """End the oldest transfer whose peer had time to answer and has not.

        @return: whether there was one.
        """
        unanswered = self._unanswered
        for session in list(islice(chain(unanswered.silent, unanswered.new), SESSIONS_PER_SEARCH)):
            if now - session.offered_at >= TIME_TO_ANSWER and self._end_if_unanswered(session):
                return True
            if not session.finished:
                unanswered.sort(session, now)
        return False

    def _look_at(self, sessions: OrderedDict[ServerSession, None], count: int, now: float) -> None:
        """Sort the first `count` sessions; end those whose peers were sent something long ago."""
        sort, long_ago = self._unanswered.sort, now - self._time_until_given_up
        for session in list(islice(sessions, count)):
            if session.offered_at < long_ago and self._end_if_unanswered(session):
                continue
            if not session.finished:
                sort(session, now)

    def _end_if_unanswered(self, session: ServerSession) -> bool:
        """End a session that was sent something, unless its peer has answered.

        @return: whether it was ended here.
        """
        self._catch_up(session)
        if session.finished or session.answered:
            return False
        session.give_way()
        return True
