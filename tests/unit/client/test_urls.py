"""Test the parts of a TFTP URL."""

from __future__ import annotations

import pytest

from twisted_tftp.client.urls import BadURL, Location, parse_url


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("tftp://host/file", Location("host", 69, "file")),
        ("TFTP://Host:6969/dir/file", Location("host", 6969, "dir/file")),
        ("tftp://[::1]:70//abs", Location("::1", 70, "/abs")),
        ("tftp://h/f;mode=netascii", Location("h", 69, "f", "netascii")),
        ("tftp://h/f;mode=octet", Location("h", 69, "f", "octet")),
        ("tftp://h/a%2Fb%20c", Location("h", 69, "a/b c")),
        ("tftp://h/a?b#c", Location("h", 69, "a?b#c")),
    ],
)
def test_url_is_parsed_into_host_port_name_and_mode(url: str, location: Location) -> None:
    """A URL gives the host, the port, the file name and the mode."""
    assert parse_url(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "http://host/file",
        "tftp://host",
        "tftp://host/",
        "tftp:///file",
        "tftp://host:99999/file",
        "tftp://host:x/file",
        "tftp://host/file;mode=mail",
        "tftp://host/a%00b",
        "tftp://[::1/file",
        "file",
        "",
    ],
)
def test_invalid_url_raises_bad_url(url: str) -> None:
    """An invalid URL raises BadURL, with the URL in its text."""
    with pytest.raises(BadURL, match="tftp"):
        parse_url(url)
