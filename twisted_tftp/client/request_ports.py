"""Open the ports from which a client sends one request, and limit their number.

An answer may be for an earlier request that was sent from the same port, by this program or by
another one. The client then sends its request again from another port.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.transfer.asker import UNLIKELY_ERRORS

#: How many times a transfer may send its request from another port.
MAX_PORT_CHANGES = 3


class RequestPorts:
    """The local ports of one transfer's request, and the answers that the client has given up."""

    def __init__(self, open_link: Callable[[], ClientLink] | None) -> None:
        """Set up; the first port is open already.

        @param open_link: returns a link with another port; None if no other port may be used.
        """
        self._open_link = open_link
        self._changes = 0
        self._other_answers: set[bytes] = set()

    @property
    def can_change(self) -> bool:
        """Whether the request can be sent from another port."""
        return self._open_link is not None and self._changes < MAX_PORT_CHANGES

    def may_be_foreign_error(self, code: int) -> bool:
        """Return whether an ERROR with `code` may be for an earlier request from the first port.

        Several such ERRORs may arrive if the port's previous user has sent malformed packets. An
        ERROR that a later port receives is for this request.
        """
        return self.can_change and self._changes == 0 and code in UNLIKELY_ERRORS

    def has_seen(self, answer: bytes) -> bool:
        """Return whether another port of this transfer has got the same answer."""
        return answer in self._other_answers

    def note_answer(self, answer: bytes) -> None:
        """Note an answer that the transfer does not continue from."""
        self._other_answers.add(answer)

    def open_next(self, given_up: bytes) -> ClientLink:
        """Return a link with another port, which sends the request from now on.

        @param given_up: the answer to the current port; empty if none was accepted.
        @raise OSError: the socket can't be opened.
        """
        assert self._open_link is not None
        link = self._open_link()
        self._changes += 1
        self.note_answer(given_up)
        return link
