"""The plugin of twistd and twist: it parses the command line and makes the service."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn

from twisted.application.app import ServerOptions
from twisted.python import usage

from twisted_tftp import __version__
from twisted_tftp.config.backends import help_text
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.name_options import COMMAND_OPTIONS
from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.option_table import OPTIONS, PRINTING_OPTIONS, options_by_group
from twisted_tftp.config.preload import import_late_modules
from twisted_tftp.config.printing_commands import check_and_exit, explain_and_exit
from twisted_tftp.config.quantity_types import Size
from twisted_tftp.config.reload import Reloader
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import load_settings
from twisted_tftp.server.process_memory import collect_garbage_less_often, limit_arenas
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.signals import signals
from twisted_tftp.server.start_error import error_output
from twisted_tftp.session.deadlines import use_monotonic_time

#: The log file of twistd as a daemon, if no other file is given.
DEFAULT_LOG = "twistd.log"

#: What the parser of Twisted says of an option that does not exist.
_UNKNOWN_OPTION = re.compile(r"option (--?[\w-]+) not recognized")

#: The width of the first column of the help, which has the options.
OPTION_COLUMN_WIDTH = 24

#: A space at which lines are not broken, so that a default stays on one line.
NO_BREAK_SPACE = chr(0xA0)


#: The options of the command line.
ALL_OPTIONS = (*COMMAND_OPTIONS, *OPTIONS)


class Options(usage.Options):
    """The options of `twistd tftp`, made from the table of options."""

    synopsis = "[options]"
    optFlags: ClassVar = [
        [option.name, None, option.help] for option in ALL_OPTIONS if option.type is None
    ]
    optParameters: ClassVar = [
        [option.name, None, None, option.help]
        for option in ALL_OPTIONS
        if option.type is not None and not option.repeatable
    ]

    def __init__(self) -> None:
        super().__init__()
        for option in OPTIONS:
            if option.repeatable:
                self[option.name] = []

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"twisted-tftp {__version__}")
        sys.exit(0)

    def opt_help_backends(self) -> NoReturn:
        """Print the installed backends with their arguments and exit."""
        print(help_text(_width()))
        sys.exit(0)

    def parseArgs(self, *args: str) -> None:
        """Take the file name after `--explain ADDRESS`; reject all other arguments.

        @raise usage.UsageError: there is one, the file name is missing, or `--check` is given too.
        """
        if self["explain"] is not None:
            if self["check"]:
                raise usage.UsageError("--check and --explain exclude each other")
            if len(args) != 1:
                raise usage.UsageError("--explain ADDRESS NAME must be the end of the command")
        elif args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}")
        self.arguments = args

    def parseOptions(self, options: Any = None) -> None:
        """Parse the command line; if there is an error, print one line and exit with status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            unknown = _UNKNOWN_OPTION.match(str(error))
            if unknown is not None and self._is_of_parent(unknown[1]):
                program = os.path.basename(sys.argv[0])
                sys.exit(f"tftp: {unknown[1]} belongs before `tftp` (see {program} --help)")
            sys.exit(f"tftp: {error} (see --help)")

    def _is_of_parent(self, option: str) -> bool:
        """Return whether the program in front of `tftp` has an option, maybe abbreviated."""
        if self.parent is None:
            return False
        if option.startswith("--"):
            return any(name.startswith(option[2:]) for name in self.parent.longOpt)
        return option[1:] in self.parent.shortOpt.replace(":", "")

    def postOptions(self) -> None:
        """Check all values, and prepare twistd, before it starts; or print what was asked for.

        @raise usage.UsageError: a value is invalid.
        """
        try:
            for name in ("config", "map-file"):
                if self[name]:  # they are read before a daemon changes its directory, and later
                    self[name] = os.path.abspath(self[name])
            self.settings = load_settings(self, self["config"])
        except ConfigurationError as error:
            sys.exit(str(error))
        except ValueError as error:
            raise usage.UsageError(str(error)) from None
        if self["check"]:
            check_and_exit(self.settings)
        if self["explain"] is not None:
            explain_and_exit(self.settings, self["explain"], self.arguments[0])
        self._prepare_twistd()

    def _prepare_twistd(self) -> None:
        """Set the log file and the pid file of twistd."""
        twistd = self.parent
        if not isinstance(twistd, ServerOptions):
            return  # `twist` runs the plugin; it has no log file
        # twistd keeps no record of the options that were given. A value of the command line is
        # another object than the default, even if it is the same text.
        if not _becomes_daemon(twistd) and twistd["pidfile"] is twistd.defaults["pidfile"]:
            # In the foreground nobody reads the file. A killed container would leave it, and its
            # next start would take its own process number for that of another server.
            twistd["pidfile"] = ""
        _check_directories(twistd)
        if twistd["logger"]:
            return
        if twistd.get("syslog"):
            signals.syslog_prefix = twistd["prefix"]
            twistd["logger"] = "twisted_tftp.server.signals.open_syslog"
            return
        is_daemon = _becomes_daemon(twistd)
        path = twistd["logfile"] or (DEFAULT_LOG if is_daemon else "-")
        if path != "-" or not is_daemon:  # twistd reports that a daemon has no output
            signals.log_path = path
            error_output.log_is_shown = path == "-"
            twistd["logger"] = "twisted_tftp.server.signals.open_log"

    def getUsage(self, width: int | None = None) -> str:
        """Return the help: the options in groups."""
        width = width or _width()
        lines = []
        for group, options in options_by_group():
            entries = [(option.usage, _help_text(option)) for option in options]
            if group is Group.OTHER:
                entries += [(f"--{name}", text) for name, text in PRINTING_OPTIONS]
            lines.append(f"{group.value}:")
            for head, text in entries:
                lines += _wrapped(head, text, width)
            lines.append("")
        return "\n".join(lines)


