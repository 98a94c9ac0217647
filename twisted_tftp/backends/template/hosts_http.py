"""Ask an HTTP or HTTPS service for the entry of a machine: the service answers JSON."""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.filesystem.threads import InThread, Threads
from twisted_tftp.backends.template.hosts import (
    Budget,
    FoundHost,
    HostAnswer,
    IHostSource,
    Machine,
    plain,
)
from twisted_tftp.backends.template.http_fetch import OK, FetchError, Reply, fetch, has_tls
from twisted_tftp.backends.template.single_flight import SingleFlight

#: How long an answer is used before the service is asked again, in seconds.
DEFAULT_TTL = 60.0

#: How long the service may take for an answer, in seconds.
DEFAULT_LIMIT = 5.0

#: How long a failure is used as the answer, in seconds.
FAILURE_TTL = 1.0

#: The most requests to the service at the same time.
MAX_REQUESTS = 16

#: The most memory of all cached answers, in octets of their JSON text.
MAX_CACHE = 16 * 1024 * 1024

#: The memory that an answer needs in addition to its text, in octets.
OVERHEAD = 500

#: The size from which an answer is parsed in a thread, in octets.
LARGE_ANSWER = 16 * 1024

#: The pause between two log lines about failures, in seconds.
LOG_INTERVAL = 60.0

#: The status codes that say that there is no entry.
NO_ENTRY = frozenset((204, 404, 410))

#: The values of a machine that a URL can have in braces.
PLACEHOLDERS = ("mac", "uuid", "address", "client", "name")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class _Cached(NamedTuple):
    """An answer of the service, and when it expires."""

    answer: HostAnswer
    expires: float


