"""Parse requests, with a cache: booting machines send the same short requests again and again."""

from __future__ import annotations

from functools import lru_cache

from twisted_tftp.errors import TFTPError
from twisted_tftp.protocol import wire

#: The longest request whose parsed form is cached, in octets. A longer one could have hundreds of
#: options.
MAX_CACHED_REQUEST = 128

_parse_cached = lru_cache(maxsize=1024)(wire.parse_request)


def parse_request(datagram: bytes) -> wire.Request:
    """Return a parsed request; short requests are cached.

    @raise TFTPError: it is malformed.
    """
    parse = _parse_cached if len(datagram) <= MAX_CACHED_REQUEST else wire.parse_request
    return parse(datagram)


def has_options(datagram: bytes) -> bool:
    """Return whether `datagram` is a request with options, or malformed."""
    try:
        return bool(parse_request(datagram).options)
    except TFTPError:
        return True


def is_well_formed(datagram: bytes) -> bool:
    """Return whether `datagram` is a request, and not a damaged packet of a transfer."""
    try:
        parse_request(datagram)
    except TFTPError:
        return False
    return True
