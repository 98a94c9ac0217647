"""The command `txtftp`: parse the command line, and run the chosen subcommand.

Exit status: 0; 1 if a transfer failed; 2 if the command line is wrong; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from twisted_tftp import __version__
from twisted_tftp.cli import doctor, get, put, storm, transfer_options
from twisted_tftp.cli.interrupt import INTERRUPTED
from twisted_tftp.session.deadlines import use_monotonic_time


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status.

    @param words: the command-line arguments; None for those of the process.
    """
    if sys.stderr is None:  # it is closed, and messages must not go to another open file
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    parser = _make_parser()
    options = parser.parse_args(words)
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    try:
        status: int = options.run(options, reactor)
    except (ValueError, argparse.ArgumentTypeError) as error:
        options.parser.error(str(error))  # with the usage of the subcommand
    except OSError as error:
        print(f"error: {error.filename or '-'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command.

    Its result has the attributes `run`, the function of the subcommand, and `parser`, the parser
    of the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="txtftp",
        description="Fetch files from TFTP servers, store files on them, and test them.",
        epilog="Each command explains its arguments: %(prog)s COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"txtftp {__version__}")
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser

    for name, alias, summary, module in (
        ("get", "pull", "fetch files from a server", get),
        ("put", "push", "store files on a server", put),
    ):
        command = add(
            name,
            aliases=[alias],
            help=summary,
            usage=module.USAGE,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        transfer_options.add_options(command)
        command.set_defaults(run=module.run, parser=command)

    command = add(
        "storm",
        help="simulate many machines that boot from a server",
        description=storm.DESCRIPTION,
    )
    storm.add_options(command)
    command.set_defaults(run=storm.run, parser=command)

    command = add("doctor", help="check a server, and give advice", description=doctor.DESCRIPTION)
    doctor.add_options(command)
    command.set_defaults(run=doctor.run, parser=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
