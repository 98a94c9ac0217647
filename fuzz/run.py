"""Hand one target to atheris: `python -m fuzz.run NAME`, and then libFuzzer's own arguments."""

from __future__ import annotations

import shlex
import sys

import atheris  # type: ignore[import-untyped]

# Only what is imported in here is instrumented, so the package must not have come in before.
with atheris.instrument_imports(include=["twisted_tftp"]):
    from fuzz.targets import TARGETS

from twisted.logger import globalLogBeginner


def main() -> None:
    """Run until libFuzzer ends the process."""
    # Twisted keeps what is logged before there is a log.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    name = sys.argv[1]
    # libFuzzer runs itself again to merge, by its first argument and through a shell.
    itself = f"{shlex.quote(sys.executable)} -m fuzz.run {name}"
    atheris.Setup([itself, *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
