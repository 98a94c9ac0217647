"""Be the command `txtftp`: fetch and store files from a shell.

Exit status: 0, 1 where a transfer failed, 2 where the command line is wrong.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import DNSLookupError
from twisted.python.failure import Failure

from twisted_tftp import __version__
from twisted_tftp.cli import doctor as doctorcli
from twisted_tftp.cli import storm as stormcli
from twisted_tftp.cli.arguments import local_address, seconds, udp_port, whole_number
from twisted_tftp.cli.progress import show_progress
from twisted_tftp.cli.storm import INTERRUPTED, LONGEST_STOP
from twisted_tftp.client.client import (
    DEFAULT_RETRIES,
    DEFAULT_WINDOWSIZE,
    TFTPClient,
    TransferResult,
)
from twisted_tftp.client.streams import make_reader, make_writer
from twisted_tftp.client.urls import parse_url
from twisted_tftp.errors import (
    AccessViolation,
    AnswerNotConfirmed,
    AnswersContradict,
    AnswersFromElsewhere,
    DiskFull,
    FileAlreadyExists,
    FileNotFound,
    NoAnswer,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.policy import (
    BLKSIZE_RANGE,
    RETRIES_RANGE,
    TFTP_PORT,
    TIMEOUT_RANGE,
    Policy,
    Range,
)
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import legible
from twisted_tftp.session.deadlines import use_monotonic_time

#: Seconds at most for which a server may still ask for the last ACK again before the command ends.
LINGER = 0.2

#: Blocks of a window that can be asked for (RFC 7440 section 3).
WINDOWSIZES = Range(1, 65535)

#: Transfers at once.
JOBS = Range(1, 1000)

#: Names of descriptors that are open already: to open the file once more would replace it.
_OWN_DESCRIPTOR = re.compile(r"/dev/(?:(stdout|stderr)|fd/([0-9]+))\Z")
_STANDARD = {"stdout": 1, "stderr": 2}

#: What helps against a failure, where anything does.
_WITHOUT_CHECK = (
    "does the server answer each request in its own way, or only once? --no-options asks without"
    " comparing answers"
)

_ADVICE: list[tuple[type[BaseException], str]] = [
    (PortUnreachable, "is a TFTP server running there? (see --port)"),
    (ServerUnreachable, "is the address right, and the network up?"),
    (AnswersFromElsewhere, "ask that address if you trust it"),
    (AnswerNotConfirmed, _WITHOUT_CHECK),
    (AnswersContradict, _WITHOUT_CHECK),
    (
        NoAnswer,
        "is a TFTP server running there, and does every firewall on the way let its answers"
        " through? They come from another port than the one that was asked",
    ),
    (FileNotFound, "names are relative to the server's root, and case counts"),
    (FileAlreadyExists, "the server does not replace files"),
    (DNSLookupError, "is the name right?"),
]


@dataclass
class Job:
    """One transfer that is asked for."""

    client: TFTPClient
    remote: str
    local: str
    start: Callable[[], Deferred[TransferResult]]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    if sys.stderr is None:  # closed; what is said must not go into the file on standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    parser = _parser()
    chosen = parser.parse_args(words)
    from twisted.internet import reactor

    use_monotonic_time(reactor)

    try:
        if chosen.command == "doctor":
            return doctorcli.run(chosen)
        if chosen.command == "storm":
            stormcli.check(chosen)
            return stormcli.run(chosen, reactor)
        jobs = (_gets if chosen.command == "get" else _puts)(chosen, reactor)
        _check_targets(chosen.command, jobs)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"error: {error.filename or '-'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return _Run(chosen, jobs, reactor).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="txtftp",
        description="Fetch from TFTP servers, store there, and load them.",
    )
    parser.add_argument("--version", action="version", version=f"txtftp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, alias, text, usage in (
        (
            "get",
            "pull",
            "fetch files",
            "%(prog)s [options] HOST FILE [LOCAL|-]\n"
            "       %(prog)s [options] tftp://HOST[:PORT]/FILE [LOCAL|-]\n"
            "       %(prog)s [options] -j N HOST FILE...",
        ),
        (
            "put",
            "push",
            "store files",
            "%(prog)s [options] HOST LOCAL|- [FILE]\n"
            "       %(prog)s [options] LOCAL|- tftp://HOST[:PORT]/FILE\n"
            "       %(prog)s [options] -j N HOST LOCAL...",
        ),
    ):
        command = commands.add_parser(name, aliases=[alias], help=text, usage=usage)
        command.set_defaults(command=name)
        command.add_argument("names", nargs="+", metavar="NAME", help=argparse.SUPPRESS)
        _add_options(command)
    storm = commands.add_parser("storm", help="simulate machines that boot")
    storm.set_defaults(command="storm")
    stormcli.add_options(storm)
    doctor = commands.add_parser("doctor", help="examine a server")
    doctor.set_defaults(command="doctor")
    doctorcli.add_options(doctor)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--port", type=udp_port, default=TFTP_PORT, metavar="N", help="request port [%(default)s]")
    add(
        "--blksize",
        type=whole_number(BLKSIZE_RANGE),
        metavar="N",
        help="octets of a block [as many as the MTU takes]",
    )
    add(
        "--windowsize",
        type=whole_number(WINDOWSIZES),
        default=DEFAULT_WINDOWSIZE,
        metavar="N",
        help="blocks of a window [%(default)s]",
    )
    add(
        "--timeout",
        type=seconds(TIMEOUT_RANGE),
        metavar="S",
        help="longest wait before a retransmission, in seconds; sent to the server"
        f" [{Policy.timeout:g}, not sent]",
    )
    add(
        "--retries",
        type=whole_number(RETRIES_RANGE),
        default=DEFAULT_RETRIES,
        metavar="N",
        help="give the server up after N timeouts without an answer [%(default)s]",
    )
    add("--mode", choices=(wire.OCTET, wire.NETASCII), help="[octet]")
    add(
        "--bind",
        type=local_address,
        default=(None, 0),
        metavar="ADDR[:PORT]",
        help="send from this address, and port [the address of the route, any port]",
    )
    add("--no-options", action="store_true", help="plain RFC 1350: 512 octets, one by one")
    add("-j", dest="jobs", type=whole_number(JOBS), metavar="N", help="several files, N at once")
    add("--json", action="store_true", help="print one JSON object for each transfer")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("--trace", action="store_true", help="print each packet on standard error")


def _client(
    chosen: argparse.Namespace, reactor: Any, host: str, port: int, mode: str
) -> TFTPClient:
    def trace(words: str, received: bool) -> None:
        print("<" if received else ">", words, file=sys.stderr)

    def tell(line: str) -> None:
        if not chosen.quiet:
            print(legible(line), file=sys.stderr)

    return TFTPClient(
        reactor,
        host,
        port,
        blksize=chosen.blksize,
        windowsize=chosen.windowsize,
        timeout=chosen.timeout,
        retries=chosen.retries,
        mode=chosen.mode or mode,
        options=not chosen.no_options,
        bind=chosen.bind[0],
        bind_port=chosen.bind[1],
        tell=tell,
        trace=trace if chosen.trace else None,
        write_behind=False,  # nothing else waits for the reactor
    )


def _is_url(name: str) -> bool:
    return name.lower().startswith("tftp://")


def _gets(chosen: argparse.Namespace, reactor: Any) -> list[Job]:
    first, *rest = chosen.names
    if _is_url(first):
        if chosen.jobs is None and len(rest) > 1:
            raise ValueError("one URL and one LOCAL, or -j N and URLs")
        pairs = [(url, None) for url in chosen.names]
        if chosen.jobs is None:
            pairs = [(first, rest[0] if rest else None)]
        jobs = []
        for url, local in pairs:
            place = parse_url(url, chosen.port)
            client = _client(chosen, reactor, place.host, place.port, place.mode)
            jobs.append(_get(reactor, client, place.filename, local))
        return jobs
    if not rest:
        raise ValueError("a HOST and a FILE, or a URL, are needed")
    client = _client(chosen, reactor, first, chosen.port, wire.OCTET)
    if chosen.jobs is not None:
        return [_get(reactor, client, name, None) for name in rest]
    if len(rest) > 2:
        raise ValueError("one FILE and one LOCAL, or -j N and FILEs")
    return [_get(reactor, client, rest[0], rest[1] if len(rest) > 1 else None)]


def _get(reactor: Any, client: TFTPClient, remote: str, local: str | None) -> Job:
    last = os.path.basename(remote.replace("\\", "/"))
    name = local or last
    if local is not None and os.path.isdir(local):
        name = os.path.join(local, last) if last else ""
    if not name:
        raise ValueError(f"{remote!r} names no file; give LOCAL")
    folder = os.path.dirname(name)
    if folder and not os.path.isdir(folder):
        raise OSError(errno.ENOENT, "no such directory", folder)
    sink: Any = os.path.join(".", name)
    own = _OWN_DESCRIPTOR.match(name)
    if local == "-":
        sink = make_writer(reactor, _descriptor(sys.stdout, "output"))
    elif own:
        sink = make_writer(reactor, _STANDARD.get(own[1]) or int(own[2]))
    elif _is_special(name):
        sink = make_writer(reactor, os.open(name, os.O_WRONLY | os.O_CLOEXEC))
    return Job(client, remote, name, lambda: client.get(remote, sink))


def _descriptor(stream: Any, name: str) -> int:
    """Return the descriptor of a standard stream.

    @raise OSError: it is closed; its number may by now be that of a socket of ours.
    """
    if stream is None:
        raise OSError(errno.EBADF, f"standard {name} is closed", "-")
    return int(stream.fileno())


def _is_special(path: str) -> bool:
    """Whether a path is a pipe or a device, which is read or written as it stands."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_targets(command: str, jobs: list[Job]) -> None:
    """Look whether two jobs would write one file.

    @raise ValueError: they would.
    """
    seen: set[object] = set()
    for job in jobs:
        target: object = (job.client.host, job.client.port, job.remote)
        if command == "get":
            target = os.path.realpath(job.local)
        if target in seen:
            raise ValueError(
                f"two of the files would be {job.local if command == 'get' else job.remote}"
            )
        seen.add(target)


