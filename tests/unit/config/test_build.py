"""Tests of what is built from settings: backends in backends, and the rules for clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from tests.support.contexts import read_context, write_context
from tests.support.deferreds import value
from twisted_tftp.backends.explaining import explain
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.mounts import Mounts
from twisted_tftp.backends.names import NamePipeline
from twisted_tftp.backends.paced import PacedBackend
from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.backends.unique_root import UniqueRoot
from twisted_tftp.config.build import Built, build
from twisted_tftp.config.check import problems_of, warnings_of
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import load_settings, parse_settings
from twisted_tftp.context import Endpoint
from twisted_tftp.errors import AccessViolation, FileNotFound
from twisted_tftp.policy import UploadSettings, WriteMode
from twisted_tftp.server.configuration import Configuration


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files in two served folders; backends use no threads."""
    threads = "twisted_tftp.backends.filesystem.backend.Threads"
    monkeypatch.setattr(threads, lambda *arguments: maybeDeferred)
    for name in ("top", "lab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def built(folder: Path, text: str, **given: Any) -> Built:
    """Build a configuration file."""
    path = folder / "tftp.toml"
    path.write_text(text)
    return build(load_settings(given, str(path)), Clock())


def configured(folder: Path, text: str, **given: Any) -> Configuration:
    return built(folder, text, **given).configuration


def mistakes_of(folder: Path, text: str) -> list[str]:
    """Return the mistakes that are found when a file is built, without its path."""
    with pytest.raises(ConfigurationError) as caught:
        built(folder, text)
    return [line.removeprefix(f"{folder}/tftp.toml:") for line in caught.value.lines]


def content(backend: Any, path: str, host: str = "192.0.2.1") -> bytes:
    """Return the content of a small file."""
    context = read_context(path, peer=Endpoint(host, 2000))
    reader = value(maybeDeferred(backend.open_reader, path, context))
    octets = bytes(value(maybeDeferred(reader.read, 0, 100)))
    reader.close()
    return octets


TWO_MOUNTS = """\
[[mount]]
prefix = "/"
backend = "filesystem:top"
[[mount]]
prefix = "/lab"
backend = "filesystem:lab"
allow = ["192.0.2.0/24"]
write = "version"
allow_write = ["192.0.2.9"]
keep = 3
"""


def test_root_alone_has_no_wrapper(folder: Path) -> None:
    """A plain server pays nothing for mounts and names."""
    configuration = build(parse_settings({"root": str(folder)}), Clock()).configuration
    assert type(configuration.backend) is FilesystemBackend
    assert configuration.client_rules == ()


def test_uploads_have_rules_in_any_case(folder: Path) -> None:
    """They are those of the options."""
    given = {"root": str(folder), "write": "version", "keep": "5", "make-dirs": True}
    uploads = build(parse_settings(given), Clock()).configuration.uploads
    assert uploads == UploadSettings(WriteMode.VERSION, 5, make_dirs=True)
    assert build(parse_settings({}), Clock()).configuration.uploads == UploadSettings()


def test_mounts_serve_their_folders(folder: Path) -> None:
    """Each name belongs to the mount with the longest prefix."""
    backend = configured(folder, TWO_MOUNTS).backend
    assert type(backend) is Mounts
    assert content(backend, "file") == b"top"
    assert content(backend, "/lab/file") == b"lab"


def test_mount_may_have_clients_of_its_own(folder: Path) -> None:
    """Others may not read there, and only some of those that read may write."""
    backend = configured(folder, TWO_MOUNTS).backend
    with pytest.raises(AccessViolation):
        content(backend, "/lab/file", "198.51.100.1")
    context = write_context("/lab/new", uploads=UploadSettings(WriteMode.CREATE))
    with pytest.raises(AccessViolation, match="your address may not write here"):
        backend.open_writer("/lab/new", context)


def test_root_beside_mounts_serves_all_other_names(folder: Path) -> None:
    """It is the mount of `/`."""
    text = '[[mount]]\nprefix = "/lab"\nbackend = "filesystem:lab"\n'
    backend = configured(folder, text, root=str(folder / "top")).backend
    assert content(backend, "file") == b"top"
    assert content(backend, "lab/file") == b"lab"
    with pytest.raises(FileNotFound):
        content(configured(folder, text).backend, "file")


def test_several_backends_are_asked_in_order(folder: Path) -> None:
    """The next one is asked if a file is not found."""
    text = '[[mount]]\nprefix = "/"\nbackend = ["memory:", "filesystem:lab"]\n'
    found = built(folder, text)
    assert content(found.configuration.backend, "file") == b"lab"
    assert [leaf.text for leaf in found.leaves] == ["memory", f"filesystem:{folder}/lab"]


def test_wrappers_are_in_order(folder: Path) -> None:
    """Rate, names, unique root, mounts: from the outside to the inside."""
    text = '[tftp]\nstrip_trailing = true\nunique_root = "ip"\nmax_rate = "1M/s"\n' + TWO_MOUNTS
    configuration = configured(folder, text)
    outer: Any = configuration.backend
    assert type(outer) is PacedBackend
    names = outer._backend
    assert type(names) is NamePipeline
    assert type(names.backend) is UniqueRoot
    assert type(names.backend.backend) is Mounts


def test_unique_root_falls_back_unless_it_must_not(folder: Path) -> None:
    """`--no-common-root` leaves only the client's own directory."""
    (folder / "top" / "192.0.2.1").mkdir()
    (folder / "top" / "192.0.2.1" / "own").write_text("own")
    text = '[tftp]\nroot = "top"\nunique_root = "ip"\n'
    backend = configured(folder, text).backend
    assert content(backend, "own") == b"own"
    assert content(backend, "file") == b"top"
    backend = configured(folder, f"{text}no_common_root = true\n").backend
    assert content(backend, "own") == b"own"
    with pytest.raises(FileNotFound):
        content(backend, "file")


def test_names_are_rewritten_in_order(folder: Path) -> None:
    """Trailing octets, backslashes, the map file, the rename rules, and then the client root."""
    (folder / "map").write_text("r ^/?first second\n")
    text = (
        '[tftp]\nroot = "."\nmap_file = "map"\nstrip_trailing = true\n'
        '[[rename]]\nrule = "r second fil"\n[[rename]]\nrule = "r fil$ file"\n'
        '[[client]]\nnetwork = "192.0.2.0/24"\nroot = "/lab"\n'
    )
    configuration = configured(folder, text)
    assert content(configuration.backend, "lab\\file\x01\udcff") == b"lab"
    assert configuration.backend_for is not None
    assert content(configuration.backend_for("/lab", None), "\\first\udcff") == b"lab"


def test_client_root_is_outside_the_directory_of_the_client(folder: Path) -> None:
    """With a client root, the client's own directory is below that root, as in dnsmasq."""
    (folder / "top" / "192.0.2.1").mkdir()
    (folder / "top" / "192.0.2.1" / "own").write_text("own")
    text = (
        '[tftp]\nroot = "."\nunique_root = "ip"\n'
        '[[client]]\nnetwork = "192.0.2.0/24"\nroot = "/top"\n'
    )
    backend_for = configured(folder, text).backend_for
    assert backend_for is not None
    assert content(backend_for("/top", None), "own") == b"own"


def test_rates_of_all_and_of_one_client_are_limited_together(folder: Path) -> None:
    """`[tftp]` limits all transfers together, `[[client]]` each transfer of its clients."""
    text = '[tftp]\nroot = "top"\nmax_rate = "64k"\n[[client]]\nmac = "52:54:00:12:34:56"\n'
    configuration = configured(folder, text + 'max_rate = "16k"\n')
    assert configuration.max_rate == 64 << 10
    (rule,) = configuration.client_rules
    assert rule.settings.max_rate == 16 << 10
    assert configuration.backend_for is not None
    backend: Any = configuration.backend_for(None, 16 << 10)
    assert backend._max_rate == 16 << 10
    assert backend._shared is configuration.backend._shared


@pytest.mark.parametrize("table", ["[tftp]", '[[client]]\nnetwork = "10.0.0.0/8"'])
def test_rate_of_zero_is_refused(folder: Path, table: str) -> None:
    """Nothing could be transferred."""
    with pytest.raises(ConfigurationError, match="max_rate: must be from 1 to"):
        configured(folder, f"{table}\nmax_rate = 0\n")


def test_client_rules_reach_the_server(folder: Path) -> None:
    """Each table becomes a rule with its keys."""
    text = (
        '[[client]]\nnetwork = "10.0.0.0/8"\nrefuse = ["tsize"]\nmax_blksize = 1428\n'
        'timeout = 2\nrate = 3\nmax_windowsize = 4\n[[client]]\nmac = "52:54:00:12:34:56"\n'
        'root = "/lab"\nwrite = "never"\n'
    )
    network, mac = configured(folder, text).client_rules
    assert str(network) == "network 10.0.0.0/8"
    settings = network.settings
    assert (settings.refuse, settings.max_blksize, settings.timeout) == ({"tsize"}, 1428, 2)
    assert (settings.rate, settings.max_windowsize) == (3, 4)
    assert str(mac) == "mac 52:54:00:12:34:56"
    assert (mac.settings.root, mac.settings.write) == ("/lab", WriteMode.NEVER)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        (
            '[[mount]]\nprefix = "/"\nbackend = [\n"memori:",\n"filesystem:"]\n',
            [
                "4: [[mount]] backend: there is no backend 'memori': did you mean memory?",
                "5: [[mount]] backend: backend filesystem: it needs a directory, such as "
                "filesystem:/srv/tftp",
            ],
        ),
        (
            '[tftp]\nbackend = "readonly:of=x"\n',
            ["2: [tftp] backend: backend readonly: there is no backend 'x': installed are "],
        ),
        (
            '[[mount]]\nprefix = "/"\nwrite = "version"\nbackend = "memory:"\n',
            ["4: [[mount]] backend: memory can't obey write = 'version'"],
        ),
        (
            '[tftp]\nmap_file = "missing"\n[[rename]]\nrule = "r [ x"\n[[rename]]\nrule = "#"\n',
            [
                "2: [tftp] map_file: can't read the map file FOLDER/missing: No such file or "
                "directory",
                "4: [[rename]] rule: ",
                "6: [[rename]] rule: this is only a comment",
            ],
        ),
        (
            '[tftp]\nroot = "."\n' + '[[rename]]\nrule = "r a b"\n' * 1001,
            ["2004: [[rename]] rule: there are more than 1,000 rules"],
        ),
        (
            '[tftp]\nmap_file = "."\n',
            ["2: [tftp] map_file: the map file FOLDER/. is not a regular file"],
        ),
    ],
)
def test_mistake_has_the_line_of_its_key(folder: Path, text: str, mistakes: list[str]) -> None:
    """All mistakes in backends and rules are found in one run."""
    found = mistakes_of(folder, text)
    assert len(found) == len(mistakes)
    for line, start in zip(found, mistakes, strict=True):
        assert line.startswith(start.replace("FOLDER", str(folder)))


