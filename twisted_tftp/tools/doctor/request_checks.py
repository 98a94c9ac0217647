"""Check how a server answers requests without options."""

from __future__ import annotations

import select
import time

from twisted_tftp.net.udp import MAX_DATAGRAM
from twisted_tftp.protocol import wire
from twisted_tftp.tools.doctor.finding import Finding, Verdict
from twisted_tftp.tools.doctor.manual_transfer import (
    END_OF_CHECK,
    REQUEST_ATTEMPTS,
    ManualTransfer,
    Target,
)

#: The name of the check whether the server answers.
ANSWER_CHECK = "answers"

#: The longest time to wait for the answers to a repeated request, in seconds.
MAX_ANSWER_TIME = 0.5


def answers(target: Target) -> bool:
    """Return whether the server answers a request at this address at all."""
    try:
        with ManualTransfer(target) as transfer:
            return bool(transfer.request())
    except OSError:  # this host has no route to the address
        return False


def silent_address(target: Target) -> Finding:
    """Return the finding about an address of a host name at which the server does not answer."""
    return Finding(
        ANSWER_CHECK,
        Verdict.WARNING,
        f"no answer from {target.address[0]}, one of the addresses of the host name",
        "let the server listen there too, or remove the address from the name: clients that try"
        " it first lose time, and many try no other one",
    )


def check_missing_file(target: Target) -> Finding:
    """Request a file that does not exist: any answer shows that the server works."""
    return _check_answer(target, is_file_expected=False)


def check_answer(target: Target) -> Finding:
    """Request the file, and expect its first block."""
    return _check_answer(target, is_file_expected=True)


def _check_answer(target: Target, *, is_file_expected: bool) -> Finding:
    with ManualTransfer(target) as transfer:
        answer = transfer.request()
        milliseconds = (time.monotonic() - transfer.sent_at) * 1e3
        peer = transfer.peer
    if peer is None:
        return Finding(
            ANSWER_CHECK,
            Verdict.PROBLEM,
            f"no answer to {REQUEST_ATTEMPTS} requests",
            "check that the server runs, and that no firewall drops its answers, which come from"
            " another port than the request port",
        )
    origin = f"from {peer[0]} port {peer[1]} after {milliseconds:.1f} ms"
    if wire.opcode_of(answer) == wire.Opcode.ERROR:
        code, message = wire.parse_error(answer)
        if not is_file_expected:
            return Finding(ANSWER_CHECK, Verdict.OK, f"ERROR {code} {origin}, as expected")
        return Finding(
            ANSWER_CHECK,
            Verdict.PROBLEM,
            f"ERROR {code} {message!r} {origin}",
            "give the name of an existing file, relative to the server's root",
        )
    if peer[1] == target.address[1]:
        origin += ": the request port itself answers (single port), which works through NAT"
    return Finding(ANSWER_CHECK, Verdict.OK, f"an answer came {origin}")


def check_repeated_request(target: Target) -> Finding:
    """Send a request twice, as a network may do, and count the ports that answer."""
    request = target.encode_request()
    sources = set()
    with target.open_socket() as sock:
        for _ in range(2):
            sock.sendto(request, target.address)
        deadline = time.monotonic() + min(MAX_ANSWER_TIME, target.timeout)
        while select.select([sock], [], [], max(0, deadline - time.monotonic()))[0]:
            _, source = sock.recvfrom(MAX_DATAGRAM)
            sources.add(source)
        for source in sources:
            sock.sendto(END_OF_CHECK, source)
    if len(sources) > 1:
        return Finding(
            "repeated request",
            Verdict.WARNING,
            "a request that arrives twice starts two transfers",
            "a client that repeats its request has to end one of them",
        )
    text = "a request that arrives twice starts no second transfer"
    return Finding("repeated request", Verdict.OK, text)
