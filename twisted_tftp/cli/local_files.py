"""Open local files as the source or the target of a transfer: paths, streams, pipes, devices."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from typing import Any

from twisted_tftp.client.streams import make_reader, make_writer

#: The name of standard input or standard output on the command line.
STANDARD_STREAM = "-"

#: Paths of open descriptors. They are not opened again, because that would truncate the file.
_OPEN_DESCRIPTOR = re.compile(r"/dev/(?:(stdout|stderr)|fd/([0-9]+))\Z")

#: The descriptors of the standard streams.
_STANDARD_DESCRIPTORS = {"stdout": 1, "stderr": 2}


def open_standard_input(reactor: Any) -> Any:
    """Return a reader of standard input.

    @raise OSError: standard input is closed.
    """
    return make_reader(reactor, _descriptor(sys.stdin, "input"))


def open_standard_output(reactor: Any) -> Any:
    """Return a writer to standard output.

    @raise OSError: standard output is closed.
    """
    return make_writer(reactor, _descriptor(sys.stdout, "output"))


def open_source(reactor: Any, path: str) -> Any:
    """Return what `TFTPClient.put` reads: the path, or a reader of a pipe or a device.

    @raise OSError: the pipe or device can't be opened.
    """
    if _is_pipe_or_device(path):
        return make_reader(reactor, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return path


def open_target(reactor: Any, path: str) -> Any:
    """Return what `TFTPClient.get` writes to.

    @return: the path, or a writer to an open descriptor, a pipe or a device.
    @raise OSError: the pipe or device can't be opened.
    """
    descriptor = _OPEN_DESCRIPTOR.match(path)
    if descriptor:
        stream, number = descriptor.groups()
        return make_writer(reactor, _STANDARD_DESCRIPTORS[stream] if stream else int(number))
    if _is_pipe_or_device(path):
        return make_writer(reactor, os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    return os.path.join(".", path)


def target_path(filename: str, local: str | None) -> str:
    """Return the local path under which a fetched file is stored.

    @param filename: the name on the server; its last part is the default name.
    @param local: a path or an existing directory; None for the current directory.
    @raise ValueError: no file name follows from `filename`, and `local` gives none.
    @raise OSError: the directory of the path does not exist.
    """
    name = os.path.basename(filename.replace("\\", "/"))
    path = local or name
    if local is not None and os.path.isdir(local):
        path = os.path.join(local, name) if name else ""
    if not path:
        raise ValueError(f"{filename!r} does not end with a file name: give LOCAL")
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise OSError(errno.ENOENT, "no such directory", folder)
    return path


def _descriptor(stream: Any, name: str) -> int:
    """Return the descriptor of a standard stream.

    @raise OSError: the stream is closed. One of our sockets may have its number now.
    """
    if stream is None:
        raise OSError(errno.EBADF, f"standard {name} is closed", STANDARD_STREAM)
    return int(stream.fileno())


def _is_pipe_or_device(path: str) -> bool:
    """Return whether `path` is a pipe or a device: it is opened, and not replaced by a file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
