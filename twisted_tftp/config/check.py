"""Check a configuration without serving: `twistd tftp --check`."""

from __future__ import annotations

from collections.abc import Iterator

from twisted_tftp.config.build import Built, Leaf, build
from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import Settings
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.protocol.printable import MAX_OWN_CHARACTERS, printable_unicode
from twisted_tftp.server.backend_check import check_backend, check_content


def problems_of(settings: Settings) -> list[str]:
    """Make the backends and rules, check each backend and hook; return a line for each problem.

    Nothing is bound or started.
    """
    try:
        built = build(settings)
    except ConfigurationError as error:
        return list(error.lines)
    return problems_of_built(settings, built)


def problems_of_built(settings: Settings, built: Built) -> list[str]:
    """Check each backend and hook; return a line for each problem. This may block."""
    return [*problems_of_backends(built), *problems_of_hooks(settings)]


def warnings_of(settings: Settings) -> list[str]:
    """Return a line for each option that has no effect."""
    return [f"warning: {text}" for text in contradictions(settings)]


def problems_of_backends(built: Built) -> list[str]:
    """Check each backend; return a line for each one that can't serve files."""
    return [text for leaf in built.leaves for text in _problems_of_leaf(leaf)]


def problems_of_hooks(settings: Settings) -> list[str]:
    """Check each hook; return a line for each one that can't be run."""
    lines = []
    for hook, text in settings.hooks.problems():
        place = settings.places.get(hook.value)
        key = hook.value if place is None else f"{place}: [tftp] {hook.value.replace('-', '_')}"
        lines.append(f"{key}: {printable_unicode(text)}")
    return lines


def _problems_of_leaf(leaf: Leaf) -> Iterator[str]:
    try:
        check_backend(leaf.backend)
        check_content(leaf.backend)
    except BackendUnavailable as error:
        yield f"{leaf.name}: {printable_unicode(str(error), MAX_OWN_CHARACTERS)}"
