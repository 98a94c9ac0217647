"""Convert the options that the user gave to checked settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.policy import Policy, WriteMode

#: The keys of the options that are attributes of the policy; the others are attributes of the
#: settings.
POLICY_KEYS = frozenset(field.name for field in dataclasses.fields(Policy))


@dataclass(frozen=True)
class Settings:
    """The values of all options of a service.

    Each attribute has the value of the option with its name (L{twisted_tftp.config.option_table}):
    the value that the user gave, or the default.

    @ivar root: the directory whose files are served.
    @ivar backend: the backends that are served instead of `root`; empty for `root`.
    @ivar follow_links: the directories into which symbolic links may lead out of the root.
    @ivar write: whether clients may write.
    @ivar cache: the most memory for the contents of small files, in octets.
    @ivar upload_quota: the most octets that all files together may have after an upload; None for
        no limit.
    @ivar upload_mode: the permissions of uploaded files.
    @ivar make_dirs: whether uploads make missing directories.
    @ivar host: the addresses to listen on; empty for all.
    @ivar port: the UDP port for requests.
    @ivar drain: how long running transfers may continue when the server stops, in seconds.
    @ivar verbose: whether requests and progress are logged too.
    @ivar policy: the values of all other options.
    """

    root: str
    backend: tuple[BackendSpec, ...]
    follow_links: tuple[str, ...]
    write: WriteMode
    cache: int
    upload_quota: int | None
    upload_mode: int
    make_dirs: bool
    host: tuple[str, ...]
    port: int
    drain: float
    verbose: bool
    policy: Policy


def parse_settings(given: Mapping[str, Any]) -> Settings:
    """Check and convert the options that the user gave.

    @param given: the name of each option, without the dashes in front, and its text, or None if it
        was not given. A flag has a boolean, and a repeatable option a list of texts.
    @raise ValueError: a value is not valid; the message begins with the option's name.
    """
    values = {option.key: option.value_of(given.get(option.name)) for option in OPTIONS}
    if values["backend"] and given.get("root") is not None:
        raise ValueError("root and backend exclude each other")
    policy = Policy(**{key: values.pop(key) for key in POLICY_KEYS})
    return Settings(policy=policy, **values)
