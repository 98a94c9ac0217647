"""Test how long a server waits for a client that is silent, and what it sends meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.support.faults import Faults
from tests.support.virtual import CLIENT, SERVER, Address, Network
from twisted_tftp.context import Outcome
from twisted_tftp.policy import Policy, Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode

#: A file of 40 blocks.
FILE = bytes(at * 7 % 251 for at in range(20_000))

#: The block in the middle at which the clients of the tests become silent.
MIDDLE = 12

NEVER = float("inf")

#: A silence that lasts longer than each test, in seconds.
FOREVER = 1e6

#: The address of the client.
PEER: Address = (CLIENT, 30000)

#: How many times a datagram is sent again to a dead client at most: about twenty.
MAX_REPEATS = 25


class Client:
    """A client in lock step, or with windows, which receives and sends nothing during its silence.

    @ivar arrived: when each datagram has arrived, also those that it misses in its silence.
    @ivar received: the octets of a download.
    @ivar silent_from: when the silence begins; never if it has not begun.
    @ivar end: when the transfer was complete; None before.
    """

    def __init__(
        self,
        opcode: Opcode,
        silence: float,
        *,
        middle: int | None = MIDDLE,
        lost_afterwards: int = 0,
        repeats: bool = False,
        options: dict[str, str] | None = None,
        **policy: Any,
    ) -> None:
        """Send the request.

        @param silence: how long the client is silent when block `middle` is transferred.
        @param middle: None if it is silent after its request.
        @param lost_afterwards: datagrams that are lost after the silence: the first ones if it
            `repeats`, otherwise those with block `MIDDLE` + 1.
        @param repeats: whether it ends its silence by repeating the last packet that it has sent.
        """
        self.network = Network(
            Policy(**policy), Faults(), Faults(), seed=0, delay=0.0005, disk=0.0, write="create"
        )
        self.network.served.files["file"] = FILE
        self.network.sockets[PEER] = self._receive
        self.arrived: list[float] = []
        self.received = b""
        self.end: float | None = None
        self.silent_from = NEVER if middle is not None else 0.0
        self._silence = silence
        self._middle = middle
        self._lost_afterwards = lost_afterwards
        self._repeats = repeats
        self._sent: list[tuple[Address, bytes]] = []  # the last packet, or window
        self._is_read = opcode is Opcode.RRQ
        self._window = int((options or {}).get("windowsize", "1"))
        name = b"file" if self._is_read else b"new"
        request = wire.Request(opcode, name, wire.OCTET, options or {})
        self.network.send(PEER, SERVER, wire.encode_request(request))

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self.network.clock.seconds()

    @property
    def silent_until(self) -> float:
        """When the silence ends; never if it has not begun."""
        return self.silent_from + self._silence

    @property
    def outcomes(self) -> list[Outcome | None]:
        """The outcomes of the transfers of the server."""
        return self.network.recorder.outcomes

    def waits(self) -> list[float]:
        """Return the times between the datagrams of the silence, from its start on."""
        silent = [at for at in self.arrived if at >= self.silent_from]
        return [later - earlier for earlier, later in pairwise(silent)]

    def run(self) -> Client:
        """Run until the server has ended its transfer, and dallied."""
        self.network.run()
        return self

    def _receive(self, datagram: bytes, source: Address) -> None:
        if wire.opcode_of(datagram) == Opcode.ERROR:
            return
        self.arrived.append(self.now)
        number = int.from_bytes(datagram[2:4], "big")
        if self.silent_from == NEVER and number == self._middle:
            self.silent_from = self.now
            if self._repeats:
                self.network.clock.callLater(self._silence, self._repeat)
        if self.silent_from <= self.now < self.silent_until:
            return  # flash memory is being erased: the datagram is lost
        may_lose = self._lost_afterwards and self.now > self.silent_until
        if may_lose and (self._repeats or number == MIDDLE + 1):
            self._lost_afterwards -= 1
            return
        self._answer(datagram, source)

    def _answer(self, datagram: bytes, source: Address) -> None:
        number = int.from_bytes(datagram[2:4], "big")
        if wire.opcode_of(datagram) == Opcode.OACK:
            number = 0
        if self._is_read:
            self._acknowledge(number, datagram, source)
        elif number * 512 > len(FILE):
            self.end = self.now
        else:
            blocks = range(number, min(number + self._window, len(FILE) // 512 + 1))
            window = [
                wire.DATA_HEADERS[block + 1] + FILE[block * 512 : block * 512 + 512]
                for block in blocks
            ]
            self._send(source, *window)

    def _send(self, address: Address, *datagrams: bytes) -> None:
        self._sent = [(address, datagram) for datagram in datagrams]
        self._repeat()

    def _repeat(self) -> None:
        for address, datagram in self._sent:
            self.network.send(PEER, address, datagram)

    def _acknowledge(self, number: int, datagram: bytes, source: Address) -> None:
        if number * 512 - 512 == len(self.received):
            self.received += datagram[4:]
        is_last = bool(number) and len(datagram) < 516
        if is_last:
            self.end = self.now
        if is_last or number % self._window == 0:
            self._send(source, wire.ack(number))


DIRECTIONS = pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
PORTS = pytest.mark.parametrize("single_port", [False, True], ids=["own ports", "single port"])


@DIRECTIONS
@PORTS
@pytest.mark.parametrize(
    "options", [{}, {"tsize": "20000"}, {"timeout": "2"}, {"windowsize": "4"}]
)
def test_client_that_is_silent_for_thirty_seconds_is_served(
    opcode: Opcode, single_port: bool, options: dict[str, str]
) -> None:
    """A client erases its flash memory, loses what arrives meanwhile, and gets the file then."""
    client = Client(opcode, 30.0, options=options, single_port=single_port).run()
    assert client.outcomes == [Outcome.COMPLETED]
    if opcode is Opcode.RRQ:
        assert client.received == FILE
    else:
        assert client.network.served.files["new"] == FILE
    assert client.end is not None
    assert 30.0 < client.end < 35.5


@DIRECTIONS
@PORTS
@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("is_lost", [False, True])
def test_client_that_repeats_its_last_packet_is_served_within_seconds(
    opcode: Opcode, single_port: bool, window: int, is_lost: bool
) -> None:
    """Its packet ends the long wait of the server, even if the server's answer to it is lost."""
    answers = window if opcode is Opcode.RRQ else 1
    client = Client(
        opcode,
        30.0,
        repeats=True,
        lost_afterwards=answers if is_lost else 0,
        options={"windowsize": str(window)},
        single_port=single_port,
    ).run()
    assert client.outcomes == [Outcome.COMPLETED]
    assert client.end is not None
    assert 30.0 < client.end < 32.5


