"""List the servers that are measured, and the commands that start them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.debian_packages import Unavailable, libraries, program
from benchmarks.servers import HOST, Server


def _version_in(command: Callable[[], list[str]], pattern: str) -> Callable[[], str]:
    """Return a function that finds the version in the output of a command."""

    def version() -> str:
        environment = dict(os.environ, LD_LIBRARY_PATH=libraries())
        done = subprocess.run(command(), capture_output=True, text=True, env=environment)
        found = re.search(pattern, done.stdout + done.stderr)
        return found[1] if found else "?"

    return version


def _script(name: str, module: str) -> str:
    """Return the path of a command that was installed by a Python package."""
    if importlib.util.find_spec(module) is None:
        raise Unavailable(f"{module} is not installed; pip install -e '.[bench]'")
    return str(Path(sys.executable).with_name(name))


def _ours(root: Path, port: int) -> list[str]:
    return [
        *(_script("twistd", "twisted"), "-n", "--pidfile="),
        *("tftp", "--root", str(root), "--host", HOST, "--port", str(port)),
        *("--write", "overwrite"),
    ]


def _hpa(root: Path, port: int) -> list[str]:
    if os.geteuid():
        raise Unavailable("needs root")
    return [
        *(program("in.tftpd", "tftpd-hpa"), "--foreground", "--listen", "--secure", "--create"),
        *("--permissive", "--address", f"{HOST}:{port}", str(root)),
    ]


def _atftpd(root: Path, port: int) -> list[str]:
    return [
        *(program("atftpd", "atftpd"), "--daemon", "--no-fork", "--bind-address", HOST),
        *("--port", str(port), "--maxthread", "1100", "--logfile", "-", str(root)),
    ]


def _dnsmasq(root: Path, port: int) -> list[str]:
    return [
        *(program("dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--conf-file=/dev/null"),
        *("--port=0", "--enable-tftp", f"--tftp-root={root}", "--tftp-max=1100", "--user=root"),
        *("--log-facility=-", "--pid-file", "--listen-address=" + HOST),
    ]


def _pytftp(root: Path, port: int) -> list[str]:
    return [
        *(_script("pytftp", "tftp"), "serve", "--listen", f"{HOST}:{port}", "--write"),
        *("--overwrite", "--max-sessions", "0", str(root)),
    ]


def _py3tftp(root: Path, port: int) -> list[str]:
    return [_script("py3tftp", "py3tftp"), "--host", HOST, "--port", str(port)]


def _library(name: str) -> Callable[[Path, int], list[str]]:
    def command(root: Path, port: int) -> list[str]:
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed; pip install -e '.[bench]'")
        return [
            sys.executable,
            "-m",
            "benchmarks.library_servers",
            name,
            str(root),
            HOST,
            str(port),
        ]

    return command


def _package(name: str) -> Callable[[], str]:
    return lambda: importlib.metadata.version(name)


def _own_version() -> str:
    import twisted_tftp

    return twisted_tftp.__version__


#: Our server.
OURS = Server(
    "ours",
    "twisted-tftp",
    _ours,
    _own_version,
    max_transfers=10_000,
    language="",
)

#: What makes our server use its Python code in place of its extension module.
WITHOUT_EXTENSION = (("TFTP_OFFLOAD", "0"),)


#: The names of our server and of its variants.
VARIANTS = ("ours", "pure", "before")


def variants(pure: bool, before: Path | None) -> list[Server]:
    """Return variants of our server that are measured in the same run.

    @param pure: whether to include the one without its extension module.
    @param before: the root directory of another checkout of this repository.
    """
    found = []
    if pure:
        title = "twisted-tftp (pure Python)"
        found.append(
            dataclasses.replace(OURS, name="pure", title=title, environment=WITHOUT_EXTENSION)
        )
    if before:
        revision = ["git", "-C", str(before), "rev-parse", "--short", "HEAD"]
        found.append(
            dataclasses.replace(
                OURS,
                name="before",
                title="twisted-tftp (before)",
                version=_version_in(lambda: revision, r"^([0-9a-f]+)$"),
                source=before,
            )
        )
    return found


def servers(yardstick: Path) -> list[Server]:
    """Return all servers; `yardstick` is the path of the yardstick's program."""
    return [
        OURS,
        Server(
            "quiet",
            "twisted-tftp, no log",
            lambda root, port: [
                *(
                    sys.executable,
                    "-m",
                    "benchmarks.library_servers",
                    "quiet",
                    str(root),
                    HOST,
                    str(port),
                ),
            ],
            _own_version,
            language="",
        ),
        Server(
            "yardstick",
            "C yardstick",
            lambda root, port: [str(yardstick), HOST, str(port), str(root)],
            lambda: "-",
            max_transfers=10_000,
            retransmits=False,
            language="",
        ),
        Server(
            "hpa",
            "tftpd-hpa",
            _hpa,
            _version_in(lambda: [program("in.tftpd", "tftpd-hpa"), "-V"], r"tftp-hpa ([\w.]+)"),
            windows_since=(6, 0),
            packages=("tftpd-hpa",),
            discards_cpu=True,  # SA_NOCLDWAIT
            forks=True,
            language="C",
        ),
        Server(
            "atftpd",
            "atftpd",
            _atftpd,
            _version_in(lambda: [program("atftpd", "atftpd"), "--version"], r"atftp-([\w.]+)"),
            # It is killed when a descriptor exceeds FD_SETSIZE, so with 1,000 transfers open.
            max_transfers=100,
            packages=("atftpd",),
            language="C",
        ),
        Server(
            "dnsmasq",
            "dnsmasq",
            _dnsmasq,
            _version_in(
                lambda: [program("dnsmasq", "dnsmasq-base"), "--version"], r"ersion ([\w.]+)"
            ),
            writes=False,
            windows_since=(2, 92),
            port=69,
            packages=("dnsmasq-base",),
            language="C",
        ),
        Server("pytftp", "pytftp", _pytftp, _package("tftp")),
        Server(
            "tftpy",
            "tftpy",
            _library("tftpy"),
            _package("tftpy"),
            windows=False,
            max_transfers=100,
        ),
        Server("py3tftp", "py3tftp", _py3tftp, _package("py3tftp")),
        Server(
            "fbtftp",
            "fbtftp",
            _library("fbtftp"),
            _package("fbtftp"),
            forks=True,
            writes=False,
            windows=False,
            max_transfers=100,
        ),
    ]
