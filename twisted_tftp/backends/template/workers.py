"""The pool of worker processes: it starts them, gives them requests, and replaces them."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from twisted_tftp.backends.template.frames import Answer, Limits
from twisted_tftp.backends.template.worker_process import Job, RenderError, WorkerProcess

#: The number of worker processes if none is chosen.
DEFAULT_COUNT = 2

#: The most requests that one worker has at a time: it works on the first one.
PIPELINE = 16

#: The most requests that wait for a worker.
MAX_QUEUE = 5000

#: The pause before another process is started if the last one did not start, in seconds.
RESTART_PAUSE = 1.0


class QueueFull(RenderError):
    """Too many requests wait."""


class Workers:
    """A pool of worker processes.

    A process is started when there is work for it: not before the server has become a daemon and
    has given up the privileges of root.
    """

    def __init__(
        self, folder: str, limits: Limits, *, count: int = DEFAULT_COUNT, reactor: Any = None
    ) -> None:
        """Set up, without a process.

        @param folder: the path of the templates.
        @param limits: what a worker may use for one template.
        @param count: the most processes.
        @param reactor: the reactor; None for the global one.
        """
        self._folder = folder
        self._limits = limits
        self._count = count
        self._reactor = reactor
        self._queue: deque[Job] = deque()
        self._workers: list[WorkerProcess] = []
        self._processes: set[WorkerProcess] = set()
        self._start_again = 0.0
        self._start_problem = ""
        self._stopped: Deferred[None] | None = None

    @property
    def process_ids(self) -> list[int]:
        """The process IDs of the workers."""
        return [worker.transport.pid for worker in self._workers if worker.transport is not None]

    def start(self) -> None:
        """Start the first worker, so that the first request need not wait for that."""
        if not self._workers:
            self._start_worker()

    def render(self, request: bytes) -> Deferred[Answer]:
        """Send a request to a worker.

        @param request: see L{frames.request<twisted_tftp.backends.template.frames.request>}.
        @return: fires with the answer, or fails with L{RenderError}. It can be cancelled.
        """
        if self._stopped is not None:
            return fail(RenderError("the server stops"))
        if len(self._queue) >= MAX_QUEUE:
            return fail(QueueFull(f"{MAX_QUEUE:,} templates wait for a worker process"))
        job = Job(request, self._cancel)
        self._queue.append(job)
        self._send_jobs()
        return job.answered

    def stop(self) -> Deferred[None]:
        """End all processes; the Deferred fires when they have ended."""
        if self._stopped is not None:
            return self._stopped
        self._stopped = Deferred()
        for worker in [*self._workers]:
            worker.retire("the server stops")
        self._fail_all("the server stops")
        return self._stopped if self._processes else succeed(None)

    # -- called by workers (WorkerOwner) ---------------------------------------------------

    def on_ready(self, worker: WorkerProcess) -> None:
        """Send requests to a worker."""
        self._send_jobs()

    def on_retired(self, worker: WorkerProcess, left: list[Job]) -> None:
        """Give the requests of a worker to others."""
        self._workers.remove(worker)
        self._queue.extendleft(reversed(left))
        if worker.is_ready:
            self._send_jobs()
        else:
            self._note_start_failure(worker.end_reason)

    def on_ended(self, worker: WorkerProcess) -> None:
        """Forget a process that has ended."""
        self._processes.discard(worker)
        if self._stopped is not None and not self._processes:
            self._stopped.callback(None)

    # -- internal --------------------------------------------------------------------------

    def _send_jobs(self) -> None:
        """Send waiting requests to the workers that have the fewest, and start more workers."""
        while self._queue:
            workers = [worker for worker in self._workers if worker.is_ready]
            least = min(workers, key=lambda worker: len(worker.jobs), default=None)
            if least is None or least.jobs:
                self._start_worker()
            if least is None or len(least.jobs) >= PIPELINE:
                return
            least.send(self._queue.popleft())

    def _start_worker(self) -> None:
        """Start a worker, unless there are enough or one is being started."""
        is_starting = any(not worker.is_ready for worker in self._workers)
        if is_starting or len(self._workers) >= self._count or self._stopped is not None:
            return
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        if self._reactor.seconds() < self._start_again:
            if not self._workers:
                self._fail_all(self._start_problem)
            return
        worker = WorkerProcess(self._reactor, self._folder, self._limits, self)
        self._workers.append(worker)
        self._processes.add(worker)
        try:
            worker.start()
        except OSError as error:
            self._workers.remove(worker)
            self._processes.discard(worker)
            self._note_start_failure(f"no worker process can be started: {error.strerror}")

    def _note_start_failure(self, reason: str) -> None:
        """Wait a while before the next start; no request waits for that."""
        self._start_again = self._reactor.seconds() + RESTART_PAUSE
        self._start_problem = reason
        if not self._workers:
            self._fail_all(reason)

    def _fail_all(self, reason: str) -> None:
        """Fail the requests that wait."""
        waiting, self._queue = self._queue, deque()
        for job in waiting:
            job.fail(reason)

    def _cancel(self, job: Job) -> None:
        """Note that nobody waits for a request any more."""
        if job in self._queue:
            self._queue.remove(job)
