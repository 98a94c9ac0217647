"""Check that docs/operations.md explains each reason in the log of the server, and some lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted_tftp
from twisted_tftp import errors
from twisted_tftp.errors import TFTPError

#: The folder of the package.
PACKAGE = Path(twisted_tftp.__file__).parent

#: The page with the table.
PAGE = PACKAGE.parent / "docs" / "operations.md"

#: The modules whose texts are reasons: constants, and the results of functions.
REASON_MODULES = (
    "server/reasons.py",
    "backends/filesystem/explain.py",
    "session/failures.py",
)

#: The modules whose warnings and errors are lines of the log that belong to no transfer.
LOGGING_MODULES = ("config/reload.py", "backends/filesystem/threads.py")

#: The gaps of a text for a logger.
GAP = re.compile(r"\{\w+\}")

#: The folders and modules whose failures are those of the server's transfers.
RAISING = ("server", "session", "transfer", "backends", "protocol/wire.py")

#: The functions and texts of these modules that are not reasons, but parts of a log line.
NO_REASONS = {"_quoted", "contents_of", "asked", "reason_of", "first_words", "_user", "_directory"}

#: Texts of these folders that only a client can have, or that no path of the server reaches.
NOT_OF_A_SERVER = {
    ("not a read or write request",),
    ("the OACK has an empty or a repeated option name",),
    ("the OACK is truncated",),
    ("the server does not answer",),
    ("the transfer timed out",),
}

#: The names of the exceptions.
FAILURES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, TFTPError)
}

#: A text with gaps: the literal parts of an f-string.
Template = tuple[str, ...]


def template(node: ast.expr | None) -> Template:
    """Return the literal parts of a string or an f-string; nothing for other expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if isinstance(node, ast.JoinedStr):
        return tuple(
            part.value
            for part in node.values
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        )
    return ()


def reasons_of_module(tree: ast.Module) -> Iterator[Template]:
    """Return the constants of a module, and the texts that its functions return."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield template(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name not in NO_REASONS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    yield template(inner.value)


def reasons_of_failures(tree: ast.Module) -> Iterator[Template]:
    """Return the reason of each exception that a module creates: its detail or its message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "detail":
            yield template(node.value)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        kind = FAILURES.get(node.func.id)
        if kind is None:
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        arguments = [*node.args, named["detail"]] if "detail" in named else node.args
        yield template(arguments[-1]) if arguments else (kind.default_message,)


def warnings_of_module(tree: ast.Module) -> Iterator[Template]:
    """Return the texts of the warnings, errors and failures that a module logs."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in ("warn", "error", "failure"):
            (text,) = template(node.args[0])
            yield tuple(part for part in GAP.split(text) if part)


def all_warnings() -> set[Template]:
    """Return the texts of all warnings, without those that have only gaps."""
    trees = [ast.parse((PACKAGE / name).read_text()) for name in LOGGING_MODULES]
    return {each for tree in trees for each in warnings_of_module(tree)} - {()}


def all_reasons() -> set[Template]:
    """Return the texts of all reasons."""
    found: set[Template] = {(message,) for _, message in errors._BY_ERRNO.values()}
    for name in REASON_MODULES:
        found.update(reasons_of_module(ast.parse((PACKAGE / name).read_text())))
    for name in RAISING:
        place = PACKAGE / name
        for path in [place] if place.suffix else place.rglob("*.py"):
            found.update(reasons_of_failures(ast.parse(path.read_text())))
    # A template of a few characters, such as that of `{reason} {limit}`, is not a reason.
    return {each for each in found if sum(map(len, each)) > 4} - NOT_OF_A_SERVER


def documented_reasons() -> list[str]:
    """Return the reasons in the first column of the tables of the section."""
    section = PAGE.read_text().split("\n## Troubleshooting\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [reason for row in rows for reason in re.findall("`([^`]+)`", row)]


@pytest.mark.parametrize("reason", sorted(all_reasons() | all_warnings()), ids="...".join)
def test_reason_is_in_the_table(reason: Template) -> None:
    """The table has the literal parts of the reason, in order."""
    expression = re.compile(".*".join(map(re.escape, reason)))
    assert any(expression.search(each) for each in documented_reasons())


def test_reasons_are_found() -> None:
    """The search finds constants, results of functions, details, messages and default texts."""
    assert {
        ("over --rate",),
        ("the drain time of ", " s ran out"),
        ("--write is never",),
        ("would exceed --upload-quota ",),
        ("the request is truncated",),
        ("no such file",),
    } <= all_reasons()
    assert ("a call in a thread (", ") has not ended: it is abandoned") in all_warnings()
