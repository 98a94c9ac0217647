"""Find the backend plugins that are installed, in the modules of `twisted/plugins/`.

`twisted.plugin` would log a traceback for each broken module. Here a problem is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

from twisted.logger import Logger
from twisted.python.modules import PythonModule, getModule

from twisted_tftp.interfaces import IBackendPlugin
from twisted_tftp.protocol.printable import printable

_log = Logger()

#: The name of a backend.
NAME = re.compile(r"[a-z][a-z0-9-]*\Z")


@dataclass
class FoundPlugins:
    """The plugins that were found, and what was wrong with others.

    @ivar plugins: the name of each plugin, and the plugin.
    @ivar modules: the name of each plugin, and the module that has it.
    @ivar problems: a line for each module or plugin that cannot be used.
    """

    plugins: dict[str, Any] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def find_plugins(package: str = "twisted.plugins") -> FoundPlugins:
    """Import the modules of a package, in sort order, and return the backend plugins in them."""
    found = FoundPlugins()
    modules: dict[str, PythonModule] = {}
    import_module(package)  # it adds the folders of other distributions to its path
    for module in getModule(package).iterModules():
        modules.setdefault(module.name, module)  # the first in `sys.path` is the one imported
    for name in sorted(modules):
        try:
            contents = vars(modules[name].load())
        except (Exception, SystemExit) as error:
            found.problems.append(f"the plugin module {name} is broken: {_text(error)}")
        else:
            for variable, plugin in _backend_plugins(contents):
                _add(found, plugin, name, f"{name}.{variable}")
    return found


@lru_cache(maxsize=1)
def search() -> FoundPlugins:
    """Return the installed plugins; the first call finds them, and logs each problem."""
    found = find_plugins()
    for problem in found.problems:
        _log.warn("{problem}", problem=problem)
    return found


def _backend_plugins(contents: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the variables of a module that are backend plugins, with their names."""
    for variable, value in list(contents.items()):
        try:
            is_plugin = IBackendPlugin.providedBy(value)
        except Exception:
            continue  # an object of another kind that answers every question with an exception
        if is_plugin:
            yield variable, value


def _add(found: FoundPlugins, plugin: Any, module: str, source: str) -> None:
    """Add a plugin to those found, or the reason why it cannot be used."""
    try:
        name, problem = plugin.name, _defect(plugin)
    except Exception as error:
        problem = _text(error)
    if problem:
        found.problems.append(f"the backend plugin {source} is broken: {problem}")
    elif name not in found.plugins:
        found.plugins[name] = plugin
        found.modules[name] = module
    elif found.plugins[name] is not plugin:
        found.problems.append(
            f"the backend plugin {source} is not used: {found.modules[name]} has one of the same "
            f"name, {name!r}"
        )


def _defect(plugin: Any) -> str:
    """Return what is wrong with a plugin; an empty text if it can be used."""
    if not isinstance(plugin.name, str) or not NAME.match(plugin.name):
        return f"its name must be lower-case letters, digits and '-', not {plugin.name!r}"
    if not isinstance(plugin.help, str) or not plugin.help.strip():
        return "its help must be a text"
    if not callable(plugin.from_arguments):
        return "from_arguments must be a method"
    return ""


def _text(error: BaseException) -> str:
    """Return an exception as one line."""
    return printable(f"{type(error).__name__}: {error}".replace("\n", " "))
