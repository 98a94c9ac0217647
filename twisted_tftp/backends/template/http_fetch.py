"""Fetch a small document by HTTP or HTTPS, with limits of size and redirects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

#: The largest document, in octets.
MAX_BODY = 1024 * 1024

#: The most octets that a server may send in front of the document.
MAX_HEADERS = 64 * 1024

#: The most redirects of one request.
MAX_REDIRECTS = 3

#: The status codes of redirects (RFC 9110 section 15.4).
REDIRECTS = frozenset((301, 302, 303, 307, 308))

#: The status code of a document.
OK = 200

#: What the requests say of themselves.
HEADERS = {b"User-Agent": [b"twisted-tftp"], b"Accept": [b"application/json"]}


class FetchError(Exception):
    """A document could not be fetched; the text says why, without any text of the server."""


class Reply(NamedTuple):
    """The answer of a server.

    @ivar code: the status code.
    @ivar body: the document; empty unless the code is 200.
    """

    code: int
    body: bytes


def has_tls() -> bool:
    """Return whether HTTPS is available: whether pyOpenSSL and service-identity are installed."""
    try:
        import service_identity  # noqa: F401
        import twisted.internet.ssl  # noqa: F401
    except ImportError:
        return False
    return True


def fetch(reactor: Any, url: str) -> Deferred[Reply]:
    """Fetch a document; the caller limits the time, by cancelling.

    @param url: an ASCII URL.
    @return: it fails with L{FetchError}, or with an exception of the connection. Every connection
        is closed when it fires.
    """
    return Deferred.fromCoroutine(_Fetch(reactor).run(url))


@implementer(IAgentEndpointFactory)
class _Fetch:
    """One fetch, and the connections that it has made."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._connections: list[_LimitedConnection] = []
        self._agent = Agent.usingEndpointFactory(reactor, self)

    async def run(self, url: str) -> Reply:
        """Fetch the document."""
        try:
            for _ in range(MAX_REDIRECTS + 1):
                response = await self._agent.request(b"GET", url.encode("ascii"), Headers(HEADERS))
                if response.code == OK:
                    return Reply(OK, await _read(response))
                if response.code not in REDIRECTS:
                    return Reply(response.code, b"")
                url = _redirected(url, response.headers.getRawHeaders(b"location", []))
                self._abort()
            raise FetchError(f"more than {MAX_REDIRECTS} redirects")
        except Exception as error:
            if any(connection.has_sent_too_much for connection in self._connections):
                raise FetchError("the server sent too much") from error
            raise
        finally:
            self._abort()

    def endpointForURI(self, uri: URI) -> Any:
        """Return an endpoint (called by `Agent`)."""
        host = uri.host.decode("ascii")
        kind: Any = HostnameEndpoint
        if isIPAddress(host) or isIPv6Address(host):
            kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint  # needs no thread
        endpoint: Any = kind(self._reactor, host, uri.port)
        if uri.scheme == b"https":
            from twisted.internet.ssl import optionsForClientTLS

            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        return _RecordingEndpoint(endpoint, self._connections.append)

    def _abort(self) -> None:
        """Close the connections, whatever their servers do."""
        for connection in self._connections:
            if connection.transport is not None and not connection.is_lost:
                connection.abortConnection()
        self._connections.clear()


class _LimitedConnection(ProtocolWrapper):
    """A connection to a server that is closed if the server sends too much.

    @ivar has_sent_too_much: whether that has happened.
    @ivar is_lost: whether the connection is closed.
    """

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.has_sent_too_much = False
        self.is_lost = False
        self._received = 0

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on, up to the limit."""
        self._received += len(data)
        if self._received > MAX_BODY + MAX_HEADERS:
            self.has_sent_too_much = True
            self.abortConnection()
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionAborted())) -> None:  # noqa: B008
        """Remember that the connection is closed."""
        self.is_lost = True
        super().connectionLost(reason)


class _RecordingEndpoint:
    """An endpoint that tells of the connections that it makes."""

    def __init__(self, endpoint: Any, record: Callable[[_LimitedConnection], None]) -> None:
        self._endpoint = endpoint
        self._record = record

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect a protocol of `factory`."""
        wrapping = WrappingFactory(factory)
        wrapping.noisy = factory.noisy = False  # otherwise each connection is two log lines
        wrapping.protocol = _LimitedConnection
        return self._endpoint.connect(wrapping).addCallback(self._connected)  # type: ignore[no-any-return]

    def _connected(self, connection: _LimitedConnection) -> Any:
        self._record(connection)
        return connection.wrappedProtocol


class _Body(Protocol):
    """Collects a document."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._octets = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Add octets; fail if they are too many."""
        self._octets += data
        if len(self._octets) > MAX_BODY and not self.done.called:
            self.done.errback(FetchError(f"the answer is larger than {MAX_BODY >> 10} KiB"))

    def connectionLost(self, reason: Failure = Failure(ConnectionAborted())) -> None:  # noqa: B008
        """Finish: the document is complete, or it is not."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(bytes(self._octets))
        else:
            self.done.errback(FetchError("the answer is not complete"))


def _read(response: Any) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.done


def _redirected(url: str, locations: list[bytes]) -> str:
    """Return the URL that a redirect leads to.

    @raise FetchError: it is not valid, or leads from HTTPS to HTTP.
    """
    try:
        location = urljoin(url, locations[0].decode("ascii"))
        new = urlsplit(location)
        is_valid = new.scheme in ("http", "https") and bool(new.hostname) and "@" not in new.netloc
    except (IndexError, ValueError):
        is_valid = False
    if not is_valid or not location.isprintable() or " " in location:
        raise FetchError("a redirect leads to a URL that is not valid")
    if url.startswith("https:") and new.scheme == "http":
        raise FetchError("a redirect leads from HTTPS to HTTP")
    if new.scheme == "https" and not has_tls():
        raise FetchError("a redirect leads to HTTPS, which is not installed")
    return location
