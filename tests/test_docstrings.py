"""Docstrings have one markup: fields and links of epytext, and backticks for code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import twisted_tftp

PACKAGE = Path(twisted_tftp.__file__).parent

MODULES = sorted(PACKAGE.rglob("*.py"))

#: The fields that docstrings may have. Epytext knows other spellings, too.
FIELDS = {"param", "return", "raise", "ivar"}

FIELD = re.compile(r"^\s*@(\w+)(?: [\w.]+)?:", re.MULTILINE)

#: Markup of epytext other than links, then that of reStructuredText.
OTHER_MARKUP = re.compile(r"\b[A-KM-Z]\{[^}]*\}|``|^\s*:\w+(?: \w+)?: |:\w+:`", re.MULTILINE)

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

#: A comment that documents the next attribute.
COMMENT = re.compile(r"(?:^ *#:.*\n)+", re.MULTILINE)


def docstrings(path: Path) -> list[str]:
    """Return the docstrings of a module, and its comments that document attributes."""
    source = path.read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    comments = [re.sub(r"^ *#: ?", "", found, flags=re.M) for found in COMMENT.findall(source)]
    return [ast.get_docstring(node) or "" for node in nodes] + comments


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_docstrings_have_one_markup(path: Path) -> None:
    """A docstring has known fields, backticks in pairs, and links; it has no other markup."""
    for docstring in docstrings(path):
        assert set(FIELD.findall(docstring)) <= FIELDS, docstring
        assert docstring.count("`") % 2 == 0, docstring
        assert not OTHER_MARKUP.search(docstring), docstring
