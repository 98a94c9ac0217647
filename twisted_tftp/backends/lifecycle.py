"""Tell a backend that its service starts, reloads or stops, where it wants to know."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from twisted_tftp.interfaces import IBackendLifecycle


@implementer(IBackendLifecycle)
class NoLifecycle:
    """The lifecycle of a backend that has nothing to do at any of these moments."""

    def check(self) -> None:
        """Find nothing wrong."""

    def start(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


def lifecycle_of(backend: Any) -> Any:
    """Return what has the methods of L{IBackendLifecycle} for `backend`: itself, or a stand-in."""
    return backend if IBackendLifecycle.providedBy(backend) else NoLifecycle()
