"""The options about hooks, the commands that are run after transfers: a part of the table.

L{twisted_tftp.config.option_table} joins the parts.
"""

from __future__ import annotations

from twisted_tftp.config.command_type import Command
from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.quantity_types import Seconds
from twisted_tftp.config.value_types import WholeNumber
from twisted_tftp.policy import Range
from twisted_tftp.server.hooks import (
    DEFAULT_PROCESSES,
    DEFAULT_QUEUE_SIZE,
    DEFAULT_TIME_LIMIT,
)

#: The allowed numbers of hooks at once.
PROCESSES_RANGE = Range(1, 1000)

#: The allowed time limits of a hook, in seconds.
TIME_RANGE = Range(0.1, 86_400.0)

#: The allowed numbers of waiting hooks.
QUEUE_RANGE = Range(0, 1_000_000)

#: The options, in the order in which the help and the documents list them.
HOOK_OPTIONS = (
    Option(
        "on-upload",
        Group.HOOKS,
        Command(),
        default=(),
        default_text="no command",
        help="run this command after each complete upload, without a shell",
        details="What is known of the transfer is in its environment: see "
        "[hooks](operations.md#hooks).",
        example='["/usr/local/bin/store-upload", "--verbose"]',
    ),
    Option(
        "on-transfer",
        Group.HOOKS,
        Command(),
        default=(),
        default_text="no command",
        help="run this command after the end of each transfer, also of a failed or refused one",
        example='["/usr/local/bin/note-transfer"]',
    ),
    Option(
        "hook-processes",
        Group.HOOKS,
        WholeNumber(PROCESSES_RANGE),
        default=DEFAULT_PROCESSES,
        help="largest number of hooks that run at once; others wait",
    ),
    Option(
        "hook-time",
        Group.HOOKS,
        Seconds(TIME_RANGE),
        default=DEFAULT_TIME_LIMIT,
        help="end a hook that runs for longer than this time, in seconds",
        details="It gets SIGTERM, and 5 seconds later SIGKILL.",
    ),
    Option(
        "hook-queue",
        Group.HOOKS,
        WholeNumber(QUEUE_RANGE),
        default=DEFAULT_QUEUE_SIZE,
        help="largest number of hooks of each kind that wait; further ones are not run",
    ),
)
