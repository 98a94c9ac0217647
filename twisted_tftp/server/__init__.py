"""The server: the request port's protocol, running transfers, the service, its logs.

Modules here import rank 0, `protocol`, `transfer`, `net` and `session`, and never
`client` or a concrete backend.
"""

from __future__ import annotations

from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.service import TFTPService

__all__ = ["TFTPServer", "TFTPService"]
