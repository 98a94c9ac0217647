"""Run targets under atheris for a time: the command line of the fuzzing."""

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

#: Octets of an input at most; longer programs tell no more.
LONGEST = 600

#: Seconds for one input, which takes a few milliseconds: more means that something does not end.
SLOWEST = 20

#: The line of libFuzzer's that sums up: inputs, edges, the corpus.
_DONE = re.compile(
    r"^#(\d+)\s+DONE\s+cov: (\d+) .* corp: (\d+)/\S+ .* exec/s: (\d+)", re.MULTILINE
)


def main() -> int:
    """Run; return 1 where a target has found something, 2 without atheris."""
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
        help="then take what reaches more of the code into the corpus",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.target) - set(TARGETS)
    if unknown:
        parser.error(f"there is no target {min(unknown)}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing; where it can be had: pip install -e '.[fuzz]'", file=sys.stderr)
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
    """Run one target and print its figures; return whether it has found nothing."""
    inputs, log = scratch / name, scratch / f"{name}.log"
    inputs.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[name]():
        (inputs / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    command = _command(
        name,
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOWEST}",
        "-entropic_scale_per_exec_time=1",
        f"-artifact_prefix={scratch}/{name}-",
        str(inputs),
        str(CORPUS / name),
    )
    with log.open("w") as output:
        # libFuzzer keeps to the time; should it not, this is no run to wait for.
        status = subprocess.run(
            command, stdout=output, stderr=output, timeout=seconds + 300
        ).returncode
    said = log.read_text(errors="replace")
    done = _DONE.search(said)
    if status or done is None:
        print(f"{name}: a finding, or it did not run (status {status})", file=sys.stderr)
        print(said[-6000:], file=sys.stderr)
        return False
    runs, edges, corpus, rate = done.groups()
    print(f"{name}: {runs} inputs, {rate} a second, {edges} edges, corpus of {corpus}", flush=True)
    return True


def _grow(name: str, scratch: Path) -> None:
    """Make the corpus anew: the fewest and shortest inputs that reach all that is reached."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory() as folder:
        least = Path(folder)
        # Edges only: with their counts there would be ten times as many.
        command = _command(
            name, "-merge=1", "-use_counters=0", folder, str(corpus), str(scratch / name)
        )
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(corpus)
        shutil.copytree(least, corpus)
    files = list(corpus.iterdir())
    octets = sum(file.stat().st_size for file in files)
    print(f"{name}: {len(files)} inputs of {octets} octets are the corpus now")


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fuzz.run", name, *arguments]


if __name__ == "__main__":
    sys.exit(main())
