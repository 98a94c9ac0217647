"""Tests of the worker processes: their limits, their ends, and what that means for requests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.support.deferreds import results_of
from tests.support.reactors import reactor
from tests.unit.backends.template.processes import is_running, result_of, run_until
from twisted_tftp.backends.template import frames, workers
from twisted_tftp.backends.template.frames import Answer, Limits
from twisted_tftp.backends.template.plugin import MEMORY_RANGE
from twisted_tftp.backends.template.worker_process import ENVIRONMENT, RenderError
from twisted_tftp.backends.template.workers import MAX_QUEUE, PIPELINE, QueueFull, Workers

pytest.importorskip("jinja2")

__all__ = ["reactor"]

#: The variables of a request, as JSON.
VARIABLES = {
    "client.host": '"192.0.2.9"',
    "client.port": "2000",
    "now": "0",
    "mac": '"52:54:00:12:34:56"',
}


class Pool:
    """A pool of workers for a folder."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.folder = folder
        self.pools: list[Workers] = []
        self.make()

    def make(self, limits: Limits = Limits(seconds=10.0), count: int = 1) -> Workers:  # noqa: B008
        """Make another pool."""
        self.workers = Workers(str(self.folder), limits, count=count, reactor=self.reactor)
        self.pools.append(self.workers)
        return self.workers

    def send(self, text: str) -> Deferred[Answer]:
        """Send a request for a template of that text."""
        name = f"t{len(list(self.folder.iterdir()))}.j2"
        (self.folder / name).write_text(text)
        return self.workers.render(frames.request(name, VARIABLES))

    def render(self, text: str) -> Answer:
        """Return the answer to a request for a template of that text."""
        answer: Answer = result_of(self.reactor, self.send(text))
        return answer

    def failure(self, text: str) -> str:
        """Return why a template fails."""
        try:
            answer = self.render(text)
        except RenderError as error:
            return str(error)
        reason: str = answer.header["failed"]["reason"]
        return reason


@pytest.fixture
def pool(reactor: Any, tmp_path: Path) -> Iterator[Pool]:
    """Return a pool with one worker; check that no process is left."""
    pool = Pool(reactor, tmp_path)
    yield pool
    ids = [number for each in pool.pools for number in each.process_ids]
    for each in pool.pools:
        result_of(reactor, each.stop())
    assert not any(map(is_running, ids))


def test_template_is_rendered(pool: Pool) -> None:
    """The answer has the content, and says what was used."""
    answer = pool.render("mac={{ mac }}\n")
    assert answer.content == b"mac=52:54:00:12:34:56\n"
    assert answer.header["used"] == ["mac"]
    assert list(answer.header["files"]) == ["t0.j2"]


def test_endless_template_is_ended(pool: Pool) -> None:
    """Only its own request fails: those behind it are given to a new process."""
    pool.make(Limits(seconds=0.5))
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    pool.render("first")
    old = pool.workers.process_ids
    endless, *others = [pool.send(text) for text in (loop, "1", "{{ mac }}", "3")]
    ended = results_of(endless)
    contents = [result_of(pool.reactor, other).content for other in others]
    assert contents == [b"1", b"52:54:00:12:34:56", b"3"]
    assert ended[0].getErrorMessage() == "it took longer than 0.5 s"
    run_until(pool.reactor, lambda: not is_running(old[0]))


def test_endless_calculation_is_ended(pool: Pool) -> None:
    """Also if it is one operation that no Python code can interrupt."""
    pool.make(Limits(seconds=0.5))
    assert pool.failure("{{ 9 ** (9 ** 9) }}") == "it took longer than 0.5 s"


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 10 ** 9 }}",
        "{{ 'x'.ljust(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{% set x = namespace(s='x' * 1000) %}"
        "{% for i in range(99999) %}{% set x.s = x.s + x.s %}{% endfor %}",
    ],
)
def test_memory_is_limited(pool: Pool, text: str) -> None:
    """The process answers, and is replaced."""
    pool.render("first")
    old = pool.workers.process_ids
    assert pool.failure(text) == "it needs more memory than it may use"
    assert pool.render("{{ mac }}").content == b"52:54:00:12:34:56"
    assert pool.workers.process_ids != old


def test_small_template_needs_little_memory(pool: Pool) -> None:
    """The lowest limit that a user can choose is enough for it."""
    pool.make(Limits(seconds=10.0, memory=MEMORY_RANGE.low))
    assert pool.render("{% if mac %}\n{{ mac }}\n{% endif %}").content == b"52:54:00:12:34:56\n"


def test_size_of_the_file_is_limited(pool: Pool) -> None:
    """A template of 1 GB of output stops at the limit."""
    text = "{% for a in range(1000) %}{% for b in range(1000) %}" + "x" * 1000
    text += "{% endfor %}{% endfor %}"
    assert pool.failure(text) == "the file is larger than 1,048,576 octets"
    assert pool.failure("{{ 'x' * (1048576 + 1) }}") == "the file is larger than 1,048,576 octets"
    assert len(pool.render("{{ 'x' * 1048576 }}").content) == 1048576
    assert pool.failure("{{ '\xe4' * 1048576 }}") == "the file is larger than 1,048,576 octets"


def test_crash_fails_only_its_request(pool: Pool) -> None:
    """The requests behind it are given to a new process."""
    pool.make(Limits(seconds=30.0))
    pool.render("first")
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    crashing, other = pool.send(loop), pool.send("2")
    os.kill(pool.workers.process_ids[0], signal.SIGSEGV)
    with pytest.raises(RenderError, match="its process has ended: signal 11"):
        result_of(pool.reactor, crashing)
    assert result_of(pool.reactor, other).content == b"2"


