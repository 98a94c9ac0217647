"""Check `docs/migrating.md`: each option of other servers has a row, and its examples run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from twisted.application.service import IService
from twisted.scripts.twistd import ServerOptions

from tests.support.adapters import ADAPTERS, THEIR_ERRORS, adapter
from tests.support.contexts import read_context, write_context
from tests.support.migrating import (
    DOCUMENT,
    SERVERS,
    SPAN,
    converted,
    described,
    examples,
    rows,
)
from twisted_tftp.backends.rename.map_rules import MapRules
from twisted_tftp.backends.rename.rules import parse_rules
from twisted_tftp.config.name_options import COMMAND_OPTIONS
from twisted_tftp.config.option_table import OPTIONS, PRINTING_OPTIONS

#: The options of `twistd tftp`.
OWN = {option.name for option in (*OPTIONS, *COMMAND_OPTIONS)} | {
    name for name, _ in PRINTING_OPTIONS
}

#: The options of twistd, and those of one letter.
TWISTD = {name.rstrip("=") for name in ServerOptions().longOpt}
SHORT = set(ServerOptions().shortOpt) - {":"}

#: A pattern file of atftpd.
PATTERNS = "^(.*)/b[.]conf$ conf/$1\nab b\nb never"

#: An option.
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


@pytest.mark.parametrize("server", SERVERS)
def test_each_option_of_the_other_server_has_a_row(server: str) -> None:
    """Those of its manual page and of its `--help`."""
    assert SERVERS[server] - described(server) == set()


@pytest.mark.parametrize("server", SERVERS)
def test_row_names_no_option_that_the_other_server_lacks(server: str) -> None:
    """What looks like an option in the first column is one."""
    found = described(server)
    options = found if server == "dnsmasq" else {name for name in found if name[0] == "-"}
    assert options - SERVERS[server] == set()


@pytest.mark.parametrize("server", SERVERS)
def test_options_of_this_server_exist(server: str) -> None:
    """Behind `twistd` are options of twistd, everywhere else those of `twistd tftp`."""
    checked = 0
    for row in rows(server):
        assert row[1].strip(), row
        for span in SPAN.findall(row[1]):
            own = span.startswith("twistd") and "tftp" not in span.split()
            for name in OPTION.findall(span):
                assert name in (TWISTD if own else OWN), span
                checked += 1
            for letter in re.findall(r" -(\w)\b", span):
                assert span.startswith("twistd -"), span
                assert letter in SHORT, span
    assert checked > 10


def test_values_in_the_tables_are_accepted() -> None:
    """A value in lower case or digits behind an option is one that the option takes."""
    table = {option.name: option for option in (*OPTIONS, *COMMAND_OPTIONS)}
    checked = 0
    for row in [row for server in SERVERS for row in rows(server)]:
        for span in SPAN.findall(row[1]):
            for name, value in re.findall(r"--([a-z-]+) ([a-z0-9:.]+)", span):
                if not span.startswith("twistd"):
                    table[name].type.parse(value)
                    checked += 1
    assert checked > 5


def test_rule_for_lower_case_names_works() -> None:
    """The rule of the section about dnsmasq does what `tftp-lowercase` does."""
    (text,) = re.findall(r"^rule = '(.*)'$", DOCUMENT.read_text(), re.MULTILINE)
    rules = MapRules(parse_rules([("rule", text.encode())]))
    for name in ("Boot/X64/WdsNBP.com", "/A", "a"):
        assert rules.apply(name, read_context()) == name.lower()


def test_pattern_of_atftpd_becomes_a_rule() -> None:
    """One pattern is applied, to reads only."""
    rules = MapRules(parse_rules([("rule", line) for line in converted(PATTERNS).splitlines()]))
    assert rules.apply("a/b.conf", read_context()) == "conf/a"
    assert rules.apply("xab", read_context()) == "xb"
    assert rules.apply("a/b.conf", write_context()) == "a/b.conf"


def test_expressions_of_perl_are_as_the_document_says() -> None:
    """Some work, some are refused, and `*?` is not lazy."""

    def applied(pattern: bytes, name: str) -> str:
        return MapRules(parse_rules([("rule", pattern)])).apply(name, read_context())

    assert applied(rb"r ^\w*\.conf$ master.conf", "a_1.conf") == "master.conf"
    assert applied(rb"r a.*?b X", "a1b2b") == "X"
    assert applied(rb"r \bb\s X", "a-b c") == "a-Xc"
    assert applied(rb"ri ^boot$ X", "BOOT") == "X"
    for refused in (rb"r ^\d+$ X", rb"r (?i)boot X"):
        with pytest.raises(ValueError, match="rule: "):
            applied(refused, "1")


def module(name: str, **attributes: Any) -> dict[str, ModuleType]:
    """Return a module in place of one that only readers of the document have."""
    made = ModuleType(name)
    vars(made).update(attributes)
    return {name: made}


def served(example: str, modules: dict[str, ModuleType]) -> Any:
    """Run an example, and return the service of its Application."""
    names: dict[str, Any] = {}
    with patch.dict(sys.modules, modules), patch.object(sys, "path", [*sys.path, str(ADAPTERS)]):
        exec(example, names)
    return IService(names["application"]).getServiceNamed("tftp")


def test_example_for_python_tx_tftp_makes_a_service() -> None:
    """It has ten lines, and serves the backend."""
    example, _ = examples()
    calls: list[Any] = []

    def make(*arguments: Any, **keywords: Any) -> object:
        calls.append((arguments, keywords))
        return object()

    backend = module("tftp.backend", FilesystemSynchronousBackend=make)
    adapter("tx_tftp_backend")
    modules = {**module("tftp", errors=THEIR_ERRORS), **backend}
    assert served(example, modules) is not None
    assert calls == [((b"/srv/tftp",), {"can_write": False})]
    assert len([line for line in example.splitlines() if line]) <= 10


def test_example_for_fbtftp_makes_a_service() -> None:
    """It has ten lines, and makes the handler."""
    _, example = examples()
    handlers: list[Any] = []
    names = module("static", StaticHandler=lambda *arguments: handlers.append(arguments))
    assert served(example, names) is not None
    scope: dict[str, Any] = {}
    with patch.dict(sys.modules, names), patch.object(sys, "path", [*sys.path, str(ADAPTERS)]):
        exec(example, scope)
    scope["get_handler"](("::", 69), ("::1", 2000), "f", {})
    assert handlers == [(("::", 69), ("::1", 2000), "f", {}, "/srv/tftp", None)]
    assert len([line for line in example.splitlines() if line]) <= 10


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.name)
def test_adapter_has_less_than_sixty_lines(path: Path) -> None:
    """An adapter is something to read and to copy."""
    assert len(path.read_text().splitlines()) < 60
