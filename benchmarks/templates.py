"""Measure the backend for templates: `python -m benchmarks.templates`.

It asks the backend itself, without a network: for files that must be rendered, for files that are
cached, and for names that have no template.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.task import react

from twisted_tftp.backends.filesystem.content_cache import MIN_UNCHANGED
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.hosts_file import HostsFile
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import FileNotFound

#: The number of machines, and of requests in one measurement.
MACHINES = 5000

#: The requests at the same time.
AT_ONCE = 200

#: A configuration of PXELINUX.
TEMPLATE = """\
DEFAULT install
{% for kernel in host.kernels %}
LABEL {{ kernel }}
  KERNEL {{ kernel }}/vmlinuz
  APPEND initrd={{ kernel }}/initrd ip={{ host.address }} hostname={{ host.name }} mac={{ mac }}
{% endfor %}
"""


def mac(number: int) -> str:
    """Return the MAC address of a machine."""
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def name(number: int) -> str:
    """Return the name that a machine asks for."""
    return f"pxelinux.cfg/01-{mac(number).replace(':', '-')}"


def context(number: int) -> TransferContext:
    """Return the context of the request of a machine."""
    peer = Endpoint(f"10.0.{number >> 8}.{number & 255}", 2000)
    path = name(number).encode()
    return TransferContext(peer, None, Direction.READ, path, "octet", {})


def write_files(folder: Path) -> None:
    """Write the template and the hosts file."""
    (folder / "pxelinux.cfg").mkdir()
    (folder / "pxelinux.cfg" / "01-{mac}.j2").write_text(TEMPLATE)
    entries = [
        f'["{mac(number)}"]\nname = "node{number}"\n'
        f'address = "10.0.{number >> 8}.{number & 255}"\n'
        'kernels = ["debian", "rescue", "memtest"]\n'
        for number in range(MACHINES)
    ]
    (folder / "hosts.toml").write_text("\n".join(entries))


async def rate_of(ask: Callable[[int], Any]) -> float:
    """Return how many requests are answered in a second."""
    begin = time.perf_counter()
    for first in range(0, MACHINES, AT_ONCE):
        asked = [maybeDeferred(ask, number) for number in range(first, first + AT_ONCE)]
        await DeferredList(asked, fireOnOneErrback=True)
    return MACHINES / (time.perf_counter() - begin)


async def measure(reactor: Any, folder: Path, workers: int) -> None:
    """Measure, and print the results."""
    hosts = HostsFile(str(folder / "hosts.toml"))
    backend = TemplateBackend(str(folder), hosts=hosts, workers=workers)
    backend.check()
    time.sleep(MIN_UNCHANGED)  # files that have just changed are not cached

    def read(number: int) -> Any:
        return backend.open_reader(name(number), context(number))

    def miss(number: int) -> Any:
        opening = maybeDeferred(backend.open_reader, "pxelinux.cfg/default", context(number))
        return opening.addErrback(lambda failure: failure.trap(FileNotFound) and None)

    await maybeDeferred(read, 0)
    for _ in range(3):
        backend.forget()
        await maybeDeferred(read, 0)
        print(f"rendered: {await rate_of(read):10,.0f} files/s")
        print(f"cached:   {await rate_of(read):10,.0f} files/s")
        print(f"missing:  {await rate_of(miss):10,.0f} names/s")
    await backend.stop()


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    workers = parser.parse_args().workers
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        react(lambda reactor: ensureDeferred(measure(reactor, Path(folder), workers)))


if __name__ == "__main__":
    main()
