"""Tests of `--explain`: how a read request would be answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from tests.support.deferreds import value
from twisted_tftp.config.build import build
from twisted_tftp.config.explain_request import Explanation, explain_request
from twisted_tftp.config.settings import load_settings

#: Names, mounts and client rules.
FARM = """\
[tftp]
deny = ["203.0.113.0/24"]
strip_trailing = true
max_windowsize = 8
[[mount]]
prefix = "/"
backend = ["memory:", "filesystem:top"]
[[client]]
network = "10.1.0.0/16"
refuse = ["tsize"]
max_blksize = 1000
[[client]]
network = "10.0.0.0/8"
max_blksize = 2000
timeout = 2
root = "/lab"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with one file for all, and one for the clients with a root."""
    (tmp_path / "top" / "lab").mkdir(parents=True)
    (tmp_path / "top" / "file").write_bytes(bytes(5))
    (tmp_path / "top" / "lab" / "file").write_bytes(bytes(2000))
    threads = "twisted_tftp.backends.filesystem.backend.Threads"
    monkeypatch.setattr(threads, lambda *arguments: maybeDeferred)
    return tmp_path


def explanation(folder: Path, text: str, host: str, name: str) -> Explanation:
    path = folder / "tftp.toml"
    path.write_text(text)
    settings = load_settings({}, str(path))
    built = build(settings, Clock(), has_names=True)
    found: Any = value(explain_request(settings, built, host, name))
    assert isinstance(found, Explanation)
    return found


def test_each_step_has_a_line(folder: Path) -> None:
    """Names, mount and backends, then size and options."""
    found = explanation(folder, FARM, "192.0.2.1", "file\x01")
    assert found.is_served
    assert found.lines == (
        "request: 192.0.2.1 reads file\\x01",
        "name: strip trailing octets -> file",
        "mount: /",
        "backend: memory",
        "ERROR 1: no such file",
        f"backend: filesystem:{folder}/top",
        "found: 5 octets",
        "options: blksize=65464 windowsize=8 timeout=5 tsize=5",
    )


def test_rules_of_the_client_have_their_lines(folder: Path) -> None:
    """Each key has the rule that decides it, and the options are those of the client."""
    found = explanation(folder, FARM, "10.1.2.3", "file")
    path = folder / "tftp.toml"
    assert found.is_served
    assert set(found.lines[1:5]) == {
        f"client rule for network 10.1.0.0/16: refuse = tsize ({path}:9)",
        f"client rule for network 10.1.0.0/16: max_blksize = 1000 ({path}:9)",
        f"client rule for network 10.0.0.0/8: timeout = 2 ({path}:13)",
        f"client rule for network 10.0.0.0/8: root = /lab ({path}:13)",
    }
    assert "client root: /lab/file" in found.lines
    assert found.lines[-2:] == (
        "found: 2,000 octets",
        "options: blksize=1000 windowsize=8 timeout=5",
    )


@pytest.mark.parametrize(
    ("host", "name", "line"),
    [
        ("192.0.2.1", "missing", "ERROR 1: no such file"),
        ("203.0.113.5", "file", "not answered: allow and deny exclude this address"),
        ("2001:db8::1", "../file", "ERROR 2: "),
    ],
)
def test_file_that_is_not_served(folder: Path, host: str, name: str, line: str) -> None:
    """The last line says why."""
    found = explanation(folder, FARM, host, name)
    assert not found.is_served
    assert found.lines[-1].startswith(line)


def test_plain_root_has_a_name(folder: Path) -> None:
    """Without mounts the backend is named too."""
    found = explanation(folder, '[tftp]\nroot = "top"\n', "2001:db8::1", "file")
    assert found.lines[1:3] == (f"backend: filesystem:{folder}/top", "found: 5 octets")


@pytest.mark.parametrize("host", ["", "host", "10.1.2", "fe80::1%nosuch0"])
def test_client_is_an_ip_address(folder: Path, host: str) -> None:
    """Names are not looked up."""
    with pytest.raises(ValueError, match=r"^explain must be an IP address and a name"):
        explanation(folder, FARM, host, "file")


def test_rules_that_rewrite_have_their_lines(folder: Path) -> None:
    """Those of the map file too; a rule that does not match has no line."""
    (folder / "map").write_text("# rules\nr ^none x\nr ^old/ new/\n")
    text = "[tftp]\nroot = 'top'\nmap_file = 'map'\n[[rename]]\nrule = 'r ^new/'\n"
    found = explanation(folder, text, "192.0.2.1", "old/file")
    assert found.lines[1:4] == (
        f"map file r ^old/ new/: -> new/file ({folder}/map:3)",
        f"rename r ^new/: -> file ({folder}/tftp.toml:5)",
        f"backend: filesystem:{folder}/top",
    )


def test_rule_that_refuses_is_named(folder: Path) -> None:
    """The line before the ERROR says which kind of rule it was."""
    text = "[tftp]\nroot = 'top'\n[[rename]]\nrule = 'a ^x no'\n"
    found = explanation(folder, text, "192.0.2.1", "x")
    assert found.lines[1:] == (
        "name: rename refuses it",
        "ERROR 2: no (the rename rule 'a ^x no' refuses it)",
    )


def test_rules_that_never_end_are_shown(folder: Path) -> None:
    """The first matches say why, and the others are counted."""
    text = "[tftp]\nroot = 'top'\n[[rename]]\nrule = 'rg a a'\n"
    lines = explanation(folder, text, "192.0.2.1", "a").lines
    assert lines[1] == f"rename rg a a: -> a ({folder}/tftp.toml:4)"
    assert lines[20:23] == (lines[1], "rename: 1005 more matches", "name: rename refuses it")


@pytest.mark.parametrize(
    ("rule", "option", "line"),
    [
        ("max_rate = '1M/s'", "", "max_rate: 1M/s for this transfer"),
        ("", "max_rate = '5M/s'", "max_rate: 5M/s for all transfers together"),
        (
            "max_rate = '1M/s'",
            "max_rate = '5M/s'",
            "max_rate: 1M/s for this transfer, 5M/s for all transfers together",
        ),
    ],
)
def test_limits_of_the_rate_are_shown(folder: Path, rule: str, option: str, line: str) -> None:
    """That of the client's rule, and that of all transfers."""
    text = f"[tftp]\nroot = 'top'\n{option}\n[[client]]\nnetwork = '10.0.0.0/8'\n{rule}\n"
    assert explanation(folder, text, "10.1.2.3", "file").lines[-2] == line


def test_rate_without_a_limit_has_no_line(folder: Path) -> None:
    """Like other steps that are not configured."""
    lines = explanation(folder, "[tftp]\nroot = 'top'\n", "10.1.2.3", "file").lines
    assert not any("max_rate" in line for line in lines)
