"""The process that renders templates: it reads requests from stdin and writes answers to stdout.

It is started by L{twisted_tftp.backends.template.workers}, with limits of memory and files. The
server ends it if a template takes too long. If the server itself has ended, an alarm does that.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal

from twisted_tftp.backends.template import frames
from twisted_tftp.backends.template.environment import NoFile, Renderer, TemplateError

#: The octets of one read.
READ_SIZE = 64 * 1024

#: How much longer than its limit a rendering may take until the alarm ends it, in seconds.
ALARM_MARGIN = 5.0

#: The most open files.
MAX_FILES = 64

#: The descriptor of the standard input.
STDIN = 0

#: The descriptor of the standard output.
STDOUT = 1


def main(folder: str, limits_text: str) -> None:
    """Answer requests until the input ends.

    @param folder: the path of the templates.
    @param limits_text: the L{frames.Limits} as JSON.
    """
    limits = frames.Limits(**json.loads(limits_text))
    # A signal of the terminal is for the server, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    renderer = Renderer(folder, limits.output)
    set_limits(limits.memory)
    _write(frames.answer({frames.READY: True}))
    buffer = bytearray()
    while octets := os.read(STDIN, READ_SIZE):
        buffer += octets
        for template, variables in frames.take_requests(buffer):
            end_after(limits.seconds + ALARM_MARGIN)
            answer, is_fatal = _answer(renderer, template, variables)
            end_after(0)
            _write(answer)
            if is_fatal:
                return


def end_after(seconds: float) -> None:
    """End this process by SIGALRM after `seconds`, even if Python hangs; 0 cancels the timer."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # the default action of SIGALRM ends it


def set_limits(memory: int) -> None:
    """Limit what this process may use.

    @param memory: octets of memory in addition to those that it uses now.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)  # it may write no file
    _limit(resource.RLIMIT_NOFILE, MAX_FILES)
    with contextlib.suppress(OSError):
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def _limit(kind: int, value: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # a lower limit of the system stays
        resource.setrlimit(kind, (value, value))


def _answer(renderer: Renderer, template: str, variables: dict[str, object]) -> tuple[bytes, bool]:
    """Return the answer to a request, and whether this process should end after it."""
    try:
        rendered = renderer.render(template, variables)
    except NoFile:
        return frames.answer({"not_found": True}), False
    except TemplateError as error:
        header = {"template": error.template, "line": error.line, "reason": str(error)}
        return frames.answer({"failed": header, "fatal": error.is_fatal}), error.is_fatal
    header = {
        "used": rendered.used,
        "files": rendered.files,
        "is_settled": rendered.is_settled,
    }
    return frames.answer(header, rendered.content), False


def _write(octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(STDOUT, view) :]
