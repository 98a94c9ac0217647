"""Download the servers from Debian before the first test that needs one."""

from __future__ import annotations

import contextlib

import pytest

from benchmarks.debian_packages import Unavailable, program
from tests.support.worker_network import outer_network

#: The program of each server, and the package that has it.
PROGRAMS = {"in.tftpd": "tftpd-hpa", "atftpd": "atftpd", "dnsmasq": "dnsmasq-base"}


@pytest.fixture(scope="session", autouse=True)
def _servers() -> None:
    """Unpack the servers; the tests of one that is unavailable are skipped."""
    with outer_network():
        for name, package in PROGRAMS.items():
            with contextlib.suppress(Unavailable):
                program(name, package)
