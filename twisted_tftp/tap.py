"""Be a plugin of twistd and twist: the command line's options, and the service made of them."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Any, ClassVar, NoReturn

from twisted.application.app import ServerOptions
from twisted.python import usage

from twisted_tftp import __version__
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import settings
from twisted_tftp.server.process_memory import limit_arenas
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.signals import signals
from twisted_tftp.session.deadlines import use_monotonic_time

#: Title, then (option, placeholder of its value or None for a flag, text).
_GROUPS: list[tuple[str, list[tuple[str, str | None, str]]]] = [
    (
        "Files",
        [
            ("root", "DIR", "serve the files beneath DIR [default the working directory]"),
            ("write", "MODE", "never, create (new files only) or overwrite [default never]"),
            ("cache", "SIZE", "small files kept in memory, SIZE in all; 0 for none [default 16M]"),
            ("max-upload", "SIZE", "refuse larger uploads; 100000, 64k, 20M, 4G [default none]"),
            ("upload-quota", "SIZE", "refuse uploads above SIZE of all files [default none]"),
        ],
    ),
    (
        "Addresses",
        [
            ("host", "ADDR", "listen on ADDR; repeatable [default all of IPv4 and IPv6]"),
            ("port", "N", "request port [default 69]"),
            ("port-range", "LO:HI", "local ports of transfers [default the system's choice]"),
            ("single-port", None, "answer from the request port: for NAT and containers"),
        ],
    ),
    (
        "Time",
        [
            ("timeout", "S", "first and longest wait between retransmissions [default 1]"),
            ("retries", "N", "give a client up after N timeouts of silence [default 10]"),
            (
                "retransmit",
                "MODE",
                "adaptive (to the measured round trip) or fixed (the timeout, RFC 2349)"
                " [default adaptive]",
            ),
            ("drain", "S", "seconds that transfers have to finish at a stop [default 5]"),
        ],
    ),
    (
        "Access",
        [
            ("allow", "CIDR", "answer these networks only; repeatable [default all]"),
            ("deny", "CIDR", "be silent to these; the longest prefix decides; repeatable"),
            ("allow-write", "CIDR", "let these only write; repeatable [default all who may ask]"),
            ("rate", "N/s", "new requests of an IPv4 address or IPv6 /64 [default no bound]"),
            ("max-per-client", "N", "transfers at once of one address [default no bound]"),
        ],
    ),
    (
        "Limits",
        [
            ("max-blksize", "N", "octets of a block at most [default 65464]"),
            ("max-windowsize", "N", "blocks of a window at most [default 64]"),
            ("rollover", "N", "block after 65535: 0, 1 or none [default 0]"),
            ("max-transfers", "N", "transfers at once; more are not answered [default 10000]"),
        ],
    ),
    (
        "Other",
        [
            ("verbose", None, "log at debug level"),
            ("version", None, "print the version and exit"),
            ("help", None, "print this help and exit"),
        ],
    ),
]


#: What twistd logs to where it is told of no file and becomes a daemon.
DEFAULT_LOG = "twistd.log"

#: Options that may be given several times.
_LISTS = ("host", "allow", "deny", "allow-write")


class Options(usage.Options):
    """Options of `twistd tftp`."""

    synopsis = "[options]"
    optFlags: ClassVar = [
        [name, None, text]
        for _, group in _GROUPS
        for name, value, text in group
        if value is None and name not in ("version", "help")
    ]
    optParameters: ClassVar = [
        [name, None, None, text]
        for _, group in _GROUPS
        for name, value, text in group
        if value is not None and name not in _LISTS
    ]

    def __init__(self) -> None:
        super().__init__()
        for name in _LISTS:
            self[name] = []

    def opt_host(self, address: str) -> None:
        """Listen on this address; repeatable."""
        self["host"].append(address)

    def opt_allow(self, network: str) -> None:
        """Answer this network; repeatable."""
        self["allow"].append(network)

    def opt_deny(self, network: str) -> None:
        """Be silent to this network; repeatable."""
        self["deny"].append(network)

    def opt_allow_write(self, network: str) -> None:
        """Let this network write; repeatable."""
        self["allow-write"].append(network)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"twisted-tftp {__version__}")
        sys.exit(0)

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}")

    def parseOptions(self, options: Any = None) -> None:
        """Parse the command line; a mistake in it is one line and exit status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sys.exit(f"tftp: {error} (see --help)")

    def postOptions(self) -> None:
        """Check all values, before twistd starts anything.

        @raise usage.UsageError: one is bad.
        """
        try:
            self.settings = settings(self)
        except ValueError as error:
            raise usage.UsageError(str(error)) from None
        twistd = self.parent
        if not isinstance(twistd, ServerOptions):
            return  # twist's, which has no log file
        foreground = twistd.get("nodaemon") or twistd.get("debug")
        path = twistd["logfile"] or ("" if foreground else DEFAULT_LOG)
        if path not in ("", "-") and not twistd["logger"] and not twistd.get("syslog"):
            signals.log_path = path
            twistd["logger"] = "twisted_tftp.server.signals.open_log"

    def getUsage(self, width: int | None = None) -> str:
        """Return the options in groups."""
        width = width or int(os.environ.get("COLUMNS", "80"))
        lines = []
        for title, group in _GROUPS:
            lines.append(f"{title}:")
            for name, value, text in group:
                head = f"  --{name}" + (f" {value}" if value else "")
                lines += textwrap.wrap(
                    text,
                    width,
                    initial_indent=f"{head:<24}",
                    subsequent_indent=" " * 24,
                )
            lines.append("")
        return "\n".join(lines)


def makeService(options: Options) -> TFTPService:
    """Return the service; what twistd calls with the parsed options."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    limit_arenas()
    service = make_service(options.settings)
    signals.serve(reactor, service)
    return service
