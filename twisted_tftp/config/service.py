"""Make a service from settings."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.config.backends import make_backends
from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.settings import Settings
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.start_error import StartError
from twisted_tftp.server.transfer_log import TransferLog

_log = Logger()


def make_service(settings: Settings, reactor: Any) -> TFTPService:
    """Return a service with these settings, for `reactor`.

    Options that contradict each other are logged.

    @raise StartError: a backend cannot be made.
    """
    for text in contradictions(settings):
        _log.warn("{text}", text=text)
    return TFTPService(
        _make_backend(settings, reactor),
        port=settings.port,
        host=settings.host,
        drain=settings.drain,
        policy=settings.policy,
        observer=TransferLog(settings.verbose, reactor),
        reactor=reactor,
    )


def _make_backend(settings: Settings, reactor: Any) -> Any:
    """Return the backend that the settings describe.

    @raise StartError: it cannot be made.
    """
    if settings.backend:
        try:
            return make_backends(settings.backend)
        except ValueError as error:
            raise StartError(f"tftp: {error}") from None
    return FilesystemBackend(
        settings.root,
        settings.write.value,
        cache=settings.cache,
        quota=settings.upload_quota,
        follow_links=settings.follow_links,
        upload_mode=settings.upload_mode,
        make_dirs=settings.make_dirs,
        reactor=reactor,
    )