@implementer(IHostSource)
class HostsService:
    """The entries of an HTTP or HTTPS service.

    @ivar url: the URL, with `{mac}` and other placeholders. Without any, the values that are known
        become query parameters.
    """

    _log = Logger()

    def __init__(
        self,
        url: str,
        *,
        ttl: float = DEFAULT_TTL,
        limit: float = DEFAULT_LIMIT,
        may_be_stale: bool = False,
        reactor: Any = None,
        in_thread: InThread | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up, without a connection.

        @param ttl: how long an answer is used, in seconds.
        @param limit: how long the service may take, in seconds.
        @param may_be_stale: whether the last good answer is used if the service fails.
        @param reactor: the reactor; None for the global one.
        @param in_thread: calls a function in a thread; None for a pool of one thread.
        @param monotonic: returns the time in seconds of a monotonic clock.
        @raise ValueError: the URL is not valid.
        """
        _check_url(url)
        self.url = url
        self._ttl = ttl
        self._limit = limit
        self._may_be_stale = may_be_stale
        self._reactor = reactor
        self._in_thread = in_thread or Threads("tftp-hosts", 1, reactor)
        self._monotonic = monotonic
        self._semaphore = DeferredSemaphore(MAX_REQUESTS)
        self._flights: dict[str, SingleFlight[HostAnswer]] = {}
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._octets = 0
        self._next_log = 0.0

    def check(self) -> None:
        """Do nothing: the service may be started after this server."""

    def forget(self) -> None:
        """Discard all answers."""
        self._cache.clear()
        self._octets = 0

    def find(self, machine: Machine) -> FoundHost:
        """Find the entry of a machine: in the cache, or by a request to the service."""
        url = self._url_for(machine)
        if url is None:
            return HostAnswer(
                None, f"{shown_url(self.url)} needs a value that the requested name does not have"
            )
        cached = self._cache.get(url)
        if cached is not None and self._monotonic() < cached.expires:
            self._cache.move_to_end(url)
            return cached.answer
        flight = self._flights.setdefault(url, SingleFlight())
        return flight.join(lambda: self._ask(url))

    def _ask(self, url: str) -> Deferred[HostAnswer]:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        asked: Deferred[Any] = self._semaphore.run(fetch, self._reactor, url)
        # Also while it waits for other requests: a service that hangs must make no long queue.
        asked.addTimeout(self._limit, self._reactor)
        asked.addCallback(self._parse)
        asked.addCallbacks(
            lambda answer: self._keep(answer, url, self._ttl),
            lambda failure: self._replace(failure, url),
        )
        return asked.addBoth(self._landed, url)

    def _landed(self, result: Any, url: str) -> Any:
        del self._flights[url]
        return result

    def _parse(self, reply: Reply) -> HostAnswer | Deferred[HostAnswer]:
        if reply.code in NO_ENTRY:
            return HostAnswer(None, f"{shown_url(self.url)} has no entry: status {reply.code}")
        if reply.code != OK:
            raise FetchError(f"status {reply.code}")
        if len(reply.body) > LARGE_ANSWER:
            return self._in_thread(_entry_of, reply.body)
        return _entry_of(reply.body)

    def _keep(self, answer: HostAnswer, url: str, ttl: float) -> HostAnswer:
        """Cache an answer; remove those that were not used for the longest time."""
        old = self._cache.pop(url, None)
        if old is not None:
            self._octets -= _size(url, old.answer)
        self._cache[url] = _Cached(answer, self._monotonic() + ttl)
        self._octets += _size(url, answer)
        while self._octets > MAX_CACHE:
            other, removed = self._cache.popitem(last=False)
            self._octets -= _size(other, removed.answer)
        return answer

    def _replace(self, failure: Failure, url: str) -> HostAnswer:
        """Return what is used in the place of an answer: the last good one, or none."""
        problem = f"{shown_url(url)}: {_reason(failure, self._limit)}"
        if self._monotonic() >= self._next_log:
            self._next_log = self._monotonic() + LOG_INTERVAL
            self._log.warn("the service of the hosts fails: {problem}", problem=problem)
        last = self._cache.get(url)
        if self._may_be_stale and last is not None and last.answer.entry is not None:
            return self._keep(last.answer, url, FAILURE_TTL)
        return self._keep(HostAnswer(None, problem), url, FAILURE_TTL)

    def _url_for(self, machine: Machine) -> str | None:
        """Return the URL for a machine; None if a value for it is not known."""
        values = {name: getattr(machine, name) for name in PLACEHOLDERS}
        wanted = _PLACEHOLDER.findall(self.url)
        if any(values[name] is None for name in wanted):
            return None
        if not wanted:
            known = [(name, value) for name, value in values.items() if value and name != "name"]
            return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(known)}"
        return _PLACEHOLDER.sub(lambda found: _quoted(values[found[1]]), self.url)


def shown_url(url: str) -> str:
    """Return a URL for the log, without user, password and query: they may be secret."""
    address, question_mark, _ = url.partition("?")
    address = re.sub(r"://[^/#]*@", "://...@", address)
    return f"{address}?..." if question_mark else address


def _check_url(url: str) -> None:
    """Check the URL of a service.

    @raise ValueError: it is not valid.
    """
    shown = shown_url(url)
    unknown = sorted(set(_PLACEHOLDER.findall(url)) - set(PLACEHOLDERS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise ValueError(f"{{{unknown[0]}}} in {shown!r} is none of {known}")
    try:
        parts = urlsplit(_PLACEHOLDER.sub("x", url))
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{shown!r} is not a URL such as https://hosts.example/{{mac}}")
    if "@" in parts.netloc or parts.fragment or "{" in urlsplit(url).netloc:
        raise ValueError(f"{shown!r} must have no password, no fragment and a fixed host")
    if parts.scheme == "https" and not has_tls():
        raise ValueError("https needs pyOpenSSL: pip install 'twisted-tftp[templates]'")


def _entry_of(body: bytes) -> HostAnswer:
    """Return the entry in the answer of a service.

    @raise FetchError: it is not a JSON object.
    """
    try:
        value = json.loads(body, parse_constant=_reject_constant)
        if not isinstance(value, dict):
            raise FetchError("the answer is not a JSON object")
        return HostAnswer(json.dumps(plain(value, Budget()), sort_keys=True))
    except RecursionError:
        raise FetchError("the answer has too many levels") from None
    except ValueError as error:
        raise FetchError(f"the answer is not JSON: {error}") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _reason(failure: Failure, limit: float) -> str:
    """Return why the service has not answered, as one line."""
    error = failure.value
    # `ResponseFailed` and its kind only have the reasons of the connection.
    cause = next((reason.value for reason in getattr(error, "reasons", [])), error)
    if isinstance(cause, (TimeoutError, CancelledError, ConnectingCancelledError)):
        return f"no answer in {limit:g} s"
    details = getattr(cause, "args", None)
    if details and isinstance(
        details[0], list
    ):  # an error of OpenSSL: (library, function, reason)
        return f"TLS: {', '.join(str(each[-1]) for each in details[0])}"
    return " ".join(str(cause).split()) or type(cause).__name__


def _quoted(value: str) -> str:
    return quote(value.encode("utf-8", "surrogateescape"), safe="")


def _size(url: str, answer: HostAnswer) -> int:
    return OVERHEAD + len(url) + len(answer.entry or "") + len(answer.problem)
