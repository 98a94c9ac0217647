"""The README's claims that can be run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred, maybeDeferred

from tests.reactors import reactor, spin
from tests.test_client import FILE, Served, settle
from twisted_tftp.tap import Options

__all__ = ["reactor"]

README = Path(__file__).parent.parent / "README.md"


def test_examples_run() -> None:
    """The backend of the README serves what the README says."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks[:2]:
        exec(block, names)
    assert len(blocks[0].split("@implementer")[1].split("\n\n\n")[0].splitlines()) <= 20


def test_every_option_is_described() -> None:
    """The table has each option of the command line, and no other."""
    described = set(re.findall(r"^\| `--([a-z-]+)", README.read_text(), re.MULTILINE))
    known = {name.rstrip("=") for name in Options().longOpt} - {"help"}
    assert described == known


def test_client_of_the_readme_fetches_and_stores(reactor: Any, tmp_path: Path) -> None:
    """Its lines as they are, but for the server's address and the local folders."""
    block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[2]
    served = Served(reactor)
    served.backend.files["vmlinuz"] = FILE
    (tmp_path / "hostname").write_bytes(b"host")
    block = block.replace('"192.0.2.69"', f'"127.0.0.1", {served.port}, in_thread=maybeDeferred')
    block = block.replace("/srv/mirror", str(tmp_path)).replace("/etc", str(tmp_path))
    source = "async def example(reactor):\n" + textwrap.indent(block, "    ")
    names: dict[str, Any] = {"maybeDeferred": maybeDeferred}
    exec(source + "    return client\n", names)
    results: list[Any] = []
    ensureDeferred(names["example"](reactor)).addBoth(results.append)
    spin(reactor, lambda: results)
    settle(reactor, results[0])
    assert (tmp_path / "vmlinuz").read_bytes() == FILE
    assert served.backend.files["hostname.txt"] == b"host"
    served.stop()
