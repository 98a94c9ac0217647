"""Tests of the example of a configuration file, `deploy/tftp.toml`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twisted_tftp.config.option import Table
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.config.settings import Settings, load_settings, parse_settings
from twisted_tftp.config.table_keys import TABLE_KEYS
from twisted_tftp.config.toml_example import text

#: The example in the repository.
EXAMPLE = Path(__file__).parents[3] / "deploy" / "tftp.toml"

#: A setting that is commented out: a `#` without a space behind it.
SETTING = re.compile(r"^#(?=[^ #\n])", re.MULTILINE)


def test_example_is_up_to_date() -> None:
    """The file in the repository is the one that is generated from the tables."""
    made = "python -m twisted_tftp.config.toml_example > deploy/tftp.toml"
    assert EXAMPLE.read_text() == text(), f"a table has changed; run {made}"


def test_example_changes_nothing() -> None:
    """All of its settings are commented out."""
    assert load_settings({}, str(EXAMPLE)) == parse_settings({})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of the example with every line in effect."""
    path = tmp_path / "tftp.toml"
    path.write_text(SETTING.sub("", EXAMPLE.read_text()))
    return load_settings({}, str(path))


def test_every_line_is_valid(settings: Settings) -> None:
    """Without its comment signs the file is a valid configuration, with all tables."""
    assert [mount.prefix for mount in settings.mounts] == ["/configs"]
    assert len(settings.clients) == 2
    assert len(settings.renames) == 1
    assert settings.root == "/srv/tftp"


def test_every_key_is_there_once() -> None:
    """The keys are those of the table of options, and of the tables of keys."""
    tables = re.split(r"^#?(\[.*\])$", EXAMPLE.read_text(), flags=re.MULTILINE)[1:]
    keys: dict[str, list[str]] = {}
    for name, content in zip(tables[::2], tables[1::2], strict=True):
        keys.setdefault(name, []).extend(re.findall(r"^#(\w+) = ", content, re.MULTILINE))
    assert sorted(keys.pop("[tftp]")) == sorted(option.key for option in OPTIONS)
    expected = {f"[[{table.value}]]": {key.key for key in TABLE_KEYS[table]} for table in Table}
    assert {name: set(found) for name, found in keys.items()} == expected
    assert all(len(set(found)) == len(found) for found in keys.values())


def test_values_without_another_default_are_defaults(settings: Settings) -> None:
    """An option whose default is not described in words has its default as its value."""
    defaults = parse_settings({})
    for option in OPTIONS:
        if not option.default_text:
            owners = (settings, defaults)
            if hasattr(settings.policy, option.key):
                owners = (settings.policy, defaults.policy)  # type: ignore[assignment]
            found, default = (getattr(owner, option.key) for owner in owners)
            assert found == default, option.name


def test_links_are_paths_of_documents() -> None:
    """A link of the reference page would not be a link in a TOML file."""
    example = text()
    assert "See docs/backends.md." in example
    assert "](" not in example
