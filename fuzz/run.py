"""Run one target under atheris: `python -m fuzz.run NAME`, then arguments of libFuzzer."""

from __future__ import annotations

import shlex
import sys

import atheris  # type: ignore[import-untyped]

# Only imports in this block are instrumented, so the package must not be imported earlier.
with atheris.instrument_imports(include=["twisted_tftp"]):
    from fuzz.targets import TARGETS

from twisted.logger import globalLogBeginner


def main() -> None:
    """Run until libFuzzer ends the process."""
    # Otherwise Twisted would keep all log events until a log is set up.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    name = sys.argv[1]
    # To merge, libFuzzer runs its first argument again through a shell.
    itself = f"{shlex.quote(sys.executable)} -m fuzz.run {name}"
    atheris.Setup([itself, *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
