# The daemon of the soak: twistd -noy benchmarks/watched.tac
#
# A TFTP service that writes its internal counts to a file once a second. Its timeouts are short and
# its limit of transfers is low, so that many transfers end during a short soak. Its content cache is
# small: it fills in the first minutes, and so does not look like a leak.

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


def write_state():
    if not service.transfers.running:
        gc.collect()  # otherwise garbage would count as objects in use
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
TimerService(1, write_state).setServiceParent(application)