def test_mistake_on_the_command_line_has_no_place() -> None:
    """The text alone says what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        build(parse_settings({"backend": ["nosuch:"], "map-file": "/missing"}), Clock())
    first, second = caught.value.lines
    assert first.startswith("there is no backend 'nosuch'")
    assert second == "can't read the map file /missing: No such file or directory"


def test_check_asks_every_backend(folder: Path) -> None:
    """Each problem has the place of its backend."""
    path = folder / "tftp.toml"
    path.write_text(TWO_MOUNTS.replace("filesystem:", "filesystem:no"))
    assert problems_of(load_settings({}, str(path))) == [
        f"{path}:3: filesystem:{folder}/notop: root '{folder}/notop' is not a directory",
        f"{path}:6: filesystem:{folder}/nolab: root '{folder}/nolab' is not a directory",
    ]
    path.write_text(TWO_MOUNTS)
    assert problems_of(load_settings({}, str(path))) == []


def test_check_that_fails_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of somebody else may raise anything."""

    def fail(backend: FilesystemBackend) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(FilesystemBackend, "check", fail)
    assert problems_of(parse_settings({"root": "/x"})) == [
        "filesystem:/x: its check fails: RuntimeError: two\\nlines"
    ]


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"no-common-root": True}, "--no-common-root has no effect without --unique-root"),
        ({"keep": "5", "write": "create"}, "--keep has no effect: --write is not version"),
        ({"make-dirs": True}, "--make-dirs has no effect: --write is never"),
    ],
)
def test_check_warns_of_options_without_effect(given: dict[str, Any], warning: str) -> None:
    """A warning is no mistake."""
    assert warnings_of(parse_settings(given)) == [f"warning: {warning}"]


