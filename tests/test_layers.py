"""The architecture: imports point down the layers."""

from __future__ import annotations

import ast
from pathlib import Path

import twisted_tftp

PACKAGE = Path(twisted_tftp.__file__).parent

#: From the ground up; a module imports only from lines above its own.
LAYERS = [
    ["twisted_tftp"],
    # words
    ["errors", "netascii", "policy", "interfaces", "context", "printable"],
    ["wire"],
    ["options"],
    # machines
    ["transfer", "transfer.step", "transfer.timing", "transfer.blocks"],
    ["transfer.sender", "transfer.receiver", "transfer.asker", "transfer.first_answer"],
    # sockets
    [
        "net",
        "net.hub",
        "net.icmp_errors",
        "net.strangers",
        "alarms",
        "budget",
        "heap",
        "translate",
        "transferlog",
        "access",
        "drops",
    ],
    ["net.udp"],
    ["overtaken"],
    ["net.links", "net.port", "net.client_ports"],
    ["session"],
    ["transfers"],
    ["server"],
    ["testing"],
    # stores
    ["backends", "backends.naming"],
    [
        "backends.beneath",
        "backends.cached",
        "backends.contents",
        "backends.memory",
        "backends.quota",
        "backends.readonly",
    ],
    ["backends.upload"],
    ["backends.filesystem"],
    ["trace", "streams", "urls", "route", "held_writer"],
    ["wiretap", "second_opinion", "profiles"],
    ["exchange"],
    ["client"],
    ["storm", "doctor"],
    # faces
    ["arguments"],
    ["config", "progress", "stormcli", "doctorcli"],
    ["service", "cli"],
    ["make_service"],
    ["signals", "__main__"],
    ["tap"],
]


#: What the machines may import: nothing that sends, waits or tells the time.
MACHINES_IMPORT = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "struct",
    "twisted_tftp",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) or "twisted_tftp"


def imports(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that the file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] != "twisted_tftp":
                continue
            below = name.removeprefix("twisted_tftp").lstrip(".")
            while below not in known and "." in below:
                below = below.rpartition(".")[0]
            found.add(below if below in known else "twisted_tftp")
    return found


def test_imports_point_down() -> None:
    """No module imports from its own layer or from one above it."""
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    paths = sorted(PACKAGE.rglob("*.py"))
    assert {module_name(path) for path in paths} == set(height), "name each module's layer"
    upward = [
        f"{module_name(path)} imports {name}"
        for path in paths
        for name in imports(path, set(height))
        if height[name] >= height[module_name(path)]
    ]
    assert upward == []


def test_machines_know_no_socket_and_no_reactor() -> None:
    """What decides about packets imports nothing of Twisted, sockets, time or logging."""
    for path in sorted((PACKAGE / "transfer").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                root = name.split(".")[0]
                assert root in MACHINES_IMPORT, (path, name)


def test_each_module_says_what_it_is_for() -> None:
    """A module's docstring begins with one sentence: its responsibility."""
    for path in sorted(PACKAGE.rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path
        assert ". " in docstring.split("\n\n")[0] + " ", path
