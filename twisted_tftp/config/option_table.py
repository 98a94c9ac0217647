"""The table of the server's options, for the command line, the settings and the documents.

To add an option of the command line, add an entry here, and an attribute of the same name: to
L{Policy} if sessions or the checks of requests need it, otherwise to
L{Settings<twisted_tftp.config.settings.Settings>}. Then generate the reference page again
(L{twisted_tftp.config.reference}).
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted_tftp.config.file_options import FILE_OPTIONS
from twisted_tftp.config.hook_options import HOOK_OPTIONS
from twisted_tftp.config.name_options import (
    COMMAND_OPTIONS,
    NAME_OPTIONS,
    RATE_OPTIONS,
)
from twisted_tftp.config.network_types import (
    InterfaceName,
    ListenAddress,
    NetworkPrefix,
    PortRange,
)
from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.quantity_types import Rate, Seconds, SizePerSecond
from twisted_tftp.config.value_types import Choice, OptionName, WholeNumber
from twisted_tftp.policy import (
    BLKSIZE_RANGE,
    PATIENCE_RANGE,
    RATE_RANGE,
    RETRIES_RANGE,
    TFTP_PORT,
    TIMEOUT_RANGE,
    TRANSFERS_RANGE,
    WINDOWSIZE_RANGE,
    MtuFit,
    Policy,
    Range,
    Retransmit,
    Rollover,
)
from twisted_tftp.server.configuration import DEFAULT_DRAIN

#: The policy with all default values.
_POLICY = Policy()

#: The options of a server, in the order in which the help and the documents list them. Each one
#: is a key of `[tftp]` in a configuration file too.
OPTIONS = (
    *FILE_OPTIONS,
    *NAME_OPTIONS,
    Option(
        "host",
        Group.ADDRESSES,
        ListenAddress(),
        default=(),
        default_text="all IPv4 and IPv6 addresses",
        repeatable=True,
        help="listen on this address, or on all addresses of an interface",
        details="An interface may get and lose addresses while the server runs. A link-local "
        "address needs a scope: `fe80::1%eth0`.",
        example='["192.0.2.1", "eth0"]',
    ),
    Option(
        "interface",
        Group.ADDRESSES,
        InterfaceName(),
        default=_POLICY.interface,
        default_text="all",
        help="receive and send through this interface only, for VRFs",
        example='"eth0"',
    ),
    Option(
        "freebind",
        Group.ADDRESSES,
        None,
        default=_POLICY.freebind,
        help="listen on addresses that this host does not have yet",
    ),
    Option(
        "broadcast",
        Group.ADDRESSES,
        None,
        default=_POLICY.broadcast,
        help="answer requests that are sent to an IPv4 broadcast address",
        details="Without it they are ignored (RFC 1123 section 4.2.3.5).",
    ),
    Option(
        "port",
        Group.ADDRESSES,
        WholeNumber(Range(0, 65535)),
        default=TFTP_PORT,
        help="UDP port for requests",
        details="0 lets the system choose one.",
    ),
    Option(
        "port-range",
        Group.ADDRESSES,
        PortRange(),
        default=_POLICY.port_range,
        default_text="the system's choice",
        help="range of the UDP ports that transfers use, for firewalls",
        example='"40000:40999"',
    ),
    Option(
        "single-port",
        Group.ADDRESSES,
        None,
        default=_POLICY.single_port,
        help="send everything from the request port, for NAT and containers; a client whose own "
        "port is 69 gets no answer",
        details="A client that sends from the number of the request port gets none either. "
        "Otherwise a forged request could make two such servers send files to each other.",
    ),
    Option(
        "timeout",
        Group.TIME,
        Seconds(TIMEOUT_RANGE),
        default=_POLICY.timeout,
        help="first retransmission timeout, and the longest later one, in seconds",
        details="A client that negotiates a timeout sets the longest one of its transfer. After "
        "ten seconds of silence, timeouts that are not negotiated grow to 5 seconds.",
    ),
    Option(
        "patience",
        Group.TIME,
        Seconds(PATIENCE_RANGE),
        default=_POLICY.patience,
        help="give up a client that has answered and is then silent for this time, in seconds",
        details="If the client negotiates a timeout, it gets at least two of them. A client that "
        "has never answered is given up after four datagrams.",
    ),
    Option(
        "retries",
        Group.TIME,
        WholeNumber(RETRIES_RANGE),
        default=_POLICY.retries,
        default_text="--patience decides",
        help="instead of --patience: give up a client that is silent for N times the longest "
        "retransmission timeout, which then does not grow",
        example="4",
    ),
    Option(
        "retransmit",
        Group.TIME,
        Choice(Retransmit),
        default=_POLICY.retransmit,
        help="retransmission timeout: adaptive (it follows the measured round trip) or fixed "
        "(always --timeout, or the timeout that the client negotiates, as in RFC 2349)",
    ),
    Option(
        "drain",
        Group.TIME,
        Seconds(),
        default=DEFAULT_DRAIN,
        help="time for running transfers to finish when the server stops, in seconds",
    ),
    Option(
        "allow",
        Group.ACCESS,
        NetworkPrefix(),
        default=_POLICY.allow,
        default_text="all",
        repeatable=True,
        help="answer only clients in this network",
        example='["10.0.0.0/8"]',
    ),
    Option(
        "deny",
        Group.ACCESS,
        NetworkPrefix(),
        default=_POLICY.deny,
        default_text="none",
        repeatable=True,
        help="do not answer clients in this network (of all networks of --allow and --deny that "
        "contain an address, the one with the longest prefix decides)",
        example='["10.1.0.0/16"]',
    ),
    Option(
        "allow-write",
        Group.ACCESS,
        NetworkPrefix(),
        default=_POLICY.allow_write,
        default_text="all clients that may read",
        repeatable=True,
        help="accept uploads only from this network",
        details="Other clients get ERROR 2 (access violation).",
        example='["10.9.0.0/16"]',
    ),
    Option(
        "rate",
        Group.ACCESS,
        Rate(RATE_RANGE),
        default=_POLICY.rate,
        default_text="no limit",
        help="largest number of new requests per second from one IPv4 address or IPv6 /64",
        details="Requests above the limit are not answered, so that clients ask again.",
        example="20",
    ),
    Option(
        "unproven-rate",
        Group.ACCESS,
        SizePerSecond(),
        default=_POLICY.unproven_rate,
        help="most octets per second for the addresses of an IPv4 /24 or IPv6 /56 that have not "
        "answered; 0 for no limit",
        details="Their addresses may be forged. A request above the limit is not answered, unless "
        "the answer is no longer than the request. Repeated requests go first. An address that "
        "has answered is not limited for ten minutes. The octets of 16 seconds may be sent at "
        "once.",
    ),
    Option(
        "max-per-client",
        Group.ACCESS,
        WholeNumber(TRANSFERS_RANGE),
        default=_POLICY.max_per_client,
        default_text="no limit",
        help="largest number of transfers that one address may have at once",
        details="Requests above the limit are not answered, so that clients ask again. Many "
        "machines may share one address.",
        example="10",
    ),
    Option(
        "max-blksize",
        Group.LIMITS,
        WholeNumber(BLKSIZE_RANGE),
        default=_POLICY.max_blksize,
        help="largest block, in octets",
        details="1428 avoids IP fragments on Ethernet.",
    ),
    Option(
        "mtu-fit",
        Group.LIMITS,
        Choice(MtuFit),
        default=_POLICY.mtu_fit,
        help="when to lower the block size to what the route to the client carries in one "
        "packet: auto (if it would fit an Ethernet frame), always or never",
        details="No block size is lowered below 512 octets. With `auto`, a client that asks for "
        "more than 1468 octets gets IP fragments.",
    ),
    Option(
        "max-windowsize",
        Group.LIMITS,
        WholeNumber(WINDOWSIZE_RANGE),
        default=_POLICY.max_windowsize,
        help="largest window, in blocks",
    ),
    Option(
        "rollover",
        Group.LIMITS,
        Choice(Rollover, "N"),
        default=_POLICY.rollover,
        help="block number after 65535: 0, 1 or none (the transfer fails)",
        details="The `rollover` option of a client overrides it.",
    ),
    Option(
        "refuse",
        Group.LIMITS,
        OptionName(),
        default=_POLICY.refuse,
        default_text="none",
        repeatable=True,
        collection=frozenset,
        help="never grant this option of requests, for clients that do not work with it",
        details="The transfer goes on without the option, as RFC 2347 requires.",
        example='["tsize"]',
    ),
    Option(
        "max-transfers",
        Group.LIMITS,
        WholeNumber(TRANSFERS_RANGE),
        default=_POLICY.max_transfers,
        help="largest number of transfers at once; further requests are not answered",
        details="Clients ask again later.",
    ),
    *RATE_OPTIONS,
    *HOOK_OPTIONS,
    Option(
        "verbose",
        Group.OTHER,
        None,
        default=False,
        help="log requests and progress too, at debug level",
    ),
)

#: The options that only the command line has: (name, help text).
PRINTING_OPTIONS = (
    ("help-backends", "print the installed backends with their arguments and exit"),
    ("version", "print the version and exit"),
    ("help", "print this help and exit"),
)


def options_by_group() -> Iterator[tuple[Group, list[Option]]]:
    """Return each group with its options, in order; also those of the command line only."""
    for group in Group:
        yield group, [each for each in (*COMMAND_OPTIONS, *OPTIONS) if each.group is group]
