"""Run targets under atheris for some time: `python -m fuzz`."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.seeds import SEEDS
from fuzz.targets import CORPUS, TARGETS

#: The most octets of an input; longer inputs find nothing more.
MAX_INPUT = 600

#: Seconds after which an input counts as a hang; most inputs take a few milliseconds.
HANG_SECONDS = 20

#: The last line that libFuzzer prints: inputs, edges, size of the corpus, inputs per second.
_DONE = re.compile(
    r"^#(\d+)\s+DONE\s+cov: (\d+) .* corp: (\d+)/\S+ .* exec/s: (\d+)", re.MULTILINE
)


def main() -> int:
    """Run targets; return 1 if one has a finding, 2 if atheris is missing."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"all if none: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target [%(default)s]")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(".fuzz"),
        help="where new inputs, logs and findings go [%(default)s]",
    )
    parser.add_argument(
        "--grow",
        action="store_true",
        help="then replace the corpus by the smallest set of inputs that reaches the same code",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.target) - set(TARGETS)
    if unknown:
        parser.error(f"there is no target {min(unknown)}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing; install it with pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    found = [
        name
        for name in arguments.target or TARGETS
        if not _run(name, arguments.seconds, arguments.scratch)
    ]
    if arguments.grow and not found:
        for name in arguments.target or TARGETS:
            _grow(name, arguments.scratch)
    return 1 if found else 0


def _run(name: str, seconds: int, scratch: Path) -> bool:
    """Run one target and print its figures; return whether it had no finding."""
    inputs, log = scratch / name, scratch / f"{name}.log"
    inputs.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[name]():
        (inputs / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    command = _command(
        name,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-timeout={HANG_SECONDS}",
        "-entropic_scale_per_exec_time=1",
        f"-artifact_prefix={scratch}/{name}-",
        str(inputs),
        str(CORPUS / name),
    )
    with log.open("w") as output:
        # libFuzzer ends by itself in time; the timeout is for the case that it does not.
        status = subprocess.run(
            command, stdout=output, stderr=output, timeout=seconds + 300
        ).returncode
    output_text = log.read_text(errors="replace")
    done = _DONE.search(output_text)
    if status or done is None:
        print(f"{name}: a finding, or it did not run (status {status})", file=sys.stderr)
        print(output_text[-6000:], file=sys.stderr)
        return False
    runs, edges, corpus, rate = done.groups()
    print(f"{name}: {runs} inputs, {rate} a second, {edges} edges, corpus of {corpus}", flush=True)
    return True


def _grow(name: str, scratch: Path) -> None:
    """Replace the corpus by the fewest and shortest inputs that reach the same code."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory() as folder:
        smallest = Path(folder)
        # Only edges count: with the counters of edges there would be ten times as many inputs.
        command = _command(
            name, "-merge=1", "-use_counters=0", folder, str(corpus), str(scratch / name)
        )
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(corpus)
        shutil.copytree(smallest, corpus)
    files = list(corpus.iterdir())
    octets = sum(file.stat().st_size for file in files)
    print(f"{name}: {len(files)} inputs of {octets} octets are in the corpus now")


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fuzz.run", name, *arguments]


if __name__ == "__main__":
    sys.exit(main())