def _puts(chosen: argparse.Namespace, reactor: Any) -> list[Job]:
    first, *rest = chosen.names
    if rest and _is_url(rest[-1]) and len(rest) == 1:
        place = parse_url(rest[0], chosen.port)
        client = _client(chosen, reactor, place.host, place.port, place.mode)
        return [_put(reactor, client, first, place.filename)]
    if not rest:
        raise ValueError("a HOST and a LOCAL file, or a LOCAL file and a URL, are needed")
    client = _client(chosen, reactor, first, chosen.port, wire.OCTET)
    if chosen.jobs is not None:
        return [_put(reactor, client, local, None) for local in rest]
    if len(rest) > 2:
        raise ValueError("one LOCAL and one FILE, or -j N and LOCALs")
    return [_put(reactor, client, rest[0], rest[1] if len(rest) > 1 else None)]


def _put(reactor: Any, client: TFTPClient, local: str, remote: str | None) -> Job:
    if remote is None and local == "-":
        raise ValueError("standard input needs a FILE, its name on the server")
    name = remote or os.path.basename(local)
    source: Any = local
    if local == "-":
        source = make_reader(reactor, _descriptor(sys.stdin, "input"))
    elif _is_special(local):
        source = make_reader(reactor, os.open(local, os.O_RDONLY | os.O_CLOEXEC))
    return Job(client, name, local, lambda: client.put(source, name))


