"""Rewrite the names of requests, step by step, before a backend looks them up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from twisted_tftp.backends.explaining import describe_error, explain
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend, lifecycle_of
from twisted_tftp.protocol.printable import printable

#: What L{StripTrailing} removes: the control characters of ASCII, and the octet 0xFF, which is a
#: surrogate escape in the text of a name.
TRAILING = "".join(map(chr, range(0x20))) + "\x7f\udcff"


class NameStep(Protocol):
    """A step that rewrites the names of requests.

    @ivar name: what the step does, for `--explain`; or the rule that it applies.
    """

    @property
    def name(self) -> str:
        """What the step does, for `--explain`."""

    def apply(self, name: str, context: TransferContext) -> str:
        """Return the new name; the same one if the step does not concern it.

        It is called in the reactor for each request, so it must not block.

        @param name: the name that the step before has returned, or the client has sent (str, UTF-8
            with surrogateescape). It is not checked, and may be empty.
        @param context: the request; its `direction` says whether it is a read.
        @raise TFTPError: the name must not be used; any subclass, with a message for the client.
        """


@runtime_checkable
class ExplainedStep(Protocol):
    """A step that says itself what it does with a name, because it has several rules."""

    def explain(self, name: str, context: TransferContext) -> list[str]:
        """Return a line for each rule that concerns `name`, such as `rename r ^foo: -> bar`.

        @raise TFTPError: as for L{NameStep.apply}.
        """


class StripTrailing:
    """The step that removes what some PXE firmware sends after a name.

    These are octets 0xFF and control characters (RFC 2131 does not say how the boot file ends).
    """

    name = "strip trailing octets"

    def apply(self, name: str, context: TransferContext) -> str:
        """Return `name` without the octets at its end that belong to no name."""
        return name.rstrip(TRAILING)


class Slashes:
    """The step that makes each backslash a slash: loaders of Windows send `\\Boot\\BCD`."""

    name = "backslashes to slashes"

    def apply(self, name: str, context: TransferContext) -> str:
        """Return `name` with slashes."""
        return name.replace("\\", "/")


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class NamePipeline:
    """A backend that rewrites each name in steps, and asks another backend for the result.

    The context of the request keeps the name that the client has sent.
    """

    def __init__(self, backend: Any, steps: Iterable[NameStep]) -> None:
        """Wrap an L{IFileBackend}.

        @param steps: the steps, in the order in which they are applied.
        """
        self.backend = backend
        self.steps = tuple(steps)
        self._functions = tuple(step.apply for step in self.steps)
        lifecycle = lifecycle_of(backend)
        self.check, self.start = lifecycle.check, lifecycle.start
        self.forget, self.stop = lifecycle.forget, lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open the file of the rewritten name.

        @raise TFTPError: a step refuses the name.
        """
        for apply in self._functions:
            path = apply(path, context)
        return self.backend.open_reader(path, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file with the rewritten name.

        @raise TFTPError: a step refuses the name.
        """
        for apply in self._functions:
            path = apply(path, context)
        return self.backend.open_writer(path, context)

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return a line for each step that changes the name, and what the wrapped backend says."""
        lines: list[str] = []
        for step in self.steps:
            try:
                if isinstance(step, ExplainedStep):
                    lines += step.explain(path, context)
                rewritten = step.apply(path, context)
            except TFTPError as error:
                return [*lines, f"name: {step.name} refuses it", *describe_error(error)]
            if rewritten != path and not isinstance(step, ExplainedStep):
                lines.append(f"name: {step.name} -> {printable(rewritten)}")
            path = rewritten
        answer = yield explain(self.backend, path, context)
        return [*lines, *answer]
