# Run it:  twistd -noy tftp.tac
#
# An example of embedding: a TFTP service in an Application of your own, which may have other services
# too. It serves the working directory, read-only, on port 6969 of the loopback addresses.

import os

from twisted.application.service import Application
from twisted.internet import reactor

from twisted_tftp.backends import FilesystemBackend, ReadOnlyBackend
from twisted_tftp.policy import Policy
from twisted_tftp.server import TFTPService
from twisted_tftp.server.process_memory import limit_arenas
from twisted_tftp.server.signals import signals
from twisted_tftp.session.deadlines import use_monotonic_time

root = os.environ.get("TFTP_ROOT", ".")
port = int(os.environ.get("TFTP_PORT", "6969"))

application = Application("tftp")  # uid=..., gid=... drop privileges after the port is bound

service = TFTPService(
    ReadOnlyBackend(FilesystemBackend(root)),
    port=port,
    host=["127.0.0.1", "::1"],
    policy=Policy(max_windowsize=16),
)
service.setServiceParent(application)

# Only for a process of which this is the main service: timers that do not depend on the time of day,
# less memory for threads, and SIGHUP, which clears the file caches instead of ending the process.
use_monotonic_time(reactor)
limit_arenas()
signals.install(reactor, service)
