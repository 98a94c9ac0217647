"""Tests of the HTTP service that is asked for entries, and of what it may do wrong."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from zope.interface.verify import verifyObject

from tests.support.deferreds import results_of
from tests.support.logs import captured_log
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.backends.template.hosts import HostAnswer, IHostSource, Machine
from twisted_tftp.backends.template.hosts_http import (
    FAILURE_TTL,
    MAX_CACHE,
    MAX_REQUESTS,
    HostsService,
)
from twisted_tftp.backends.template.http_fetch import MAX_BODY, has_tls

__all__ = ["reactor"]

MAC = "52:54:00:12:34:56"

#: A request whose name has a MAC address.
NODE1 = Machine(MAC, None, None, "192.0.2.9", "a/b c", is_named=True)

#: What a service does with a request: it writes to the transport.
Script = Callable[[Any], None]


def answering(body: bytes, status: str = "200 OK", headers: str = "") -> Script:
    """Answer with a document."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return lambda transport: transport.write(head + body)


class Service:
    """A service on the loopback interface that answers each request as `script` says."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.script: Script = answering(b"{}")
        self.targets: list[str] = []
        self.connections = 0
        self.sent = 0
        self.now = 0.0
        service = self

        class Connection(Protocol):
            def connectionMade(self) -> None:
                service.connections += 1

            def dataReceived(self, data: bytes) -> None:
                service.targets.append(data.split(b" ")[1].decode())
                service.script(self.transport)

            def connectionLost(self, reason: Any = None) -> None:
                service.connections -= 1

        self._port = reactor.listenTCP(0, Factory.forProtocol(Connection), interface="127.0.0.1")
        self.root = f"http://127.0.0.1:{self._port.getHost().port}"

    def hosts(self, path: str = "/{mac}", **settings: Any) -> HostsService:
        """Return a source that asks this service."""
        return HostsService(
            self.root + path,
            reactor=self.reactor,
            in_thread=maybeDeferred,
            monotonic=lambda: self.now,
            **settings,
        )

    def ask(self, hosts: HostsService, machine: Machine = NODE1) -> HostAnswer:
        """Return the answer; check that all connections are closed then."""
        found = hosts.find(machine)
        answer = outcome(self.reactor, found) if isinstance(found, Deferred) else found
        spin(self.reactor, lambda: self.connections == 0)
        return answer

    def stop(self) -> None:
        """Close the port."""
        outcome(self.reactor, maybeDeferred(self._port.stopListening))


@pytest.fixture
def service(reactor: Any) -> Iterator[Service]:
    """Return a service."""
    service = Service(reactor)
    yield service
    service.stop()


def test_entry_is_fetched_once(service: Service) -> None:
    """The answer is used for `ttl` seconds; SIGHUP discards it."""
    hosts = service.hosts(ttl=10)
    verifyObject(IHostSource, hosts)
    hosts.check()
    service.script = answering(b'{"role": "compute"}')
    for now in (0, 9.9, 10, 11):
        service.now = now
        assert service.ask(hosts) == HostAnswer('{"role": "compute"}')
    assert service.targets == ["/52%3A54%3A00%3A12%3A34%3A56"] * 2
    hosts.forget()
    service.ask(hosts)
    assert len(service.targets) == 3


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/x?m={mac}&n={name}", "/x?m=52%3A54%3A00%3A12%3A34%3A56&n=a%2Fb%20c"),
        ("/x", "/x?mac=52%3A54%3A00%3A12%3A34%3A56&client=192.0.2.9"),
        ("/x?a=1", "/x?a=1&mac=52%3A54%3A00%3A12%3A34%3A56&client=192.0.2.9"),
        ("/{client}/", "/192.0.2.9/"),
    ],
)
def test_values_are_escaped_in_the_url(service: Service, path: str, target: str) -> None:
    """A name from the network adds no parameter and no component."""
    service.ask(service.hosts(path))
    assert service.targets == [target]


def test_value_that_is_not_known_asks_nothing(service: Service) -> None:
    """There is no entry then."""
    answer = service.ask(service.hosts("/{uuid}"))
    assert answer.entry is None
    assert "needs a value that the requested name does not have" in answer.problem
    assert service.targets == []


def test_octets_of_names_that_are_no_text_are_escaped(service: Service) -> None:
    """They stay the same octets."""
    service.ask(service.hosts("/{name}"), NODE1._replace(name="\udcff\r\n"))
    assert service.targets == ["/%FF%0D%0A"]


def flood(transport: Any) -> None:
    """Send 100 MB, as fast as they are read, without saying how many there will be."""
    chunk = b"x" * 65536

    class Producer:
        left = 1600

        def resumeProducing(self) -> None:
            self.left -= 1
            transport.write(b"10000\r\n" + chunk + b"\r\n")
            if self.left == 0:
                transport.unregisterProducer()

        def stopProducing(self) -> None:
            pass

    transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    transport.registerProducer(Producer(), False)


def flood_of_headers(transport: Any) -> None:
    """Send 10 MB of headers."""
    transport.write(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 1000)
    transport.write((b"\r\nX: " + b"x" * 1000) * 10_000)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (flood, "the answer is larger than 1024 KiB"),
        (flood_of_headers, "the server sent too much"),
        (answering(b"x" * (MAX_BODY + 1)), "the answer is larger than 1024 KiB"),
        (answering(b"{"), "the answer is not JSON"),
        (answering(b'{"a": NaN}'), "the answer is not JSON: NaN is not a number"),
        (answering(b"\xff{}"), "the answer is not JSON"),
        (answering(b""), "the answer is not JSON"),
        (answering(b"[1]"), "the answer is not a JSON object"),
        (answering(b'{"a": ' + b"[" * 100_000), "the answer has too many levels"),
        (answering(b'{"a": ' + b"[" * 50 + b"]" * 50 + b"}"), "more than 20 levels"),
        (answering(b'{"a": [' + b"1," * 20_000 + b"1]}"), "more than 10,000 values"),
        (answering(b'{"a": ' + b"1" * 9999 + b"}"), "the answer is not JSON: Exceeds the limit"),
        (answering(b"{}", "500 Oops"), "status 500"),
        (answering(b"{}", "100 Continue"), "no answer in 0.5 s"),
        (lambda transport: None, "no answer in 0.5 s"),
        (lambda transport: transport.write(b"HTTP/1.1 200 OK\r\n"), "no answer in 0.5 s"),
        (
            lambda transport: transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
            "no answer in 0.5 s",
        ),
        (lambda transport: transport.write(b"SSH-2.0\r\n\r\n"), ""),
        (lambda transport: transport.loseConnection(), ""),
        (
            lambda transport: (
                transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
                transport.loseConnection(),
            ),
            "the answer is not complete",
        ),
        (answering(b"", "302 Found"), "a redirect leads to a URL that is not valid"),
        (
            answering(b"", "302 Found", "Location: file:///etc/passwd\r\n"),
            "a redirect leads to a URL that is not valid",
        ),
        (answering(b"", "302 Found", "Location: /again\r\n"), "more than 3 redirects"),
    ],
)
def test_wrong_answer_is_a_problem(service: Service, script: Script, problem: str) -> None:
    """There is one line for the log; the connection is closed, and nothing hangs."""
    service.script = script
    hosts = service.hosts(limit=0.5)
    with captured_log() as lines:
        answer = service.ask(hosts)
    assert answer.entry is None
    assert problem in answer.problem
    assert answer.problem.startswith(f"{service.root}/52%3A54%3A00%3A12%3A34%3A56: ")
    assert "\n" not in answer.problem
    shown = [line for line in lines if "unexpected 100" not in line]
    assert shown == [f"the service of the hosts fails: {answer.problem}"]


def test_query_of_the_url_is_not_logged(service: Service) -> None:
    """It may have a secret."""
    hosts = service.hosts("/{mac}?token=secret")
    address = f"{service.root}/52%3A54%3A00%3A12%3A34%3A56?..."
    for status, problem in [
        ("500 Error", f"{address}: status 500"),
        ("404 Not Found", f"{service.root}/{{mac}}?... has no entry: status 404"),
    ]:
        service.script = answering(b"", status)
        with captured_log() as lines:
            answer = service.ask(hosts)
        assert answer.problem == problem
        assert "secret" not in "".join(lines)
        service.now += 10.0
    nobody = NODE1._replace(mac=None)
    assert "secret" not in service.ask(hosts, nobody).problem


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return the URL of an HTTPS service, and the path of the certificate of its CA."""
    paths = {name: str(tmp_path / name) for name in ("ca.pem", "ca.key", "pem", "key", "csr")}
    names = tmp_path / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    ca_out = ["-keyout", paths["ca.key"], "-out", paths["ca.pem"]]
    ca = ["-CA", paths["ca.pem"], "-CAkey", paths["ca.key"], "-CAcreateserial"]
    for command in (
        ["req", "-x509", *new_key, "-subj", "/CN=a CA", *ca_out],
        ["req", *new_key, "-keyout", paths["key"], "-out", paths["csr"], "-subj", "/CN=localhost"],
        ["x509", "-req", *ca, "-in", paths["csr"], "-extfile", str(names), "-out", paths["pem"]],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b'{"role": "a"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths["pem"], paths["key"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/{{mac}}", paths["ca.pem"]
    server.shutdown()
    thread.join()
    server.server_close()


#: Asks an HTTPS service with the global reactor: Twisted's TLS uses no other one.
ASK_SERVICE = """
import sys
from twisted.internet.task import react
from twisted_tftp.backends.template.hosts import Machine
from twisted_tftp.backends.template.hosts_http import HostsService
machine = Machine("52:54:00:12:34:56", None, None, "192.0.2.9", "a", True)
react(lambda reactor: HostsService(sys.argv[1]).find(machine).addCallback(print))
"""


@pytest.mark.parametrize(
    ("is_trusted", "expected"),
    [(True, "entry='{\"role\": \"a\"}', problem=''"), (False, ": TLS: certificate verify failed")],
)
def test_https_needs_a_certificate_that_is_trusted(
    tls_url: tuple[str, str], is_trusted: bool, expected: str
) -> None:
    """`SSL_CERT_FILE` names the certificate of another CA."""
    url, ca_path = tls_url
    variables = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if is_trusted:
        variables["SSL_CERT_FILE"] = ca_path
    command = [sys.executable, "-c", ASK_SERVICE, url]
    asked = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert expected in asked.stdout, asked.stderr


def test_service_that_does_not_run_is_a_problem(service: Service, reactor: Any) -> None:
    """The connection is refused."""
    hosts = service.hosts()
    service.stop()
    assert "refused" in service.ask(hosts).problem


@pytest.mark.parametrize("status", ["404 Not Found", "204 No Content", "410 Gone"])
def test_machine_may_have_no_entry(service: Service, status: str) -> None:
    """That is an answer, which is cached as well."""
    service.script = answering(b"", status)
    hosts = service.hosts()
    for _ in range(2):
        answer = service.ask(hosts)
        assert answer.entry is None
        assert "has no entry" in answer.problem
    assert len(service.targets) == 1


def test_redirect_is_followed(service: Service) -> None:
    """The body of a redirect is not waited for."""

    def script(transport: Any) -> None:
        if service.targets[-1] == "/new":
            answering(b'{"a": 1}')(transport)
        else:
            transport.write(b"HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 9\r\n\r\n")

    service.script = script
    assert service.ask(service.hosts()) == HostAnswer('{"a": 1}')


@pytest.mark.parametrize("may_be_stale", [False, True])
def test_last_good_answer_may_be_used(service: Service, may_be_stale: bool) -> None:
    """If that was chosen; the service is asked again soon."""
    hosts = service.hosts(ttl=10, may_be_stale=may_be_stale)
    service.script = answering(b'{"a": 1}')
    service.ask(hosts)
    service.now = 10
    service.script = answering(b"", "500 Oops")
    for _ in range(2):
        assert (service.ask(hosts).entry == '{"a": 1}') is may_be_stale
    assert len(service.targets) == 2
    service.now += FAILURE_TTL
    service.script = answering(b'{"a": 2}')
    assert service.ask(hosts).entry == '{"a": 2}'


def test_requests_for_one_machine_are_one(service: Service, reactor: Any) -> None:
    """All wait for it; one that is cancelled does not end it."""
    hosts = service.hosts()
    found = [hosts.find(NODE1) for _ in range(10)]
    assert all(isinstance(one, Deferred) for one in found)
    results = [results_of(one) for one in found]  # type: ignore[arg-type]
    found[0].cancel()  # type: ignore[union-attr]
    spin(reactor, lambda: all(results))
    assert [result[0] for result in results[1:]] == [HostAnswer("{}")] * 9
    assert len(service.targets) == 1
    spin(reactor, lambda: service.connections == 0)


def test_hanging_service_gets_few_requests(service: Service, reactor: Any) -> None:
    """The others wait, and end after the same time."""
    service.script = lambda transport: None
    hosts = service.hosts(limit=0.5)
    results = []
    for number in range(3 * MAX_REQUESTS):
        mac = f"52:54:00:00:00:{number:02x}"
        results.append(results_of(hosts.find(NODE1._replace(mac=mac))))  # type: ignore[arg-type]
    spin(reactor, lambda: len(service.targets) >= MAX_REQUESTS)
    for _ in range(20):
        reactor.iterate(0)
    assert len(service.targets) == MAX_REQUESTS
    spin(reactor, lambda: all(results), seconds=5)
    for result in results:
        assert "no answer in 0.5 s" in result[0].problem
    spin(reactor, lambda: service.connections == 0)


def test_cache_is_bounded(service: Service) -> None:
    """The answers that were not used for the longest time are removed."""
    hosts = service.hosts()
    text = json.dumps({"a": "x" * 900_000})
    service.script = answering(text.encode())
    for number in range(20):
        service.ask(hosts, NODE1._replace(mac=f"52:54:00:00:00:{number:02x}"))
    assert hosts._octets <= MAX_CACHE
    assert len(hosts._cache) == MAX_CACHE // 900_000


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://a/{mac}", "is not a URL"),
        ("http:///{mac}", "is not a URL"),
        ("http://a:x/{mac}", "is not a URL"),
        ("http://a/\xe4", "is not a URL"),
        ("http://a/ b", "is not a URL"),
        ("http://a/{serial}", "none of {mac}, {uuid}, {address}, {client}, {name}"),
        ("http://u:p@a/{mac}", "no password"),
        ("http://{mac}/", "fixed host"),
        ("http://a/#{mac}", "no fragment"),
    ],
)
def test_wrong_url_is_a_mistake_of_the_configuration(url: str, problem: str) -> None:
    """It is reported at the start."""
    with pytest.raises(ValueError, match=r"http|ftp") as caught:
        HostsService(url)
    assert problem in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://a/?t=X1", "http://u@a/?t=X1", "http://a/{serial}?t=X1"])
def test_query_of_a_wrong_url_is_not_shown(url: str) -> None:
    """It may have a secret."""
    with pytest.raises(ValueError, match=r"\?\.\.\.'") as caught:
        HostsService(url)
    assert "X1" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:X1@a/{mac}", "http://u:X1@a/?a=1,b=2", "ftp://u:X1@a/"])
def test_password_of_a_wrong_url_is_not_shown(url: str) -> None:
    """The message says that there must be none; it goes to the log."""
    with pytest.raises(ValueError, match="://\\.\\.\\.@a/") as caught:
        HostsService(url)
    assert "X1" not in str(caught.value)


def test_https_needs_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    if has_tls():
        HostsService("https://a/{mac}")
    monkeypatch.setattr("twisted_tftp.backends.template.hosts_http.has_tls", lambda: False)
    with pytest.raises(ValueError, match=r"twisted-tftp\[templates\]"):
        HostsService("https://a/{mac}")
