"""Measure how much a server sends to forged addresses: `python -m benchmarks.reflector`.

Requests without options arrive from addresses of one /24 that never answer. Honest machines of the
same /24 start at once, ask again until they get an answer, and read the file in lock step. All are
loopback addresses, so the program needs no privilege. The result is one line of JSON.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import random
import select
import socket
import sys
import time

#: How many addresses are forged; the last ones of the network.
FORGED_HOSTS = 50

#: How many ports each forged address uses.
PORTS_PER_HOST = 10

#: After how many seconds without an answer a machine asks again.
ASKS_AGAIN_AFTER = 2.0

#: The pause between two bursts of forged requests, in seconds.
_PAUSE = 0.005

#: The size of a full DATA packet without options, in octets.
_FULL_SIZE = 516


def open_socket(host: str) -> socket.socket:
    """Return a UDP socket with the address `host` and any port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


class Machine:
    """An honest machine.

    @ivar is_finished: whether it has read the whole file.
    """

    def __init__(self, host: str, server: tuple[str, int], request: bytes) -> None:
        self.socket = open_socket(host)
        self.is_finished = False
        self._server = server
        self._request = request
        self._blocks = 0
        self._asks_at = 0.0

    def ask_if_due(self, now: float) -> None:
        """Send the request, if there was no answer for long enough."""
        if not self._blocks and now >= self._asks_at:
            self._asks_at = now + ASKS_AGAIN_AFTER
            self.socket.sendto(self._request, self._server)

    def receive(self) -> None:
        """Acknowledge a block."""
        datagram, source = self.socket.recvfrom(2048)
        if datagram[:2] != b"\0\3":
            return
        number = int.from_bytes(datagram[2:4], "big")
        if number == self._blocks + 1:
            self._blocks += 1
            self.is_finished = len(datagram) < _FULL_SIZE
        if number <= self._blocks:
            self.socket.sendto(b"\0\4" + datagram[2:4], source)


class Attack:
    """Forged requests, and the answers that their addresses get.

    @ivar octets_sent: the octets of all forged requests.
    @ivar octets_reflected: the octets of all datagrams that the forged addresses got.
    """

    def __init__(self, hosts: list[str], server: tuple[str, int], request: bytes) -> None:
        self.octets_sent = 0
        self.octets_reflected = 0
        self.sockets = [open_socket(host) for host in hosts for _ in range(PORTS_PER_HOST)]
        self._server = server
        self._request = request

    def send(self, count: int) -> None:
        """Send forged requests, each from a random socket."""
        for _ in range(count):
            self.octets_sent += random.choice(self.sockets).sendto(self._request, self._server)

    def receive(self, sock: socket.socket) -> None:
        """Count what a forged address got."""
        try:
            while True:
                self.octets_reflected += len(sock.recv(65535))
        except BlockingIOError:
            pass


def run(attack: Attack, machines: list[Machine], rate: float, seconds: float) -> None:
    """Send `rate` forged requests per second, and let the machines read meanwhile."""
    by_descriptor = {machine.socket.fileno(): machine for machine in machines}
    forged = {sock.fileno(): sock for sock in attack.sockets}
    poll = select.epoll()
    for descriptor in (*by_descriptor, *forged):
        poll.register(descriptor, select.EPOLLIN)
    began = now = time.monotonic()
    sent = 0
    while now - began < seconds:
        due = int((now - began) * rate) - sent
        attack.send(due)
        sent += due
        for machine in machines:
            machine.ask_if_due(now)
        for descriptor, _ in poll.poll(_PAUSE):
            if descriptor in by_descriptor:
                by_descriptor[descriptor].receive()
            else:
                attack.receive(forged[descriptor])
        now = time.monotonic()
    poll.close()


def main() -> int:
    """Attack a server, and print the result; return 1 if a machine has not finished."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reflector", description=__doc__)
    parser.add_argument("host", help="an address in 127.0.0.0/8, where the server listens")
    parser.add_argument("port", type=int)
    parser.add_argument("--file", default="file", help="the name of a file on the server [file]")
    parser.add_argument("--network", default="127.0.77.0/24", help="the /24 [127.0.77.0/24]")
    parser.add_argument("--rate", type=float, default=1000, help="requests a second [1000]")
    parser.add_argument("--seconds", type=float, default=60, help="for how long [60]")
    parser.add_argument("--machines", type=int, default=200, help="honest machines [200]")
    arguments = parser.parse_args()
    network = ipaddress.ip_network(arguments.network)
    if not (network.is_loopback and ipaddress.ip_address(arguments.host).is_loopback):
        parser.error("HOST and --network must be loopback addresses")
    hosts = [str(each) for each in network.hosts()]
    if arguments.machines > len(hosts) - FORGED_HOSTS:
        parser.error(f"--machines must be at most {len(hosts) - FORGED_HOSTS}")
    server = (arguments.host, arguments.port)
    request = b"\0\1" + arguments.file.encode() + b"\0octet\0"
    attack = Attack(hosts[-FORGED_HOSTS:], server, request)
    machines = [Machine(host, server, request) for host in hosts[: arguments.machines]]
    run(attack, machines, arguments.rate, arguments.seconds)
    finished = sum(machine.is_finished for machine in machines)
    report = {
        "forged_octets": attack.octets_sent,
        "reflected_octets": attack.octets_reflected,
        "ratio": round(attack.octets_reflected / attack.octets_sent, 2),
        "finished": finished,
    }
    print(json.dumps(report))
    return int(finished < len(machines))


if __name__ == "__main__":
    sys.exit(main())
