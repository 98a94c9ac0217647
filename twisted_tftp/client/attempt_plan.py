"""Decide to which address of a server a client sends its next request, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted_tftp.errors import (
    AnswersFromOtherHost,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
)
from twisted_tftp.net.udp import SocketAddress, endpoint

#: The time in which each address of a server is asked for the first time, in seconds.
FIRST_ROUND = 10.0

#: The time in which each address is asked again, in seconds.
LATER_ROUND = 5.0

#: The shortest remaining time in which an address is asked, in seconds.
MIN_ATTEMPT = 0.01

#: The exceptions of a server that no address of which has answered, the most precise one first.
_COMMON_FAILURES = (PortUnreachable, ServerUnreachable, AnswersFromOtherHost)


@dataclass(frozen=True)
class Attempt:
    """A request to one address.

    @ivar seconds: how long the client waits for an answer.
    """

    address: SocketAddress
    seconds: float


class AttemptPlan:
    """The order in which one transfer asks the addresses of its server, until one answers.

    Each address is asked in turn. If none answers, all are asked again, in rounds, until the
    patience of the client has ended.

    @ivar current: the attempt that was begun last.
    @ivar patience: how long the client waits for an answer, in seconds.
    """

    def __init__(self, addresses: Sequence[SocketAddress], patience: float) -> None:
        """Set up a plan, of which nothing has begun.

        @param addresses: the addresses of the server, of which there is at least one, in the order
            in which they are asked.
        @param patience: how long the client waits for an answer, in seconds.
        """
        self.current = Attempt(addresses[0], patience)
        self._addresses = tuple(addresses)
        self.patience = patience
        self._ends_at = 0.0
        self._failures: dict[SocketAddress, TFTPError] = {}
        self._begin_round(FIRST_ROUND)

    @property
    def has_other_address(self) -> bool:
        """Whether another address waits to be asked in this round."""
        return bool(self._waiting)

    def start(self, now: float) -> None:
        """Begin with the first address."""
        self._ends_at = now + self.patience
        self._next_address(now)

    def advance(self, now: float, failure: TFTPError) -> bool:
        """Begin the next attempt; return whether there is one.

        @param failure: why the current attempt has failed.
        """
        self._failures[self.current.address] = failure
        if not isinstance(failure, PortUnreachable):
            self._is_refused = False
        if self._ends_at - now < MIN_ATTEMPT:
            return False
        if not self._waiting:
            if self._is_refused:
                return False  # no address has a server
            self._begin_round(LATER_ROUND)
        self._next_address(now)
        return True

    def failure(self, last: TFTPError) -> TFTPError:
        """Return the exception for a server that has not answered.

        @param last: why the last attempt has failed.
        """
        failures = {**self._failures, self.current.address: last}
        if len(failures) == 1:
            return last
        kinds = (kind for kind in _COMMON_FAILURES if _all_are(failures, kind))
        reasons = ", ".join(
            f"{endpoint(address).host} ({failure.message})"
            for address, failure in failures.items()
        )
        return next(kinds, NoAnswer)(f"no address of the server answers: {reasons}")

    def _begin_round(self, seconds: float) -> None:
        """Ask each address once, in at most so many seconds; a single address is asked longer."""
        count = len(self._addresses)
        self._waiting = list(self._addresses)
        self._share = self.patience if count == 1 else min(seconds, self.patience) / count
        self._is_refused = True  # until an address fails in another way

    def _next_address(self, now: float) -> None:
        address = self._waiting.pop(0)
        self.current = Attempt(address, min(self._share, self._ends_at - now))


def _all_are(failures: Mapping[SocketAddress, TFTPError], kind: type[TFTPError]) -> bool:
    return all(isinstance(failure, kind) for failure in failures.values())