def _width() -> int:
    """Return the number of columns of the terminal."""
    return int(os.environ.get("COLUMNS", "80"))


def _help_text(option: Option) -> str:
    """Return the text of the help about an option, with its default."""
    text = option.help
    if isinstance(option.type, Size):
        text += f" ({option.type.units})"
    if option.repeatable:
        text += "; repeatable"
    if not option.shown_default:
        return text
    default = f"[default: {option.shown_default}]".replace(" ", NO_BREAK_SPACE)
    return f"{text} {default}"


def _wrapped(head: str, text: str, width: int) -> Iterator[str]:
    """Return the lines of the help for one option.

    @param head: the option with its placeholder.
    @param text: the help text.
    @param width: the number of columns.
    """
    indent = " " * OPTION_COLUMN_WIDTH
    first = f"  {head}"
    if len(first) >= OPTION_COLUMN_WIDTH:
        yield first  # on a line of its own, as in other programs
        first = ""
    for line in textwrap.wrap(
        text, width, initial_indent=first.ljust(len(indent)), subsequent_indent=indent
    ):
        yield line.replace(NO_BREAK_SPACE, " ")


def _collector(option: Option) -> Callable[[Options, str], None]:
    """Return the method that `usage.Options` calls for each use of a repeatable option."""

    def collect(options: Options, text: str) -> None:
        options[option.name].append(text)

    collect.__doc__ = option.help
    return collect


# usage.Options keeps only the last value of an option, unless the class has a method for it.
for _option in OPTIONS:
    if _option.repeatable:
        setattr(Options, f"opt_{_option.key}", _collector(_option))


def _check_directories(twistd: ServerOptions) -> None:
    """Check the directories of twistd's own options, of which it would print a traceback.

    @raise usage.UsageError: one does not exist.
    """
    # With --chroot, --rundir is a path inside it.
    name = "chroot" if twistd.get("chroot") else "rundir"
    path = twistd.get(name)
    if path and not os.path.isdir(path):
        raise usage.UsageError(f"--{name} {path!r} is not a directory")


def _becomes_daemon(twistd: Any) -> bool:
    """Return whether twistd will run the service in the background."""
    return isinstance(twistd, ServerOptions) and not (
        twistd.get("nodaemon") or twistd.get("debug")
    )


def _changes_directory(twistd: Any) -> bool:
    """Return whether twistd will change its root or working directory, and so what paths mean."""
    return isinstance(twistd, ServerOptions) and bool(
        twistd.get("chroot") or twistd.get("rundir", ".") != "."
    )


def _changes_privileges(twistd: Any) -> bool:
    """Return whether twistd will change its root directory or its user."""
    return isinstance(twistd, ServerOptions) and any(
        twistd.get(name) is not None for name in ("chroot", "uid", "gid")
    )


def makeService(options: Options) -> TFTPService:
    """Return the service; twistd calls this with the parsed options."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    limit_arenas()
    collect_garbage_less_often()
    service = make_service(options.settings, reactor)
    if not _changes_directory(options.parent):
        # Before twistd becomes a daemon: after that, an error cannot reach the user's terminal.
        service.check_backend()
        service.check_hooks()
    if _becomes_daemon(options.parent):
        error_output.keep()
        reactor.callWhenRunning(error_output.release)
    signals.install(reactor, service, _reload_function(options, service, reactor))
    return service


def _reload_function(
    options: Options, service: TFTPService, reactor: Any
) -> Callable[[], object] | None:
    """Return the function that reads the configuration again; None if no file is used."""
    if not (options["config"] or options.settings.map_file):
        return None
    note = ""
    if _changes_privileges(options.parent):
        import_late_modules()
    if _changes_directory(options.parent):
        note = "paths may mean something else in the --chroot or --rundir of the daemon"
    return Reloader(service, options, options["config"], reactor=reactor, note=note).reload
