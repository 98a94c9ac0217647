"""Check the imports of the package and of the tests: modules import lower layers only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import twisted_tftp

#: The folder of the package.
PACKAGE = Path(twisted_tftp.__file__).parent

#: The folder of the tests.
TESTS = Path(__file__).parent

#: The rank of each top-level folder and module. No module imports from a higher rank.
RANKS = {
    # what users of the package import
    "twisted_tftp": 0,
    "errors": 0,
    "interfaces": 0,
    "policy": 0,
    "context": 0,
    "backend_maker": 0,
    # bytes to packets and back
    "protocol": 1,
    # the state machines
    "transfer": 2,
    # sockets
    "net": 3,
    # one transfer
    "session": 4,
    # stores of files, server, client
    "backends": 5,
    "server": 5,
    "client": 5,
    # services that use server and client
    "origins": 6,
    "observe": 6,
    "http": 6,
    "netboot": 6,
    "workers": 6,
    # settings
    "config": 7,
    # commands, and doubles for tests of users
    "tools": 8,
    "cli": 8,
    "tap": 8,
    "testing": 8,
    "__main__": 8,
}

#: The folders that a folder must not import, whatever their ranks are.
FORBIDDEN = {
    "backends": {"session", "net", "server", "client"},
    "server": {"client"},
    "client": {"server"},
}

#: The modules of `backends` that `server` may import; it must not import a concrete backend.
BACKENDS_FOR_SERVER = {"backends.plugin"}

#: Folders that import nothing that sends, waits or tells the time.
PURE = {"protocol", "transfer"}

#: The modules and packages that these folders may import.
PURE_IMPORTS = {
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
    """Return the name of a module, relative to the package; the package's name for itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) or "twisted_tftp"


#: The modules of the package, by name.
MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def folder(module: str) -> str:
    """Return the top-level folder that a module is in, or the top-level module itself."""
    return module.split(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Return all imports of a file, also those in functions: modules, and names in modules."""
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
        relative = name.removeprefix("twisted_tftp").lstrip(".")
        while relative not in MODULES and "." in relative:
            relative = relative.rpartition(".")[0]
        found.add(relative if relative in MODULES else "twisted_tftp")
    return found


def breaks_a_rule(module: str, other: str) -> bool:
    """Return whether `module` must not import `other`."""
    here, there = folder(module), folder(other)
    if here == "server" and there == "backends" and other not in BACKENDS_FOR_SERVER:
        return True
    return RANKS[here] < RANKS[there] or there in FORBIDDEN.get(here, ())


def violations() -> set[tuple[str, str]]:
    """Return all imports that break a rule: (importer, imported)."""
    return {
        (module, other)
        for module in MODULES
        for other in imports(module)
        if breaks_a_rule(module, other)
    }


def test_each_folder_has_a_rank() -> None:
    """Each top-level folder and module of the package is in the table of ranks."""
    assert {folder(module) for module in MODULES} <= RANKS.keys()


def test_imports_go_to_lower_ranks() -> None:
    """No module imports from a higher rank, or from a folder that is forbidden to its own."""
    assert violations() == set()


def test_folders_import_each_other_one_way() -> None:
    """The imports between folders have no cycle."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        for other in imports(module):
            if folder(other) != folder(module):
                graph.setdefault(folder(module), set()).add(folder(other))
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_modules_import_each_other_one_way() -> None:
    """The imports between modules have no cycle, within a folder either."""
    TopologicalSorter({module: imports(module) for module in MODULES}).prepare()


def test_machines_import_no_sockets_and_no_reactor() -> None:
    """`protocol` and `transfer` import nothing of Twisted, and no sockets, time or logging."""
    found = {
        (module, name)
        for module, path in MODULES.items()
        if folder(module) in PURE
        for name in imported(path)
        if name.split(".")[0] not in PURE_IMPORTS
    }
    assert found == set()


def test_each_module_has_a_docstring_with_a_first_sentence() -> None:
    """A module's docstring begins with one sentence, which states its responsibility."""
    for module, path in MODULES.items():
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, module
        assert ". " in docstring.split("\n\n")[0] + " ", module


def test_each_folder_says_what_it_may_import() -> None:
    """A folder's docstring has two sentences: what lives there, and what it may import."""
    for module, path in MODULES.items():
        if path.name != "__init__.py" or module == "twisted_tftp":
            continue
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(re.findall(r"\.(?=\s|\Z)", docstring)) == 2, module
        assert "import" in docstring.split("\n\n")[-1], module


def imported_test_modules(path: Path) -> set[str]:
    """Return the test modules that a file of the tests imports."""
    names = {name for name in imported(path) if name.startswith("tests.")}
    return {name for name in names if any(part.startswith("test_") for part in name.split("."))}


def test_tests_import_no_test_module() -> None:
    """What tests share is in `tests/support`; no file of the tests imports a test module."""
    found = {
        (path.relative_to(TESTS).as_posix(), name)
        for path in sorted(TESTS.rglob("*.py"))
        for name in imported_test_modules(path)
    }
    assert found == set(), found


def test_support_has_no_test() -> None:
    """`tests/support` defines no test: pytest would run none there."""
    for path in sorted((TESTS / "support").glob("*.py")):
        functions = [
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
        ]
        assert [name for name in functions if name.startswith("test_")] == [], path
