"""Tests of the conversion of configuration files to options, mounts and rules."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from twisted_tftp.backend_maker import BackendMaker
from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.config.file_reading import FileContents, read_configuration
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.network_types import NetworkPrefix
from twisted_tftp.config.settings import Settings, parse_settings
from twisted_tftp.policy import Rollover, WriteMode
from twisted_tftp.server.hooks import HookSettings

#: The example of the documents, with every table.
FARM = """\
[tftp]
port = 6969
allow = ["10.0.0.0/8"]
timeout = 0.5
rollover = 1
max_upload = "20M"
upload_quota = 1000000
verbose = true

[[mount]]
prefix = "/"
backend = ["filesystem:top,follow-links=other", {type = "readonly", of = "memory:"}]

[[mount]]
prefix = "/configs/"
backend = {type = "filesystem", path = "configs"}
write = "version"
keep = 5
make_dirs = true
allow_write = ["10.9.0.0/16"]

[[client]]
network = "10.1.2.0/24"
refuse = ["tsize"]
max_blksize = 1428
rate = 0.5

[[client]]
mac = "52-54-00-12-34-AB"
root = "/lab"
write = "never"
max_rate = "1M/s"

[[rename]]
rule = 'r ^/x y'
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tftp.toml"


def read(path: Path, text: str) -> FileContents:
    path.write_text(dedent(text))
    return read_configuration(str(path))


def settings_of(path: Path, text: str, **given: object) -> Settings:
    return parse_settings(given, read(path, text))


def mistakes_of(path: Path, text: str) -> list[str]:
    """Return the mistakes of a file, without its path."""
    with pytest.raises(ConfigurationError) as caught:
        settings_of(path, text)
    prefix = f"{path}:"
    assert all(line.startswith(prefix) for line in caught.value.lines)
    return [line.removeprefix(prefix).replace(str(path), "FILE") for line in caught.value.lines]


def test_options_become_settings(path: Path) -> None:
    """Numbers, texts, booleans and arrays give what the command line would give."""
    settings = settings_of(path, FARM)
    assert (settings.port, settings.verbose, settings.upload_quota) == (6969, True, 1_000_000)
    policy = settings.policy
    assert policy.allow == (NetworkPrefix().parse("10.0.0.0/8"),)
    assert (policy.timeout, policy.rollover, policy.max_upload) == (0.5, Rollover.ONE, 20 << 20)


def test_tables_become_mounts_and_rules(path: Path) -> None:
    """Each has the place where it is in the file; relative paths start at the file's folder."""
    settings = settings_of(path, FARM)
    top, configs = settings.mounts
    assert (top.prefix, configs.prefix) == ("/", "/configs")
    assert [str(each.place) for each in top.backend] == [f"{path}:12"] * 2
    specs = [each.spec for each in top.backend + configs.backend]
    folder = path.parent
    assert specs == [
        BackendSpec("filesystem", f"{folder}/top", {"follow-links": f"{folder}/other"}),
        BackendSpec("readonly", "", {"of": "memory"}),
        BackendSpec("filesystem", f"{folder}/configs"),
    ]
    assert (configs.write, configs.keep, configs.make_dirs) == (WriteMode.VERSION, 5, True)
    assert configs.allow_write == (NetworkPrefix().parse("10.9.0.0/16"),)
    assert (top.write, top.keep, top.make_dirs, top.allow) == (None, None, None, ())
    network, mac = settings.clients
    assert network.subject == NetworkPrefix().parse("10.1.2.0/24")
    assert (network.refuse, network.max_blksize, network.rate) == ({"tsize"}, 1428, 0.5)
    assert (mac.subject, mac.root, mac.write) == ("52:54:00:12:34:ab", "/lab", WriteMode.NEVER)
    assert mac.max_rate == 1 << 20
    assert str(mac.place) == f"{path}:29"
    assert [each.rule for each in settings.renames] == ["r ^/x y"]
    assert settings.root is None


def test_command_line_wins(path: Path) -> None:
    """Its value, or all its values of a repeatable option, replace those of the file."""
    text = '[tftp]\nport = 70\nallow = ["10.0.0.0/8"]\nverbose = true\nsingle_port = false\n'
    settings = settings_of(path, text, port="71", allow=["192.0.2.0/24"], verbose=False)
    assert settings.port == 71
    assert [str(network) for network in settings.policy.allow] == ["192.0.2.0/24"]
    assert settings.verbose
    assert settings_of(path, text, **{"single-port": True}).policy.single_port
    assert settings_of(path, text, host=[]).port == 70


