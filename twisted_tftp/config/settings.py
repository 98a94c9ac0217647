"""Convert the options that the user gave to checked settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.backends.unique_root import DirectoryName
from twisted_tftp.config.farm import Client, Mount, Rename
from twisted_tftp.config.file_reading import FileContents, read_configuration
from twisted_tftp.config.mistakes import Mistakes, Place
from twisted_tftp.config.option import Option
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.policy import Policy, WriteMode
from twisted_tftp.server.hooks import HookSettings

#: The keys of the options that are attributes of the policy; the others are attributes of the
#: settings.
POLICY_KEYS = frozenset(field.name for field in dataclasses.fields(Policy))


@dataclass(frozen=True)
class Settings:
    """The values of all options of a service.

    Each attribute has the value of the option with its name (L{twisted_tftp.config.option_table}):
    the value that the user gave, or the default.

    @ivar root: the directory whose files are served; None if mounts replace it.
    @ivar backend: the backends that are served instead of `root`; empty for `root`.
    @ivar mounts: the mounts of the configuration file.
    @ivar clients: the rules for clients of the configuration file.
    @ivar renames: the rules of the configuration file that rewrite names.
    @ivar follow_links: the directories into which symbolic links may lead out of the root.
    @ivar write: whether clients may write.
    @ivar cache: the most memory for the contents of small files, in octets.
    @ivar upload_quota: the most octets that all files together may have after an upload; None for
        no limit.
    @ivar upload_mode: the permissions of uploaded files.
    @ivar make_dirs: whether uploads make missing directories.
    @ivar keep: how many versions of a file are kept; None for all.
    @ivar map_file: the path of a file with rules that rewrite names; None for no file.
    @ivar strip_trailing: whether octets at the end of a name that PXE ROMs leave are removed.
    @ivar ignore_case: whether a read finds a file whatever the case of its name.
    @ivar unique_root: what names the directory of each client; None if there are none.
    @ivar no_common_root: whether a client gets no other files than those of its directory.
    @ivar host: the addresses to listen on; empty for all.
    @ivar port: the UDP port for requests.
    @ivar drain: how long running transfers may continue when the server stops, in seconds.
    @ivar verbose: whether requests and progress are logged too.
    @ivar places: where the files have an option: its name and the place.
    @ivar max_rate: the most octets per second of all transfers together; None for no limit.
    @ivar on_upload: the command to run after each complete upload; empty for none.
    @ivar on_transfer: the command to run after the end of each transfer; empty for none.
    @ivar hook_processes: how many commands may run at once.
    @ivar hook_time: how long a command may run, in seconds.
    @ivar hook_queue: how many commands of each kind may wait.
    @ivar policy: the values of all other options.
    """

    root: str | None
    backend: tuple[BackendSpec, ...]
    follow_links: tuple[str, ...]
    write: WriteMode
    cache: int
    upload_quota: int | None
    upload_mode: int
    make_dirs: bool
    keep: int | None
    map_file: str | None
    strip_trailing: bool
    ignore_case: bool
    unique_root: DirectoryName | None
    no_common_root: bool
    host: tuple[str, ...]
    port: int
    drain: float
    verbose: bool
    max_rate: int | None
    on_upload: tuple[str, ...]
    on_transfer: tuple[str, ...]
    hook_processes: int
    hook_time: float
    hook_queue: int
    policy: Policy
    mounts: tuple[Mount, ...] = ()
    clients: tuple[Client, ...] = ()
    renames: tuple[Rename, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    @property
    def hooks(self) -> HookSettings:
        """The commands to run after transfers, and their limits."""
        return HookSettings(
            self.on_upload,
            self.on_transfer,
            self.hook_processes,
            self.hook_time,
            self.hook_queue,
        )

    @property
    def accepts_uploads(self) -> bool:
        """Whether some clients may write somewhere."""
        modes = {self.write, *(mount.write for mount in self.mounts)}
        modes.update(client.write for client in self.clients)
        return not modes <= {None, WriteMode.NEVER}


def load_settings(given: Mapping[str, Any], path: str | None) -> Settings:
    """Read the configuration, and check and convert all options.

    @param given: the options of the command line, as for L{parse_settings}.
    @param path: a configuration file, or a folder of some; None if there is none.
    @raise ValueError: a value of the command line is not valid.
    @raise ConfigurationError: the files have mistakes.
    """
    return parse_settings(given, read_configuration(path) if path else None)


def parse_settings(given: Mapping[str, Any], contents: FileContents | None = None) -> Settings:
    """Check and convert the options that the user gave.

    @param given: the name of each option, without the dashes in front, and its text, or None if it
        was not given. A flag has a boolean, and a repeatable option a list of texts.
    @param contents: the configuration files; an option in `given` replaces theirs.
    @raise ValueError: a value of the command line is not valid; the message begins with the
        option's name.
    @raise ConfigurationError: options of the files contradict each other.
    """
    contents = contents or FileContents()
    merged = _merged(given, contents)
    values = {option.key: option.value_of(merged[option.name]) for option in OPTIONS}
    try:
        if values["backend"] and merged["root"] is not None:
            raise ValueError("root and backend exclude each other")
        policy = Policy(**{key: values.pop(key) for key in POLICY_KEYS})
    except ValueError as error:
        _blame_file(str(error), given, contents)
        raise
    _check_mounts(merged, contents)
    if contents.mounts and merged["root"] is None:
        values["root"] = None
    return Settings(
        policy=policy,
        mounts=tuple(contents.mounts),
        clients=tuple(contents.clients),
        renames=tuple(contents.renames),
        places=contents.places,
        **values,
    )


def _merged(given: Mapping[str, Any], contents: FileContents) -> dict[str, Any]:
    """Return the options of the command line, and those of the files that it does not replace."""
    from_files = dict(contents.given)
    for name, other in (("root", "backend"), ("backend", "root")):
        if given.get(name):
            from_files.pop(other, None)
    return {
        option.name: given.get(option.name)
        if _is_given(option, given)
        else from_files.get(option.name)
        for option in OPTIONS
    }


def _is_given(option: Option, given: Mapping[str, Any]) -> bool:
    """Return whether the command line has an option; a flag or a list is empty without it."""
    value = given.get(option.name)
    return bool(value) if option.type is None or option.repeatable else value is not None


def _check_mounts(merged: Mapping[str, Any], contents: FileContents) -> None:
    """Check that no mount has the names of `--root` or `--backend`.

    @raise ConfigurationError: one has.
    """
    mistakes = Mistakes()
    for name in ("root", "backend"):
        place = contents.places.get(name)
        source = f"--{name}" if place is None else f"{name} in {place}"
        for mount in contents.mounts:
            if merged[name] and mount.prefix == "/" and mount.place is not None:
                text = f"[[mount]] prefix: '/' is given twice, also by {source}"
                mistakes.add(mount.place, text)
    mistakes.raise_any()


def _blame_file(text: str, given: Mapping[str, Any], contents: FileContents) -> None:
    """Report a contradiction at the line of an option that it names and that a file has.

    @raise ConfigurationError: a file has such an option.
    """
    words = set(re.findall(r"[a-z-]+", text))
    named = [
        (option.key, contents.places[option.name])
        for option in OPTIONS
        if option.name in contents.places and option.name in words and not _is_given(option, given)
    ]
    if named:
        (key, place), *others = named
        elsewhere = [f"; {other} is in {at}" for other, at in others if at.path != place.path]
        mistakes = Mistakes()
        mistakes.add(place, f"[tftp] {key}: {text}{''.join(elsewhere)}")
        mistakes.raise_any()
