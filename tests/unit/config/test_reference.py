"""Tests of the reference page of the server's options."""

from __future__ import annotations

import re
from pathlib import Path

from twisted_tftp.tap import Options

#: The reference page in the repository.
OPTIONS = Path(__file__).parents[3] / "docs" / "options.md"


def test_every_option_is_described() -> None:
    """The page has each option of the command line, and no other."""
    described = set(re.findall(r"^\| `--([a-z-]+)", OPTIONS.read_text(), re.MULTILINE))
    known = {name.rstrip("=") for name in Options().longOpt} - {"help"}
    assert described == known