@DIRECTIONS
@PORTS
def test_dead_client_costs_about_twenty_datagrams(
    opcode: Opcode, single_port: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that has answered is given up after 60 s, and gets about twenty datagrams."""
    client = Client(opcode, FOREVER, single_port=single_port).run()
    waits = client.waits()
    with capsys.disabled():
        print(f"\n{opcode.name}, {single_port=}: sent again {len(waits)} times, after seconds:")
        print(" ".join(f"{wait:.2f}" for wait in waits))
    assert client.outcomes == [Outcome.TIMED_OUT]
    assert 59.9 < client.now < 60.5
    assert 15 <= len(waits) <= MAX_REPEATS


@DIRECTIONS
@pytest.mark.parametrize("timeout", [0.25, 1.0, 3.0])
def test_waits_exceed_the_timeout_only_after_ten_seconds(opcode: Opcode, timeout: float) -> None:
    """The waits of the first ten seconds are at most the timeout; later ones at most 5 s."""
    waits = Client(opcode, FOREVER, timeout=timeout).run().waits()
    silence = 0.0
    for wait in waits:
        assert wait <= (timeout if silence < 10 else 5.0) + 0.01
        silence += wait
    assert max(waits) == pytest.approx(5.0)


@DIRECTIONS
@pytest.mark.parametrize("timeout", ["1", "2", "4", "10"])
def test_negotiated_timeout_stays_the_longest_wait(opcode: Opcode, timeout: str) -> None:
    """A client that has negotiated a timeout is waited for 60 s, in waits of at most that."""
    client = Client(opcode, FOREVER, options={"timeout": timeout}).run()
    assert client.outcomes == [Outcome.TIMED_OUT]
    assert 59.9 < client.now < 60.5
    assert max(client.waits()) == pytest.approx(float(timeout), abs=0.01)


@DIRECTIONS
def test_very_long_negotiated_timeout_gets_two_of_them(opcode: Opcode) -> None:
    """The client repeats a lost packet after 100 s; it is not given up before that."""
    client = Client(opcode, FOREVER, options={"timeout": "100"}).run()
    assert 199.9 < client.now < 200.5


@DIRECTIONS
def test_timeout_below_a_second_does_not_multiply_the_datagrams(opcode: Opcode) -> None:
    """RFC 2349 has whole seconds; a shorter timeout is kept ten times, and the waits grow then."""
    client = Client(opcode, FOREVER, options={"utimeout": "100000"}).run()
    assert 59.9 < client.now < 60.5
    waits = client.waits()
    assert max(waits[:10]) == pytest.approx(0.1, abs=0.01)
    assert len(waits) <= 30


@DIRECTIONS
@pytest.mark.parametrize("asked", [{}, {"timeout": "2"}])
def test_fixed_retransmission_always_waits_the_timeout(
    opcode: Opcode, asked: dict[str, str]
) -> None:
    """With `--retransmit fixed`, all waits are the timeout, and the client is given 60 s too."""
    client = Client(opcode, FOREVER, options=asked, retransmit=Retransmit.FIXED, timeout=1.5).run()
    timeout = float(asked.get("timeout", 1.5))
    assert 59.9 < client.now < 60.5
    silent = client.waits()[-20:]
    assert silent == pytest.approx([timeout] * 20, abs=0.01)


@DIRECTIONS
@PORTS
def test_patience_is_an_option(opcode: Opcode, single_port: bool) -> None:
    """With `--patience 3`, a client that has answered is given up after 3 s of silence."""
    client = Client(opcode, FOREVER, patience=3.0, single_port=single_port).run()
    assert client.outcomes == [Outcome.TIMED_OUT]
    assert 2.9 < client.now < 3.5


@DIRECTIONS
@pytest.mark.parametrize(("retries", "asked"), [(4, {}), (30, {}), (3, {"timeout": "5"})])
def test_retries_replace_the_patience(opcode: Opcode, retries: int, asked: dict[str, str]) -> None:
    """With `--retries N`, the silence is N of the longest timeouts, and no wait is longer."""
    client = Client(opcode, FOREVER, options=asked, retries=retries, patience=7.0).run()
    timeout = float(asked.get("timeout", 1.0))
    assert client.now == pytest.approx(retries * timeout, abs=0.5)
    assert max(client.waits()) <= timeout + 0.01


@DIRECTIONS
def test_wait_is_short_again_after_a_long_silence(opcode: Opcode) -> None:
    """A client comes back after 30 s and loses the next datagram: it comes again within 1 s."""
    client = Client(opcode, 30.0, lost_afterwards=1).run()
    assert client.outcomes == [Outcome.COMPLETED]
    back = next(at for at in client.arrived if at > client.silent_until)
    later = [at for at in client.arrived if at > back]
    assert later[1] - later[0] <= 1.01


@DIRECTIONS
@pytest.mark.parametrize("policy", [{}, {"retries": 10}, {"patience": 600.0}])
@pytest.mark.parametrize("asked", [{}, {"timeout": "1"}, {"tsize": "20000"}])
def test_client_that_never_answers_is_given_up_after_four_datagrams(
    opcode: Opcode, policy: dict[str, Any], asked: dict[str, str]
) -> None:
    """Its address may be forged, so that patience does not matter."""
    client = Client(opcode, FOREVER, options=asked, middle=None, **policy).run()
    assert client.outcomes == [Outcome.TIMED_OUT]
    assert len(client.arrived) == 4
    assert client.now < 5.0
