"""Make the steps that rewrite the names of requests, from the options and `[[rename]]`."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from twisted_tftp.backends.names import NameStep, Slashes, StripTrailing
from twisted_tftp.config.mistakes import Mistakes
from twisted_tftp.config.settings import Settings

if TYPE_CHECKING:
    from twisted_tftp.backends.rename.rules import Rule


def name_steps(settings: Settings, mistakes: Mistakes) -> list[NameStep]:
    """Return the steps in their order; the list is empty if names stay as they are.

    The map file is read here. What is wrong in it, or in a rename rule, is added to `mistakes`.
    """
    steps: list[NameStep] = []
    if settings.strip_trailing:
        steps.append(StripTrailing())
    if settings.map_file is None and not settings.renames:
        return steps
    # Imported here, because it needs a package that is not always installed.
    from twisted_tftp.backends.rename.map_rules import MapRules

    steps.append(Slashes())  # otherwise each rule would have to match both
    if settings.map_file is not None:
        steps.append(MapRules(_map_file(settings, mistakes), "map file"))
    if settings.renames:
        steps.append(MapRules(_rename_rules(settings, mistakes), "rename"))
    return steps


def _map_file(settings: Settings, mistakes: Mistakes) -> list[Rule]:
    """Return the rules of the map file."""
    from twisted_tftp.backends.rename.rules import read_map_file

    assert settings.map_file is not None
    place = settings.places.get("map-file")
    try:
        if not stat.S_ISREG(os.stat(settings.map_file).st_mode):
            raise ValueError(f"the map file {settings.map_file} is not a regular file")
        return read_map_file(settings.map_file)
    except OSError as error:
        text = f"can't read the map file {settings.map_file}: {error.strerror}"
    except ValueError as error:
        text = str(error)
    mistakes.add(place, f"[tftp] map_file: {text}" if place else text)
    return []


def _rename_rules(settings: Settings, mistakes: Mistakes) -> list[Rule]:
    """Return the rules of all `[[rename]]`."""
    from twisted_tftp.backends.rename.rules import MAX_RULES, parse_rule

    rules = []
    for rename in settings.renames[MAX_RULES : MAX_RULES + 1]:
        mistakes.add(rename.place, f"[[rename]] rule: there are more than {MAX_RULES:,} rules")
    for rename in settings.renames[:MAX_RULES]:
        try:
            rule = parse_rule(rename.rule.encode(), str(rename.place))
            if rule is None:
                raise ValueError("this is only a comment")
            rules.append(rule)
        except ValueError as error:
            mistakes.add(rename.place, f"[[rename]] rule: {error}")
    return rules
