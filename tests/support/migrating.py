"""The tables of `docs/migrating.md`, and the options of the other servers that they must have.

The options are those of the manual pages and of `--help` in Debian 12.
"""

from __future__ import annotations

import re

from tests.support.daemon import CHECKOUT

#: The document.
DOCUMENT = CHECKOUT / "docs" / "migrating.md"

#: The options of tftpd-hpa 5.2, from tftpd(8).
TFTPD_HPA = """
    --ipv4 -4 --ipv6 -6 --listen -l --foreground -L --address -a --create -c --secure -s --user -u
    --umask -U --permissive -p --pidfile -P --timeout -t --retransmit -T --map-file -m --verbose -v
    --verbosity --refuse -r --blocksize -B --port-range -R --version -V
"""

#: The options of atftpd 0.8, from atftpd(8) and `--help`.
ATFTPD = """
    --tftpd-timeout -t --retry-timeout -r --maxthread -m --verbose -v --trace --no-timeout
    --no-tsize --no-blksize --no-windowsize --no-multicast --logfile --pidfile --daemon --no-fork
    --user --group --port --bind-address --listen-local --mcast-ttl --mcast-addr --mcast-port
    --pcre --pcre-test --mtftp --mtftp-port --no-source-port-checking --prevent-sas
    --mcast-switch-client --version -V --help -h
"""

#: The options of dnsmasq 2.90 whose paragraphs in dnsmasq(8) are about TFTP, and those of the
#: process and its addresses. The file of dnsmasq has them without hyphens.
DNSMASQ = """
    enable-tftp tftp-root tftp-no-fail tftp-unique-root tftp-secure tftp-lowercase tftp-max
    tftp-mtu tftp-no-blocksize tftp-port-range tftp-single-port quiet-tftp dhcp-script
    dhcp-luascript interface except-interface listen-address bind-interfaces bind-dynamic user
    group keep-in-foreground no-daemon pid-file log-facility conf-file conf-dir conf-script
    no-dhcp-interface port dhcp-boot pxe-service dhcp-option dhcp-optsfile dhcp-scriptuser
    dumpfile dumpmask log-debug log-async test version help
"""

#: The options of each server, by the heading of its table.
SERVERS = {
    "tftpd-hpa": frozenset(TFTPD_HPA.split()),
    "atftpd": frozenset(ATFTPD.split()),
    "dnsmasq": frozenset(DNSMASQ.split()),
}

#: A code span.
SPAN = re.compile(r"`([^`]+)`")


def rows(server: str) -> list[list[str]]:
    """Return the rows of a server's table: the cells of each, without those of its head."""
    _, found, text = DOCUMENT.read_text().partition(f"\n## {server}\n")
    assert found, server
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def described(server: str) -> set[str]:
    """Return the options of another server that its table has."""
    spans = [span for row in rows(server) for span in SPAN.findall(row[0])]
    return {re.split(r"[ =\[]", span)[0] for span in spans}


def converted(patterns: str) -> bytes:
    """Return the map file that the document makes of a pattern file of atftpd."""
    (operation,) = re.findall("becomes `([a-zA-Z]+) PATTERN REPLACEMENT`", DOCUMENT.read_text())
    lines = [re.sub(r"\$(\d)", r"\\\1", line) for line in patterns.splitlines()]
    return "\n".join(f"{operation} {line}" for line in lines).encode()


def examples() -> list[str]:
    """Return the Python examples of the document."""
    return re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