def test_upload_options_have_an_effect_if_a_mount_accepts_uploads(folder: Path) -> None:
    """`write` of the mount counts, and options about a root that is not served do not."""
    path = folder / "tftp.toml"
    path.write_text(f'[tftp]\nmax_upload = "1M"\ncache = 0\n{TWO_MOUNTS}')
    assert warnings_of(load_settings({}, str(path))) == [
        "warning: --cache has no effect: mounts replace --root"
    ]


@pytest.mark.parametrize(
    "text",
    [
        'root = "top"',
        'backend = "filesystem:top"',
        'backend = ["readonly:of=filesystem:top"]',
        '[[mount]]\nprefix = "/"\nbackend = "filesystem:top"',
    ],
)
def test_ignore_case_holds_for_every_file_system(folder: Path, text: str) -> None:
    """A backend whose keyword says otherwise keeps the case."""
    backend = configured(folder, f"[tftp]\nignore_case = true\n{text}\n").backend
    assert content(backend, "FILE") == b"top"
    with pytest.raises((FileNotFound, FileNotFoundError)):
        content(configured(folder, f"[tftp]\n{text}\n").backend, "FILE")
    strict = text.replace("filesystem:top", "filesystem:top,ignore-case=no")
    if strict != text:
        with pytest.raises((FileNotFound, FileNotFoundError)):
            content(configured(folder, f"[tftp]\nignore_case = true\n{strict}\n").backend, "FILE")


@pytest.mark.parametrize("others", ["", '"memory:", '])
def test_secrets_of_urls_are_not_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    """The backend itself is made with them."""
    made = []

    def make(spec: BackendSpec) -> MemoryBackend:
        made.append(str(spec))
        return MemoryBackend()

    monkeypatch.setattr("twisted_tftp.config.build.make_backend", make)
    text = "template:/t,hosts=https://user:S3CRET@h/{mac}?token=S3CRET"
    shown = "template:/t,hosts=https://...@h/{mac}?..."
    found = built(folder, f'[[mount]]\nprefix = "/"\nbackend = [{others}"{text}"]\n')
    place = f"{folder}/tftp.toml:3"
    assert made[-1] == text
    assert found.leaves[-1].name == f"{place}: {shown}"
    assert found.configuration.named_backends[-1].name == f"{place}: {shown}"
    lines = value(explain(found.configuration.backend, "file", read_context("file")))
    assert f"backend: {shown}" in lines
    mistake = f'[[mount]]\nprefix = "/"\nbackend = "{text}"\nwrite = "version"\n'
    (line,) = mistakes_of(folder, mistake)
    assert line == f"3: [[mount]] backend: {shown} can't obey write = 'version'"
