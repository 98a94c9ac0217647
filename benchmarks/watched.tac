# What the soak serves with: twistd -noy benchmarks/watched.tac
#
# A TFTP service that writes down once a second what can't be seen from outside. Transfers whose
# peer is silent end soon here, and there is room for few, so that a short soak sees many end. Its
# memory for small files is small: full in the first minutes, it does not look like a leak.

import gc
import json
import os

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor

from benchmarks.slow import SlowBackend
from twisted_tftp.policy import Policy
from twisted_tftp.server import TFTPService
from twisted_tftp.server.process_memory import limit_arenas

state = os.environ["SOAK_STATE"]


def write_down():
    if not service.transfers.running:
        gc.collect()  # so that garbage does not count as what is held
    values = {
        "transfers": service.transfers.running,
        "sessions": len(service.transfers),
        "timers": len(reactor.getDelayedCalls()),
        "objects": len(gc.get_objects()),
    }
    with open(state + ".new", "w") as file:
        json.dump(values, file)
    os.replace(state + ".new", state)


limit_arenas()
application = Application("soak")
service = TFTPService(
    SlowBackend(reactor, os.environ["SOAK_ROOT"], "overwrite", cache=1024 * 1024),
    port=int(os.environ["SOAK_PORT"]),
    host=["127.0.0.1"],
    policy=Policy(retries=4, max_transfers=2000),
)
service.setServiceParent(application)
TimerService(1, write_down).setServiceParent(application)
