"""The options that rewrite names, find files for them, and limit transfers: a part of the table.

L{twisted_tftp.config.option_table} joins the parts.
"""

from __future__ import annotations

from twisted_tftp.backends.unique_root import DirectoryName
from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.path_types import FilePath
from twisted_tftp.config.quantity_types import SizePerSecond
from twisted_tftp.config.value_types import Choice, Text
from twisted_tftp.policy import MAX_RATE_RANGE

#: The options that only the command line has, because they say where the configuration is and
#: what to do with it.
COMMAND_OPTIONS = (
    Option(
        "config",
        Group.CONFIGURATION,
        FilePath(),
        default=None,
        default_text="no file",
        help="read options from a TOML file, or from the files *.toml of a folder; options of the "
        "command line win",
        details="A relative path in a file starts at the folder of the file. SIGHUP reads the "
        "files again. See [configuration](configuration.md).",
    ),
    Option(
        "check",
        Group.CONFIGURATION,
        None,
        default=False,
        help="check the options, the configuration and each backend, print the mistakes, and exit "
        "with status 0 (none) or 1",
    ),
    Option(
        "explain",
        Group.CONFIGURATION,
        Text("ADDRESS NAME", "an IP address and a file name; nothing may follow"),
        default=None,
        default_text="serve",
        help="print how a client's read request for NAME would be answered, and exit with status "
        "0 if it gets the file; nothing may follow NAME",
    ),
)

#: The options about the names of files.
NAME_OPTIONS = (
    Option(
        "map-file",
        Group.NAMES,
        FilePath(),
        default=None,
        default_text="names are not rewritten",
        help="rewrite names by the rules in FILE, as tftpd-hpa does",
        example='"/etc/tftp.map"',
    ),
    Option(
        "strip-trailing",
        Group.NAMES,
        None,
        default=False,
        help="remove control characters and octets 0xFF at the end of a name, which some PXE ROMs "
        "leave there",
    ),
    Option(
        "ignore-case",
        Group.NAMES,
        None,
        default=False,
        help="find a file for a read whatever the case of the letters in its name",
        details="A file of exactly the name wins. Of several others the first in sort order is "
        "served, and the log says so.",
    ),
    Option(
        "unique-root",
        Group.NAMES,
        Choice(DirectoryName, "BY"),
        default=None,
        default_text="all clients share the root",
        help="look for each client's files first in the directory that is named after its IP "
        "address (ip) or its MAC address (mac), then in the common root",
        example='"ip"',
    ),
    Option(
        "no-common-root",
        Group.NAMES,
        None,
        default=False,
        help="with --unique-root: do not look in the common root",
    ),
)

#: The options that limit the rate of what is sent.
RATE_OPTIONS = (
    Option(
        "max-rate",
        Group.LIMITS,
        SizePerSecond(MAX_RATE_RANGE),
        default=None,
        default_text="no limit",
        help="most octets per second of all transfers together, so that they do not fill a slow "
        "line",
        example='"100M/s"',
    ),
)
