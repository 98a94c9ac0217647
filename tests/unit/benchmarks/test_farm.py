"""Test the configuration of the farm that is measured."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock

from benchmarks.farm import CLIENT_RULES, MOUNTS, RENAME_RULES, SMALL, describe, farm
from tests.support.contexts import read_context
from twisted_tftp.config.build import build
from twisted_tftp.config.settings import load_settings
from twisted_tftp.server.client_rules import ClientRules


def test_farm_has_the_mounts_and_rules_of_its_constants(tmp_path: Path) -> None:
    """One client rule matches, and the rename rules lead to one of the mounts."""
    (tmp_path / "tftp.toml").write_text(farm(tmp_path))
    settings = load_settings({}, str(tmp_path / "tftp.toml"))
    found = (len(settings.mounts), len(settings.clients), len(settings.renames))
    assert found == (MOUNTS, CLIENT_RULES, RENAME_RULES)
    assert "/store7" in [mount.prefix for mount in settings.mounts]
    configuration = build(settings, Clock()).configuration
    assert len(ClientRules(configuration.client_rules).describe("127.0.0.1")) == 1
    name = SMALL.files[0][0]
    for step in configuration.backend.steps:
        name = step.apply(name, read_context(name))
    assert name == "/store7/small000"


def test_ratios_are_described_by_their_quartiles() -> None:
    """The median is first."""
    assert describe([1.0, 2.0, 3.0, 4.0, 5.0]) == (
        "x3.000 (quartiles x2.000 and x4.000, from x1.000 to x5.000)"
    )
