"""Run `--check` and `--explain`: they print something and end the process."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from twisted_tftp.config.build import build
from twisted_tftp.config.check import problems_of, warnings_of
from twisted_tftp.config.explain_request import explain_request
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import Settings
from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.protocol.printable import printable_unicode
from twisted_tftp.server.configuration import DEFAULT_GRACE


def check_and_exit(settings: Settings) -> NoReturn:
    """Print all problems of a configuration; exit with status 1 if there is one, otherwise 0.

    Warnings are printed too, but do not count.
    """
    for line in warnings_of(settings):
        print(line, file=sys.stderr)
    problems = problems_of(settings)
    if problems:
        sys.exit("\n".join(problems))
    print("the configuration is valid")
    sys.exit(0)


def explain_and_exit(settings: Settings, host: str, name: str) -> NoReturn:
    """Print how a read request would be answered; exit with status 0 if it gets the file."""
    react(_explain, (settings, host, name))
    raise AssertionError("react() ends the process")


@inlineCallbacks
def _explain(reactor: Any, settings: Settings, host: str, name: str) -> Any:
    try:
        built = build(settings, reactor, has_names=True)
    except ConfigurationError as error:
        sys.exit(str(error))
    try:
        explanation = yield explain_request(settings, built, host, name)
    except ValueError as error:
        sys.exit(f"tftp: {error} (see --help)")
    finally:
        yield _stop(built.configuration.backend, reactor)
    print("\n".join(explanation.lines))
    if not explanation.is_served:
        sys.exit(1)


def _stop(backend: Any, reactor: Any) -> Deferred[Any]:
    """Stop a backend; the Deferred fires when it has stopped, or after some seconds."""
    stopping = maybeDeferred(lifecycle_of(backend).stop)
    stopping.addTimeout(DEFAULT_GRACE, reactor)
    return stopping.addErrback(_report_failed_stop)


def _report_failed_stop(failure: Failure) -> None:
    error = failure.value
    reason = str(error) or type(error).__name__
    text = printable_unicode(f"the backend failed to stop: {reason}")
    print(f"warning: {text}", file=sys.stderr)