def test_relative_paths_start_at_the_folder_of_the_file(path: Path) -> None:
    """Absolute ones stay as they are, and those of the command line too."""
    text = '[tftp]\nroot = "boot"\nfollow_links = ["a", "/b"]\nmap_file = "../map"\n'
    settings = settings_of(path, text)
    folder = path.parent
    assert settings.root == f"{folder}/boot"
    assert settings.follow_links == (f"{folder}/a", "/b")
    assert settings.map_file == f"{folder}/../map"
    assert settings_of(path, text, root="boot").root == "boot"


def test_commands_are_arrays(path: Path) -> None:
    """Each element is one argument; only a program with a slash has a path."""
    text = """\
        [tftp]
        on_upload = ["./hook", "a b", "", "$(x)", "'"]
        on_transfer = ["hook"]
        """
    settings = settings_of(path, text)
    assert settings.on_upload == (f"{path.parent}/./hook", "a b", "", "$(x)", "'")
    assert settings.on_transfer == ("hook",)
    assert settings.hooks == HookSettings(settings.on_upload, settings.on_transfer)


def test_root_without_mounts_is_the_working_directory(path: Path) -> None:
    """A file with options only does not change what is served."""
    assert settings_of(path, "[tftp]\nport = 70\n").root == "."
    assert settings_of(path, "").root == "."


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[tftp]\npport = 69", "2: [tftp] pport: there is no such key; did you mean port?"),
        ("[tftp]\nmax-upload = 1", "2: [tftp] max-upload: write max_upload"),
        (
            "[tftp]\nexplain = 'x'",
            "2: [tftp] explain: only the command line has this option, as --explain",
        ),
        (
            "[tftp]\nversion = 'x'",
            "2: [tftp] version: only the command line has this option, as --version",
        ),
        ("[tftp]\nport = '69'", "2: [tftp] port: must be a whole number, not the text '69'"),
        ("[tftp]\nport = 69.0", "2: [tftp] port: must be a whole number, not the number 69.0"),
        ("[tftp]\nport = true", "2: [tftp] port: must be a whole number, not true"),
        (
            "[tftp]\nport = 1979-05-27",
            "2: [tftp] port: must be a whole number, not a date or time",
        ),
        ("[tftp]\nport = 65536", "2: [tftp] port: must be from 0 to 65535, not 65536"),
        ("[tftp]\nport = -1", "2: [tftp] port: must be from 0 to 65535, not -1"),
        (
            f"[tftp]\nport = 0x{'f' * 20}",
            f"2: [tftp] port: must be from 0 to 65535, not {16**20 - 1}",
        ),
        ("[tftp]\nprot = 69", "2: [tftp] prot: there is no such key; did you mean port?"),
        (
            "[tftp]\nzzz = 69",
            "2: [tftp] zzz: there is no such key; `twistd tftp --help` lists them",
        ),
        (
            "[tftp]\n'a b' = 69",
            "2: [tftp] 'a b': there is no such key; `twistd tftp --help` lists them",
        ),
        ("[tftp]\nprefix = '/'", "2: [tftp] prefix: this is a key of [[mount]] only"),
        (
            "[[rename]]\nrule = 'r a b'\nrate = 2",
            "3: [[rename]] rate: this is a key of [tftp] and [[client]] only",
        ),
        ("[tftp]\nallow = 5", "2: [tftp] allow: must be an array of texts, not the number 5"),
        (
            "[tftp]\nallow = [\n'10.0.0.0/8',\n'10.0.0.1/8']",
            "4: [tftp] allow: must be a network: 10.0.0.1/8 has host bits set, did you mean "
            "10.0.0.0/8?",
        ),
        (
            "[tftp]\nhost = ['127.0.0.1', # first\n\n5]",
            "4: [tftp] host: must be a text, not the number 5",
        ),
        (
            "[tftp]\non_upload = [\n'/bin/x',\n8]",
            "4: [tftp] on_upload: must be an array of texts; the number 8 is not a text",
        ),
        ("[tftp]\ntimeout = '1'", "2: [tftp] timeout: must be a number, not the text '1'"),
        ("[tftp]\ntimeout = nan", "2: [tftp] timeout: must be from 0.01 to 255, not nan"),
        ("[tftp]\nroot = 5", "2: [tftp] root: must be a text, not the number 5"),
        ("[tftp]\nroot = ''", "2: [tftp] root: must not be empty"),
        ("[tftp]\nroot = {a = 1}", "2: [tftp] root: must be a text, not a table"),
        ("[tftp]\nverbose = 1", "2: [tftp] verbose: must be true or false, not the number 1"),
        (
            "[tftp]\nwrite = 'versions'",
            "2: [tftp] write: must be one of never, create, overwrite, version, not 'versions'",
        ),
        (
            "[tftp]\nupload_mode = 0o644",
            "2: [tftp] upload_mode: must be a text, not the number 420",
        ),
        (
            "[tftp]\nallow = '10.0.0.0/8'",
            '2: [tftp] allow: must be an array, such as ["10.0.0.0/8"]',
        ),
        ("[tftp]\nallow = [8]", "2: [tftp] allow: must be a text, not the number 8"),
        (
            "[tftp]\non_upload = '/bin/x'",
            '2: [tftp] on_upload: must be an array, such as ["/bin/x"]',
        ),
        (
            "[tftp]\non_upload = ['/bin/x', 8]",
            "2: [tftp] on_upload: must be an array of texts; the number 8 is not a text",
        ),
        ("[tftp]\non_upload = []", "2: [tftp] on_upload: must have a program"),
        ("[tftp]\non_upload = ['', 'x']", "2: [tftp] on_upload: must have a program"),
        (
            '[tftp]\non_upload = ["a", "\\u0000"]',
            "2: [tftp] on_upload: must not contain NUL",
        ),
        (
            "[tftp]\nport_range = '1:2'\nsingle_port = true",
            "2: [tftp] port_range: port-range and single-port exclude each other",
        ),
        (
            "[tftp]\nallow = ['10.0.0.0/8']\ndeny = ['10.0.0.0/8']",
            "2: [tftp] allow: allow and deny: 10.0.0.0/8 is both allowed and denied",
        ),
        ("[[tftp]]\nport = 1", "1: [tftp] must be one table"),
        ("port = 69", "1: port: a key must be in a table, such as [tftp]"),
        ("[mounts]", "1: [mounts]: there is no such table; did you mean mount?"),
        ("\n[[clients]]", "2: [clients]: there is no such table; did you mean client?"),
        ("[mount]\nprefix = '/'", "1: [mount] must be written [[mount]]"),
        ("mount = [1]", "1: [mount] must be written [[mount]]"),
        (
            "[[mount]]\nprefix = 'x'\nbackend = 'memory:'",
            "2: [[mount]] prefix: must be a path that begins with '/', not 'x'",
        ),
        (
            "[[mount]]\nprefix = '/a/../b'\nbackend = 'memory:'",
            "2: [[mount]] prefix: must not contain '..', as '/a/../b' does",
        ),
        ("[[mount]]\nprefix = '/a'", "1: [[mount]] backend: this key is missing"),
        (
            "[[mount]]\nprefix = '/a'\nbackend = []",
            "3: [[mount]] backend: must not be empty",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = 5",
            "3: [[mount]] backend: must be a text, a table, or an array of these, not the number "
            "5",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = {path = '/x'}",
            "3: [[mount]] backend: the table of a backend needs `type`, the name of a backend",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = [\n{type = 'memory'},\n'bad text']",
            "5: [[mount]] backend: must be NAME:ARGUMENT,key=value,... not 'bad text'",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = {typ = 'memory'}",
            "3: [[mount]] backend: typ: there is no such key; did you mean type?",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = {type = 'template', paht = '/x'}",
            "3: [[mount]] backend: paht: there is no such key; did you mean path?",
        ),
        (
            "[[mount]]\nprefix = '/a'\n[mount.backend]\ntype = 'filesystem'\npath = 1979-05-27",
            "5: [[mount]] backend: path: must be a text, a number or a flag, not a date or time",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = [\n'memory:',\n"
            "{type = 'readonly', of = {type = 'filesystem', pth = '/x'}}]",
            "5: [[mount]] backend: pth: there is no such key; did you mean path?",
        ),
        (
            "[[mount]]\nprefix = '/a'\nbackend = 'memory:'\n"
            "[[mount]]\nprefix = '/a/'\nbackend = 'memory:'",
            "5: [[mount]] prefix: '/a' is given twice, also in FILE:2",
        ),
        (
            "[tftp]\nroot = '/srv'\n[[mount]]\nprefix = '/'\nbackend = 'memory:'",
            "4: [[mount]] prefix: '/' is given twice, also by root in FILE:2",
        ),
        ("[[client]]\nrefuse = []", "1: [[client]] network: this key or `mac` is missing"),
        (
            "[[client]]\nnetwork = '10.0.0.0/8'\nmac = '52:54:00:12:34:56'",
            "1: [[client]] mac: give `network` or `mac`, not both",
        ),
        (
            "[[client]]\nmac = '52:54:00:12:34'",
            "2: [[client]] mac: must be a MAC address such as 52:54:00:12:34:56, not "
            "'52:54:00:12:34'",
        ),
        (
            "[[client]]\nnetwork = '10.0.0.0/8'\n[[client]]\nnetwork = '10.0.0.0/8'",
            "4: [[client]] network: 10.0.0.0/8 is given twice, also in FILE:2",
        ),
        (
            "[[client]]\nnetwork = '10.0.0.0/8'\nrefuse = ['tsize', 'tsise']",
            "3: [[client]] refuse: must be one of blksize, blksize2, windowsize, timeout, "
            "utimeout, rollover, tsize, xid, not 'tsise'",
        ),
        ("[[rename]]\nrule = ' '", "2: [[rename]] rule: must not be empty"),
        ("[[rename]]", "1: [[rename]] rule: this key is missing"),
    ],
)
def test_mistake_has_its_line_table_and_key(path: Path, text: str, mistake: str) -> None:
    """The message says what is wrong, and the nearest name for an unknown one."""
    assert mistakes_of(path, text) == [mistake]


