"""The command `txtftp`: fetch and store files with TFTP.

Exit status: 0; 1 if a transfer failed; 2 if the command line is wrong; 130 after Ctrl-C.
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
from twisted_tftp.cli.storm import INTERRUPTED, MAX_STOP_TIME
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

#: The longest time for which the command stays to repeat the last ACK, in seconds.
MAX_DALLY = 0.2

#: The window sizes that can be requested, in blocks (RFC 7440 section 3).
WINDOWSIZES = Range(1, 65535)

#: The allowed numbers of simultaneous transfers.
JOBS = Range(1, 1000)

#: Paths of open descriptors. They are not opened again, because that would truncate the file.
_OWN_DESCRIPTOR = re.compile(r"/dev/(?:(stdout|stderr)|fd/([0-9]+))\Z")

#: The descriptors of the standard streams.
_STANDARD = {"stdout": 1, "stderr": 2}

#: The advice if the answers could not be compared.
_WITHOUT_CHECK = (
    "maybe the server answers only one request, or each request in a different way: --no-options"
    " sends a request whose answers are not compared"
)

#: The advice for each failure; the first class that matches counts.
_ADVICE: list[tuple[type[BaseException], str]] = [
    (PortUnreachable, "is a TFTP server running there? (see --port)"),
    (ServerUnreachable, "is the address right, and the network up?"),
    (AnswersFromElsewhere, "use that address if you trust it"),
    (AnswerNotConfirmed, _WITHOUT_CHECK),
    (AnswersContradict, _WITHOUT_CHECK),
    (
        NoAnswer,
        "is a TFTP server running there, and do all firewalls on the path let its answers"
        " through? The answers come from another port than the request port",
    ),
    (
        FileNotFound,
        "file names are relative to the server's root, and upper and lower case differ",
    ),
    (FileAlreadyExists, "the server does not replace files"),
    (DNSLookupError, "is the host name right?"),
]


@dataclass
class Job:
    """One transfer of the command line."""

    client: TFTPClient
    remote: str
    local: str
    start: Callable[[], Deferred[TransferResult]]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    if sys.stderr is None:  # it is closed, and messages must not go to another open file
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
        jobs = (_get_jobs if chosen.command == "get" else _put_jobs)(chosen, reactor)
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
        description="Fetch files from TFTP servers, store files there, and test the servers.",
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
    storm = commands.add_parser("storm", help="load a server with simulated booting machines")
    storm.set_defaults(command="storm")
    stormcli.add_options(storm)
    doctor = commands.add_parser("doctor", help="check a server and give advice")
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
        help="octets of a block [the most that fit the MTU]",
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
        help="local address and port [the address of the route, any port]",
    )
    add(
        "--no-options",
        action="store_true",
        help="send no options: blocks of 512 octets (RFC 1350)",
    )
    add(
        "-j",
        dest="jobs",
        type=whole_number(JOBS),
        metavar="N",
        help="transfer several files, N at a time",
    )
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


def _get_jobs(chosen: argparse.Namespace, reactor: Any) -> list[Job]:
    first, *rest = chosen.names
    if _is_url(first):
        if chosen.jobs is None and len(rest) > 1:
            raise ValueError("give one URL and one LOCAL, or -j N and several URLs")
        pairs = [(url, None) for url in chosen.names]
        if chosen.jobs is None:
            pairs = [(first, rest[0] if rest else None)]
        jobs = []
        for url, local in pairs:
            place = parse_url(url, chosen.port)
            client = _client(chosen, reactor, place.host, place.port, place.mode)
            jobs.append(_get_job(reactor, client, place.filename, local))
        return jobs
    if not rest:
        raise ValueError("give a HOST and a FILE, or a URL")
    client = _client(chosen, reactor, first, chosen.port, wire.OCTET)
    if chosen.jobs is not None:
        return [_get_job(reactor, client, name, None) for name in rest]
    if len(rest) > 2:
        raise ValueError("give one FILE and one LOCAL, or -j N and several FILEs")
    return [_get_job(reactor, client, rest[0], rest[1] if len(rest) > 1 else None)]


def _get_job(reactor: Any, client: TFTPClient, remote: str, local: str | None) -> Job:
    last = os.path.basename(remote.replace("\\", "/"))
    name = local or last
    if local is not None and os.path.isdir(local):
        name = os.path.join(local, last) if last else ""
    if not name:
        raise ValueError(f"{remote!r} does not end with a file name: give LOCAL")
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

    @raise OSError: the stream is closed. One of our sockets may have its number now.
    """
    if stream is None:
        raise OSError(errno.EBADF, f"standard {name} is closed", "-")
    return int(stream.fileno())


