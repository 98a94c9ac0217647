"""Parse `tftp://` URLs (RFC 3617)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from twisted_tftp.policy import TFTP_PORT
from twisted_tftp.protocol import wire


class BadURL(ValueError):
    """A URL does not have the form `tftp://host[:port]/file[;mode=octet|netascii]` (RFC 3617)."""


@dataclass(frozen=True)
class Location:
    """The parts of a TFTP URL: server, file name and transfer mode."""

    host: str
    port: int
    filename: str
    mode: str = wire.OCTET


def parse_url(url: str, port: int = TFTP_PORT) -> Location:
    """Parse a `tftp://` URL (RFC 3617 section 3).

    @param port: the server's port, if the URL has none.
    @raise BadURL: it is not a TFTP URL.
    """
    try:
        # ? and # have no special meaning in a TFTP URL.
        parts = urlsplit(url.replace("?", "%3F").replace("#", "%23"))
        host, port = unquote(parts.hostname or ""), parts.port or port
    except ValueError as error:
        raise BadURL(f"{url}: {error}") from None
    path, _, mode = parts.path.partition(";mode=")
    filename = unquote(path[1:], errors="surrogateescape")
    if (
        parts.scheme != "tftp"
        or not host
        or not filename
        or "\0" in filename
        or mode not in ("", "octet", "netascii")
    ):
        raise BadURL(f"{url}: a TFTP URL is tftp://host[:port]/file[;mode=octet|netascii]")
    return Location(host, port, filename, mode or wire.OCTET)
