"""Tests of the search for plugins: they are found, and those that are broken are skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.logs import captured_log
from twisted_tftp.backends import plugin_search
from twisted_tftp.backends.plugin_search import FoundPlugins, find_plugins, search

#: A module with one plugin.
GOOD = """
from twisted_tftp.backend_maker import BackendMaker
{variable} = BackendMaker({name!r}, "help", "nowhere.function")
"""

#: The beginning of a module with a class for plugins.
CLASS = """
from zope.interface import implementer
from twisted_tftp.interfaces import IBackendPlugin

@implementer(IBackendPlugin)
class Plugin:
    name = "toy"
    help = "help"
    def from_arguments(self, argument, keywords): ...
"""

Find = Callable[..., FoundPlugins]


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """Return a function that writes modules into a package and finds the plugins in them."""
    package = tmp_path / "plugins_under_test"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def find(**modules: str) -> FoundPlugins:
        for name, text in modules.items():
            (package / f"{name}.py").write_text(text)
        return find_plugins("plugins_under_test")

    yield find
    for name in [name for name in sys.modules if name.startswith("plugins_under_test")]:
        del sys.modules[name]


def test_plugins_of_all_modules_are_found(find: Find) -> None:
    """A module may have several; other variables are ignored."""
    found = find(
        one=GOOD.format(variable="a", name="a") + "c = BackendMaker('c', 'help', 'x')\nd = 5\n",
        two=GOOD.format(variable="b", name="b"),
    )
    assert sorted(found.plugins) == ["a", "b", "c"]
    assert found.problems == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 +", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os.no", "AttributeError: module 'os' has no attribute 'no'"),
    ],
)
def test_module_that_cannot_be_imported_is_skipped(find: Find, text: str, reason: str) -> None:
    """The problem is one line, with the module and the reason."""
    found = find(bad=text, good=GOOD.format(variable="a", name="a"))
    assert list(found.plugins) == ["a"]
    (problem,) = found.problems
    assert problem.startswith(f"the plugin module plugins_under_test.bad is broken: {reason}")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Plugin.name = 5", "its name must be"),
        ("Plugin.name = 'Toy'", "its name must be"),
        ("Plugin.name = ''", "its name must be"),
        ("Plugin.name = property(lambda self: 1 / 0)", "ZeroDivisionError"),
        ("del Plugin.name", "AttributeError"),
        ("Plugin.help = None", "its help must be a text"),
        ("Plugin.help = ' '", "its help must be a text"),
        ("del Plugin.help", "AttributeError"),
        ("Plugin.from_arguments = 5", "from_arguments must be a method"),
        ("del Plugin.from_arguments", "AttributeError"),
    ],
)
def test_plugin_that_is_broken_is_skipped(find: Find, text: str, reason: str) -> None:
    """Another plugin of the same module is found."""
    rest = "\nbad = Plugin()\n" + GOOD.format(variable="a", name="a")
    found = find(module=f"{CLASS}\n{text}\n{rest}")
    assert list(found.plugins) == ["a"]
    (problem,) = found.problems
    assert problem.startswith("the backend plugin plugins_under_test.module.bad is broken: ")
    assert reason in problem


def test_object_that_fails_every_question_is_no_plugin(find: Find) -> None:
    """A module may have objects of any kind."""
    odd = (
        "class Odd:\n    def __getattribute__(self, name):\n        raise RuntimeError\n"
        "odd = Odd()\n"
    )
    found = find(module=odd + GOOD.format(variable="a", name="a"))
    assert list(found.plugins) == ["a"]


def test_first_of_two_plugins_of_one_name_is_used(find: Find) -> None:
    """The module that is first in sort order has it; the other one is a problem."""
    found = find(
        b=GOOD.format(variable="first", name="toy"), c=GOOD.format(variable="x", name="toy")
    )
    assert found.modules == {"toy": "plugins_under_test.b"}
    assert found.problems == [
        "the backend plugin plugins_under_test.c.x is not used: plugins_under_test.b has one of "
        "the same name, 'toy'"
    ]


def test_plugin_that_two_modules_import_is_one(find: Find) -> None:
    """The same object is no second plugin."""
    found = find(
        a=GOOD.format(variable="x", name="toy"), b="from plugins_under_test.a import x\ny = x\n"
    )
    assert (list(found.plugins), found.problems) == (["toy"], [])


def test_problems_are_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each, at the first search."""
    broken = FoundPlugins(problems=["the first", "the second"])
    monkeypatch.setattr(plugin_search, "find_plugins", lambda: broken)
    search.cache_clear()
    try:
        with captured_log() as lines:
            assert search() is search() is broken
    finally:
        search.cache_clear()
    assert lines == ["the first", "the second"]
