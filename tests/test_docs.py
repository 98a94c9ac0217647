"""Check the documents: links, files, classes and options exist, and Python examples run."""

from __future__ import annotations

import re
import shlex
import sqlite3
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IService
from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.support.memory_server import FILE, MemoryServer, close_client
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp import tap
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.cli.main import main
from twisted_tftp.config.build import build
from twisted_tftp.config.settings import load_settings
from twisted_tftp.context import Direction, Endpoint, Outcome, TransferContext
from twisted_tftp.errors import BackendUnavailable, FileAlreadyExists, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend, IFileReader, IFileWriter
from twisted_tftp.protocol import wire
from twisted_tftp.tap import Options
from twisted_tftp.testing import BackendContract, MemoryNetwork, UploadContract

__all__ = ["reactor"]

#: The folder of the repository.
ROOT = Path(__file__).resolve().parent.parent

#: Folders whose files a document may name by the end of their path.
FOLDERS = (".ci", "benchmarks", "deploy", "docs", "examples", "fuzz", "tests", "twisted_tftp")

#: The documents that are checked.
DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
        ROOT / "fuzz" / "README.md",
    }
)

#: Documents with Python examples; the tests below run all of them.
WITH_EXAMPLES = {
    "README.md",
    "docs/backends.md",
    "docs/client.md",
    "docs/migrating.md",  # by test_migrating
    "docs/testing.md",
}

#: The most lines that the README may have.
README_LINES = 140

#: A link in Markdown; the group is its target.
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

#: A heading.
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

#: A code block: its language and its text.
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

#: A code span in a line.
SPAN = re.compile(r"`([^`\n]+)`")

#: A code span that names a file.
FILE_NAME = re.compile(r"[\w-][\w./-]*\.(?:py|md|sh|c|tac|profile|service|conf)\Z")

#: A code span that names a test module.
TEST_MODULE = re.compile(r"(?:[a-z_]+/)*test_\w+\Z")

#: A code span that begins with a class, or with an attribute of one.
CLASS = re.compile(r"[A-Z]\w*[a-z]\w*(?:\.\w+)?(?=\Z|\()")

#: The example of a configuration file.
EXAMPLE = str(ROOT / "deploy" / "tftp.toml")

#: The context of a read.
CONTEXT = TransferContext(Endpoint("192.0.2.1", 2000), None, Direction.READ, b"f", "octet", {})


def name_of(document: Path) -> str:
    """Return the path of a document in the repository."""
    return document.relative_to(ROOT).as_posix()


def prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return FENCE.sub("", document.read_text())


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of a document that are in a language."""
    found = FENCE.findall((ROOT / name).read_text())
    return [text for kind, text in found if kind == language]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    titles = HEADING.findall(prose(document))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@lru_cache
def files() -> frozenset[str]:
    """Return the paths of the files that documents may name."""
    found = {path.name for path in ROOT.iterdir() if path.is_file()}
    for folder in FOLDERS:
        paths = (ROOT / folder).rglob("*")
        found |= {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}
    return frozenset(found)


@lru_cache
def words_of_the_code() -> frozenset[str]:
    """Return all words of Python files, and of the examples in documents."""
    texts = [(ROOT / path).read_text() for path in files() if path.endswith(".py")]
    texts += ["\n".join(blocks(name, "python")) for name in WITH_EXAMPLES]
    return frozenset(re.findall(r"\w+", "\n".join(texts)))


@lru_cache
def words_of_the_class(name: str) -> frozenset[str]:
    """Return the words of the Python files that define a class of this name."""
    texts = [(ROOT / path).read_text() for path in files() if path.endswith(".py")]
    found = [text for text in texts if re.search(rf"^class {name}\b", text, re.MULTILINE)]
    return frozenset(re.findall(r"\w+", "\n".join(found)))


def exists(name: str) -> bool:
    """Return whether `name` is the path of a file, or the end of one."""
    return any(path == name or path.endswith(f"/{name}") for path in files())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_resolve(document: Path) -> None:
    """Each link leads to a file or a folder, and to a heading where it has an anchor."""
    for link in LINK.findall(prose(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_exist(document: Path) -> None:
    """Each file and each test module that the text names is in the repository."""
    for span in SPAN.findall(prose(document)):
        if FILE_NAME.match(span):
            assert exists(span), span
        if TEST_MODULE.match(span) and not span.startswith("test_duplicate_ack_"):
            assert exists(f"{span}.py"), span


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_classes_exist(document: Path) -> None:
    """Each class that the text names is in the code or an example; it has the named attribute."""
    for span in SPAN.findall(prose(document)):
        name = CLASS.match(span)
        if name:
            owner, _, attribute = name[0].partition(".")
            assert owner in words_of_the_code(), span
            assert not attribute or attribute in words_of_the_class(owner), span


def test_every_document_can_be_found() -> None:
    """Each document in `docs` is linked from another document."""
    linked: set[Path] = set()
    for document in DOCUMENTS:
        for link in LINK.findall(prose(document)):
            if "://" not in link:
                linked.add((document.parent / link.partition("#")[0]).resolve())
    assert {path for path in DOCUMENTS if name_of(path).startswith("docs/")} - linked == set()


def test_readme_is_short() -> None:
    """A newcomer reads the README in a few minutes; the rest is in `docs`."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_commands_have_options_that_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands in the documents use options that `twistd tftp` and `txtftp` accept."""
    monkeypatch.setattr(tap, "check_and_exit", lambda settings: None)
    monkeypatch.setattr(tap, "explain_and_exit", lambda settings, host, name: None)
    commands = 0
    for document in DOCUMENTS:
        joined = [block.replace("\\\n", " ") for block in blocks(name_of(document), "sh")]
        lines = [line for block in joined for line in block.splitlines()]
        for line in lines:
            words = shlex.split(line.split("|")[0].rpartition("&&")[2], comments=True)
            names = [Path(word).name for word in words]
            if "twistd" in names and "tftp" in names:
                # The last one: `--uid tftp` may come before the name of the plugin.
                own_options = words[len(words) - words[::-1].index("tftp") :]
                own_options = [
                    EXAMPLE if word == "/etc/tftp.toml" else word for word in own_options
                ]
                Options().parseOptions(own_options)
                commands += 1
            elif "txtftp" in names:
                command = words[names.index("txtftp") + 1]
                assert set(re.findall(r" (--?[a-z][a-z-]*)", line)) <= txtftp(command, capsys)
                commands += 1
    assert commands > 10


def test_options_of_the_client_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    """The table in `client.md` has each option of `txtftp get`, and no other."""
    text = (ROOT / "docs" / "client.md").read_text()
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `-"))
    described = set(re.findall(r"`(--?[a-z-]+)", rows))
    assert described == txtftp("get", capsys) - {"-h", "--help"}


