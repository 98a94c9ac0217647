"""Decide which uploads a server accepts, and how large they may become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull
from twisted_tftp.server import reasons


@dataclass(frozen=True)
class UploadAccess:
    """The rules of a server about who may write files, before any backend is asked.

    @ivar may_write: returns whether a host may write files (`allow_write`).
    @ivar max_upload: the largest size of a file, in octets; None for no limit.
    @ivar is_read_only: whether a client rule forbids uploads, whatever a mount allows.
    """

    may_write: Callable[[str], bool]
    max_upload: int | None = None
    is_read_only: bool = False

    @property
    def size_check(self) -> Callable[[int, bool], None] | None:
        """The function to call while octets arrive (L{check_size}); None if there is no limit."""
        return None if self.max_upload is None else self.check_size

    def check(self, context: TransferContext) -> None:
        """Check that the upload of a request may begin.

        @raise AccessViolation: the peer may not write.
        @raise DiskFull: the announced size is above `max_upload`.
        """
        if self.is_read_only:
            raise AccessViolation("your address may not write here", reasons.CLIENT_MAY_NOT_WRITE)
        host = context.peer.host
        if not self.may_write(host):
            raise AccessViolation("your address may not write here", reasons.may_not_write(host))
        self.check_size(context.announced_size or 0, is_complete=True)

    def check_size(self, octets: int, is_complete: bool) -> None:
        """Check that an upload has no more than `max_upload` octets.

        @param octets: the octets of the file, or those that were received so far.
        @param is_complete: whether `octets` is the size of the whole file.
        @raise DiskFull: the file is too large.
        """
        limit = self.max_upload
        if limit is not None and octets > limit:
            raise DiskFull(
                "the file is larger than this server accepts",
                reasons.over_max_upload(octets, limit, is_complete),
            )
