"""Keep rendered files, so that what did not change is not rendered again.

A file is used again if the template and all files that it includes are unchanged, and the
variables that it has used have the same values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted_tftp.backends.template.folder import State

#: The memory for rendered files, in octets.
DEFAULT_CAPACITY = 16 * 1024 * 1024

#: The memory that a file needs in addition to its octets, in octets.
OVERHEAD = 600

#: The most sets of files and variables that are kept of one template: it may use different ones
#: for different machines.
MAX_RECIPES = 8

#: The variables that are different in each request.
VOLATILE = frozenset(("now", "client.port"))


class Recipe:
    """What a template has used: files and variables.

    @ivar files: the names of the files and their states.
    @ivar variables: the names of the variables.
    """

    __slots__ = ("files", "variables")

    def __init__(self, files: tuple[tuple[str, State], ...], variables: tuple[str, ...]) -> None:
        self.files = files
        self.variables = variables


class ContentStore:
    """Rendered files, with at most `capacity` octets in total.

    @ivar octets: the memory of all files in octets, with their keys and `OVERHEAD`.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._recipes: dict[str, list[Recipe]] = {}
        self._contents: OrderedDict[tuple[Recipe, tuple[str | None, ...]], bytes] = OrderedDict()
        self.octets = 0

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._contents)

    def clear(self) -> None:
        """Remove all files."""
        self._recipes.clear()
        self._contents.clear()
        self.octets = 0

    def files_of(self, template: str) -> set[str]:
        """Return the names of the files whose states L{get} needs for a template."""
        return {name for recipe in self._recipes.get(template, ()) for name, _ in recipe.files}

    def get(
        self, template: str, values: Mapping[str, str], state_of: Callable[[str], State]
    ) -> bytes | None:
        """Return a rendered file; None if the template must be rendered.

        @param template: the name of the template.
        @param values: the JSON texts of the variables.
        @param state_of: returns the state of a file below the folder.
        """
        recipes = self._recipes.get(template)
        if recipes is None:
            return None
        for recipe in recipes:
            key = (recipe, tuple(map(values.get, recipe.variables)))
            content = self._contents.get(key)
            if content is None:
                continue
            if all(state_of(name) == state for name, state in recipe.files):
                self._contents.move_to_end(key)
                return content
            recipes.remove(recipe)  # its contents are removed when they are the oldest ones
            return None
        return None

    def add(
        self, template: str, values: Mapping[str, str], header: Mapping[str, Any], content: bytes
    ) -> None:
        """Add a file, unless it can't be used again.

        @param header: the header of the answer of a worker process.
        """
        if not header["is_settled"] or not VOLATILE.isdisjoint(header["used"]):
            return
        recipe = self._recipe(template, _states(header["files"]), tuple(header["used"]))
        key = (recipe, tuple(map(values.get, recipe.variables)))
        self._remove(key)
        self._contents[key] = content
        self.octets += _size(key, content)
        while self.octets > self._capacity:
            self._remove(next(iter(self._contents)))

    def _recipe(
        self, template: str, files: tuple[tuple[str, State], ...], variables: tuple[str, ...]
    ) -> Recipe:
        """Return the recipe of a template that has these files and variables."""
        recipes = self._recipes.setdefault(template, [])
        for recipe in recipes:
            if recipe.variables == variables and recipe.files == files:
                return recipe
        recipe = Recipe(files, variables)
        recipes.insert(0, recipe)
        del recipes[MAX_RECIPES:]
        return recipe

    def _remove(self, key: tuple[Recipe, tuple[str | None, ...]]) -> None:
        content = self._contents.pop(key, None)
        if content is not None:
            self.octets -= _size(key, content)


def _states(files: Mapping[str, Iterable[int] | None]) -> tuple[tuple[str, State], ...]:
    """Return the states of files as a tuple: JSON has lists."""
    found: Any = [(name, state and tuple(state)) for name, state in files.items()]
    return tuple(found)


def _size(key: tuple[Recipe, tuple[str | None, ...]], content: bytes) -> int:
    return OVERHEAD + len(content) + sum(len(value or "") for value in key[1])
