"""Keep rendered files, so that what did not change is not rendered again.

A file is used again if the template and all files that it includes are unchanged, and the
variables that it has used have the same values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted_tftp.backends.template.folder import State

#: The memory for rendered files, in octets.
DEFAULT_CAPACITY = 16 * 1024 * 1024

#: The memory that a file needs in addition to its octets, in octets.
OVERHEAD = 400

#: The memory for each file that a rendered file was made from, in octets; the octets of the
#: file's name come in addition.
FILE_OVERHEAD = 200

#: The most sets of names of variables that are kept for one template: it may use different
#: variables for different machines.
MAX_SETS = 8

#: The variables that are different in each request.
VOLATILE = frozenset(("now", "client.port"))


#: The key of a rendered file: its template, the names of the variables that the template has used,
#: and their JSON texts.
_Key = tuple[str, tuple[str, ...], tuple[str | None, ...]]

#: The names of files and their states.
_Files = tuple[tuple[str, State], ...]


class _Content(NamedTuple):
    """A rendered file.

    @ivar files: the files that it was made from: a template may include different ones for
        different machines.
    """

    octets: bytes
    files: _Files


class ContentStore:
    """Rendered files, with at most `capacity` octets in total.

    @ivar octets: the memory of all files in octets, with their keys and `OVERHEAD`.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._sets: dict[str, list[tuple[str, ...]]] = {}
        self._contents: OrderedDict[_Key, _Content] = OrderedDict()
        self.octets = 0

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._contents)

    def clear(self) -> None:
        """Remove all files."""
        self._sets.clear()
        self._contents.clear()
        self.octets = 0

    def files_of(self, template: str, values: Mapping[str, str]) -> set[str]:
        """Return the names of the files for which L{get} will call `state_of`."""
        found = self._find(template, values)
        return {name for _, content in found for name, _ in content.files}

    def get(
        self, template: str, values: Mapping[str, str], state_of: Callable[[str], State]
    ) -> bytes | None:
        """Return a rendered file; None if the template must be rendered.

        @param template: the name of the template.
        @param values: the JSON texts of the variables.
        @param state_of: returns the state of a file below the folder.
        """
        for key, content in self._find(template, values):
            if all(state_of(name) == state for name, state in content.files):
                self._contents.move_to_end(key)
                return content.octets
        return None

    def add(
        self, template: str, values: Mapping[str, str], header: Mapping[str, Any], content: bytes
    ) -> None:
        """Add a file, unless it can't be used again.

        @param header: the header of the answer of a worker process.
        """
        if not header["is_settled"] or not VOLATILE.isdisjoint(header["used"]):
            return
        variables = tuple(header["used"])
        sets = self._sets.setdefault(template, [])
        if variables not in sets:
            sets.insert(0, variables)
            del sets[MAX_SETS:]  # the contents of the others are removed when they are the oldest
        key = (template, variables, tuple(map(values.get, variables)))
        self._remove(key)
        self._contents[key] = _Content(content, _states(header["files"]))
        self.octets += _size(key, self._contents[key])
        while self.octets > self._capacity:
            self._remove(next(iter(self._contents)))

    def _find(self, template: str, values: Mapping[str, str]) -> list[tuple[_Key, _Content]]:
        """Return the rendered files for these values; some may be out of date."""
        found = []
        for variables in self._sets.get(template, ()):
            key = (template, variables, tuple(map(values.get, variables)))
            content = self._contents.get(key)
            if content is not None:
                found.append((key, content))
        return found

    def _remove(self, key: _Key) -> None:
        content = self._contents.pop(key, None)
        if content is not None:
            self.octets -= _size(key, content)


def _states(files: Mapping[str, Iterable[int] | None]) -> _Files:
    """Return the states of files as a tuple: JSON has lists."""
    found: Any = [(name, state and tuple(state)) for name, state in files.items()]
    return tuple(found)


def _size(key: _Key, content: _Content) -> int:
    values = sum(len(value or "") for value in key[2])
    files = sum(FILE_OVERHEAD + len(name) for name, _ in content.files)
    return OVERHEAD + len(content.octets) + values + files
