"""Check whether backends can serve files, and name the one that can't."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import IContentCheck, lifecycle_of
from twisted_tftp.protocol.printable import printable_unicode


class CheckFailed(BackendUnavailable):
    """The check of a backend raised another exception than L{BackendUnavailable}: it has a bug."""


@dataclass(frozen=True)
class NamedBackend:
    """A backend that is checked separately, with its name for messages.

    @ivar name: its name in messages.
    @ivar backend: an L{IFileBackend<twisted_tftp.interfaces.IFileBackend>}.
    """

    name: str
    backend: Any


def check_backend(backend: Any) -> None:
    """Check that a backend can serve files; this may block.

    @raise BackendUnavailable: it can't; the text is one line.
    @raise CheckFailed: its check raises another exception.
    """
    _call(lifecycle_of(backend).check)


def check_content(backend: Any) -> None:
    """Check the content of a backend's files, if it can do that; this may block.

    @raise BackendUnavailable: a file has a mistake; the text is one line.
    @raise CheckFailed: the check raises another exception.
    """
    if IContentCheck.providedBy(backend):
        _call(backend.check_content)


def _call(check: Callable[[], object]) -> None:
    try:
        check()
    except BackendUnavailable:
        raise
    except (Exception, SystemExit) as error:  # of a backend that somebody else has written
        text = printable_unicode(f"{type(error).__name__}: {error}")
        raise CheckFailed(f"its check fails: {text}") from error


def check_backends(
    backends: Iterable[NamedBackend], check: Callable[[Any], None] = check_backend
) -> None:
    """Check that backends can serve files; this may block.

    @param check: L{check_backend} or L{check_content}.
    @raise BackendUnavailable: one can't; the text is one line.
    """
    for named in backends:
        try:
            check(named.backend)
        except CheckFailed as error:
            raise BackendUnavailable(f"{named.name}: {error}") from error
