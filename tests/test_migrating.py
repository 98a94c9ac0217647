"""Check the tables of docs/migrating.md against the options of both programs."""

from __future__ import annotations

import re

import pytest
from twisted.scripts.twistd import ServerOptions

from tests.support.daemon import CHECKOUT
from twisted_tftp.config.option_table import OPTIONS, PRINTING_OPTIONS

PAGE = (CHECKOUT / "docs" / "migrating.md").read_text()

#: The options in the manual pages of Debian 12, by the title of their table.
FOREIGN = {
    "tftpd-hpa": """--ipv4 --ipv6 --listen --foreground --address --create --secure --user --umask
        --permissive --pidfile --timeout --retransmit --map-file --verbose --verbosity --refuse
        --blocksize --port-range --version""",
    "atftpd": """--tftpd-timeout --retry-timeout --maxthread --verbose --trace --no-timeout
        --no-tsize --no-blksize --no-windowsize --no-multicast --logfile --pidfile --daemon
        --no-fork --user --group --port --bind-address --mcast-ttl --mcast-addr --mcast-port
        --pcre --pcre-test --mtftp --mtftp-port --no-source-port-checking --prevent-sas
        --mcast-switch-client --version --help""",
    "dnsmasq": """enable-tftp tftp-root tftp-no-fail tftp-unique-root tftp-secure tftp-lowercase
        tftp-max tftp-mtu tftp-no-blocksize tftp-port-range tftp-single-port quiet-tftp""",
}

#: An option at the start of a word.
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def rows(program: str) -> list[list[str]]:
    """Return the rows of the table about a program: theirs, ours, and the remark."""
    section = PAGE.split(f"\n## From {program}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return [[cell.strip(" |") for cell in row] for row in table[1:]]


@pytest.mark.parametrize("program", FOREIGN)
def test_each_option_of_the_other_program_has_a_row(program: str) -> None:
    """No option of its manual page is left out, and none is invented."""
    theirs = " ".join(row[0] for row in rows(program))
    if program == "dnsmasq":
        found = set(re.findall(r"`([a-z-]+)", theirs))
    else:
        found = set(OPTION.findall(theirs))
    assert found == set(FOREIGN[program].split())


def test_options_of_this_program_exist() -> None:
    """Each option in the middle column, and in the sentences, is ours or twistd's."""
    ours = {f"--{option.name}" for option in OPTIONS}
    ours |= {f"--{name.split()[0]}" for name, _ in PRINTING_OPTIONS}
    of_twistd = {f"--{name.rstrip('=')}" for name in ServerOptions().longOpt}
    for program in FOREIGN:
        for row in rows(program):
            for command in re.findall("`([^`]*)`", row[1]):
                allowed = of_twistd if command.startswith("twistd --") else ours
                assert set(OPTION.findall(command)) <= allowed, row
