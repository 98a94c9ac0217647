"""Tests of a subtree: names below a prefix, which no name leaves."""

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
from twisted_tftp.backends.subtree import Subtree
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend


class Recorder:
    """A backend that returns the name that it is asked for, instead of a file."""

    def open_reader(self, path: str, context: Any) -> str:
        return path

    open_writer = open_reader


def asked(prefix: str, name: str) -> str:
    """Return the name for which the wrapped backend is asked."""
    result: str = Subtree(Recorder(), prefix).open_reader(name, read_context(name))
    return result


@pytest.mark.parametrize("prefix", ["/lab1", "lab1/", "//lab1/."])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "lab1/x"),
        ("/x", "lab1/x"),
        ("//a/./x", "lab1/a/x"),
        ("a/../x", "lab1/x"),
        ("a\\x", "lab1/a\\x"),
        ("a\\..\\x", "lab1/x"),
        ("lab1/x", "lab1/lab1/x"),
        ("a/../" + "long" * 50, "lab1/" + "long" * 50),
    ],
)
def test_prefix_is_put_in_front_of_each_name(prefix: str, name: str, expected: str) -> None:
    """A leading slash makes no difference; `..` is resolved, also with backslashes."""
    assert asked(prefix, name) == expected
    assert Subtree(Recorder(), prefix).open_writer(name, write_context()) == expected


def test_prefix_of_all_names_changes_nothing() -> None:
    """The prefix `/` has no components."""
    assert asked("/", "/a/x") == "a/x"


@pytest.mark.parametrize("name", ["../x", "/../lab2/x", "a/../../x", "..\\x", "a\\..\\..\\x"])
@pytest.mark.parametrize("method", ["open_reader", "open_writer"])
def test_name_that_leads_out_of_the_prefix_is_refused(method: str, name: str) -> None:
    """The log says why."""
    with pytest.raises(AccessViolation) as caught:
        getattr(Subtree(Recorder(), "/lab1"), method)(name, read_context(name))
    assert caught.value.detail == ".. leads out of /"


@pytest.mark.parametrize(
    ("name", "error"), [("", FileNotFound), ("a\0", FileNotFound), ("a/", AccessViolation)]
)
def test_name_that_no_file_can_have_is_refused(name: str, error: type[TFTPError]) -> None:
    """The prefix alone is not a file."""
    with pytest.raises(error):
        asked("/lab1", name)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "/", "\\", "lab1"])).map("".join))
def test_no_name_leaves_the_prefix(name: str) -> None:
    """Also not if the backend takes backslashes for slashes."""
    try:
        inner = asked("/lab1", name)
    except TFTPError:
        return
    first, *others = inner.replace("\\", "/").split("/")
    assert first == "lab1"
    assert ".." not in others


def test_prefix_can_be_inside_a_mount() -> None:
    """The name with the prefix picks the mount."""
    mounts = Mounts(
        [
            Mount(prefix="/", backend=MemoryBackend()),
            Mount(prefix="/labs", backend=MemoryBackend({"1/x": b"octets"})),
        ]
    )
    reader = Subtree(mounts, "/labs/1").open_reader("x", read_context("x"))
    assert bytes(reader.read(0, 100)) == b"octets"


def test_prefix_that_cannot_be_one_is_rejected() -> None:
    """It is a mistake in the configuration."""
    with pytest.raises(ValueError, match="must not contain"):
        Subtree(MemoryBackend(), "/a/../b")


def test_explanation_shows_the_whole_name() -> None:
    """It is escaped; a name that is refused is one line."""
    subtree = Subtree(MemoryBackend({"lab1/x\n": b"22"}), "/lab1")
    assert value(subtree.explain("x\n", read_context())) == [
        "client root: /lab1/x\\x0a",
        "found: 2 octets",
    ]


def test_interfaces_are_implemented() -> None:
    """A subtree is itself a backend, with a lifecycle and an explanation."""
    for interface in (IFileBackend, IBackendLifecycle, IExplainable):
        verifyObject(interface, Subtree(Mounts([]), "/"))