def txtftp(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options of a command of `txtftp`."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.partition("options:")[2]))


def test_every_python_example_is_tested() -> None:
    """Only the documents in `WITH_EXAMPLES`, whose examples are run here, have Python examples."""
    found = {name_of(document) for document in DOCUMENTS if blocks(name_of(document), "python")}
    assert found == WITH_EXAMPLES


def test_configurations_are_valid(tmp_path: Path) -> None:
    """Each configuration in the documents can be read, and its backends and rules can be made."""
    path = tmp_path / "tftp.toml"
    found = [text for document in DOCUMENTS for text in blocks(name_of(document), "toml")]
    # Not those of a distribution, and no hosts files.
    found = [text for text in found if re.search(r"^\[\[?(tftp|mount)\]", text, re.MULTILINE)]
    for text in found:
        path.write_text(text)
        build(load_settings({}, str(path)))
    assert found


def test_application_of_the_readme_serves_its_file() -> None:
    """The example makes an Application with a service, whose backend has the file."""
    names: dict[str, Any] = {}
    exec(blocks("README.md", "python")[1], names)
    assert IService(names["application"]).getServiceNamed("tftp") is names["service"]
    assert MemoryNetwork(names["backend"]).fetch("grub.cfg") == b"set timeout=3\n"


@pytest.mark.parametrize(("name", "number"), [("README.md", 0), ("docs/client.md", 0)])
def test_client_example_fetches_and_stores(
    name: str, number: int, reactor: Any, tmp_path: Path
) -> None:
    """The example is run with another server address and other local folders."""
    served = MemoryServer(reactor)
    served.backend.files["vmlinuz"] = FILE
    (tmp_path / "hostname").write_bytes(b"host")
    block = blocks(name, "python")[number].replace(
        '"192.0.2.69"', f'"127.0.0.1", {served.port}, in_thread=maybeDeferred'
    )
    found = run(block + "\nreturn client\n", reactor, tmp_path)
    close_client(reactor, found)
    assert (tmp_path / "vmlinuz").read_bytes() == FILE
    assert served.backend.files["hostname.txt"] == b"host"
    served.stop()


def test_url_example_fetches_and_stores(reactor: Any, tmp_path: Path) -> None:
    """`download` and `upload` transfer files that are named by URLs."""
    served = MemoryServer(reactor)
    idle = len(reactor.getReaders())
    served.backend.files["vmlinuz"] = FILE
    (tmp_path / "hostname").write_bytes(b"host")
    block = blocks("docs/client.md", "python")[1]
    block = block.replace("192.0.2.69", f"127.0.0.1:{served.port}")
    block = block.replace("reactor)", "reactor, in_thread=maybeDeferred)")
    assert run(block + "\nreturn result\n", reactor, tmp_path).octets == len(FILE)
    assert (tmp_path / "vmlinuz").read_bytes() == FILE
    assert served.backend.files["hostname.txt"] == b"host"
    spin(reactor, lambda: len(reactor.getReaders()) == idle)
    served.stop()


def run(block: str, reactor: Any, folder: Path) -> Any:
    """Run code that contains `await`, with other local folders, and return what it returns."""
    block = block.replace('"/srv/mirror', f'"{folder}').replace('"/etc', f'"{folder}')
    names: dict[str, Any] = {"maybeDeferred": maybeDeferred}
    exec("async def example(reactor):\n" + textwrap.indent(block, "    "), names)
    return outcome(reactor, ensureDeferred(names["example"](reactor)))


@pytest.fixture
def examples() -> dict[str, Any]:
    """Run the examples of the guide for backends, in their order; return their names."""
    names: dict[str, Any] = {}
    for block in blocks("docs/backends.md", "python"):
        exec(block, names)
    return names


def test_short_backend_is_short(examples: dict[str, Any]) -> None:
    """The first example of a backend implements the interface in twenty lines."""
    verifyObject(IFileBackend, examples["PerMachine"]())
    block = blocks("docs/backends.md", "python")[0]
    assert len(block.split("@implementer")[1].splitlines()) <= 20


def test_plugin_of_the_guide_has_thirty_lines() -> None:
    """The backend, the function that makes it and the plugin, without imports and blank lines."""
    backend, _, function, plugin = blocks("docs/backends.md", "python")[:4]
    lines = "\n".join([backend, function, plugin]).splitlines()
    assert len([line for line in lines if line and "import" not in line]) <= 30


def checks_of(*contracts: str) -> list[tuple[str, str]]:
    """Return each check of the contracts that the guide's test classes inherit from."""
    kinds = {"TestPerMachine": BackendContract, "TestSQLiteBackend": UploadContract}
    return [
        (name, check)
        for name in contracts
        for check in dir(kinds[name])
        if check.startswith("test_")
    ]


@pytest.mark.parametrize(("name", "check"), checks_of("TestPerMachine", "TestSQLiteBackend"))
def test_backends_of_the_guide_keep_their_contracts(
    examples: dict[str, Any], name: str, check: str, tmp_path: Path
) -> None:
    """The test classes of the guide pass, each of their checks."""
    contract = examples[name]()
    contract.database = str(tmp_path / "files.db")  # what the fixture of the guide does
    getattr(contract, check)()


def test_wrapper_converts_names_and_delegates_the_lifecycle(
    examples: dict[str, Any], tmp_path: Path
) -> None:
    """Reads and writes use lower-case names, and `check` of the wrapped backend is called."""
    backend = examples["LowerCase"](MemoryBackend({"boot.cfg": b"octets"}, "create"))
    verifyObject(IFileBackend, backend)
    verifyObject(IBackendLifecycle, backend)
    network = MemoryNetwork(backend)
    assert network.fetch("BOOT.CFG") == b"octets"
    network.store("NEW", b"more")
    assert network.fetch("new") == b"more"
    with pytest.raises(BackendUnavailable):
        examples["LowerCase"](examples["SQLiteBackend"](str(tmp_path / "missing"))).check()


def result_of(deferred: Any) -> Any:
    """Return the result of a Deferred that has fired, or raise it."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class Database:
    """The SQLite backend of the guide, without threads."""

    def __init__(self, examples: dict[str, Any], path: Path) -> None:
        self.path = path
        path.touch()  # SQLite takes an empty file for an empty database
        self.backend = examples["SQLiteBackend"](str(path), in_thread=maybeDeferred)
        self.backend.check()
        self.backend.start()
        self.network = MemoryNetwork(self.backend)

    def rows(self, statement: str = "SELECT name, data FROM files") -> list[Any]:
        """Return what is in the database."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()


@pytest.fixture
def database(examples: dict[str, Any], tmp_path: Path) -> Database:
    """Return the backend with an empty database."""
    return Database(examples, tmp_path / "files.db")


@pytest.mark.parametrize("size", [0, 1, 512, 2000])
def test_database_gives_back_what_was_stored(database: Database, size: int) -> None:
    """A file comes back as it was sent, whatever its size."""
    data = bytes(range(256)) * 8
    database.network.store("boot/file", data[:size])
    assert database.network.fetch("/boot/file") == data[:size]


def test_database_refuses_a_name_that_is_taken(database: Database) -> None:
    """The first file is kept, and the client gets ERROR 6."""
    database.network.store("file", b"first")
    with pytest.raises(FileAlreadyExists):
        database.network.store("file", b"second")
    assert database.rows() == [("file", b"first")]


def test_database_keeps_nothing_of_a_failed_upload(database: Database) -> None:
    """A client that stops answering leaves no row."""
    link = database.network.request(wire.Opcode.WRQ, "file")
    link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    for _ in range(60):
        database.network.clock.advance(1)
    assert database.network.recorder.outcomes == [Outcome.TIMED_OUT]
    assert database.rows() == []


def test_database_reports_missing_files(database: Database) -> None:
    """A missing file is ERROR 1; a file that is deleted during a read fails the read."""
    with pytest.raises(FileNotFound):
        database.network.fetch("missing")
    database.network.store("file", bytes(2000))
    reader = result_of(database.backend.open_reader("file", CONTEXT))
    verifyObject(IFileReader, reader)
    database.rows("DELETE FROM files")
    with pytest.raises(TFTPError, match="deleted while it was read"):
        result_of(reader.read(0, 512))


def test_database_implements_the_interfaces(database: Database) -> None:
    """All four interfaces are implemented."""
    verifyObject(IFileBackend, database.backend)
    verifyObject(IBackendLifecycle, database.backend)
    verifyObject(IFileWriter, database.backend.open_writer("file", CONTEXT))


def test_example_of_a_test_passes() -> None:
    """The test in the guide for testing is a test that passes."""
    names: dict[str, Any] = {}
    exec(blocks("docs/testing.md", "python")[0], names)
    names["test_silent_client_is_given_up"]()