def test_all_mistakes_are_found_in_one_run(path: Path) -> None:
    """They are in the order of their lines."""
    text = "[tftp]\nport = 0.5\nx = 1\n[[mount]]\nprefix = 1\nbackend = 2\n[zzz]\n"
    assert [line.split(":")[0] for line in mistakes_of(path, text)] == ["2", "3", "5", "6", "7"]


def test_folder_is_merged(tmp_path: Path) -> None:
    """Tables are appended in the order of the files; a key of [tftp] may be given once."""
    (tmp_path / "1.toml").write_text('[tftp]\nport = 70\n[[rename]]\nrule = "a"\n')
    (tmp_path / "2.toml").write_text('[tftp]\nroot = "x"\n[[rename]]\nrule = "b"\n')
    contents = read_configuration(str(tmp_path))
    assert contents.given == {"port": "70", "root": f"{tmp_path}/x"}
    assert [rename.rule for rename in contents.renames] == ["a", "b"]
    (tmp_path / "3.toml").write_text("[tftp]\nport = 71\n")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(str(tmp_path))
    assert caught.value.lines == (
        f"{tmp_path}/3.toml:2: [tftp] port: given twice, also in {tmp_path}/1.toml:2",
    )


def test_value_of_the_command_line_is_blamed_on_it(path: Path) -> None:
    """A contradiction with a key of the file has the line of that key."""
    with pytest.raises(ConfigurationError) as caught:
        settings_of(path, "[tftp]\nsingle_port = true\n", **{"port-range": "1:2"})
    assert caught.value.lines[0].startswith(f"{path}:2: [tftp] single_port: ")
    with pytest.raises(ValueError, match=r"^port must be"):
        settings_of(path, "[tftp]\nport = 1\n", port="x")


