"""The architecture: imports go from folders of a higher rank to folders of a lower one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import twisted_tftp

PACKAGE = Path(twisted_tftp.__file__).parent

#: The rank of each folder, and of each module at the top. None imports from a higher rank.
RANKS = {
    # what users of the package import
    "twisted_tftp": 0,
    "errors": 0,
    "interfaces": 0,
    "policy": 0,
    "context": 0,
    # bytes to packets and back
    "protocol": 1,
    # the state machines
    "transfer": 2,
    # sockets
    "net": 3,
    # one transfer
    "session": 4,
    # stores, and the two ends
    "backends": 5,
    "server": 5,
    "client": 5,
    # what stands on both ends
    "origins": 6,
    "observe": 6,
    "http": 6,
    "netboot": 6,
    "workers": 6,
    # settings
    "config": 7,
    # what people call
    "tools": 8,
    "cli": 8,
    "tap": 8,
    "testing": 8,
    "__main__": 8,
}

#: What a folder never imports, whatever the ranks are.
NEVER = {
    "backends": {"session", "net", "server", "client"},
    "server": {"client"},
    "client": {"server"},
}

#: What the server may know of backends: how they are named and found, and none of them.
NO_CONCRETE_BACKEND = {"backends.plugin"}

#: Folders that import nothing that sends, waits or tells the time, and what else they may import.
PURE = {"protocol", "transfer"}
PURE_IMPORT = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "re",
    "struct",
    "types",
    "typing",
    "twisted_tftp",
}


def module_name(path: Path) -> str:
    """Return the name of a module beneath the package; that of the package for itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) or "twisted_tftp"


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def folder(module: str) -> str:
    """Return the folder at the top that a module is in, or the module at the top."""
    return module.split(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Return what a file imports, wherever in it: modules, and names in modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = set()
    for name in imported(MODULES[module]):
        if name.split(".")[0] != "twisted_tftp":
            continue
        below = name.removeprefix("twisted_tftp").lstrip(".")
        while below not in MODULES and "." in below:
            below = below.rpartition(".")[0]
        found.add(below if below in MODULES else "twisted_tftp")
    return found


def breaks_a_rule(module: str, other: str) -> bool:
    """Whether `module` may not import `other`."""
    here, there = folder(module), folder(other)
    if here == "server" and there == "backends" and other not in NO_CONCRETE_BACKEND:
        return True
    return RANKS[here] < RANKS[there] or there in NEVER.get(here, ())


def violations() -> set[tuple[str, str]]:
    """Return all imports that break a rule: (importer, imported)."""
    return {
        (module, other)
        for module in MODULES
        for other in imports(module)
        if breaks_a_rule(module, other)
    }


def test_each_folder_has_a_rank() -> None:
    """What lies at the top of the package has a rank."""
    assert {folder(module) for module in MODULES} <= RANKS.keys()


def test_imports_go_to_lower_ranks() -> None:
    """No module imports from a higher rank, or what its folder never imports."""
    assert violations() == set()


def test_folders_import_each_other_one_way() -> None:
    """Where one folder imports another one, that one does not import it back, by any way."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        for other in imports(module):
            if folder(other) != folder(module):
                graph.setdefault(folder(module), set()).add(folder(other))
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_modules_import_each_other_one_way() -> None:
    """No import leads back to where it began, within a folder either."""
    TopologicalSorter({module: imports(module) for module in MODULES}).prepare()


def test_machines_know_no_socket_and_no_reactor() -> None:
    """What decides about packets imports nothing of Twisted, sockets, time or logging."""
    found = {
        (module, name)
        for module, path in MODULES.items()
        if folder(module) in PURE
        for name in imported(path)
        if name.split(".")[0] not in PURE_IMPORT
    }
    assert found == set()


def test_each_module_says_what_it_is_for() -> None:
    """A module's docstring begins with one sentence: its responsibility."""
    for module, path in MODULES.items():
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, module
        assert ". " in docstring.split("\n\n")[0] + " ", module


def test_each_folder_says_what_it_may_import() -> None:
    """A folder's docstring has two sentences: what lives there, and what that may import."""
    for module, path in MODULES.items():
        if path.name != "__init__.py" or module == "twisted_tftp":
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(re.findall(r"\.(?=\s|\Z)", docstring)) == 2, module
        assert "import" in docstring.split("\n\n")[-1], module
