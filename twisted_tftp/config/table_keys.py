"""The keys of `[[mount]]`, `[[client]]` and `[[rename]]`, for the files and the documents.

A key that an option of the command line has too is made from that option: its name, its type and
its range are written once.
"""

from __future__ import annotations

import dataclasses

from twisted_tftp.config.backends import BackendText
from twisted_tftp.config.network_types import MacAddress, NetworkPrefix
from twisted_tftp.config.option import Option, Table
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.config.path_types import MountPath
from twisted_tftp.config.value_types import Text

#: The options of the command line by name.
_OPTIONS = {option.name: option for option in OPTIONS}


def _like(
    name: str, table: Table, help: str, default_text: str, example: str = "", details: str = ""
) -> Option:
    """Return the key of a table for an option that the command line has too."""
    return dataclasses.replace(
        _OPTIONS[name],
        group=table,
        help=help,
        details=details,
        default=None,
        default_text=default_text,
        example=example or _OPTIONS[name].example,
    )


#: The default of a mount's key, in words.
_FROM_CLIENT = "that of the client's rule, then of `[tftp]`"

#: The default of a client rule's key, in words.
_FROM_OPTIONS = "that of `[tftp]`"

#: The keys of `[[mount]]`.
MOUNT_KEYS = (
    Option(
        "prefix",
        Table.MOUNT,
        MountPath(),
        default=None,
        default_text="",
        help="the beginning of the names that this mount serves",
        details="The longest prefix of whole components decides.",
        example='"/configs"',
        is_required=True,
    ),
    Option(
        "backend",
        Table.MOUNT,
        BackendText(),
        default=None,
        default_text="",
        repeatable=True,
        help="the backend that serves them; it gets the rest of the name, without the prefix",
        details="Several backends are asked in order until one has the file; uploads go to the "
        "last one. A backend may be a table too: `type`, `path` (the argument) and the keywords.",
        example='"filesystem:/srv/configs"',
        is_required=True,
    ),
    _like(
        "write", Table.MOUNT, "whether clients may write there", _FROM_CLIENT, example='"create"'
    ),
    _like("keep", Table.MOUNT, "with `version`: keep the N newest versions", _FROM_OPTIONS),
    _like(
        "make-dirs",
        Table.MOUNT,
        "whether uploads make directories that are missing in their path",
        _FROM_OPTIONS,
        example="true",
    ),
    _like(
        "allow",
        Table.MOUNT,
        "only clients in these networks may use this mount",
        "all",
        example='["10.0.0.0/8"]',
    ),
    _like(
        "allow-write",
        Table.MOUNT,
        "accept uploads only from these networks; `allow_write` of `[tftp]` must allow them too",
        "all",
        example='["10.9.0.0/16"]',
    ),
)

#: The keys of `[[client]]`.
CLIENT_KEYS = (
    Option(
        "network",
        Table.CLIENT,
        NetworkPrefix(),
        default=None,
        default_text="",
        help="the clients, by their addresses",
        details="A rule has either `network` or `mac`. For each key, the rule with the client's "
        "MAC address decides, then that with the longest prefix that has the key.",
        example='"10.1.2.0/24"',
    ),
    Option(
        "mac",
        Table.CLIENT,
        MacAddress(),
        default=None,
        default_text="",
        help="the client, by its MAC address",
        details="It is known only if no router is between client and server.",
        example='"52:54:00:12:34:56"',
    ),
    _like(
        "refuse",
        Table.CLIENT,
        "options that these clients never get",
        _FROM_OPTIONS,
        example='["tsize"]',
    ),
    _like("max-blksize", Table.CLIENT, "largest block, in octets", _FROM_OPTIONS, example="1428"),
    _like("max-windowsize", Table.CLIENT, "largest window, in blocks", _FROM_OPTIONS, example="4"),
    _like(
        "timeout",
        Table.CLIENT,
        "first retransmission timeout, and the longest later one, in seconds",
        _FROM_OPTIONS,
        example="2",
    ),
    Option(
        "root",
        Table.CLIENT,
        MountPath(),
        default=None,
        default_text="`/`",
        help="a path inside the mounts, in which all names of these clients are looked up",
        example='"/lab1"',
    ),
    _like(
        "write",
        Table.CLIENT,
        "whether these clients may write",
        _FROM_OPTIONS,
        example='"never"',
        details="`never` holds in every mount; another value does not replace that of a mount.",
    ),
    _like(
        "rate",
        Table.CLIENT,
        "largest number of new requests per second of each client",
        _FROM_OPTIONS,
        example="20",
    ),
    _like(
        "max-rate",
        Table.CLIENT,
        "most octets per second of each transfer",
        "no limit",
        example='"10M/s"',
    ),
)

#: The keys of `[[rename]]`.
RENAME_KEYS = (
    Option(
        "rule",
        Table.RENAME,
        Text("RULE", "one line of a map file"),
        default=None,
        default_text="",
        help="rewrite names by this rule, after those of the map file",
        example=r"'r ^/?old/ /new/'",
        is_required=True,
    ),
)

#: The keys of each table.
TABLE_KEYS = {
    Table.MOUNT: MOUNT_KEYS,
    Table.CLIENT: CLIENT_KEYS,
    Table.RENAME: RENAME_KEYS,
}
