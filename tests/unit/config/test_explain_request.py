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
