"""Make a service from settings."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from twisted_tftp.config.build import build
from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import Settings
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.start_error import StartError

_log = Logger()


def make_service(settings: Settings, reactor: Any) -> TFTPService:
    """Return a service with these settings, for `reactor`.

    Options that contradict each other are logged.

    @raise StartError: a backend or a rule can't be made. The text has a line for each mistake.
    """
    for text in contradictions(settings):
        _log.warn("{text}", text=text)
    try:
        configuration = build(settings, reactor).configuration
    except ConfigurationError as error:
        raise StartError("\n".join(f"tftp: {line}" for line in error.lines)) from None
    return TFTPService.from_configuration(configuration, reactor)
