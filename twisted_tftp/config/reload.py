"""Read the configuration again while the service runs (SIGHUP)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_tftp.config.build import Built, build
from twisted_tftp.config.check import problems_of_backends, problems_of_hooks
from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import Settings, load_settings
from twisted_tftp.server.service import TFTPService

#: Calls a function with arguments in a thread; returns a Deferred of its result.
InThread = Callable[..., Deferred[Any]]


class Reloader:
    """Gives a running service the configuration that its files have now.

    If it is not valid, the service keeps the one that it has. Requests that come meanwhile are
    served.
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
        @param note: what the operator must know about paths, if the configuration can't be used.
        @param in_thread: reads the files; None for a thread of `reactor`.
        """
        self._service = service
        self._given = dict(given)
        self._path = path
        self._reactor = reactor
        self._note = note
        self._in_thread = in_thread or self._in_reactor_thread
        self._running: Deferred[None] | None = None
        self._is_wanted_again = False

    def reload(self) -> Deferred[None]:
        """Read the configuration again; the Deferred fires when the service has it, or never will.

        If the files are being read already, they are read once more after that.
        """
        if self._running is not None:
            self._is_wanted_again = True
            return succeed(None)
        self._running = self._reload_while_wanted()
        running = self._running
        running.addBoth(self._note_end)
        return running

    def _note_end(self, result: Any) -> Any:
        self._running = None
        return result

    @inlineCallbacks
    def _reload_while_wanted(self) -> Any:
        self._is_wanted_again = True
        while self._is_wanted_again:
            self._is_wanted_again = False
            try:
                settings = yield self._in_thread(load_settings, self._given, self._path)
                self._use(settings, build(settings, self._reactor))
            except ConfigurationError as error:
                self._refuse(error.lines)
            except ValueError as error:
                self._refuse([str(error)])
            except Exception:
                self._log.failure("SIGHUP: the old configuration stays in use")

    def _use(self, settings: Settings, built: Built) -> None:
        """Give the service a configuration, if its backends can serve files and its hooks run.

        @raise ConfigurationError: they can't.
        """
        if not self._service.running:
            self._log.info("SIGHUP: the service is stopping; its configuration stays as it is")
            return
        problems = [*problems_of_backends(built), *problems_of_hooks(settings)]
        if problems:
            raise ConfigurationError(tuple(problems))
        for text in contradictions(settings):
            self._log.warn("{text}", text=text)
        fixed = self._service.reconfigure(built.configuration)
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

    def _in_reactor_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function, *arguments)
