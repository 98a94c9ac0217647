"""Turn the options that were given into checked settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted_tftp.backends.naming import WriteMode
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.policy import Policy

#: The options that are attributes of the policy; the others are attributes of the settings.
POLICY_KEYS = frozenset(field.name for field in dataclasses.fields(Policy))


@dataclass(frozen=True)
class Settings:
    """The values of all options, from which a service is made.

    Each attribute is the option of its name (L{twisted_tftp.config.option_table}), with the value
    that was given or the option's default.

    @ivar policy: the options that sessions and request checks need.
    """

    root: str
    write: WriteMode
    cache: int
    upload_quota: int | None
    host: tuple[str, ...]
    port: int
    drain: float
    verbose: bool
    policy: Policy


def settings(given: Mapping[str, Any]) -> Settings:
    """Check and convert the options that were given.

    @param given: option name without dashes in front to its text, None if it was not given;
        flags are true or false; repeatable options have lists of texts.
    @raise ValueError: a value is wrong; the message names the option.
    """
    values = {option.key: option.value_of(given.get(option.name)) for option in OPTIONS}
    policy = Policy(**{key: values.pop(key) for key in POLICY_KEYS})
    return Settings(policy=policy, **values)
