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

#: The manual pages, in the folder in which `sbin` is.
MANUALS = "share/man/man8"

#: The options of dnsmasq that share a paragraph with `quiet-tftp`.
OTHER_PROTOCOLS = {"quiet-dhcp", "quiet-dhcp6", "quiet-ra"}


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


@pytest.mark.parametrize(
    ("server", "name", "package", "page", "subject"),
    [
        ("tftpd-hpa", "in.tftpd", "tftpd-hpa", "tftpd", ""),
        ("atftpd", "atftpd", "atftpd", "atftpd", ""),
        ("dnsmasq", "dnsmasq", "dnsmasq-base", "dnsmasq", "tftp"),
    ],
)
def test_table_has_the_manual_page(
    server: str, name: str, package: str, page: str, subject: str
) -> None:
    """Each option that has a paragraph; of dnsmasq only the paragraphs that mention TFTP."""
    options = {
        option
        for head, text in paragraphs(name, package, page)
        if subject in text.lower()
        for option in re.findall(r"(?<![\w-])--?[A-Za-z46][a-z0-9-]*", head)
    }
    if server == "dnsmasq":  # its file has the long ones, without hyphens
        options = {option[2:] for option in options if option[:2] == "--"} - OTHER_PROTOCOLS
    assert len(options) > 20
    assert options - described(server) == set()


def paragraphs(name: str, package: str, page: str) -> list[tuple[str, str]]:
    """Return the head and the text of each paragraph about an option in a manual page."""
    folder = Path(command(name, package)).parent.parent / MANUALS
    path = folder / f"{page}.8.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    text = re.sub(r"\\f[BIPR]", "", gzip.decompress(path.read_bytes()).decode())
    text = text.replace("\\-", "-").partition("\n.SH OPTIONS")[2].partition("\n.SH ")[0]
    found = [each.strip() for each in re.split(r"^\.TP *$", text, flags=re.MULTILINE)[1:]]
    # The head is the first line; it may be in two if it starts with a change of the font.
    return [(re.sub(r"^\.[BIR]+ *\n?", "", each).splitlines()[0], each) for each in found]
