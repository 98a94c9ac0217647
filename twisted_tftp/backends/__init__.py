"""Backends: stores of files that implement L{IFileBackend<twisted_tftp.interfaces.IFileBackend>}.

Modules here import rank 0, `protocol` and `transfer`, and never `session`, `net`,
`server` or `client`.
"""

from __future__ import annotations

from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.readonly import ReadOnlyBackend

__all__ = ["FilesystemBackend", "MemoryBackend", "ReadOnlyBackend"]
