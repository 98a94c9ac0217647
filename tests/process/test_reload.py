"""Test what a reload waits for, where it reads its files, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.configured_daemon import RELOADED, ConfiguredDaemon
from tests.support.daemon import TIMEOUT, assert_ended_well
from tests.support.marks import linux
from tests.support.packets import ack, data, wrq
from tests.support.peer import Peer

#: A module with a backend plugin whose check waits for ever while a file exists.
SLOW_PLUGIN = """
import os
import time
from twisted.logger import Logger
from zope.interface import implementer
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.interfaces import IBackendLifecycle, IBackendPlugin, NoLifecycle


@implementer(IBackendLifecycle)
class SlowBackend(NoLifecycle, MemoryBackend):
    def __init__(self, path):
        super().__init__({"file": b"content"})
        self.path = path

    def check(self):
        if os.path.exists(self.path):
            Logger().info("the check waits")
        while os.path.exists(self.path):
            time.sleep(0.01)


@implementer(IBackendPlugin)
class SlowPlugin:
    name = "slow"
    help = "waits while a file exists"

    def from_arguments(self, argument, keywords):
        return SlowBackend(argument)


slow = SlowPlugin()
"""

#: What the log says at a SIGHUP during a reload.
STILL_RUNNING = r"SIGHUP: a reload is still running \(\d+ s\); it will be repeated when it ends"


class SlowDaemon(ConfiguredDaemon):
    """A daemon with the slow backend.

    @ivar obstacle: the file that the check of the backend waits for.
    """

    def __init__(self, folder: Path, plugins: Path) -> None:
        self.obstacle = folder / "obstacle"
        text = f'[tftp]\nhost = ["127.0.0.1"]\nport = PORT\nbackend = "slow:{self.obstacle}"\n'
        super().__init__(folder, text)
        self._plugins = plugins

    def environment(self) -> dict[str, str]:
        path = os.environ.get("PYTHONPATH")
        paths = [str(self._plugins), *([path] if path else [])]
        return {**super().environment(), "PYTHONPATH": os.pathsep.join(paths)}

    def wait_for_lines(self, pattern: str, count: int) -> None:
        """Wait until so many lines of the log match."""
        start = 0
        for _ in range(count):
            self.wait_for_line(pattern, start=start)
            start = next(n for n in range(start, self.mark()) if pattern in self.lines[n]) + 1

    def let_reload_wait(self) -> None:
        """Reload, and let the check of the backend wait; a second SIGHUP comes meanwhile."""
        self.obstacle.touch()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_line("the check waits")
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_line(STILL_RUNNING)


@pytest.fixture
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for PYTHONPATH that has the slow backend."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "twisted" / "plugins").mkdir(parents=True)
    (folder / "twisted" / "plugins" / "slow_plugin.py").write_text(SLOW_PLUGIN)
    return folder


def test_check_that_waits_delays_no_transfer(tmp_path: Path, plugins: Path) -> None:
    """A signal meanwhile is logged, and leads to one more reload."""
    with SlowDaemon(tmp_path, plugins) as daemon, Peer() as client:
        daemon.let_reload_wait()
        assert client.fetch(b"file", daemon.address) == b"content"
        assert RELOADED not in daemon.log
        daemon.obstacle.unlink()
        daemon.wait_for_lines(RELOADED, 2)
        daemon.stop()
        assert_ended_well(daemon)
    assert daemon.log.count(RELOADED) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_check_that_never_ends_does_not_delay_the_stop(
    tmp_path: Path, plugins: Path, number: int
) -> None:
    """The log says that a call is abandoned."""
    with SlowDaemon(tmp_path, plugins) as daemon:
        daemon.let_reload_wait()
        daemon.process.send_signal(number)
        daemon.wait(10)
    assert "a call in a thread (tftp-reload) has not ended: it is abandoned" in daemon.log
    assert "Traceback" not in daemon.log
    assert daemon.errors == []


#: How often a daemon with templates reads its configuration again.
RELOADS = 20

TEMPLATES = """\
[tftp]
host = ["127.0.0.1"]
port = PORT

[[mount]]
prefix = "/"
backend = "template:templates"
"""


@linux
def test_reloads_leave_no_process_and_no_descriptor(tmp_path: Path) -> None:
    """The worker processes of earlier configurations end, also if they have not started yet."""
    pytest.importorskip("jinja2")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "file.j2").write_text("{{ name }}")

    def is_alone() -> bool:
        path = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
        return len(path.read_text().split()) == 1

    with ConfiguredDaemon(tmp_path, TEMPLATES) as daemon:
        daemon.reload(TEMPLATES)
        with Peer() as client:
            assert client.fetch(b"file", daemon.address) == b"file"
        wait_until(is_alone)
        descriptors = daemon.descriptors()
        for _ in range(RELOADS):
            daemon.reload(TEMPLATES)
        with Peer() as client:
            assert client.fetch(b"file", daemon.address) == b"file"
        wait_until(is_alone)
        wait_until(lambda: daemon.descriptors() <= descriptors)
        daemon.stop()
        assert_ended_well(daemon)


def test_running_upload_survives_reloads(tmp_path: Path) -> None:
    """Each new backend removes the unfinished uploads of an earlier run, but not this one."""
    text = f'[tftp]\nhost = ["127.0.0.1"]\nport = PORT\nroot = "{tmp_path}"\nwrite = "create"\n'
    with ConfiguredDaemon(tmp_path, text) as daemon, Peer() as client:
        _, transfer = client.ask(wrq(b"new"), daemon.address)
        assert client.ask(data(1, bytes(512)), transfer)[0] == ack(1)
        for write in ("overwrite", "never"):
            daemon.reload(text.replace("create", write))
        assert client.ask(data(2, b"end"), transfer)[0] == ack(2)
        daemon.stop()
        assert_ended_well(daemon)
    assert (tmp_path / "new").read_bytes() == bytes(512) + b"end"
    assert sorted(os.listdir(tmp_path)) == ["new", "tftp.toml"]


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait until a function returns true."""
    deadline = time.monotonic() + TIMEOUT
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # there is no portable event for the end of a process of another one
