"""The README's claims that can be run."""

from __future__ import annotations

import re
from pathlib import Path

from twisted_tftp.tap import Options

README = Path(__file__).parent.parent / "README.md"


def test_examples_run() -> None:
    """The backend of the README serves what the README says."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks[0].split("@implementer")[1].split("\n\n\n")[0].splitlines()) <= 20


def test_every_option_is_described() -> None:
    """The table has each option of the command line, and no other."""
    described = set(re.findall(r"^\| `--([a-z-]+)", README.read_text(), re.MULTILINE))
    known = {name.rstrip("=") for name in Options().longOpt} - {"help"}
    assert described == known