def test_idle_process_that_ends_is_replaced(pool: Pool) -> None:
    """For instance, one that the kernel kills because memory is short."""
    pool.render("first")
    old = pool.workers.process_ids[0]
    os.kill(old, signal.SIGKILL)
    run_until(pool.reactor, lambda: not is_running(old))
    assert pool.render("2").content == b"2"


def test_process_inherits_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no other descriptor, and its environment holds no secret."""
    monkeypatch.setenv("SECRET", "x")
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        pool.render("first")
        process = Path(f"/proc/{pool.workers.process_ids[0]}")
        assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
    environment = dict(
        pair.split("=", 1) for pair in (process / "environ").read_text().split("\0") if pair
    )
    assert environment == ENVIRONMENT
    assert os.readlink(process / "cwd") == "/"
    limits = (process / "limits").read_text().splitlines()
    values = {line[:25].strip(): line[26:].split()[0] for line in limits}
    assert values["Max file size"] == values["Max core file size"] == "0"
    assert values["Max address space"].isdigit()


def test_worker_outlives_no_server(pool: Pool) -> None:
    """It ends when its input ends."""
    pool.render("first")
    (worker,) = pool.workers._workers
    process_id = worker.transport.pid
    worker.transport.closeStdin()
    run_until(pool.reactor, lambda: not is_running(process_id))


def test_process_starts_when_it_is_needed(pool: Pool) -> None:
    """A second one starts only if the first one is busy."""
    pool.make(count=2)
    assert pool.workers.process_ids == []
    for _ in range(3):
        pool.render("x")
    assert len(pool.workers.process_ids) == 1
    found = [pool.send("x") for _ in range(50)]
    assert [result_of(pool.reactor, one).content for one in found] == [b"x"] * 50
    run_until(pool.reactor, lambda: len(pool.workers.process_ids) == 2)


def test_start_makes_the_first_process(pool: Pool) -> None:
    """The first request need not wait for it."""
    pool.workers.start()
    assert len(pool.workers.process_ids) == 1
    pool.workers.start()
    assert pool.render("x").content == b"x"
    assert len(pool.workers.process_ids) == 1


def test_full_queue_is_an_error(pool: Pool) -> None:
    """There is one clear reason; the requests in the queue are not affected."""
    first = pool.send("x")
    request = frames.request("t0.j2", VARIABLES)
    results = [results_of(pool.workers.render(request)) for _ in range(MAX_QUEUE)]
    assert isinstance(results[-1][0].value, QueueFull)
    assert "5,000 templates wait" in results[-1][0].getErrorMessage()
    assert results[-2] == []
    assert result_of(pool.reactor, first).content == b"x"


def test_cancelled_request_leaves_the_queue(pool: Pool) -> None:
    """One that the worker has is answered to nobody."""
    found = [pool.send(str(number)) for number in range(PIPELINE + 5)]
    queued = results_of(found[-1])
    found[-1].cancel()
    run_until(pool.reactor, lambda: pool.workers._workers[0].is_ready)
    sent = results_of(found[0])
    found[0].cancel()
    assert [queued[0].type, sent[0].type] == [CancelledError, CancelledError]
    contents = [result_of(pool.reactor, one).content for one in found[1:-1]]
    assert contents == [str(number).encode() for number in range(1, PIPELINE + 4)]
    assert pool.render("x").content == b"x"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import os; os.write(1, b'x' * 9)", "too large"),
        ("import os; os.write(1, bytes(9))", "not valid"),
        ("import time; time.sleep(60)", "did not start in 0.5 s"),
    ],
)
def test_process_that_does_not_start_is_a_clear_error(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    """All that wait fail; for a second, no other process is started."""
    module = "twisted_tftp.backends.template.worker_process"
    monkeypatch.setattr(f"{module}.PROGRAM", program)
    monkeypatch.setattr(f"{module}.START_LIMIT", 0.5)
    for _ in range(3):
        found = [results_of(pool.send("x")) for _ in range(3)]
        run_until(pool.reactor, lambda found=found: all(found))
        assert all(reason in one[0].getErrorMessage() for one in found)


def test_missing_python_is_a_clear_error(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance, in a chroot."""
    monkeypatch.setattr(sys, "executable", "/missing/python")
    assert "ended" in pool.failure("x")


def test_stopped_pool_refuses_requests(pool: Pool) -> None:
    """Requests that wait fail; all processes are ended, also one that is being started."""
    waiting = results_of(pool.send("x"))
    (process_id,) = pool.workers.process_ids
    stopped = pool.workers.stop()
    assert waiting[0].getErrorMessage() == "the server stops"
    result_of(pool.reactor, stopped)
    assert not is_running(process_id)
    assert results_of(pool.workers.render(b""))[0].getErrorMessage() == "the server stops"


def test_worker_without_server_is_ended_by_its_alarm(
    tmp_path: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that loops does not run for ever if the server was killed."""
    import subprocess

    (tmp_path / "loop.j2").write_text("{{ 9 ** (9 ** 9) }}")
    program = (
        "import sys; from twisted_tftp.backends.template import worker;"
        "worker.ALARM_MARGIN = 0.3; worker.main(*sys.argv[1:])"
    )
    limits = Limits(seconds=0.2).to_json()
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), limits],
        input=frames.request("loop.j2", VARIABLES),
        capture_output=True,
        timeout=20,
        cwd=Path(workers.__file__).parents[3],
    )
    assert found.returncode == -signal.SIGALRM