def test_every_wrong_element_is_reported(path: Path) -> None:
    """Each one has its own line."""
    text = "[tftp]\nhost = [\n'x y',\n'127.0.0.1',\n5,\n]\n"
    assert [line.split(":")[0] for line in mistakes_of(path, text)] == ["3", "5"]


def test_key_like_path_may_be_a_keyword_of_a_backend(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help of the backend says so; a backend that is not installed may have any."""
    text = "[[mount]]\nprefix = '/a'\nbackend = {type = 'filesystem', paths = '/x'}\n"
    assert len(mistakes_of(path, text)) == 1
    plugin = BackendMaker("filesystem", "files\npaths=DIR: more of them", "module.function")
    installed = {"filesystem": plugin}
    monkeypatch.setattr("twisted_tftp.config.toml_values.installed_plugins", lambda: installed)
    assert read(path, text).mounts[0].backend[0].spec.keywords == {"paths": "/x"}
    assert read(path, text.replace("filesystem", "other")).mounts


def test_contradiction_in_two_files_names_both(tmp_path: Path) -> None:
    """The second one may be far away."""
    (tmp_path / "1.toml").write_text("[tftp]\nbackend = ['memory:']\n")
    (tmp_path / "2.toml").write_text("[tftp]\nroot = '/srv'\n")
    with pytest.raises(ConfigurationError) as caught:
        parse_settings({}, read_configuration(str(tmp_path)))
    assert caught.value.lines == (
        f"{tmp_path}/2.toml:2: [tftp] root: root and backend exclude each other; backend is in "
        f"{tmp_path}/1.toml:2",
    )


def test_mount_in_two_files_names_both(tmp_path: Path) -> None:
    """The mistake is in the second file."""
    for name in ("1.toml", "2.toml"):
        (tmp_path / name).write_text("[[mount]]\nprefix = '/a'\nbackend = 'memory:'\n")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(str(tmp_path))
    assert caught.value.lines == (
        f"{tmp_path}/2.toml:2: [[mount]] prefix: '/a' is given twice, also in {tmp_path}/1.toml:2",
    )
