"""Tests of the fuzzer: its corpus passes, and its targets find bugs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fuzz.__main__
from fuzz.seeds import SEEDS
from fuzz.targets import CORPUS, TARGETS
from twisted_tftp.net import offload
from twisted_tftp.protocol import netascii, options, wire
from twisted_tftp.session.netascii_files import NetasciiReader
from twisted_tftp.testing import MemoryLink
from twisted_tftp.transfer import peer_watch, receiver, sender
from twisted_tftp.transfer.blocks import Numbering
from twisted_tftp.transfer.machine import Step

#: The inputs of the corpus, by target.
FILES = {name: sorted((CORPUS / name).iterdir()) for name in TARGETS}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param(name, file, id=f"{name}-{file.name[:8]}")
        for name, files in FILES.items()
        for file in files
    ],
)
def test_input_of_the_corpus_passes(name: str, file: Path) -> None:
    """Each input that the fuzzer has kept is handled correctly."""
    TARGETS[name](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_seed_passes(name: str) -> None:
    """Ordinary packets and transfers are handled correctly."""
    for seed in SEEDS[name]():
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_is_small(name: str) -> None:
    """The corpus is a few dozen short inputs, so that all of them run with the tests."""
    sizes = [file.stat().st_size for file in FILES[name]]
    assert 0 < len(sizes) < 150
    assert max(sizes) < 1000


def without_rollover(self: Numbering, block: int) -> int:
    return block & 0xFFFF


def any_number(asked: Any, name: str, low: int, high: int) -> int | None:
    return int(asked[name]) if asked.get(name, "").isdecimal() else None


def wrong_order(octets: bytes) -> bytes:
    return octets.replace(b"\n", b"\r\n").replace(b"\r", b"\r\x00")


def forgetful(self: netascii.Decoder, octets: bytes, final: bool = False) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\r\x00", b"\r")


def never_ends(machine: Any, state: Any, failure: Any = None) -> Step:
    return Step.WAIT


def broken(*arguments: Any) -> Any:
    raise ValueError("a bug")


needs_module = pytest.mark.skipif(not offload.is_native(), reason="there is one table only")

#: Bugs: the target that finds it, the owner of the attribute, its name and its wrong value.
BUGS: list[Any] = [
    ("request", wire, "_text", lambda octets: octets.decode("ascii")),
    ("request", wire, "parse_error", lambda datagram: (datagram[3], "")),
    ("options", options, "_number", any_number),
    ("options", options, "DEFAULT_BLKSIZE", 1024),
    ("netascii", netascii, "encode", wrong_order),
    ("netascii", netascii.Decoder, "decode", forgetful),
    ("sender", peer_watch, "MAX_UNANSWERED_DATAGRAMS", 5),
    ("sender", sender.Sender, "_end", never_ends),
    ("sender", Numbering, "number", without_rollover),
    ("receiver", peer_watch, "MAX_UNANSWERED_DATAGRAMS", 5),
    ("receiver", receiver.Receiver, "_end", never_ends),
    ("receiver", Numbering, "blocks_ahead", lambda self, number, block: 0),
    ("server", NetasciiReader, "read", broken),
    ("server", MemoryLink, "close", lambda self: None),
    ("server", peer_watch, "MAX_UNANSWERED_DATAGRAMS", 5),
    pytest.param("flows", offload, "MAX_ROUND_TRIPS", 7, marks=needs_module),
    pytest.param("flows", offload, "MAX_CLIENT_PACKET", 4, marks=needs_module),
    pytest.param("flows", wire, "DATA_HEADERS", [b"\0\3\0\1"] * 65536, marks=needs_module),
]


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "bug"),
    BUGS,
    ids=["-".join(each for each in getattr(bug, "values", bug)[:3:2]) for bug in BUGS],
)
def test_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, owner: Any, attribute: str, bug: Any
) -> None:
    """With a bug planted in the package, at least one input fails."""
    # Without the cache, which may have results from before the bug.
    monkeypatch.setattr(options, "_negotiate_cached", options._negotiate)
    monkeypatch.setattr(owner, attribute, bug)
    inputs = [*SEEDS[name](), *(file.read_bytes() for file in FILES[name])]
    assert any(fails(TARGETS[name], each) for each in inputs)


def fails(target: Callable[[bytes], None], octets: bytes) -> bool:
    try:
        target(octets)
    except Exception:
        return True
    return False


def test_missing_atheris_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program exits with status 2 and names the missing module."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["fuzz", "request"])
    assert fuzz.__main__.main() == 2
    assert "atheris is missing" in capsys.readouterr().err
