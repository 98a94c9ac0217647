"""An extension of pydoctor for the API pages: it makes backticks in docstrings mark code.

Epytext marks code with C{C{...}}. The docstrings have backticks instead, which are easier to read.
This module replaces them before pydoctor parses a docstring.
"""

from __future__ import annotations

import re
from typing import ClassVar

from pydoctor import extensions, model

#: Code in backticks. It may continue on the next line, but has no empty line.
CODE = re.compile(r"`((?:[^`\n]|\n(?!\s*\n))+)`")

#: Braces inside code, as epytext writes them.
BRACES = str.maketrans({"{": "E{lb}", "}": "E{rb}"})


def to_epytext(docstring: str) -> str:
    """Replace each pair of backticks with epytext's markup of code."""
    return CODE.sub(lambda match: f"C{{{match[1].translate(BRACES)}}}", docstring)


class BackticksMarkCode(extensions.DocumentableMixin, extensions.PackageMixin):
    """Everything that has a docstring: packages, modules, classes, functions and attributes."""

    # A private method, but the only one that gets docstrings and `#:` comments alike.
    def _setDocstringValue(self, doc: str, lineno: int) -> None:
        super()._setDocstringValue(to_epytext(doc), lineno)


class System(model.System):
    """All documented objects. The option `system-class` of pydoctor names this class."""

    custom_extensions: ClassVar = [__name__]


def setup_pydoctor_extension(registrar: extensions.ExtRegistrar) -> None:
    """Register the mix-in. Pydoctor finds this function by its name."""
    registrar.register_mixin(BackticksMarkCode)
