"""Check the parsers of octets from the network with any input: packets, options, netascii."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fuzz.inputs import Input
from twisted_tftp.errors import IllegalOperation, OptionRefused, TFTPError, from_wire
from twisted_tftp.policy import MAX_BLKSIZE, MAX_WINDOWSIZE, MIN_BLKSIZE, Policy, Rollover
from twisted_tftp.protocol import netascii, options, wire
from twisted_tftp.protocol.describe import describe


def request(data: bytes) -> None:
    """Parse a datagram as each kind of packet; encode and parse a result again."""
    assert wire.opcode_of(data) == wire.opcode_of(memoryview(data))
    try:
        asked = wire.parse_request(data)
    except IllegalOperation:
        pass
    else:
        assert asked.filename
        assert asked.mode in (wire.OCTET, wire.NETASCII)
        assert all(name and name == name.lower() for name in asked.options)
        again = wire.parse_request(wire.encode_request(asked))
        assert again == asked
        assert list(again.options) == list(asked.options), "the order of the options counts"
    try:
        granted = wire.parse_oack(memoryview(data))
    except IllegalOperation:
        pass
    else:
        assert all(name and name == name.lower() for name in granted)
        plain = wire.oack(granted.items())
        assert wire.parse_oack(plain) == granted
        assert wire.parse_oack(plain + b"\0\0") == granted, "NULs at the end change nothing"
        if granted:
            assert wire.parse_oack(plain + b"\0" + data) == granted, "nor octets behind them"
    code, message = wire.parse_error(memoryview(data))
    assert 0 <= code <= 0xFFFF
    failure = from_wire(code, message)
    told = wire.error(failure)
    assert len(told) <= wire.HEADER_SIZE + wire.MAX_MESSAGE + 1
    told_code, told_message = wire.parse_error(told)
    assert told_code == failure.code
    assert failure.message.startswith(told_message)
    words = describe(data)
    assert "\n" not in words
    assert words.isprintable()


#: Policies of servers, to choose from.
POLICIES = [
    Policy(
        max_blksize=max_blksize,
        max_windowsize=max_windowsize,
        rollover=rollover,
        refuse=frozenset(refuse),
    )
    for max_blksize, max_windowsize, rollover, refuse in (
        (MAX_BLKSIZE, 64, Rollover.ZERO, ()),
        (1468, 32767, Rollover.ONE, ("timeout", "tsize")),
        (512, 4, Rollover.NONE, ("blksize2", "xid")),
        (1000, 1, Rollover.ONE, ("blksize", "windowsize")),
        (8, 1, Rollover.ZERO, ("rollover", "utimeout")),
    )
]

#: File sizes for tsize, to choose from.
SIZES = (None, 1, 512, 2**32, 2**64 - 1)

#: The largest sizes of a window in octets, to choose from.
WINDOW_LIMITS = (None, 0, 500, 3000, 212_992)

#: Options whose number the server may lower, with the lowest allowed number.
_LOWERED = {"blksize": MIN_BLKSIZE, "blksize2": MIN_BLKSIZE, "windowsize": 1}

#: The highest number of each of them that a server may grant.
_HIGHEST = {"blksize": MAX_BLKSIZE, "blksize2": MAX_BLKSIZE, "windowsize": MAX_WINDOWSIZE}


def negotiation(data: bytes) -> None:
    """Negotiate as a server; read the OACK, and any other OACK, as the client."""
    source = Input(data)
    policy = source.choice(POLICIES)
    tsize, window_limit = source.choice(SIZES), source.choice(WINDOW_LIMITS)
    fields, _, other = source.rest().partition(b"\xff")
    try:
        asked = wire.parse_request(b"\0\1name\0octet\0" + fields).options
    except TFTPError as failure:
        raise AssertionError("a request is valid with any options") from failure
    grant = options.negotiate(asked, policy, tsize=tsize, window_limit=window_limit)
    _check_grant(grant, asked, policy, tsize, window_limit)
    if grant.oack is not None:
        answered = wire.parse_oack(grant.oack)
        assert tuple(answered.items()) == grant.accepted
        held = options.accept(asked, answered)
        assert (held.blksize, held.windowsize) == (grant.blksize, grant.windowsize)
        assert held.timeout == grant.timeout
        if "rollover" in answered:
            assert held.rollover is grant.rollover
    try:
        held = options.accept(asked, wire.parse_oack(b"\0\6" + other))
    except (IllegalOperation, OptionRefused):
        return
    _check_held(held, asked)


def _check_grant(
    grant: options.Grant,
    asked: Mapping[str, str],
    policy: Policy,
    tsize: int | None,
    window_limit: int | None,
) -> None:
    accepted = dict(grant.accepted)
    assert (grant.oack is None) == (not accepted)
    assert len(accepted) == len(grant.accepted)
    assert not policy.refuse & accepted.keys()
    for name, value in accepted.items():
        given, wanted = int(value), int(asked[name])
        if name in _LOWERED:
            assert given <= _HIGHEST[name], name
            assert _LOWERED[name] <= given <= wanted, name
        elif name == "tsize":
            assert given == tsize
        else:
            assert given == wanted, name
    if accepted.keys() & {"blksize", "blksize2"}:
        assert grant.blksize <= policy.max_blksize
        assert str(grant.blksize) in (accepted.get("blksize"), accepted.get("blksize2"))
    else:
        assert grant.blksize == 512
    if "blksize2" in accepted:
        assert grant.blksize.bit_count() == 1
    if "windowsize" in accepted:
        assert str(grant.windowsize) == accepted["windowsize"]
        assert grant.windowsize <= policy.max_windowsize
        window = grant.windowsize * (grant.blksize + wire.HEADER_SIZE)
        assert window_limit is None or grant.windowsize == 1 or window <= window_limit
    else:
        assert grant.windowsize == 1
    assert grant.timeout is None or 0.01 <= grant.timeout <= 255
    if "rollover" not in accepted:
        assert grant.rollover is policy.rollover


def _check_held(held: options.Grant, asked: Mapping[str, str]) -> None:
    """Check what the client accepts of any OACK."""
    assert {name for name, _ in held.accepted} <= asked.keys()
    numbers = {name: int(value) for name, value in asked.items() if re.fullmatch("[0-9]+", value)}
    sizes = [numbers[name] for name in ("blksize", "blksize2") if name in numbers]
    assert MIN_BLKSIZE <= held.blksize <= min(MAX_BLKSIZE, max([512, *sizes]))
    assert 1 <= held.windowsize <= max(1, numbers.get("windowsize", 1))


#: The pairs of netascii: CR LF and CR NUL. All other octets stand for themselves.
_PAIR = re.compile(rb"\r[\n\x00]")


def translation(data: bytes) -> None:
    """Encode and decode a text, in pieces and at once; the results must be the same."""
    source = Input(data)
    cuts = [1 + source.byte() % 9 for _ in range(4)]
    text = source.rest()
    pieces: list[bytes] = []
    at = 0
    while at < len(text):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(text[at : at + size])
        at += size
    encoded = netascii.encode(text)
    assert b"".join(map(netascii.encode, pieces)) == encoded
    assert not re.search(rb"\r(?![\n\x00])|(?<!\r)\n", encoded), "not netascii"
    assert _decoded([encoded]) == text
    decoded = _PAIR.sub(lambda pair: pair[0].lstrip(b"\r").replace(b"\0", b"\r"), text)
    assert _decoded([text]) == decoded
    assert _decoded(pieces) == decoded
    # The same cuts in a text that is valid netascii.
    assert _decoded([encoded[at : at + cuts[0]] for at in range(0, len(encoded), cuts[0])]) == text


def _decoded(pieces: list[bytes]) -> bytes:
    decoder = netascii.Decoder()
    return b"".join(map(decoder.decode, pieces)) + decoder.decode(b"", final=True)
