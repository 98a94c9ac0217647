"""The messages between the server and a worker process, each with its length in front.

A request is a JSON object. An answer is a JSON object, its header, and a content::

    request:  length (4 octets) | JSON
    answer:   length of the header (4 octets) | length of the content (4 octets) | JSON | content
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

#: The largest request, in octets.
MAX_REQUEST = 4 * 1024 * 1024

#: The largest header of an answer, in octets.
MAX_HEADER = 1024 * 1024

_REQUEST = struct.Struct(">I")

_ANSWER = struct.Struct(">II")

#: The key in the header of the first answer, which says that the worker is ready.
READY = "ready"


@dataclass(frozen=True)
class Limits:
    """What a worker may use for one template.

    @ivar seconds: time.
    @ivar memory: memory in addition to that of an idle worker, in octets.
    @ivar output: the size of the file, in octets.
    """

    seconds: float = 2.0
    memory: int = 64 * 1024 * 1024
    output: int = 1024 * 1024

    def to_json(self) -> str:
        """Return the limits as text, for the command line of a worker."""
        return json.dumps(asdict(self))


class FrameError(ValueError):
    """A message is not valid."""


class Answer(NamedTuple):
    """An answer of a worker."""

    header: dict[str, Any]
    content: bytes


def request(template: str, variables: Mapping[str, str]) -> bytes:
    """Encode a request.

    @param template: the name of the template.
    @param variables: the JSON text of each variable.
    @raise FrameError: it is too large.
    """
    values = ",".join(f"{json.dumps(name)}:{text}" for name, text in variables.items())
    octets = f'{{"template":{json.dumps(template)},"variables":{{{values}}}}}'.encode("ascii")
    if len(octets) > MAX_REQUEST:
        raise FrameError(f"the variables are larger than {MAX_REQUEST >> 20} MiB")
    return _REQUEST.pack(len(octets)) + octets


def take_requests(buffer: bytearray) -> Iterator[tuple[str, dict[str, Any]]]:
    """Remove the complete requests from `buffer`; yield the template and variables of each."""
    while len(buffer) >= _REQUEST.size:
        end = _REQUEST.size + _REQUEST.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        found = json.loads(buffer[_REQUEST.size : end])
        del buffer[:end]
        yield found["template"], found["variables"]


def answer(header: Mapping[str, Any], content: bytes = b"") -> bytes:
    """Encode an answer."""
    octets = json.dumps(header).encode("ascii")
    return _ANSWER.pack(len(octets), len(content)) + octets + content


def take_answers(buffer: bytearray, max_content: int) -> Iterator[Answer]:
    """Remove the complete answers from `buffer`, and yield them.

    @param max_content: the largest content, in octets.
    @raise FrameError: an answer is not valid.
    """
    while len(buffer) >= _ANSWER.size:
        header_size, content_size = _ANSWER.unpack_from(buffer)
        if header_size > MAX_HEADER or content_size > max_content:
            raise FrameError("an answer of the worker process is too large")
        start = _ANSWER.size + header_size
        if len(buffer) < start + content_size:
            return
        try:
            header = json.loads(buffer[_ANSWER.size : start])
        except ValueError:
            raise FrameError("an answer of the worker process is not valid") from None
        content = bytes(buffer[start : start + content_size])
        del buffer[: start + content_size]
        yield Answer(header, content)
