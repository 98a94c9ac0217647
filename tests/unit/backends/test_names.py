"""Tests of the name pipeline: steps that rewrite the names of requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.support.contexts import read_context, write_context
from tests.support.deferreds import value
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.mounts import Mount, Mounts
from twisted_tftp.backends.names import NamePipeline, NameStep, Slashes, StripTrailing
from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend


class Recorder:
    """A backend that returns what it is asked for, instead of a file."""

    def open_reader(self, path: str, context: TransferContext) -> tuple[str, str]:
        return path, context.path

    open_writer = open_reader


class Append:
    """A step that appends a text, in reads only; it refuses some names."""

    def __init__(self, text: str, refused: str = "-") -> None:
        self.name = f"append {text}"
        self._text = text
        self._refused = refused

    def apply(self, name: str, context: TransferContext) -> str:
        if name == self._refused:
            raise AccessViolation("not this name", "a rule says so")
        return name + self._text if context.direction is Direction.READ else name


class ExplainedAppend(Append):
    """The same, which explains itself."""

    def explain(self, name: str, context: TransferContext) -> list[str]:
        return [f"rename 1 {name}", f"rename 2 {self.apply(name, context)}"]


def rewritten(name: str, *steps: NameStep) -> str:
    """Return the name that the wrapped backend is asked for."""
    result: str = NamePipeline(Recorder(), steps).open_reader(name, read_context(name))[0]
    return result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pxelinux.0", "pxelinux.0"),
        ("pxelinux.0\udcff", "pxelinux.0"),
        ("pxelinux.0\udcff\udcff\x01\n\x7f\udcff", "pxelinux.0"),
        ("\udcffa\x01b \udcfe", "\udcffa\x01b \udcfe"),
        ("kernelÿ", "kernelÿ"),
        ("\udcff", ""),
        ("", ""),
    ],
)
def test_octets_behind_the_name_are_removed(name: str, expected: str) -> None:
    """Octets 0xFF and control characters at the end; not the letter of code 0xFF, nor a space."""
    assert rewritten(name, StripTrailing()) == expected


@given(st.binary())
def test_stripped_name_is_the_name_without_its_end(octets: bytes) -> None:
    """For any octets: only 0xFF and control characters are removed, and only at the end."""
    name = octets.decode("utf-8", "surrogateescape")
    stripped = rewritten(name, StripTrailing()).encode("utf-8", "surrogateescape")
    assert octets.startswith(stripped)
    removed = octets[len(stripped) :]
    assert all(octet < 0x20 or octet in (0x7F, 0xFF) for octet in removed)
    assert not stripped or not (stripped[-1] < 0x20 or stripped[-1] in (0x7F, 0xFF))


def test_backslashes_become_slashes() -> None:
    """As the boot managers of Windows mean them."""
    assert rewritten("\\Boot\\x86/BCD", Slashes()) == "/Boot/x86/BCD"


def test_steps_are_applied_in_order() -> None:
    """Each one gets the name that the step before has returned."""
    assert rewritten("a", Append("1"), Append("2"), Append("3")) == "a123"
    assert rewritten("a\\\udcff", Slashes(), StripTrailing(), Append("b\\")) == "a/b\\"


def test_context_keeps_the_name_that_the_client_sent() -> None:
    """The log shows it."""
    pipeline = NamePipeline(Recorder(), [Append("1")])
    assert pipeline.open_reader("a", read_context("a")) == ("a1", "a")


def test_uploads_are_rewritten_too() -> None:
    """A step sees from the context whether the request is a read."""
    pipeline = NamePipeline(Recorder(), [StripTrailing(), Append("1")])
    assert pipeline.open_writer("a\udcff", write_context("a\udcff"))[0] == "a"


@pytest.mark.parametrize("method", ["open_reader", "open_writer"])
def test_step_can_refuse_a_name(method: str) -> None:
    """The client gets the error of the step, and the backend is not asked."""
    pipeline = NamePipeline(Recorder(), [Append("", refused="a")])
    with pytest.raises(AccessViolation, match="not this name"):
        getattr(pipeline, method)("a", read_context("a"))


def test_name_of_which_nothing_is_left_is_not_found() -> None:
    """It is a name that no file can have."""
    pipeline = NamePipeline(MemoryBackend(), [StripTrailing()])
    with pytest.raises(FileNotFound):
        pipeline.open_reader("\udcff", read_context())


def explained(name: str, *steps: NameStep) -> list[str]:
    """Return the lines that explain a read of `name`."""
    mounts = Mounts([Mount(prefix="/", backend=MemoryBackend({"a/b": b"22"}))])
    return list(value(NamePipeline(mounts, steps).explain(name, read_context(name))))


def test_explanation_shows_each_step_that_changes_the_name() -> None:
    """The names are escaped; other steps are left out."""
    assert explained("\udcfea\\b\udcff", StripTrailing(), Append(""), Slashes())[:2] == [
        "name: strip trailing octets -> \\xfea\\x5cb",
        "name: backslashes to slashes -> \\xfea/b",
    ]
    assert explained("a/b", Slashes(), StripTrailing()) == ["mount: /", "found: 2 octets"]


def test_step_with_several_rules_explains_itself() -> None:
    """Its lines replace the line of the pipeline."""
    assert explained("a", ExplainedAppend("/b")) == [
        "rename 1 a",
        "rename 2 a/b",
        "mount: /",
        "found: 2 octets",
    ]


@pytest.mark.parametrize("step", [Append("", refused="a"), ExplainedAppend("", refused="a")])
def test_explanation_says_which_step_refuses_the_name(step: Any) -> None:
    """The backend is not asked."""
    assert explained("a\udcff", StripTrailing(), step, Slashes()) == [
        "name: strip trailing octets -> a",
        "name: append  refuses it",
        "ERROR 2: not this name (a rule says so)",
    ]


def test_interfaces_are_implemented() -> None:
    """A pipeline is itself a backend, with a lifecycle and an explanation."""
    for interface in (IFileBackend, IBackendLifecycle, IExplainable):
        verifyObject(interface, NamePipeline(Mounts([]), [Slashes()]))
