"""Tests of the plugin that imports its code when it is used."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from twisted_tftp.backend_maker import BackendMaker
from twisted_tftp.interfaces import IBackendPlugin, IPathArguments


def factory(argument: str, keywords: dict[str, str]) -> Any:
    """Return what the plugin passes on."""
    return argument, keywords


def test_interfaces_are_implemented() -> None:
    """`twisted.plugin` finds it too."""
    for interface in (IPlugin, IBackendPlugin, IPathArguments):
        verifyObject(interface, BackendMaker("toy", "help", "nowhere.factory"))


def test_function_is_called() -> None:
    """It gets a copy of the keywords, which it may change."""
    maker = BackendMaker("toy", "help", f"{__name__}.factory", paths=["", "hosts"])
    keywords = {"a": "b"}
    argument, passed = maker.from_arguments("x", keywords)
    assert (argument, passed) == ("x", keywords)
    assert passed is not keywords
    assert maker.paths == ("", "hosts")


def test_missing_package_of_an_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install; without an extra the error is that of Python."""
    monkeypatch.setitem(sys.modules, "optparse", None)  # an import of it fails now
    with pytest.raises(ValueError, match=r"it needs pip install 'farm\[toys\]' \(.*optparse"):
        BackendMaker("toy", "", "optparse.x", extra="farm[toys]").from_arguments("", {})
    with pytest.raises(ImportError):
        BackendMaker("toy", "", "optparse.x").from_arguments("", {})
