"""Find options that have no effect, or that contradict each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from twisted_tftp.config.hook_options import HOOK_OPTIONS
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.config.settings import POLICY_KEYS, Settings
from twisted_tftp.policy import Network, Policy, WriteMode

#: The options that are about uploads only.
UPLOAD_OPTIONS = frozenset(
    ("max-upload", "upload-quota", "allow-write", "upload-mode", "make-dirs", "on-upload")
)

#: The options that are about the directory of `--root` only.
FILESYSTEM_OPTIONS = ("follow-links", "cache", "upload-mode", "upload-quota")


def contradictions(settings: Settings) -> Iterator[str]:
    """Return a sentence about each option that has no effect, or not the expected one."""
    yield from _of_files(settings)
    if not settings.accepts_uploads:
        for option in OPTIONS:
            owner = settings.policy if option.key in POLICY_KEYS else settings
            if option.name in UPLOAD_OPTIONS and getattr(owner, option.key) != option.default:
                yield f"--{option.name} has no effect: --write is never"
    else:
        yield from _of_sizes(settings.policy.max_upload, settings.upload_quota)
        yield from _of_writers(settings.policy)
    yield from _of_networks(settings.policy)
    yield from _of_hooks(settings)


def _of_files(settings: Settings) -> Iterator[str]:
    """Look for options about a root that is not served, and others that need one another."""
    replacement = "--backend replaces" if settings.backend else "mounts replace"
    for name in FILESYSTEM_OPTIONS if settings.backend or settings.root is None else ():
        option = next(each for each in OPTIONS if each.name == name)
        if getattr(settings, option.key) != option.default:
            yield f"--{name} has no effect: {replacement} --root"
    if settings.no_common_root and settings.unique_root is None:
        yield "--no-common-root has no effect without --unique-root"
    modes = {settings.write, *(mount.write for mount in settings.mounts)}
    modes.update(client.write for client in settings.clients)
    if settings.keep is not None and WriteMode.VERSION not in modes:
        yield "--keep has no effect: --write is not version"


def _of_hooks(settings: Settings) -> Iterator[str]:
    """Look for limits of hooks where there is no hook."""
    for option in HOOK_OPTIONS if not settings.hooks.commands else ():
        if getattr(settings, option.key) != option.default:
            yield f"--{option.name} has no effect without --on-upload or --on-transfer"


def _of_sizes(max_upload: int | None, quota: int | None) -> Iterator[str]:
    if max_upload == 0:
        yield "--max-upload 0 refuses every file that is not empty"
    if quota == 0:
        yield "--upload-quota 0 refuses every file"
    elif quota is not None and max_upload is not None and max_upload > quota:
        yield f"--max-upload is {max_upload:,}, but --upload-quota is only {quota:,}"


def _of_networks(policy: Policy) -> Iterator[str]:
    """Compare `--allow` with `--deny`: the longest prefix that contains an address decides."""
    for network in policy.allow:
        inside = [each for each in policy.deny if _contains(network, each)]
        if _are_all_of(network, inside, policy.allow):
            yield f"--allow {network} has no effect: --deny excludes all of its addresses"
    for network in policy.deny:
        if policy.allow and not any(_contains(each, network) for each in policy.allow):
            exceptions = [str(each) for each in policy.allow if _contains(network, each)]
            yield f"--deny {network} has no effect: " + (
                f"--allow {exceptions[0]} has the longer prefix, and others are not allowed anyway"
                if exceptions
                else "only the networks of --allow are answered"
            )


def _of_writers(policy: Policy) -> Iterator[str]:
    for network in policy.allow_write:
        rules = [(each, True) for each in policy.allow] + [(each, False) for each in policy.deny]
        around = [rule for rule in rules if _contains(rule[0], network)]
        is_allowed = (
            max(around, key=lambda rule: rule[0].prefixlen)[1] if around else not policy.allow
        )
        if not is_allowed and not any(_contains(network, each) for each in policy.allow):
            yield f"--allow-write {network} has no effect: --allow and --deny exclude it"


def _are_all_of(network: Network, parts: Iterable[Network], allowed: Iterable[Network]) -> bool:
    """Return whether `parts` are all addresses of `network`, and no allowed network is inside."""
    if any(each != network and _contains(network, each) for each in allowed):
        return False
    return list(ipaddress.collapse_addresses(parts)) == [network]  # type: ignore[type-var]


def _contains(outer: Network, inner: Network) -> bool:
    """Return whether all addresses of `inner` are in `outer`."""
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
