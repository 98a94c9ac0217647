"""The client: transfers with one server, and what their URLs, names and streams need.

Modules here import rank 0, `protocol`, `transfer`, `net`, `session` and `backends`,
and never `server`.
"""

from __future__ import annotations

from twisted_tftp.client.client import TFTPClient

__all__ = ["TFTPClient"]
