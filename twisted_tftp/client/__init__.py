"""The client: transfers with one server, and the URLs, host names and local files for them.

Modules here import rank 0, `protocol`, `transfer`, `net`, `session` and `backends`,
and never `server`.
"""

from __future__ import annotations

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult

__all__ = ["TFTPClient", "TransferResult"]
