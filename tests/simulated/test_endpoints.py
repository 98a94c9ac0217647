"""Test our client with our server in virtual time, over networks with many kinds of faults."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from tests.support.contents import octets
from tests.support.faults import Faults
from tests.support.logs import no_errors_logged
from tests.support.virtual import SERVER, Network, NetworkClient, Store, StoreReader, StoreWriter
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import TFTPError
from twisted_tftp.policy import DEFAULT_BLKSIZE, Policy, Retransmit
from twisted_tftp.protocol import wire

#: The most octets of a file, so that an example is quick.
MOST_OCTETS = 40_000


@dataclass
class Transfer:
    """A transfer of a client.

    @ivar outcome: the result or the failure that the client reports; None before the end.
    @ivar at_target: the content of the file at its destination at the end; None if there is none.
    """

    reading: bool
    name: str
    content: bytes
    outcome: TransferResult | Failure | None = None
    at_target: bytes | None = None

    @property
    def complete(self) -> bool:
        """Whether the client has reported success."""
        return isinstance(self.outcome, TransferResult)


class Lab:
    """A network with a client and a server, and a list of their transfers.

    No request can overwrite a file that is read. Otherwise damage could turn a read request into a
    write request, and an ACK into a short block, and the file would be lost without an error.
    """

    def __init__(
        self,
        reading: bool,
        up: Faults,
        down: Faults,
        *,
        seed: object = 0,
        delay: float = 0.0005,
        disk: float = 0.0,
        single_port: bool = False,
        retransmit: Retransmit = Retransmit.ADAPTIVE,
        known_size: bool = True,
        **asked: Any,
    ) -> None:
        """Connect client and server.

        @param disk: seconds that each use of a file takes, at both ends.
        @param known_size: whether the source of an upload has a known size.
        @param asked: settings of the client.
        """
        self.network = Network(
            Policy(single_port=single_port, retransmit=retransmit),
            *(up, down),
            seed=seed,
            delay=delay,
            disk=disk,
            write="create" if reading else "overwrite",
        )
        self.served = self.network.served
        self.local = Store(self.network.clock, disk, "create")
        self.client = NetworkClient(self.network, retransmit=retransmit, retries=10, **asked)
        self.transfers: list[Transfer] = []
        self._reading = reading
        self._known_size = known_size

    def begin(self, name: str, content: bytes) -> Transfer:
        """Start a transfer."""
        transfer = Transfer(self._reading, name, content)
        at = f"{name} {len(self.transfers)}"
        self.transfers.append(transfer)
        target = self.local if self._reading else self.served
        where = at if self._reading else name
        if self._reading:
            self.served.files[name] = content
            begun = self.client.get(name, StoreWriter(self.local, at))
        else:
            source = StoreReader(self.local, content) if self._known_size else io.BytesIO(content)
            begun = self.client.put(source, name)

        def over(outcome: Any) -> None:
            assert transfer.outcome is None
            transfer.outcome = outcome
            transfer.at_target = target.files.get(where)

        begun.addBoth(over)
        return transfer

    def end(self) -> None:
        """Run until both ends have finished, and check the files at both of them."""
        network = self.network
        network.run()
        assert network.sockets.keys() == {SERVER}
        assert len(network.server.transfers) == network.server.transfers.running == 0
        assert self.client.running == []
        assert not self.client.dally_time
        told = Counter(event for event, _ in network.recorder.events)
        assert told["started"] == told["finished"]
        for number, transfer in enumerate(self.transfers):
            assert transfer.outcome is not None, "the client does not say how it ended"
            if isinstance(transfer.outcome, TransferResult):
                assert transfer.at_target == transfer.content
                assert transfer.outcome.octets == len(transfer.content)
            else:
                assert transfer.outcome.check(TFTPError), transfer.outcome.getTraceback()
                if transfer.reading:
                    assert f"{transfer.name} {number}" not in self.local.files
            # If the last ACK was lost, a write that has failed for the client is complete.
            assert self.served.files.get(transfer.name) in (transfer.content, None)


chances = st.builds(
    Faults,
    **dict.fromkeys(
        ("loss", "repeat", "reorder", "delay", "corrupt", "replay"),
        st.sampled_from([0.0, 0.05, 0.2, 0.2]) | st.floats(0, 0.2),
    ),
)


def test_transfer_is_right_or_leaves_nothing_on_any_network() -> None:
    """On any network a completed transfer has the right file, and a failed one leaves nothing."""
    completed: set[bool] = set()

    @settings(max_examples=200, deadline=None)
    @given(
        reading=st.booleans(),
        up=chances,
        down=chances,
        blksize=st.sampled_from([8, 512, 1428]) | st.integers(8, 1500),
        windowsize=st.sampled_from([1, 4, 16, 64]) | st.integers(1, 64),
        blocks=st.sampled_from([0, 1, 63, 64, 65, 200, 400]) | st.integers(0, 400),
        rest=st.integers(0, 1499),
        options=st.booleans(),
        timeout=st.sampled_from([None, 0.25, 2]),
        retransmit=st.sampled_from(Retransmit),
        single_port=st.booleans(),
        delay=st.sampled_from([0.0, 0.0005, 0.02, 0.2]),
        disk=st.sampled_from([0.0, 0.0, 0.01, 0.3]),
        known_size=st.booleans(),
        again=st.sampled_from([None, "another port", "the same port"]),
        seed=st.integers(0, 2**32),
    )
    def hold(
        reading: bool,
        up: Faults,
        down: Faults,
        blksize: int,
        windowsize: int,
        blocks: int,
        rest: int,
        options: bool,
        timeout: float | None,
        retransmit: Retransmit,
        single_port: bool,
        delay: float,
        disk: float,
        known_size: bool,
        again: str | None,
        seed: int,
    ) -> None:
        if again == "the same port":
            # An old block 1 or ACK 0 of the first transfer would look like an answer without
            # options to the second request, while the other end uses the granted block size. Only
            # another port prevents that (RFC 1350 section 4).
            blksize = DEFAULT_BLKSIZE
        whole = blksize if options else DEFAULT_BLKSIZE
        size = min(blocks * whole + rest % whole, MOST_OCTETS)
        lab = Lab(
            *(reading, up, down),
            seed=seed,
            delay=delay,
            disk=disk,
            single_port=single_port,
            retransmit=retransmit,
            known_size=known_size,
            blksize=blksize,
            windowsize=windowsize,
            timeout=timeout,
            options=options,
        )
        with no_errors_logged():
            first = lab.begin("first", octets(size, seed))
            while first.outcome is None:
                lab.network.step()
            if again == "the same port":
                # The same file, because replayed blocks of another one would not be recognised.
                lab.client.close()
                lab.begin("first", first.content)
            elif again is not None:
                lab.network.client_port += 1
                lab.begin("second", octets(size, "second"))
            lab.end()
        if up == down == Faults():
            assert all(transfer.complete for transfer in lab.transfers)
        completed.update(each.reading for each in lab.transfers if each.complete)

    hold()
    assert completed == {True, False}


PORTS = pytest.mark.parametrize("single_port", [False, True], ids=["ports", "single-port"])
BOTH_WAYS = pytest.mark.parametrize("reading", [True, False], ids=["read", "write"])


@PORTS
@BOTH_WAYS
@pytest.mark.parametrize("windowsize", [1, 4, 16, 64])
def test_megabyte_completes_at_five_percent_loss(
    windowsize: int, reading: bool, single_port: bool
) -> None:
    """A transfer of a megabyte completes at a loss of 5 %."""
    loss = Faults(loss=0.05)
    for seed in range(3):
        lab = Lab(
            *(reading, loss, loss),
            seed=seed,
            single_port=single_port,
            blksize=1428,
            windowsize=windowsize,
        )
        with no_errors_logged():
            transfer = lab.begin("file", octets(1_000_000, seed))
            lab.end()
        assert transfer.complete, transfer.outcome


@PORTS
@BOTH_WAYS
@pytest.mark.parametrize("fault", ["loss", "repeat", "reorder", "delay", "replay", "corrupt"])
def test_transfers_complete_if_one_fault_affects_a_fifth_of_all_datagrams(
    fault: str, reading: bool, single_port: bool
) -> None:
    """One kind of fault alone ends no transfer, unless a request or its answer was damaged."""
    faults = Faults(**{fault: 0.2})
    transfers = []
    for seed, windowsize in itertools.product(range(5), (1, 4, 16, 64)):
        lab = Lab(
            *(reading, faults, faults),
            seed=seed,
            single_port=single_port,
            blksize=512,
            windowsize=windowsize,
        )
        with no_errors_logged():
            transfers.append(lab.begin("file", octets(20_000, seed)))
            lab.end()
    failed = [each.outcome for each in transfers if not each.complete]
    assert len(failed) <= (len(transfers) // 4 if fault == "corrupt" else 0), failed


@PORTS
@BOTH_WAYS
def test_late_copy_of_the_request_does_not_end_the_transfer(
    reading: bool, single_port: bool
) -> None:
    """If the OACK was lost, both ends repeat; the server may read the answer to its OACK first.

    The two datagrams are for two sockets, or overtake one another.
    """
    delay = 0.001
    lab = Lab(reading, Faults(), Faults(), delay=delay, single_port=single_port)
    carry, opcodes = lab.network.send, Counter[int]()

    def send(source: Any, destination: Any, datagram: bytes) -> None:
        opcode = wire.opcode_of(datagram)
        opcodes[opcode] += 1
        if opcode == wire.Opcode.OACK and opcodes[opcode] == 1:
            return
        is_copy = opcode in (wire.Opcode.RRQ, wire.Opcode.WRQ) and opcodes[opcode] == 2
        # The request is sent one `delay` before the OACK, and read one after the answer to that.
        late = 3 * delay if is_copy else 0.0
        lab.network.clock.callLater(late, carry, source, destination, datagram)

    lab.network.send = send  # type: ignore[method-assign]
    with no_errors_logged():
        transfer = lab.begin("file", octets(100_000, 1))
        lab.end()
    assert transfer.complete, transfer.outcome
    assert lab.network.server.counters.repeated == 1
    assert len(lab.network.recorder.outcomes) == 1
