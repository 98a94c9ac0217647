"""The arguments of the backend plugin `template`.

`twisted/plugins/twisted_tftp_backends.py` names the function L{template}.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from twisted_tftp.backends.arguments import (
    Keywords,
    require_known,
    take_bool,
    take_number,
    take_seconds,
    take_size,
    take_text,
)
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.content_store import DEFAULT_CAPACITY
from twisted_tftp.backends.template.frames import Limits
from twisted_tftp.backends.template.hosts_file import HostsFile
from twisted_tftp.backends.template.hosts_formats import PARSERS
from twisted_tftp.backends.template.hosts_http import (
    DEFAULT_LIMIT,
    DEFAULT_TTL,
    HostsService,
    shown_url,
)
from twisted_tftp.backends.template.workers import DEFAULT_COUNT
from twisted_tftp.policy import Range

#: How a user installs what templates need.
INSTALL = "pip install 'twisted-tftp[templates]'"

#: The allowed values of `memory`, in octets: even a small template needs the lowest one.
MEMORY_RANGE = Range(4 << 20, 1 << 40)

#: The allowed values of `output`, in octets. The server keeps each file in its memory.
OUTPUT_RANGE = Range(1, 1 << 30)

#: The most worker processes.
MAX_WORKERS = 256

#: The keywords for a service of hosts, which a hosts file does not have.
SERVICE_KEYWORDS = ("ttl", "stale", "hosts-limit")

#: All keywords.
KEYWORDS = (
    "hosts",
    *SERVICE_KEYWORDS,
    "verify-mac",
    "time-limit",
    "memory",
    "output",
    "workers",
    "cache",
)


def template(argument: str, keywords: Keywords) -> TemplateBackend:
    """Make a L{TemplateBackend} for a folder of templates.

    @raise ValueError: an argument is not valid, or Jinja2 is not installed.
    """
    if find_spec("jinja2") is None:
        raise ValueError(f"templates need Jinja2: {INSTALL}")
    require_known(keywords, KEYWORDS)
    if not argument:
        raise ValueError("it needs a folder, such as template:/srv/templates")
    default = Limits()
    limits = Limits(
        seconds=take_seconds(keywords, "time-limit", default.seconds, low=0.1) or default.seconds,
        memory=_size(keywords, "memory", default.memory, MEMORY_RANGE),
        output=_size(keywords, "output", default.output, OUTPUT_RANGE),
    )
    cache = take_size(keywords, "cache", DEFAULT_CAPACITY)
    workers = take_number(keywords, "workers", DEFAULT_COUNT, low=1) or DEFAULT_COUNT
    if workers > MAX_WORKERS:
        raise ValueError(f"workers must be {MAX_WORKERS} or less, not {workers}")
    return TemplateBackend(
        argument,
        hosts=_hosts(keywords),
        verify_mac=take_bool(keywords, "verify-mac"),
        limits=limits,
        workers=workers,
        cache=DEFAULT_CAPACITY if cache is None else cache,
    )


def _size(keywords: Keywords, name: str, default: int, limits: Range[int]) -> int:
    """Return the value of a keyword that is a size.

    @raise ValueError: it is too small or too large.
    """
    size = take_size(keywords, name, default)
    if size is None or not limits.low <= size <= limits.high:
        raise ValueError(f"{name} must be from {limits.low:,} to {limits.high:,} octets")
    return size


def _hosts(keywords: Keywords) -> Any:
    """Return the source of entries; None if there is none.

    @raise ValueError: the path or the URL is not valid, or a keyword does not fit it.
    """
    hosts = take_text(keywords, "hosts")
    if hosts.startswith(("http://", "https://")):
        ttl = take_seconds(keywords, "ttl", DEFAULT_TTL)
        return HostsService(
            hosts,
            ttl=DEFAULT_TTL if ttl is None else ttl,
            limit=take_seconds(keywords, "hosts-limit", DEFAULT_LIMIT, low=0.1) or DEFAULT_LIMIT,
            may_be_stale=take_bool(keywords, "stale"),
        )
    for name in SERVICE_KEYWORDS:
        if name in keywords:
            raise ValueError(f"{name} needs a URL: hosts=https://...")
    if not hosts:
        return None
    if "://" in hosts:
        kinds = ", ".join(PARSERS)
        raise ValueError(f"hosts must be a file ({kinds}) or an HTTP URL: {shown_url(hosts)!r}")
    if hosts.lower().endswith((".yaml", ".yml")) and find_spec("yaml") is None:
        raise ValueError(f"a hosts file in YAML needs PyYAML: {INSTALL}")
    return HostsFile(hosts)
