"""Test which table of flows is used: the one of the C module, or the one in Python."""

from __future__ import annotations

import select
import subprocess
import sys
import time

import pytest

from tests.support.daemon import CHECKOUT
from twisted_tftp.net import offload

#: What the log says in each case.
NATIVE = "downloads use the C module"
MISSING = "downloads do not use the C module: it is not installed"
REFUSED = "downloads do not use the C module: TFTP_OFFLOAD=0"

#: Imports the package as if the C module was not built.
WITHOUT_MODULE = """
import sys
sys.modules["twisted_tftp.net._offload"] = None
from twisted_tftp.net import offload
print(offload.is_native(), offload.description())
"""


def table() -> offload.FlowTable:
    """Return the table that a hub gets."""
    with select.epoll() as epoll:
        return offload.make_flow_table(epoll, time.monotonic)


@pytest.mark.skipif(offload._offload is None, reason="needs the C module")
def test_module_is_used_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is the one in C, unless the environment refuses it."""
    monkeypatch.delenv("TFTP_OFFLOAD", raising=False)
    assert isinstance(table(), offload.NativeFlowTable)
    assert offload.description() == NATIVE


@pytest.mark.skipif(offload._offload is None, reason="needs the C module")
def test_environment_refuses_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TFTP_OFFLOAD=0 the table is the one in Python."""
    monkeypatch.setenv("TFTP_OFFLOAD", "0")
    assert isinstance(table(), offload.PythonFlowTable)
    assert offload.description() == REFUSED


@pytest.mark.parametrize("setting", ["0", "1"])
def test_table_is_in_python_without_the_module(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """The log says that the module is missing, whatever the environment has."""
    monkeypatch.setattr(offload, "_offload", None)
    monkeypatch.setenv("TFTP_OFFLOAD", setting)
    assert isinstance(table(), offload.PythonFlowTable)
    assert offload.description() == MISSING


def test_package_is_imported_without_the_module() -> None:
    """An import error of the module is no failure."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODULE], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (done.stdout, done.stderr) == (f"False {MISSING}\n", "")