def _is_special(path: str) -> bool:
    """Return whether a path is a pipe or a device, which is opened and not replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_targets(command: str, jobs: list[Job]) -> None:
    """Check that no two jobs write the same file.

    @raise ValueError: two jobs would write the same file.
    """
    seen: set[object] = set()
    for job in jobs:
        target: object = (job.client.host, job.client.port, job.remote)
        if command == "get":
            target = os.path.realpath(job.local)
        if target in seen:
            raise ValueError(
                f"two transfers would write {job.local if command == 'get' else job.remote}"
            )
        seen.add(target)


def _put_jobs(chosen: argparse.Namespace, reactor: Any) -> list[Job]:
    first, *rest = chosen.names
    if rest and _is_url(rest[-1]) and len(rest) == 1:
        place = parse_url(rest[0], chosen.port)
        client = _client(chosen, reactor, place.host, place.port, place.mode)
        return [_put_job(reactor, client, first, place.filename)]
    if not rest:
        raise ValueError("give a HOST and a LOCAL file, or a LOCAL file and a URL")
    client = _client(chosen, reactor, first, chosen.port, wire.OCTET)
    if chosen.jobs is not None:
        return [_put_job(reactor, client, local, None) for local in rest]
    if len(rest) > 2:
        raise ValueError("give one LOCAL and one FILE, or -j N and several LOCALs")
    return [_put_job(reactor, client, rest[0], rest[1] if len(rest) > 1 else None)]


def _put_job(reactor: Any, client: TFTPClient, local: str, remote: str | None) -> Job:
    if remote is None and local == "-":
        raise ValueError("for standard input, give FILE, the name on the server")
    name = remote or os.path.basename(local)
    source: Any = local
    if local == "-":
        source = make_reader(reactor, _descriptor(sys.stdin, "input"))
    elif _is_special(local):
        source = make_reader(reactor, os.open(local, os.O_RDONLY | os.O_CLOEXEC))
    return Job(client, name, local, lambda: client.put(source, name))


class _Run:
    """The transfers of one command: it runs some at a time, and prints their results."""

    def __init__(self, chosen: argparse.Namespace, jobs: list[Job], reactor: Any) -> None:
        self._chosen = chosen
        self._waiting = list(reversed(jobs))
        self._clients = list(dict.fromkeys(job.client for job in jobs))
        self._left = len(jobs)
        self._reactor = reactor
        self._status = 0
        self._hide: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run the reactor until all transfers have ended; return the exit status."""
        self._reactor.callWhenRunning(self._begin)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._interrupted)
        self._reactor.run()
        return self._status

    def _interrupted(self) -> Any:
        """Cancel the running transfers, and wait until servers and local files are dealt with."""
        if not self._left:
            return None
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program is stopping already
        self._status = INTERRUPTED
        self._waiting.clear()
        self._hide()
        gone = DeferredList([client.close() for client in self._clients], consumeErrors=True)
        return gone.addTimeout(MAX_STOP_TIME, self._reactor).addErrback(lambda _: None)

    def _begin(self) -> None:
        chosen = self._chosen
        if not (chosen.quiet or chosen.json or chosen.trace) and sys.stderr.isatty():
            self._hide = show_progress(self._reactor, self._clients)
        for _ in range(chosen.jobs or 1):
            self._start_next()

    def _start_next(self) -> None:
        if not self._waiting:
            return
        job = self._waiting.pop()
        transfer = maybeDeferred(job.start)
        transfer.addCallbacks(self._done, self._failed, (job,), {}, (job,), {})
        transfer.addErrback(self._unexpected_failure)
        transfer.addBoth(self._job_ended)

    def _done(self, result: TransferResult, job: Job) -> None:
        chosen = self._chosen
        if chosen.json:
            self._print_json(
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
            with suppress(OSError):  # a message that can't be written is no failure
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
            self._print_json({"file": job.remote, "local": job.local, "error": text})
        print(f"error: {legible(job.remote)}: {text}", file=sys.stderr)

    def _unexpected_failure(self, failure: Failure) -> None:
        """Report an unexpected exception of this program."""
        self._status = 1
        if isinstance(failure.value, OSError):
            print(f"error: standard output: {_os_error_text(failure.value)}", file=sys.stderr)
        else:
            failure.printTraceback(sys.stderr)

    def _print_json(self, result: dict[str, Any]) -> None:
        # Standard output may be the target of the file.
        file = sys.stderr if self._writes_to_stdout() else sys.stdout
        print(json.dumps(result), file=file, flush=True)

    def _writes_to_stdout(self) -> bool:
        return bool(self._chosen.command == "get" and self._chosen.names[-1] == "-")

    def _job_ended(self, _: object) -> None:
        self._left -= 1
        if self._waiting:
            self._reactor.callLater(0, self._start_next)
        elif not self._left:
            self._hide()
            if self._status != INTERRUPTED:
                self._stop_when_quiet()

    def _stop_when_quiet(self) -> None:
        """Stop after a moment in which servers may send a last block again (its ACK was lost)."""
        linger = min(MAX_DALLY, max(client.lingers for client in self._clients))
        self._reactor.callLater(linger, self._reactor.stop)


def _remarks(result: TransferResult) -> Iterator[str]:
    """Return remarks about what may have made a transfer slow."""
    asked, granted = result.asked, result.options
    if asked and not granted:
        yield "the server grants no options"
    else:
        for name in ("blksize", "windowsize"):
            if asked.get(name) != granted.get(name):
                given = granted.get(name)
                yield f"{name} {given} of {asked[name]}" if given else f"no {name}"
    if result.retransmissions:
        yield f"{result.retransmissions} sent again"


def _os_error_text(error: OSError) -> str:
    """Return the text of a system error of a local file or stream."""
    if isinstance(error, BrokenPipeError):
        return "the reader of the output has closed it"
    return error.strerror or str(error)


def explain(error: BaseException, host: str, port: int) -> str:
    """Return the text of a failure, with advice if there is any."""
    if isinstance(error, OSError) and not isinstance(error, DNSLookupError):
        text = error.strerror or str(error)
    elif isinstance(error, TFTPError):
        text = error.message
    else:
        text = str(error) or type(error).__name__
    text = legible(text)
    if isinstance(error.__cause__, OSError):
        return f"on this side: {_os_error_text(error.__cause__)}"
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
