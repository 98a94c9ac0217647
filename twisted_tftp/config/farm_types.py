"""The value types of mounts, client rules and rename rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from twisted_tftp.server.client_rules import parse_mac


@dataclass(frozen=True)
class FilePath:
    """The path of a file."""

    placeholder: ClassVar[str] = "FILE"
    syntax: ClassVar[str] = "a path"

    def parse(self, text: str) -> str:
        if not text or "\0" in text:
            raise ValueError("must be the path of a file")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class MountPath:
    """A path inside the mounts: it begins with a slash, and its components are plain names."""

    placeholder: ClassVar[str] = "PATH"
    syntax: ClassVar[str] = "a path such as `/configs`"

    def parse(self, text: str) -> str:
        if not text.startswith("/") or "\0" in text:
            raise ValueError(f"must be a path that begins with '/', not {text!r}")
        components = [each for each in text.split("/") if each not in ("", ".")]
        if ".." in components:
            raise ValueError(f"must not contain '..', as {text!r} does")
        return "/" + "/".join(components)

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class MacAddress:
    """A MAC address, in lower case and with colons."""

    placeholder: ClassVar[str] = "MAC"
    syntax: ClassVar[str] = "a MAC address, such as `52:54:00:12:34:56`"

    def parse(self, text: str) -> str:
        try:
            return parse_mac(text)
        except ValueError:
            text = f"must be a MAC address such as 52:54:00:12:34:56, not {text!r}"
            raise ValueError(text) from None

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Text:
    """A text of any form; what it means is checked elsewhere.

    @ivar placeholder: the word for it.
    @ivar syntax: what it is, in Markdown.
    """

    placeholder: str
    syntax: str

    def parse(self, text: str) -> str:
        if not text.strip():
            raise ValueError("must not be empty")
        return text

    def format(self, value: str) -> str:
        return value
