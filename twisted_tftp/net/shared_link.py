"""The link of a transfer that uses the request port, in single-port mode."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.net.udp import READS_BEFORE_TIMEOUT, OnPortUnreachable, Receive, ReceiveTrain
from twisted_tftp.transfer.flow import Offerer
from twisted_tftp.transfer.machine import Buffer


class SharedLink:
    """A link that sends through the request port; the protocol of the port receives for it."""

    def __init__(
        self,
        port: RequestPort,
        peer: SocketAddress,
        local: SocketAddress | None,
    ) -> None:
        self._port = port
        self._peer = peer
        self._local = local

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Do nothing: the protocol of the request port finds the transfer of each datagram."""

    def flow_delay(self) -> float | None:
        """Return None: this link has no flows."""
        return None

    def follow_flow(self) -> None:
        """Do nothing: this link has no flows."""

    def end_flow(self) -> None:
        """Do nothing: this link has no flows."""

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Do nothing: the protocol of the request port is told about closed ports."""

    def enlarge_buffer(self, size: int) -> int:
        """Return the size of the port's receive buffer, which all transfers share."""
        return self._port.receive_capacity()

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram from the request port."""
        for index in range(0, len(datagrams), 2):
            datagram = b"".join(datagrams[index : index + 2])
            self._port.send(datagram, self._peer, self._local)

    def receive_waiting(self) -> None:
        """Read the datagrams in the request port, those of other transfers too."""
        for _ in range(READS_BEFORE_TIMEOUT):
            if not self._port.read_one():
                return

    def close(self) -> None:
        """Do nothing: other transfers use the request port."""
