"""Build TFTP packets octet by octet, without the encoder of the package."""

from __future__ import annotations


def request(opcode: int, name: bytes, mode: bytes = b"octet", **options: str) -> bytes:
    """Return a read (1) or write (2) request."""
    words = [name, mode, *(word.encode() for option in options.items() for word in option)]
    return opcode.to_bytes(2, "big") + b"".join(word + b"\0" for word in words)


def rrq(name: bytes, mode: bytes = b"octet", **options: str) -> bytes:
    """Return a read request."""
    return request(1, name, mode, **options)


def wrq(name: bytes, mode: bytes = b"octet", **options: str) -> bytes:
    """Return a write request."""
    return request(2, name, mode, **options)


def data(block: int, octets: bytes) -> bytes:
    """Return a DATA packet."""
    return b"\0\3" + block.to_bytes(2, "big") + octets


def ack(block: int) -> bytes:
    """Return an ACK packet."""
    return b"\0\4" + block.to_bytes(2, "big")


def error(code: int, message: bytes) -> bytes:
    """Return an ERROR packet."""
    return b"\0\5" + code.to_bytes(2, "big") + message + b"\0"
