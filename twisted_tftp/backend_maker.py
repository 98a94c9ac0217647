"""A backend plugin whose code is imported when it is used, for modules in `twisted/plugins/`.

twistd imports these modules at each start, also for other services, so they must be small::

    from twisted_tftp.backend_maker import BackendMaker

    serial = BackendMaker("serial", "the lines of a serial port", "serial_tftp.from_arguments")
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_tftp.interfaces import IBackendPlugin, IPathArguments


@implementer(IPlugin, IBackendPlugin, IPathArguments)
class BackendMaker:
    """A backend plugin that calls a function, which it imports first.

    @ivar name: the name of the backend.
    @ivar help: what the backend does; see L{IBackendPlugin}.
    @ivar factory: the dotted name of a function that is called as `from_arguments` of
        L{IBackendPlugin}.
    @ivar paths: the keywords that are paths; see L{IPathArguments}.
    @ivar extra: the extra of a distribution that installs what the function needs, such as
        `twisted-tftp[templates]`; empty if it needs nothing else.
    """

    def __init__(
        self,
        name: str,
        help: str,
        factory: str,
        *,
        paths: Collection[str] = (),
        extra: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.factory = factory
        self.paths = tuple(paths)
        self.extra = extra

    def from_arguments(self, argument: str, keywords: Mapping[str, str]) -> Any:
        """Make a backend.

        @raise ValueError: an argument is not valid, or a package is missing.
        """
        module, _, function = self.factory.rpartition(".")
        try:
            make = getattr(import_module(module), function)
        except ImportError as error:
            if not self.extra:
                raise
            raise ValueError(f"it needs pip install '{self.extra}' ({error})") from None
        return make(argument, dict(keywords))
