"""Read the configuration again while the service runs (SIGHUP)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.logger import Logger

from twisted_tftp.backends.filesystem.threads import InThread, Threads
from twisted_tftp.config.build import Built, NameRules, build, read_name_rules
from twisted_tftp.config.check import problems_of_built
from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import Settings, load_settings
from twisted_tftp.server.service import TFTPService

#: How long a reload may run before another SIGHUP abandons it, in seconds.
MAX_READING_TIME = 30.0

#: The most threads that read files. A thread that waits for a disk that does not respond can't be
#: ended; each further SIGHUP then uses another one.
MAX_THREADS = 4


class _ServiceStops(Exception):
    """The service has begun to stop."""


class Reloader:
    """Gives a running service the configuration that its files have now.

    If it is not valid, the service keeps the one that it has. Requests that come meanwhile are
    served: whatever may wait for a disk is done in a thread.
    """

    _log = Logger()

    def __init__(
        self,
        service: TFTPService,
        given: Mapping[str, Any],
        path: str | None,
        *,
        reactor: Any,
        note: str = "",
        in_thread: InThread | None = None,
    ) -> None:
        """Set up.

        @param given: the options of the command line, as for L{load_settings}.
        @param path: the configuration file, or the folder of the files; None if there is none.
        @param note: a hint that is added to the message that a configuration was refused.
        @param in_thread: calls a function in a thread; None for a thread of its own, so that a
            disk that does not respond delays nothing else, and not the end of the process.
        """
        self._service = service
        self._given = dict(given)
        self._path = path
        self._reactor = reactor
        self._note = note
        self._calls = _Calls(in_thread or Threads("tftp-reload", MAX_THREADS, reactor))
        self._running: Deferred[None] | None = None
        self._reading: Deferred[Any] = succeed(None)  # the result of the last call in a thread
        self._is_wanted_again = False
        self._began_at = 0.0  # in seconds of the reactor's clock

    def reload(self) -> Deferred[None]:
        """Read the configuration again; the Deferred fires when it is in use or was refused.

        If a reload is running already, it is repeated when it ends.
        """
        if self._running is not None:
            self._is_wanted_again = True
            self._abandon_if_it_hangs()
            return succeed(None)
        self._running = self._reload_while_wanted()
        running = self._running
        running.addBoth(self._note_end)
        return running

    def _abandon_if_it_hangs(self) -> None:
        """Log that a reload is running; begin again in another thread if it takes too long."""
        seconds = self._reactor.seconds() - self._began_at
        start = f"SIGHUP: a reload is still running ({seconds:.0f} s)"
        if seconds < MAX_READING_TIME:
            self._log.info("{start}; it will be repeated when it ends", start=start)
        elif self._calls.unfinished >= MAX_THREADS:
            self._log.warn(
                "{start}, and no thread is left: {count} calls have not ended; "
                "it will be repeated when it ends",
                start=start,
                count=self._calls.unfinished,
            )
        else:
            self._log.warn("{start}, and is abandoned; the files are read again now", start=start)
            self._reading.cancel()

    def _note_end(self, result: Any) -> Any:
        self._running = None
        return result

    @inlineCallbacks
    def _reload_while_wanted(self) -> Any:
        self._is_wanted_again = True
        while self._is_wanted_again:
            self._is_wanted_again = False
            self._began_at = self._reactor.seconds()
            try:
                yield self._reload_once()
            except CancelledError:
                continue  # another thread reads the files now
            except _ServiceStops:
                self._log.info("SIGHUP: the service is stopping; its configuration stays as it is")
            except ConfigurationError as error:
                self._refuse(error.lines)
            except ValueError as error:
                self._refuse([str(error)])
            except (Exception, SystemExit):
                self._log.failure("SIGHUP: the old configuration stays in use")

    @inlineCallbacks
    def _reload_once(self) -> Any:
        """Read the files and check the backends in a thread; use them in the reactor's thread.

        @raise ConfigurationError: the files have mistakes, or a backend can't serve files.
        @raise ValueError: an option of the command line contradicts the files.
        @raise _ServiceStops: nothing needs a configuration any more.
        """
        settings, name_rules = yield self._while_running(_read, self._given, self._path)
        built = build(
            settings,
            self._reactor,
            name_rules=name_rules,
            earlier=self._service.configuration,
        )
        problems = yield self._while_running(problems_of_built, settings, built)
        if problems:
            raise ConfigurationError(tuple(problems))
        self._use(settings, built)

    @inlineCallbacks
    def _while_running(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a thread.

        @raise _ServiceStops: the service had begun to stop before the call, or at its end.
        """
        self._check_runs()
        try:
            self._reading = self._calls.begin(function, *arguments)
            result = yield self._reading
        finally:
            self._check_runs()
        return result

    def _check_runs(self) -> None:
        if not self._service.running:
            raise _ServiceStops

    def _use(self, settings: Settings, built: Built) -> None:
        """Give the service a configuration that was checked."""
        for text in contradictions(settings):
            self._log.warn("{text}", text=text)
        fixed = self._service.reconfigure(built.configuration, is_checked=True)
        self._log.info("SIGHUP: the configuration was read again; new requests use it")
        if fixed:
            names = ", ".join(name.replace("_", "-") for name in fixed)
            self._log.warn(
                "SIGHUP: a restart is needed for the new values of {names}", names=names
            )

    def _refuse(self, lines: Any) -> None:
        """Log why the service keeps its configuration, with one line for each mistake."""
        for line in lines:
            self._log.error("{line}", line=line)
        note = f" ({self._note})" if self._note else ""
        self._log.error("SIGHUP: the old configuration stays in use{note}", note=note)


class _Calls:
    """Calls in threads that can be abandoned.

    @ivar unfinished: the number of calls that have not returned, whether abandoned or not.
    """

    def __init__(self, in_thread: InThread) -> None:
        self.unfinished = 0
        self._in_thread = in_thread

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call a function in a thread; the Deferred can be cancelled, to abandon the call.

        A thread can't be stopped from outside, so its result is dropped then. A call that still
        waits for a thread is not made.
        """
        wanted: Deferred[Any] = Deferred()

        def call_if_wanted() -> Any:
            if wanted.called:
                raise CancelledError
            return function(*arguments)

        def returned(result: Any) -> None:
            self.unfinished -= 1
            if not wanted.called:
                wanted.callback(result)

        self.unfinished += 1
        self._in_thread(call_if_wanted).addBoth(returned)
        return wanted


def _read(given: Mapping[str, Any], path: str | None) -> tuple[Settings, NameRules]:
    """Read the configuration and the map file. This may block.

    @raise ConfigurationError: the files have mistakes.
    @raise ValueError: an option of the command line contradicts the files.
    """
    settings = load_settings(given, path)
    return settings, read_name_rules(settings)
