"""Functions that download or upload one file by its URL."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.client.urls import Location, parse_url

# `Any` below: see `TFTPClient` for the types of its reactor and of its keyword arguments.


def download(
    url: str, path: str, reactor: Any = None, **settings: Any
) -> Deferred[TransferResult]:
    """Download the file `url` to `path`: see L{TFTPClient.get}.

    @param reactor: the reactor; None for the global one.
    @param settings: keyword arguments of L{TFTPClient}.
    @raise BadURL: `url` is not a TFTP URL.
    """
    location = parse_url(url)
    return _make_client(location, reactor, settings).get(location.filename, path)


def upload(path: str, url: str, reactor: Any = None, **settings: Any) -> Deferred[TransferResult]:
    """Upload the file `path` as `url`: see L{TFTPClient.put}.

    @param reactor: the reactor; None for the global one.
    @param settings: keyword arguments of L{TFTPClient}.
    @raise BadURL: `url` is not a TFTP URL.
    """
    location = parse_url(url)
    return _make_client(location, reactor, settings).put(path, location.filename)


def _make_client(location: Location, reactor: Any, settings: dict[str, Any]) -> TFTPClient:
    if reactor is None:
        from twisted.internet import reactor
    settings.setdefault("mode", location.mode)
    return TFTPClient(reactor, location.host, location.port, **settings)
