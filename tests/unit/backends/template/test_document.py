"""Tests of the example in `docs/templates.md`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.contexts import read_context
from tests.support.reactors import reactor
from tests.unit.backends.template.processes import result_of
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.environment import VARIABLES
from twisted_tftp.backends.template.hosts_file import HostsFile
from twisted_tftp.errors import FileNotFound

__all__ = ["reactor"]

DOCUMENT = (Path(__file__).parents[4] / "docs" / "templates.md").read_text()


def block(language: str) -> str:
    """Return the first code block in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_example_gives_what_the_document_says(reactor: Any, tmp_path: Path) -> None:
    """Template and hosts file make the file; an unknown machine gets none."""
    pytest.importorskip("jinja2")
    (tmp_path / "pxelinux.cfg").mkdir()
    (tmp_path / "pxelinux.cfg" / "01-{mac}.j2").write_text(block("jinja"))
    (tmp_path / "hosts.toml").write_text(block("toml"))
    hosts = HostsFile(str(tmp_path / "hosts.toml"), in_thread=maybeDeferred)
    backend = TemplateBackend(str(tmp_path), hosts=hosts, reactor=reactor, in_thread=maybeDeferred)
    backend.check()
    contents = {}
    for digits in ("56", "57", "58"):
        name = f"pxelinux.cfg/01-52-54-00-12-34-{digits}"
        opening = maybeDeferred(backend.open_reader, name, read_context(name))
        try:
            contents[digits] = bytes(result_of(reactor, opening).read(0, 9999)).decode()
        except FileNotFound:
            contents[digits] = ""
    result_of(reactor, backend.stop())
    assert contents["56"] == block("text")
    assert contents["57"].startswith("DEFAULT local\n")
    assert contents["58"] == ""


def test_all_variables_are_described() -> None:
    """The table has each variable, and no other."""
    table = DOCUMENT.partition("## Variables")[2].partition("\n\nA value")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    names = {name.partition(".")[0] for cell in cells for name in re.findall(r"`(.*?)`", cell)}
    assert names == VARIABLES
