"""Test what the log says about the C module, and the import of the package without it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.support.daemon import CHECKOUT
from twisted_tftp.net import offload

#: What the log says without the module.
MISSING = "downloads do not use the C module: it is not installed"

#: Imports the package as if the C module was not built.
WITHOUT_MODULE = """
import sys
sys.modules["twisted_tftp.net._offload"] = None
from twisted_tftp.net import offload
print(offload.is_native(), offload.description())
"""


@pytest.mark.parametrize(
    ("module", "setting", "expected"),
    [
        (object(), "", "downloads use the C module"),
        (object(), "0", "downloads do not use the C module: TFTP_OFFLOAD=0"),
        (None, "", MISSING),
        (None, "0", MISSING),
    ],
)
def test_description_says_why_the_module_is_not_used(
    monkeypatch: pytest.MonkeyPatch, module: Any, setting: str, expected: str
) -> None:
    """If the module is missing, the environment does not matter."""
    monkeypatch.setattr(offload, "_offload", module)
    monkeypatch.setenv("TFTP_OFFLOAD", setting)
    assert offload.description() == expected


def test_package_is_imported_without_the_module() -> None:
    """An import error of the module is no failure."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MODULE], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (done.stdout, done.stderr) == (f"False {MISSING}\n", "")
