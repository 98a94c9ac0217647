"""Find the templates of a folder that have a syntax error, in a process with limits.

The process compiles each template and renders none. It writes lines of JSON: the name of the
template that it compiles next and the number of those after it, or a mistake, or at the end the
number of templates that are left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from twisted.logger import Logger

from twisted_tftp.backends.template.folder import SUFFIX
from twisted_tftp.backends.template.frames import Limits
from twisted_tftp.backends.template.worker_process import ENVIRONMENT, program_arguments
from twisted_tftp.errors import BackendUnavailable

#: The time for compiling all templates, in seconds. Templates that are left then are not checked.
WORK_LIMIT = 5.0

#: How long the process may run, in seconds.
PROCESS_LIMIT = 20.0

#: The most mistakes in one message.
MAX_MISTAKES = 3

#: The most characters of one mistake.
MAX_REASON = 200

#: The exit code of a process that was successful.
_SUCCESS = 0

_log = Logger()


def check_syntax(folder: str, limits: Limits) -> None:
    """Check the syntax of the templates in a folder; this blocks up to `PROCESS_LIMIT` seconds.

    It may block longer if the process hangs in the kernel, on a disk that does not respond.

    @param folder: an absolute path.
    @raise BackendUnavailable: some have mistakes; the text has the template, the line and the
        reason.
    """
    try:
        process = subprocess.Popen(
            program_arguments("syntax_check", folder, limits),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=ENVIRONMENT,
        )
    except OSError as error:
        reason = f"can't start a process to check it: {error.strerror}"
        raise BackendUnavailable(f"template folder {folder!r}: {reason}") from None
    with process:
        try:
            output, errors = process.communicate(timeout=PROCESS_LIMIT)
            end = _last_line(errors) or f"exit code {process.returncode}"
            end = f"the process that checks it has failed: {end}"
            if end.endswith(MemoryError.__name__):  # also while Python handles the first one
                end = "it needs more memory than it may use"
            if process.returncode == -signal.SIGALRM:
                end = f"compiling it takes longer than {limits.seconds:g} s (time-limit)"
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            end = f"compiling it takes longer than {PROCESS_LIMIT:g} s"
    _report(folder, [json.loads(line) for line in output.splitlines()], process.returncode, end)


def _report(folder: str, lines: list[dict[str, Any]], code: int, end: str) -> None:
    """Raise an exception if there are mistakes; log a warning if templates were not checked.

    @param end: how the process has ended.
    """
    mistakes = [line["mistake"] for line in lines if "mistake" in line]
    if code != _SUCCESS:
        current = next((line["next"] for line in reversed(lines) if "next" in line), folder)
        mistakes.append(f"{current}: {end}")
    left = next((line["left"] for line in reversed(lines) if "left" in line), 0)
    not_checked = f"{left} template{'s were' if left > 1 else ' was'} not checked"
    if mistakes:
        more = len(mistakes) - MAX_MISTAKES
        shown = mistakes[:MAX_MISTAKES] + ([f"and {more} more"] if more > 0 else [])
        shown += [not_checked] if left else []
        raise BackendUnavailable(f"template folder {folder!r}: {'; '.join(shown)}")
    if left:
        _log.warn(
            "template folder {folder}: {not_checked} in {limit:g} s",
            folder=folder,
            not_checked=not_checked,
            limit=WORK_LIMIT,
        )


def main(folder: str, limits_text: str) -> None:
    """Check the templates (the main function of the process).

    @param folder: the path of the templates.
    @param limits_text: the L{Limits} as JSON.
    """
    # The server must not import Jinja2, nor the modules that do.
    from twisted_tftp.backends.template.environment import Renderer
    from twisted_tftp.backends.template.worker import end_after, set_limits

    limits = Limits(**json.loads(limits_text))
    end_after(PROCESS_LIMIT)  # also if the server has ended
    renderer = Renderer(folder, limits.output)
    set_limits(limits.memory)
    for line in check_templates(renderer, folder):
        # Jinja2 calculates constants when it compiles, so one template can take for ever.
        end_after(limits.seconds if "next" in line else PROCESS_LIMIT)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def check_templates(renderer: Any, folder: str) -> Iterator[dict[str, Any]]:
    """Compile the templates of a folder; yield the lines of the output.

    @param renderer: the `Renderer` of the folder.
    """
    from twisted_tftp.backends.template.environment import TemplateError

    limit = time.monotonic() + WORK_LIMIT
    names = sorted(template_names(folder))
    for index, name in enumerate(names):
        if time.monotonic() > limit:
            yield {"left": len(names) - index}
            return
        yield {"next": name, "left": len(names) - index - 1}
        mistake = ""
        is_fatal = False
        try:
            renderer.compile(name)
        except TemplateError as error:
            line = f", line {error.line}" if error.line else ""
            mistake = f"{error.template}{line}: {str(error)[:MAX_REASON]}"
            is_fatal = error.is_fatal
        # The exception has been deleted: it keeps what the compiler has made, maybe all memory.
        if mistake:
            yield {"mistake": mistake}
        if is_fatal:
            return


def template_names(folder: str) -> Iterator[str]:
    """Return the paths of the templates below a folder. Links to directories are not followed."""
    for directory, _, names in os.walk(folder):
        for name in names:
            if name.endswith(SUFFIX):
                yield os.path.relpath(os.path.join(directory, name), folder)


def _last_line(octets: bytes) -> str:
    lines = octets.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
