"""Test that `docs/migrating.md` has each option that the other servers themselves list."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.debian_packages import Unavailable, libraries, program
from tests.support.contexts import read_context
from tests.support.migrating import converted, described
from twisted_tftp.backends.rename.map_rules import MapRules
from twisted_tftp.backends.rename.rules import parse_rules

#: The manual page of tftpd-hpa, in the folder in which `sbin` is.
MANUAL = "share/man/man8/tftpd.8.gz"


def command(name: str, package: str) -> str:
    """Return the path of a server's program."""
    try:
        return program(name, package)
    except Unavailable as reason:
        pytest.skip(str(reason))


def shown(name: str, package: str) -> list[str]:
    """Return the lines of `--help`."""
    done = subprocess.run(
        [command(name, package), "--help"],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "LD_LIBRARY_PATH": libraries()},
    )
    return (done.stdout + done.stderr).splitlines()


def test_table_has_the_help_of_atftpd() -> None:
    """Each option at the beginning of a line."""
    lines = [line.partition(":")[0].split("<")[0] for line in shown("atftpd", "atftpd")]
    options = set(re.findall(r"(?<!\S)--?[A-Za-z][a-z-]*", "\n".join(lines)))
    assert len(options) > 30
    assert options - described("atftpd") == set()


def test_patterns_of_atftpd_give_the_same_names_as_rules(tmp_path: Path) -> None:
    """Of the same file, as the document converts it."""
    patterns = "^(.*)/(.*)[.]conf$ conf/$2/$1\nabc X\n^boot low\n^\\w+-x$ w\n[0-9]+$ (n)\nX twice"
    names = ["a/b.conf", "zabcz", "abcabc", "boot.0", "a_1-x", "f12", "X", "none"]
    (tmp_path / "patterns").write_text(patterns + "\n")
    done = subprocess.run(
        [command("atftpd", "atftpd"), "--pcre-test", str(tmp_path / "patterns")],
        input="".join(f"{name}\n" for name in names),
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "LD_LIBRARY_PATH": libraries()},
    )
    theirs = dict(re.findall(r'^Substitution: "(.*)" -> "(.*)"$', done.stdout, re.MULTILINE))
    assert set(theirs) == set(names), done.stdout + done.stderr
    rules = MapRules(parse_rules([("rule", line) for line in converted(patterns).splitlines()]))
    # It prints no name if no pattern fits.
    assert {name: rules.apply(name, read_context()) for name in names} == {
        name: found or name for name, found in theirs.items()
    }
    assert sum(map(bool, theirs.values())) == len(names) - 1


def test_table_has_the_help_of_dnsmasq_about_tftp() -> None:
    """Each option with TFTP in its name or its description."""
    lines = [line for line in shown("dnsmasq", "dnsmasq-base") if "tftp" in line.lower()]
    options = set(re.findall(r"^(?:-\w, )? *--([a-z-]+)", "\n".join(lines), re.MULTILINE))
    assert len(options) > 11
    assert options - described("dnsmasq") == set()


def test_table_has_the_manual_page_of_tftpd_hpa() -> None:
    """Each option that has a paragraph; the program has no `--help`."""
    page = Path(command("in.tftpd", "tftpd-hpa")).parent.parent / MANUAL
    if not page.exists():
        pytest.skip(f"there is no {page}")
    text = re.sub(r"\\f[BIPR]", "", gzip.decompress(page.read_bytes()).decode())
    text = text.replace("\\-", "-")
    heads = re.findall(r"^\.TP\n(.*)$", text, re.MULTILINE)
    options = set(re.findall(r"(?<![\w-])--?[A-Za-z46][a-z0-9-]*", "\n".join(heads)))
    assert len(options) > 30
    assert options - described("tftpd-hpa") == set()
