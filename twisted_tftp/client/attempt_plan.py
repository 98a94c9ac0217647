"""Decide to which address, with or without options, and for how long a client sends a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twisted_tftp.errors import (
    AnswersFromOtherHost,
    ErrorCode,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
)
from twisted_tftp.net.addresses import SocketAddress, endpoint

#: The time in which all addresses of a server are asked for the first time, in seconds.
FIRST_ROUND = 10.0

#: The time in which all addresses are asked again, in seconds.
LATER_ROUND = 5.0

#: The shortest remaining time in which an address is asked, in seconds.
MIN_ATTEMPT = 0.01

#: The errors of servers that do not know options: the request is sent again without options.
ERRORS_WITHOUT_OPTIONS = frozenset(
    (ErrorCode.NOT_DEFINED, ErrorCode.ILLEGAL_OPERATION, ErrorCode.OPTION_REFUSED)
)

#: The exceptions of a server that no address of which has answered, the most precise one first.
_COMMON_FAILURES = (PortUnreachable, ServerUnreachable, AnswersFromOtherHost)


@dataclass(frozen=True)
class Attempt:
    """A request to one address.

    @ivar seconds: how long the client waits for an answer.
    @ivar has_options: whether the request may ask for options.
    """

    address: SocketAddress
    seconds: float
    has_options: bool = True


class AttemptPlan:
    """The order in which one transfer asks the addresses of its server, until one answers.

    Each address is asked in turn. If none answers, all are asked again, in rounds, until the
    patience of the client has ended. If the client can do without options, every second round
    asks for none: some servers ignore requests with options.

    @ivar current: the attempt that was begun last.
    @ivar patience: how long the client waits for an answer, in seconds.
    """

    def __init__(
        self,
        addresses: Sequence[SocketAddress],
        patience: float,
        *,
        can_drop_options: bool = False,
    ) -> None:
        """Set up a plan; L{start} begins it.

        @param addresses: the addresses of the server, of which there is at least one, in the order
            in which they are asked.
        @param patience: how long the client waits for an answer, in seconds.
        @param can_drop_options: whether the request may be sent without its options.
        """
        self.current = Attempt(addresses[0], patience)
        self._addresses = tuple(addresses)
        self.patience = patience
        self._can_drop_options = can_drop_options
        self._has_options = True
        self._ends_at = 0.0
        self._failures: dict[SocketAddress, TFTPError] = {}
        self._waiting: list[SocketAddress] = []  # the addresses that follow in this round
        self._round_ends_at = 0.0
        # Whether ICMP has reported a closed port for all addresses of this round so far.
        self._has_only_closed_ports = False

    @property
    def address_count(self) -> int:
        """The number of addresses of the server."""
        return len(self._addresses)

    @property
    def has_other_address(self) -> bool:
        """Whether another address waits to be asked in this round."""
        return bool(self._waiting)

    def start(self, now: float) -> None:
        """Begin with the first address."""
        self._ends_at = now + self.patience
        self._begin_round(now, FIRST_ROUND)
        self._next_address(now)

    def advance(self, now: float, failure: TFTPError) -> bool:
        """Begin the next attempt; return whether there is one.

        @param failure: why the current attempt has failed.
        """
        self._failures = self._failures_with(failure)
        if not isinstance(failure, PortUnreachable):
            self._has_only_closed_ports = False
        if self._ends_at - now < MIN_ATTEMPT:
            return False
        if not self._waiting:
            if self._has_only_closed_ports:
                return False  # ICMP has reported that no address has a server
            if self._can_drop_options:
                self._has_options = not self._has_options
            self._begin_round(now, LATER_ROUND)
        self._next_address(now)
        return True

    def drop_options(self, now: float, code: int) -> bool:
        """Ask the current address again, without options; return whether that makes sense.

        @param code: the code of the ERROR with which the server has answered.
        """
        is_possible = self._can_drop_options and self.current.has_options
        if not is_possible or code not in ERRORS_WITHOUT_OPTIONS:
            return False
        self._can_drop_options = self._has_options = False
        seconds = max(self._ends_at - now, MIN_ATTEMPT)
        self.current = replace(self.current, seconds=seconds, has_options=False)
        return True

    def failure(self, last: TFTPError) -> TFTPError:
        """Return the exception for a server that has not answered.

        @param last: why the last attempt has failed.
        """
        failures = self._failures_with(last)
        if len(failures) == 1:
            return failures[self.current.address]
        kinds = (kind for kind in _COMMON_FAILURES if _all_are(failures, kind))
        reasons = ", ".join(
            f"{endpoint(address).host} ({failure.message})"
            for address, failure in failures.items()
        )
        return next(kinds, NoAnswer)(f"no address of the server answers: {reasons}")

    def _failures_with(self, failure: TFTPError) -> dict[SocketAddress, TFTPError]:
        """Return why each address has failed; an earlier reason that tells more is kept.

        @param failure: why the current attempt has failed.
        """
        address = self.current.address
        if type(failure) is NoAnswer:
            failure = self._failures.get(address, failure)
        return {**self._failures, address: failure}

    def _begin_round(self, now: float, seconds: float) -> None:
        """Ask each address once, in at most so many seconds; a single address is asked longer."""
        has_rounds = len(self._addresses) > 1 or self._can_drop_options
        self._waiting = list(self._addresses)
        self._round_ends_at = now + (min(seconds, self.patience) if has_rounds else self.patience)
        self._has_only_closed_ports = True

    def _next_address(self, now: float) -> None:
        """Ask the next address, for an equal share of the time that is left in this round."""
        share = (self._round_ends_at - now) / len(self._waiting)
        seconds = max(min(share, self._ends_at - now), MIN_ATTEMPT)
        self.current = Attempt(self._waiting.pop(0), seconds, self._has_options)


def _all_are(failures: Mapping[SocketAddress, TFTPError], kind: type[TFTPError]) -> bool:
    return all(isinstance(failure, kind) for failure in failures.values())
