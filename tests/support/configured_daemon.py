"""Run the daemon with a configuration file."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import TIMEOUT, TWISTD, Daemon
from tests.support.peer import LOCALHOST

#: The log line after a reload.
RELOADED = "SIGHUP: the configuration was read again"


class ConfiguredDaemon(Daemon):
    """A daemon whose options are in a file, in which `PORT` stands for its port.

    @ivar path: the path of the file.
    """

    def __init__(self, folder: Path, text: str, *options: str, twistd: Sequence[str] = ()) -> None:
        super().__init__(folder, *options, hosts=[LOCALHOST], twistd=twistd)
        self.path = folder / "tftp.toml"
        self.text = text

    def write(self, text: str) -> None:
        """Write the file."""
        self.path.write_text(text.replace("PORT", str(self.port)))

    def command(self) -> list[str]:
        self.write(self.text)
        return [
            *(self.executable, "-n", "--pidfile=", *self._twistd, "tftp"),
            *("--config", str(self.path), *self.options),
        ]

    def reload(self, text: str, expected: str = RELOADED) -> int:
        """Change the file, send SIGHUP, and wait for a line; return the number of lines before."""
        self.write(text)
        mark = self.mark()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_line(expected, start=mark)
        return mark

    @property
    def address(self) -> tuple[str, int]:
        """Where it serves."""
        return LOCALHOST, self.port


def run_twistd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `twistd -n tftp` with these arguments until it ends."""
    command = [str(TWISTD), "-n", "tftp", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