class _Run:
    """Run jobs, some at a time, and tell how they went."""

    def __init__(self, chosen: argparse.Namespace, jobs: list[Job], reactor: Any) -> None:
        self._chosen = chosen
        self._waiting = list(reversed(jobs))
        self._clients = list(dict.fromkeys(job.client for job in jobs))
        self._left = len(jobs)
        self._reactor = reactor
        self._status = 0
        self._hide: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run the reactor until all is done; return the exit status."""
        self._reactor.callWhenRunning(self._begin)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._interrupted)
        self._reactor.run()
        return self._status

    def _interrupted(self) -> Any:
        """Give up what still runs, and wait until the servers are told and nothing is left."""
        if not self._left:
            return None
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already
        self._status = INTERRUPTED
        self._waiting.clear()
        self._hide()
        gone = DeferredList([client.close() for client in self._clients], consumeErrors=True)
        return gone.addTimeout(LONGEST_STOP, self._reactor).addErrback(lambda _: None)

    def _begin(self) -> None:
        chosen = self._chosen
        if not (chosen.quiet or chosen.json or chosen.trace) and sys.stderr.isatty():
            self._hide = show_progress(self._reactor, self._clients)
        for _ in range(chosen.jobs or 1):
            self._next()

    def _next(self) -> None:
        if not self._waiting:
            return
        job = self._waiting.pop()
        transfer = maybeDeferred(job.start)
        transfer.addCallbacks(self._done, self._failed, (job,), {}, (job,), {})
        transfer.addErrback(self._broke)
        transfer.addBoth(self._one_less)

    def _done(self, result: TransferResult, job: Job) -> None:
        chosen = self._chosen
        if chosen.json:
            self._say(
                {
                    "file": job.remote,
                    "local": job.local,
                    "octets": result.octets,
                    "seconds": round(result.seconds, 6),
                    "asked": dict(result.asked),
                    "options": dict(result.options),
                    "retransmissions": result.retransmissions,
                }
            )
        elif not chosen.quiet:
            how = ", ".join([f"{result.rate / 1e6:.1f} MB/s", *_remarks(result)])
            with suppress(OSError):  # a remark that can't be written fails nothing
                print(
                    f"{job.remote}: {result.octets} octets in {result.seconds:.3f} s ({how})",
                    file=sys.stderr,
                )

    def _failed(self, failure: Failure, job: Job) -> None:
        if self._status == INTERRUPTED:
            return
        self._status = 1
        assert failure.value is not None
        text = explain(failure.value, job.client.host, job.client.port)
        if self._chosen.json:
            self._say({"file": job.remote, "local": job.local, "error": text})
        print(f"error: {legible(job.remote)}: {text}", file=sys.stderr)

    def _broke(self, failure: Failure) -> None:
        """Show a mistake of ours."""
        self._status = 1
        if isinstance(failure.value, OSError):
            print(f"error: standard output: {_local(failure.value)}", file=sys.stderr)
        else:
            failure.printTraceback(sys.stderr)

    def _say(self, result: dict[str, Any]) -> None:
        # Standard output may be the file itself.
        file = sys.stderr if self._writes_to_stdout() else sys.stdout
        print(json.dumps(result), file=file, flush=True)

    def _writes_to_stdout(self) -> bool:
        return bool(self._chosen.command == "get" and self._chosen.names[-1] == "-")

    def _one_less(self, _: object) -> None:
        self._left -= 1
        if self._waiting:
            self._reactor.callLater(0, self._next)
        elif not self._left:
            self._hide()
            if self._status != INTERRUPTED:
                self._stop_when_quiet()

    def _stop_when_quiet(self) -> None:
        """Stop once the servers have had time to miss our last ACKs."""
        linger = min(LINGER, max(client.lingers for client in self._clients))
        self._reactor.callLater(linger, self._reactor.stop)


def _remarks(result: TransferResult) -> Iterator[str]:
    """Tell what made a transfer slower than it might have been."""
    asked, granted = result.asked, result.options
    if asked and not granted:
        yield "the server takes no options"
    else:
        for name in ("blksize", "windowsize"):
            if asked.get(name) != granted.get(name):
                given = granted.get(name)
                yield f"{name} {given} of {asked[name]}" if given else f"no {name}"
    if result.retransmissions:
        yield f"{result.retransmissions} sent again"


def _local(error: OSError) -> str:
    """Return what the system said about a file or a stream of ours."""
    if isinstance(error, BrokenPipeError):
        return "nobody reads the output any more"
    return error.strerror or str(error)


def explain(error: BaseException, host: str, port: int) -> str:
    """Return what went wrong, and what may help."""
    if isinstance(error, OSError) and not isinstance(error, DNSLookupError):
        text = error.strerror or str(error)
    elif isinstance(error, TFTPError):
        text = error.message
    else:
        text = str(error) or type(error).__name__
    text = legible(text)
    if isinstance(error.__cause__, OSError):
        return f"on this side: {_local(error.__cause__)}"
    if isinstance(error, TransferTimedOut):
        text = f"{text} ({host} port {port})"
    of_files = isinstance(error, FileNotFound | AccessViolation | DiskFull | FileAlreadyExists)
    if isinstance(error, TFTPError) and of_files and not error.from_peer:
        return f"on this side: {text}"
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return f"{text}: {advice}"
    return text


if __name__ == "__main__":
    sys.exit(main())
