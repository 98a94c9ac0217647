"""Tests of the warnings about options that have no effect."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_tftp.config.contradictions import contradictions
from twisted_tftp.config.settings import parse_settings


def found(**options: Any) -> list[str]:
    """Return the warnings about these options."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return list(contradictions(parse_settings(given)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"write": "create", "max_upload": "1M", "upload_quota": "1M"},
        {"write": "create", "allow_write": ["192.0.2.0/24"], "allow": ["192.0.0.0/16"]},
        {"write": "create", "allow_write": ["192.0.2.0/24"], "deny": ["192.0.2.0/28"]},
        {"write": "create", "allow_write": ["0.0.0.0/0"], "allow": ["192.0.2.0/28"]},
        {"allow": ["192.0.2.0/24"], "deny": ["192.0.2.0/28", "192.0.2.16/28"]},
        {"deny": ["192.0.2.0/24", "2001:db8::/32"]},
        {"allow": ["10.0.0.0/8", "10.1.2.0/24"], "deny": ["10.1.0.0/16"]},
        {"allow": ["10.0.0.0/24", "10.0.0.0/26"], "deny": ["10.0.0.0/25", "10.0.0.128/25"]},
    ],
)
def test_options_that_fit_cause_no_warning(options: Any) -> None:
    """Nothing is said about what an operator may want."""
    assert found(**options) == []


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (
            {"backend": ["memory"], "cache": "1M"},
            "--cache has no effect: --backend replaces --root",
        ),
        ({"max_upload": "1M"}, "--max-upload has no effect: --write is never"),
        ({"upload_quota": "1M"}, "--upload-quota has no effect: --write is never"),
        ({"allow_write": ["::/0"]}, "--allow-write has no effect: --write is never"),
        (
            {"write": "create", "max_upload": "0"},
            "--max-upload 0 refuses every file that is not empty",
        ),
        ({"write": "create", "upload_quota": "0"}, "--upload-quota 0 refuses every file"),
        (
            {"write": "create", "max_upload": "2M", "upload_quota": "1M"},
            "--max-upload is 2,097,152, but --upload-quota is only 1,048,576",
        ),
        (
            {"allow": ["192.0.2.0/24"], "deny": ["198.51.100.0/24"]},
            "--deny 198.51.100.0/24 has no effect: only the networks of --allow are answered",
        ),
        ({"on_upload": "x"}, "--on-upload has no effect: --write is never"),
        (
            {"hook_time": "5"},
            "--hook-time has no effect without --on-upload or --on-transfer",
        ),
        (
            {"allow": ["10.1.0.0/16"], "deny": ["10.0.0.0/8"]},
            "--deny 10.0.0.0/8 has no effect: --allow 10.1.0.0/16 has the longer prefix, and "
            "others are not allowed anyway",
        ),
        (
            {"allow": ["10.0.0.0/24"], "deny": ["10.0.0.0/25", "10.0.0.128/25"]},
            "--allow 10.0.0.0/24 has no effect: --deny excludes all of its addresses",
        ),
        (
            {"write": "create", "allow": ["10.0.0.0/8"], "allow_write": ["192.0.2.7"]},
            "--allow-write 192.0.2.7/32 has no effect: --allow and --deny exclude it",
        ),
        (
            {"write": "create", "deny": ["10.0.0.0/8"], "allow_write": ["10.1.0.0/16"]},
            "--allow-write 10.1.0.0/16 has no effect: --allow and --deny exclude it",
        ),
        (
            {
                "write": "create",
                "allow": ["10.0.0.0/8"],
                "deny": ["10.1.0.0/16"],
                "allow_write": ["10.1.2.0/24"],
            },
            "--allow-write 10.1.2.0/24 has no effect: --allow and --deny exclude it",
        ),
    ],
)
def test_option_without_effect_causes_one_warning(options: Any, warning: str) -> None:
    """The warning names the option, and says why it has no effect."""
    assert found(**options) == [warning]
