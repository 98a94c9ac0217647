"""Test that a server treats each client by the client rules."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.logs import captured_log
from tests.support.packets import ack, error, rrq, wrq
from tests.support.ruled_network import RuledNetwork, mac_rule, network_rule
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.context import TransferContext
from twisted_tftp.policy import Policy, UploadSettings, WriteMode
from twisted_tftp.testing import MemoryNetwork

#: A client in the network of the rules, and one outside.
RULED, OTHER = "10.1.2.3", "192.0.2.9"

NETWORK = "10.1.2.0/24"

MAC = "52:54:00:12:34:56"


class ContextBackend(MemoryBackend):
    """A backend of one file that keeps the contexts of its requests."""

    def __init__(self) -> None:
        super().__init__({"f": bytes(5000)}, "overwrite")
        self.contexts: list[TransferContext] = []

    def open_reader(self, path: str, context: TransferContext) -> Any:
        self.contexts.append(context)
        return super().open_reader(path, context)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        self.contexts.append(context)
        return super().open_writer(path, context)


def ruled(policy: Policy | None = None, /, **settings: Any) -> RuledNetwork:
    """Return a server with one rule."""
    return RuledNetwork(ContextBackend(), [network_rule(NETWORK, **settings)], policy)


@pytest.mark.parametrize(
    ("settings", "asked", "granted"),
    [
        ({"refuse": frozenset({"tsize"})}, {"tsize": "0", "blksize": "600"}, {"blksize": "600"}),
        ({"max_blksize": 1024}, {"blksize": "1428"}, {"blksize": "1024"}),
        ({"max_windowsize": 4}, {"windowsize": "16"}, {"windowsize": "4"}),
    ],
)
def test_options_are_granted_by_the_rule(
    settings: dict[str, Any], asked: dict[str, str], granted: dict[str, str]
) -> None:
    """A client of the network gets what its rule allows; others get all that they ask for."""
    net = ruled(**settings)

    def oack(options: dict[str, str]) -> bytes:
        fields = [text for pair in options.items() for text in pair]
        return b"\0\6" + b"".join(field.encode() + b"\0" for field in fields)

    assert net.answer(rrq(b"f", **asked), RULED) == oack(granted)
    asked = {key: "5000" if key == "tsize" else value for key, value in asked.items()}
    assert net.answer(rrq(b"f", **asked), OTHER) == oack(asked)


def test_timeout_is_that_of_the_rule() -> None:
    """A client gets the first block again after its own timeout."""
    net = ruled(timeout=3.0)
    first, other = net.ask(rrq(b"f"), RULED), net.ask(rrq(b"f"), OTHER)
    assert first is not None
    assert other is not None
    for seconds, counts in ((1.1, (1, 2)), (2.1, (2, 3))):
        net.clock.advance(seconds)
        assert (len(first.sent), len(other.sent)) == counts


def test_backend_has_the_time_of_the_rule() -> None:
    """The time for opening a file follows from the timeout."""
    slow = type("Slow", (), {"open_reader": lambda *_: Deferred()})()
    rules = [network_rule(NETWORK, timeout=3.0)]
    net = RuledNetwork(slow, rules, Policy(timeout=1.0, retries=2))
    net.ask(rrq(b"f"), RULED)
    net.ask(rrq(b"f"), OTHER)
    ended = []
    for _ in range(7):
        net.clock.advance(1)
        ended.append(len(net.recorder.outcomes))
    assert ended == [0, 1, 1, 1, 1, 2, 2]


def test_root_selects_another_backend() -> None:
    """The names of the client start in its root; the backend is made once."""
    made: list[str] = []

    def backend_for(prefix: str | None, max_rate: int | None) -> MemoryBackend:
        assert prefix is not None
        made.append(prefix)
        return MemoryBackend({"f": prefix.encode()})

    rules = [network_rule(NETWORK, root="/lab"), network_rule("10.9.0.0/16", root="/lab")]
    net = RuledNetwork(MemoryBackend({"f": b"common"}), rules, backend_for=backend_for)
    for host, content in ((RULED, b"/lab"), (OTHER, b"common"), ("10.9.0.1", b"/lab")):
        assert net.answer(rrq(b"f"), host) == b"\0\3\0\1" + content
    assert made == ["/lab"]


def test_rate_limits_the_windows_of_a_client() -> None:
    """A window takes at most half a second, and is read by itself; others are not limited."""
    lengths: list[int] = []

    class Reader:
        size = 1 << 20

        def read(self, offset: int, length: int) -> bytes:
            lengths.append(length)
            return bytes(length)

        def close(self) -> None:
            pass

    class Backend:
        def open_reader(self, path: str, context: TransferContext) -> Reader:
            return Reader()

    asked: list[tuple[str | None, int | None]] = []

    def backend_for(root: str | None, max_rate: int | None) -> Backend:
        asked.append((root, max_rate))
        return Backend()

    rules = [network_rule(NETWORK, max_rate=20_000)]
    net = RuledNetwork(Backend(), rules, backend_for=backend_for)
    for host, windowsize, expected in (
        (RULED, b"9", [9216] * 3),
        (OTHER, b"64", [65536, (1 << 20) - 65536]),  # the first window, then the whole file
    ):
        link = net.ask(rrq(b"f", blksize="1024", windowsize="64"), host)
        assert link is not None
        assert b"windowsize\0" + windowsize in link.take()[0]
        for block in (0, int(windowsize), 2 * int(windowsize)):
            link.deliver(ack(block))
            link.take()
        assert lengths == expected
        lengths.clear()
    assert asked == [(None, 20_000)]


def test_context_has_the_rules_for_uploads() -> None:
    """The rule replaces `write`, and nothing else."""
    common = UploadSettings(WriteMode.CREATE, keep=3)
    backend = ContextBackend()
    rules = [network_rule(NETWORK, write=WriteMode.OVERWRITE)]
    net = RuledNetwork(backend, rules, uploads=common)
    for host in (RULED, OTHER):
        assert net.answer(wrq(b"new"), host) == ack(0)
    assert [context.uploads for context in backend.contexts] == [
        UploadSettings(WriteMode.OVERWRITE, keep=3),
        common,
    ]


def test_backend_has_its_own_rules_by_default() -> None:
    """Without rules for uploads, the context has none."""
    backend = ContextBackend()
    assert MemoryNetwork(backend).fetch("f")
    assert [context.uploads for context in backend.contexts] == [None]


def test_write_never_forbids_uploads_before_the_backend_is_asked() -> None:
    """No mount can allow what the rule of the client forbids; reads go on."""
    net = ruled(write=WriteMode.NEVER)
    refused = error(2, b"your address may not write here")
    assert net.answer(wrq(b"new"), RULED) == refused
    assert net.server.backend.contexts == []
    assert net.answer(wrq(b"new"), OTHER) == ack(0)
    assert net.answer(rrq(b"f"), RULED, 2001)[:4] == b"\0\3\0\1"
    assert net.recorder.events[1][1].detail == "write is never in the rule for this client"


def test_rate_is_that_of_the_rule() -> None:
    """It replaces the common rate, higher or lower, and counts sources in the same way."""
    rules = [network_rule(NETWORK, rate=3.0), network_rule("2001:db8::/32", rate=2.0)]
    net = RuledNetwork(ContextBackend(), rules, Policy(rate=1.0))

    def served(*hosts: str) -> int:
        links = [net.ask(rrq(b"f"), host, 3000 + i) for i, host in enumerate(hosts)]
        return sum(link is not None for link in links)

    assert served(*[RULED] * 5) == 3
    assert served(*["10.1.2.4"] * 5) == 3
    assert served(*[OTHER] * 5) == 1
    assert served("2001:db8::1", "2001:db8::2", "2001:db8::3") == 2
    assert net.server.counters.over_rate == 9


def test_rule_may_limit_the_rate_of_some_clients_only() -> None:
    """Without a common rate, only the clients of the rule have a limit."""
    net = ruled(rate=1.0)
    for host, count in ((RULED, 1), (OTHER, 4)):
        links = [net.ask(rrq(b"f"), host, 3000 + i) for i in range(4)]
        assert sum(link is not None for link in links) == count


def test_log_names_the_limit_of_the_client() -> None:
    """The line about dropped requests has the rate of the rule."""
    net = RuledNetwork(ContextBackend(), [network_rule(NETWORK, rate=2.0)], Policy(rate=7.0))
    with captured_log() as lines:
        for number in range(3):
            net.ask(rrq(b"f"), RULED, 3000 + number)
    assert [line for line in lines if "over --rate 2" in str(line)]


def test_mac_that_becomes_known_selects_its_rule() -> None:
    """The kernel may learn it from the first answer; the rules are looked up again soon."""
    macs: dict[str, str] = {}
    rules = [mac_rule(MAC, max_blksize=512), network_rule(NETWORK, max_blksize=1024)]
    net = RuledNetwork(ContextBackend(), rules, find_mac=macs.get)

    def blksize(port: int) -> bytes:
        return net.answer(rrq(b"f", blksize="1428"), RULED, port)

    assert b"1024" in blksize(3001)
    macs[RULED] = MAC
    net.clock.advance(0.5)
    assert b"1024" in blksize(3002)
    net.clock.advance(0.6)
    assert b"512" in blksize(3003)


def test_link_local_host_has_its_scope() -> None:
    """The neighbour table needs it; the networks of rules have none."""
    macs = {"fe80::1%2": MAC}
    rules = [mac_rule(MAC, max_blksize=512, rate=1.0)]
    net = RuledNetwork(ContextBackend(), rules, find_mac=macs.get)
    asked = rrq(b"f", blksize="1428")
    assert b"512" in net.answer(asked, "fe80::1%2")
    assert net.ask(asked, "fe80::1%2", 3001) is None
    assert b"1428" in net.answer(asked, "fe80::1%3")


def test_context_finds_the_mac() -> None:
    """A backend gets the MAC address of the client when it asks for it."""
    backend = ContextBackend()
    net = RuledNetwork(backend, [], find_mac={RULED: MAC}.get)
    net.ask(rrq(b"f"), RULED)
    net.ask(rrq(b"f"), OTHER)
    assert [context.mac for context in backend.contexts] == [MAC, None]


def test_replaced_backend_serves_all_clients() -> None:
    """The backend of a server may be replaced, also for clients with a rule."""
    net = ruled(max_blksize=512)
    net.ask(rrq(b"f"), RULED, 3001)
    net.server.backend = MemoryBackend({"f": b"new"})
    assert net.answer(rrq(b"f"), RULED) == net.answer(rrq(b"f"), OTHER) == b"\0\3\0\1new"
