"""Tests of the backend for templates: what a client gets, and what is rendered again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface.verify import verifyObject

from tests.support.contexts import PEER, read_context, write_context
from tests.support.deferreds import value
from tests.support.reactors import reactor
from tests.unit.backends.template.processes import is_running, result_of, write_template
from twisted_tftp.backends.explaining import explain
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.template.backend import TemplateBackend
from twisted_tftp.backends.template.frames import Limits
from twisted_tftp.backends.template.hosts import HostAnswer
from twisted_tftp.backends.template.hosts_file import HostsFile
from twisted_tftp.errors import AccessViolation, BackendUnavailable, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IContentCheck, IExplainable, IFileBackend

pytest.importorskip("jinja2")

__all__ = ["reactor"]

MAC = "52:54:00:12:34:56"

#: The name that PXELINUX asks for.
PXELINUX = "pxelinux.cfg/01-52-54-00-12-34-56"

#: The name of the template of all such names.
PATTERN = "pxelinux.cfg/01-{mac}.j2"

UUID = "b8945908-d6a6-41a9-611d-74a6ab80b83d"


class Served:
    """A folder of templates, and a backend that renders them."""

    def __init__(self, reactor: Any, folder: Path, kind: str) -> None:
        self.reactor = reactor
        self.folder = folder / "templates"
        self.folder.mkdir()
        self.hosts_path = folder / "hosts.toml"
        self.kind = kind
        self.backends: list[TemplateBackend] = []
        self.now = 1_800_000_000.0
        self.make()

    def make(self, **settings: Any) -> TemplateBackend:
        """Make another backend."""
        if self.hosts_path.exists():
            settings.setdefault("hosts", HostsFile(str(self.hosts_path), in_thread=maybeDeferred))
        settings.setdefault("limits", Limits(seconds=20.0))
        self.backend = TemplateBackend(
            str(self.folder),
            workers=1,
            reactor=self.reactor,
            in_thread=maybeDeferred,
            lookup=KernelLookup(str(self.folder), lambda device: self.kind),
            clock=lambda: self.now,
            **settings,
        )
        self.backends.append(self.backend)
        return self.backend

    def write(self, name: str, text: str, **settings: Any) -> None:
        """Write a template."""
        write_template(self.folder, name, text, **{"is_new": True, **settings})

    def get(self, name: str, **values: Any) -> bytes:
        """Return a file."""
        found = self.backend.open_reader(name, read_context(name, **values))
        reader = result_of(self.reactor, found)
        content = bytes(reader.read(0, 10_000_000))
        assert reader.size == len(content)
        reader.close()
        return content

    def failure(self, name: str, **values: Any) -> TFTPError:
        """Return the error of a request."""
        with pytest.raises(TFTPError) as caught:
            self.get(name, **values)
        return caught.value

    def hosts(self, text: str) -> None:
        """Write the hosts file, and make a backend that uses it."""
        self.hosts_path.write_text(text)
        self.make()

    def is_cached(self, name: str, **values: Any) -> bool:
        """Return whether a file is not rendered again."""
        workers = self.backend._workers
        render = workers.render
        calls = []

        def count(request: bytes) -> Any:
            calls.append(request)
            return render(request)

        workers.render = count  # type: ignore[method-assign]
        try:
            self.get(name, **values)
        finally:
            workers.render = render  # type: ignore[method-assign]
        return not calls


@pytest.fixture(params=["ext4", "nfs"])
def served(request: pytest.FixtureRequest, reactor: Any, tmp_path: Path) -> Iterator[Served]:
    """Return a backend on a local file system, or on one where each look-up needs a thread."""
    served = Served(reactor, tmp_path, request.param)
    yield served
    ids = [number for backend in served.backends for number in backend._workers.process_ids]
    for backend in served.backends:
        result_of(reactor, backend.stop())
    assert not any(map(is_running, ids))


def known(mac: str | None = MAC) -> Any:
    """Return a neighbour table that has one MAC address for all hosts."""
    return lambda host: mac


def test_interfaces_are_implemented(served: Served) -> None:
    """Also that of wrappers, for --explain."""
    for interface in (IFileBackend, IBackendLifecycle, IContentCheck, IExplainable):
        verifyObject(interface, served.backend)


def test_template_answers_for_its_name(served: Served) -> None:
    """The values of the request are variables."""
    text = "{{ name }} {{ client.host }} {{ client.port }} {{ client }} {{ now.isoformat() }}\n"
    served.write("a/b.cfg.j2", text)
    expected = f"a/b.cfg {PEER.host} {PEER.port} {PEER} 2027-01-15T08:00:00+00:00\n".encode()
    assert served.get("a/b.cfg") == served.get("//a/./b.cfg") == expected


def test_one_template_answers_for_all_machines(served: Served) -> None:
    """The name has a placeholder in the place of the MAC address, UUID or IP address."""
    served.write(PATTERN, "{{ mac }}")
    served.write("pxelinux.cfg/{uuid}.j2", "{{ uuid }} {{ mac is defined }}")
    served.write("pxelinux.cfg/{address}.j2", "{{ address }}")
    served.write("pxelinux.cfg/{network}.j2", "{{ network }}")
    assert served.get(PXELINUX) == MAC.encode()
    assert served.get(f"pxelinux.cfg/{UUID}") == f"{UUID} False".encode()
    assert served.get("pxelinux.cfg/C0A80101") == b"192.168.1.1"
    assert served.get("pxelinux.cfg/C0A801") == b"192.168.1.0/24"
    served.write(f"{PXELINUX}.j2", "this machine only: {{ mac }}")
    assert served.get(PXELINUX) == f"this machine only: {MAC}".encode()


def test_client_that_is_not_named_has_the_mac_of_the_neighbour_table(served: Served) -> None:
    """A MAC address in the name comes first."""
    served.write("default.j2", "{{ mac }}")
    served.write(PATTERN, "{{ mac }}")
    other = known("52-54-00-FF-FF-FF")
    assert served.get("default", find_mac=other) == b"52:54:00:ff:ff:ff"
    assert served.get(PXELINUX, find_mac=other) == MAC.encode()
    assert "'mac' is undefined" in served.failure("default").detail


@pytest.mark.parametrize(
    "name", ["missing", "a.j2", "a/", "../a", "b/../a", "pxelinux.cfg/01-{mac}", "", "x\0", "."]
)
def test_other_names_are_not_found(served: Served, name: str) -> None:
    """Also the template itself, and a name with a placeholder."""
    served.write("a.j2", "x")
    served.write(PATTERN, "x")
    expected = AccessViolation if name in ("a/", ".") else FileNotFound
    assert type(served.failure(name)) is expected


def test_links_stay_in_the_folder(served: Served, tmp_path: Path) -> None:
    """A link inside it is followed; another one is refused, also by an include."""
    (tmp_path / "secret.j2").write_text("secret")
    served.write("a.j2", "inside")
    (served.folder / "in.j2").symlink_to("a.j2")
    (served.folder / "out.j2").symlink_to(tmp_path / "secret.j2")
    (served.folder / "folder").symlink_to(tmp_path)
    served.write("include.j2", "{% include 'out.j2' %}")
    served.write("import.j2", "{% import 'folder/secret.j2' as x %}")
    served.write("dots.j2", "{% include '../secret.j2' %}")
    served.write("absolute.j2", "{% include '" + str(tmp_path) + "/secret.j2' %}")
    assert served.get("in") == b"inside"
    assert type(served.failure("out")) is AccessViolation
    for name in ("include", "import", "dots", "absolute"):
        failure = served.failure(name)
        assert failure.message == "the template failed"
        assert failure.detail.startswith(f"{name}.j2, line 1: ")
        assert "out of the" in failure.detail


def test_error_of_a_template_tells_the_client_little(served: Served) -> None:
    """The operator gets the template, the line and the reason."""
    served.write("a.j2", "x\n{% include 'b.inc' %}\n")
    served.write("b.inc", "x\n\n{{ nothing }}\n")
    failure = served.failure("a")
    assert failure.code == 0
    assert failure.message == "the template failed"
    assert failure.detail == "b.inc, line 3: 'nothing' is undefined"
    served.write("a.j2", "\n{% if %}\n")
    assert served.failure("a").detail.startswith("a.j2, line 2: Expected an expression")


def test_limits_hold(served: Served) -> None:
    """A template that loops for ever, and one of 1 GB of output, are clean errors."""
    served.make(limits=Limits(seconds=0.5))
    served.write("loop.j2", "{{ 9 ** (9 ** 9) }}")
    served.write(
        "large.j2",
        "{% for a in range(1000) %}{% for b in range(1000) %}"
        + "x" * 1000
        + "{% endfor %}{% endfor %}",
    )
    assert served.failure("loop").detail == "loop.j2: it took longer than 0.5 s"
    served.make()
    detail = served.failure("large").detail
    assert detail == "large.j2: the file is larger than 1,048,576 octets"


def test_entry_of_the_machine_is_a_variable(served: Served) -> None:
    """If there is none, a template that needs it fails, and says why."""
    served.write(PATTERN, "role={{ host.role }}")
    assert "there is no hosts file" in served.failure(PXELINUX).detail
    served.hosts(f"['{MAC}']\nrole = 'compute'\n")
    assert served.get(PXELINUX) == b"role=compute"
    name = "pxelinux.cfg/01-52-54-00-00-00-00"
    detail = f"{PATTERN}, line 1: 'host' is undefined: the hosts file has no entry for "
    assert served.failure(name).detail == f"{detail}mac 52:54:00:00:00:00"


def test_template_may_say_that_there_is_no_file(served: Served) -> None:
    """The boot loader then asks for the next name, and an overlay its next backend."""
    served.write(PATTERN, "{% if host is not defined %}{{ not_found() }}{% endif %}x")
    assert type(served.failure(PXELINUX)) is FileNotFound
    served.hosts(f"['{MAC}']\n")
    assert served.get(PXELINUX) == b"x"


def test_name_must_be_that_of_the_client(served: Served) -> None:
    """With `verify_mac`: the MAC address of the name, or of the entry."""
    served.write(PATTERN, "x")
    served.write("pxelinux.cfg/{uuid}.j2", "{{ host.mac }}")
    served.write("pxelinux.cfg/{address}.j2", "{{ host.address }}")
    served.hosts_path.write_text(f"['{MAC}']\nuuid = '{UUID}'\n['192.0.2.1']\n['192.0.2.2']\n")
    served.make(verify_mac=True)
    assert served.get(PXELINUX, find_mac=known()) == b"x"
    assert served.get(f"pxelinux.cfg/{UUID}", find_mac=known()) == MAC.encode()
    assert served.get("pxelinux.cfg/C0000201") == b"192.0.2.1"
    for name, mac in [
        (PXELINUX, None),
        (PXELINUX, "52:54:00:00:00:00"),
        (f"pxelinux.cfg/{UUID}", None),
        (f"pxelinux.cfg/{UUID}", "52:54:00:00:00:00"),
        ("pxelinux.cfg/C0000202", MAC),
    ]:
        failure = served.failure(name, find_mac=known(mac))
        assert type(failure) is AccessViolation, (name, mac, failure.detail)
        assert f"the neighbour table has {mac or 'no entry'} for the client" in failure.detail


def test_name_of_a_machine_without_entry_must_be_that_of_the_client(served: Served) -> None:
    """With `verify_mac`: nothing proves a UUID, and only the client has its address."""
    served.write(f"pxelinux.cfg/{UUID}.j2", "secret")
    served.write("pxelinux.cfg/{uuid}.j2", "secret")
    served.write("pxelinux.cfg/{address}.j2", "{{ address }}")
    served.write("pxelinux.cfg/{network}.j2", "{{ network }}")
    served.make(verify_mac=True)
    for name in (UUID, UUID.replace("b8", "b9"), "C0000202"):
        failure = served.failure(f"pxelinux.cfg/{name}", find_mac=known())
        assert type(failure) is AccessViolation
        assert "(verify-mac)" in failure.detail
    assert served.get("pxelinux.cfg/C0000201", find_mac=known()) == b"192.0.2.1"
    assert served.get("pxelinux.cfg/C000", find_mac=known()) == b"192.0.0.0/16"


class Answering:
    """A source whose entries have any values, as those of a service."""

    def __init__(self, entry: dict[str, object]) -> None:
        self.entry = entry

    def find(self, machine: Any) -> HostAnswer:
        """Return the entry."""
        return HostAnswer(json.dumps(self.entry))


@pytest.mark.parametrize(
    ("entry", "host", "is_served"),
    [
        ({"mac": "52-54-00-12-34-56"}, "192.0.2.1", True),
        ({"mac": "unknown", "address": "192.0.2.1"}, "192.0.2.1", False),
        ({"mac": ["52:54:00:12:34:56"], "address": "192.0.2.1"}, "192.0.2.1", False),
        ({"mac": None, "address": "192.0.2.1"}, "192.0.2.1", True),
        ({"address": "FE80:0::1"}, "fe80::1%eth0", True),
        ({"address": "nowhere"}, "192.0.2.1", False),
        ({"address": 7}, "192.0.2.1", False),
        ({}, "192.0.2.1", False),
    ],
)
def test_entry_of_a_service_must_be_that_of_the_client(
    served: Served, entry: dict[str, object], host: str, is_served: bool
) -> None:
    """With `verify_mac`: a MAC address that is none does not make the IP address count."""
    served.write("default.j2", "x")
    served.make(verify_mac=True, hosts=Answering(entry))
    values = {"find_mac": known(), "peer": PEER._replace(host=host)}
    if is_served:
        assert served.get("default", **values) == b"x"
    else:
        assert type(served.failure("default", **values)) is AccessViolation


def test_file_is_rendered_again_only_if_something_changed(served: Served) -> None:
    """A template, an included file or a variable that it uses; others make no difference."""
    served.hosts(f"['{MAC}']\nrole = 'a'\n['52:54:00:00:00:00']\nrole = 'b'\n")
    served.write("inc.inc", "included", is_new=True)
    served.write(PATTERN, "{{ host.role }}{% include 'inc.inc' %}{% include ['no', 'inc.inc'] %}")
    served.write("now.j2", "{{ now }}")
    served.write("port.j2", "{{ client.port }}")
    served.write("host.j2", "{{ client.host }}", is_new=False)
    other = PXELINUX.replace("12-34-56", "00-00-00")
    for name in (PXELINUX, other, "host"):
        assert not served.is_cached(name)
        assert served.is_cached(name)
        assert served.is_cached(name, peer=PEER._replace(port=3000))
    assert served.get(PXELINUX) == b"aincludedincluded"
    assert served.get(other) == b"bincludedincluded"
    assert not served.is_cached("host", peer=PEER._replace(host="192.0.2.99"))
    for name in ("now", "port"):
        served.get(name)
        assert not served.is_cached(name)
    served.write("inc.inc", "changed")
    assert served.get(PXELINUX) == b"achangedchanged"
    assert not served.is_cached(PXELINUX)  # it has changed too recently
    served.write("no", "new", is_new=False)
    assert served.get(PXELINUX) == b"achangednew"
    assert served.is_cached(PXELINUX)
    served.hosts_path.write_text(f"['{MAC}']\nrole = 'c'\n")
    served.backend.forget()
    assert served.get(PXELINUX) == b"cchangednew"


def test_template_may_include_a_file_for_each_machine(served: Served) -> None:
    """Each result is kept, however many machines there are; the used files count in the cache."""
    served.write(PATTERN, "{% include 'machines/' ~ mac ignore missing %}x", is_new=False)
    names = [f"pxelinux.cfg/01-52-54-00-00-00-{number:02}" for number in range(20)]
    for name in names:
        assert served.get(name) == b"x"
    assert all(served.is_cached(name) for name in names)
    store = served.backend._contents
    assert store.octets > 20 * 2 * len("machines/52:54:00:00:00:00")
    served.write("machines/52:54:00:00:00:07", "y", is_new=False)
    assert served.get(names[7]) == b"yx"
    assert served.is_cached(names[7])
    served.make(cache=1000)
    for name in names:
        served.get(name)
    assert served.backend._contents.octets <= 1000


def test_change_of_a_nested_import_is_seen(served: Served) -> None:
    """The template that is imported has itself imported macros."""
    served.write("inner.inc", "{% macro text() %}old{% endmacro %}")
    served.write(
        "outer.inc", "{% from 'inner.inc' import text %}{% macro a() %}{{ text() }}{% endmacro %}"
    )
    served.write(
        "a.j2", "{% import 'outer.inc' as outer %}{{ outer.a() }}{{ client.port }}", is_new=False
    )
    port = str(PEER.port).encode()
    for _ in range(2):
        assert served.get("a") == b"old" + port
    served.write("inner.inc", "{% macro text() %}new{% endmacro %}")
    assert served.get("a") == b"new" + port


def test_imported_template_remembers_no_machine(served: Served) -> None:
    """What one file was made from is not in the next one."""
    served.write(
        "state.inc",
        "{% set last = namespace(mac='-') %}"
        "{% macro swap(mac) %}{{ last.mac }}{% set last.mac = mac %}{% endmacro %}",
    )
    served.write(PATTERN, "{% import 'state.inc' as state %}{{ state.swap(mac) }}", is_new=False)
    assert served.get(PXELINUX) == b"-"
    assert served.get(PXELINUX.replace("12-34-56", "00-00-00")) == b"-"


def test_client_is_printed_without_a_memory_address(served: Served) -> None:
    """The content depends on the variables only; the cache knows those that were used."""
    served.write("a.j2", "{{ client | pprint }}")
    assert served.get("a") == f"Client(host={PEER.host!r}, port={PEER.port})".encode()


def test_request_for_a_missing_file_needs_no_thread(tmp_path: Path) -> None:
    """Ten of them are normal for each boot."""
    calls: list[Any] = []

    def in_thread(function: Any, *args: Any) -> Deferred[Any]:
        calls.append(args)
        return maybeDeferred(function, *args)

    lookup = KernelLookup(str(tmp_path), lambda device: "ext4")
    backend = TemplateBackend(str(tmp_path), in_thread=in_thread, lookup=lookup)
    for _ in range(3):
        with pytest.raises(FileNotFound):
            value(backend.open_reader(PXELINUX, read_context(PXELINUX)))
    assert len(calls) == 1


def test_uploads_are_refused(served: Served) -> None:
    """The client gets ERROR 2."""
    with pytest.raises(AccessViolation):
        served.backend.open_writer("a", write_context("a"))


def test_check_needs_a_folder_and_valid_hosts(served: Served, tmp_path: Path) -> None:
    """The service does not start otherwise."""
    served.backend.check()
    with pytest.raises(BackendUnavailable, match="is not a directory"):
        TemplateBackend(str(tmp_path / "missing")).check()
    served.hosts("x = 1\n")
    with pytest.raises(BackendUnavailable, match=r"hosts\.toml: 'x' must be a table"):
        served.backend.check()


def test_explain_names_the_template(served: Served) -> None:
    """The result follows: the size, or the error with its reason."""
    served.write(PATTERN, "12345")
    served.write("bad.j2", "{{ x }}")

    def explained(name: str) -> Any:
        return result_of(served.reactor, explain(served.backend, name, read_context(name)))

    assert explained(PXELINUX) == [f"template: {PATTERN}", "found: 5 octets"]
    assert explained("bad") == [
        "template: bad.j2",
        "ERROR 0: the template failed (bad.j2, line 1: 'x' is undefined)",
    ]
    assert explained("missing") == ["ERROR 1: no such file"]


def test_transfer_that_ends_early_cancels_the_rendering(served: Served) -> None:
    """Nothing of it is left."""
    served.write("a.j2", "x")
    opening = served.backend.open_reader("a", read_context("a"))
    assert isinstance(opening, Deferred)
    opening.addErrback(lambda failure: None)
    opening.cancel()
    assert served.get("a") == b"x"


def test_start_makes_a_worker_process(served: Served) -> None:
    """`stop` ends it."""
    served.backend.start()
    (process_id,) = served.backend._workers.process_ids
    assert is_running(process_id)
    result_of(served.reactor, served.backend.stop())
    assert not is_running(process_id)


def test_relative_folder_stays_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A daemon changes its working directory."""
    served.write("a.j2", "x")
    monkeypatch.chdir(tmp_path)
    backend = TemplateBackend("templates", reactor=served.reactor, in_thread=maybeDeferred)
    served.backends.append(backend)
    served.backend = backend
    os.chdir("/")
    assert served.get("a") == b"x"
