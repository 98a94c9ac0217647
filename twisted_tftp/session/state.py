"""The states of a session, and the table of the transitions between them."""

from __future__ import annotations

from enum import Enum


class SessionState(Enum):
    """The state of a session; each comment says what it waits for."""

    __hash__ = object.__hash__  # that of Enum is written in Python: three times as slow

    #: The reader or the writer, which is being opened.
    OPENING = "opening"
    #: The machine: the owner negotiates the options; a client asks its server first.
    NEGOTIATING = "negotiating"
    #: Datagrams, deadlines, and the ends of reads and writes.
    TRANSFERRING = "transferring"
    #: The end of the commit; the last block is acknowledged after it.
    COMMITTING = "committing"
    #: The end of the commit. The session was cancelled meanwhile, so it will not dally.
    CANCELLED_IN_COMMIT = "cancelled in commit"
    #: The observer, which is notified of the outcome.
    FINISHING = "finishing"
    #: The observer, which has cancelled the session: it will be closed after the notification.
    CANCELLED_IN_FINISH = "cancelled in finish"
    #: A repeated last block, if a file was received. Any other session is closed at once.
    FINISHED = "finished"
    #: Nothing: the link is closed. The file may take longer to be released.
    CLOSED = "closed"


# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
OPENING = SessionState.OPENING
NEGOTIATING = SessionState.NEGOTIATING
TRANSFERRING = SessionState.TRANSFERRING
COMMITTING = SessionState.COMMITTING
CANCELLED_IN_COMMIT = SessionState.CANCELLED_IN_COMMIT
FINISHING = SessionState.FINISHING
CANCELLED_IN_FINISH = SessionState.CANCELLED_IN_FINISH
FINISHED = SessionState.FINISHED
CLOSED = SessionState.CLOSED

#: The states that may follow each state. A client's session goes back when the answer of the
#: server proves to belong to another request: to NEGOTIATING if the file can be used again as it
#: is, to OPENING if it must be opened again.
TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    OPENING: frozenset((NEGOTIATING, FINISHING)),
    NEGOTIATING: frozenset((TRANSFERRING, OPENING, FINISHING)),
    TRANSFERRING: frozenset((COMMITTING, NEGOTIATING, OPENING, FINISHING)),
    COMMITTING: frozenset((CANCELLED_IN_COMMIT, NEGOTIATING, OPENING, FINISHING)),
    CANCELLED_IN_COMMIT: frozenset((FINISHING,)),
    FINISHING: frozenset((CANCELLED_IN_FINISH, FINISHED)),
    CANCELLED_IN_FINISH: frozenset((FINISHED,)),
    FINISHED: frozenset((CLOSED,)),
    CLOSED: frozenset(),
}

#: The states in which the outcome of the transfer is known.
STATES_WITH_OUTCOME = (FINISHING, CANCELLED_IN_FINISH, FINISHED, CLOSED)
