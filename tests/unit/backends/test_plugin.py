"""Tests of backend texts: their parts, and the backends that are made from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backends import octets_of
from twisted_tftp.backends import FilesystemBackend, MemoryBackend, ReadOnlyBackend, plugin
from twisted_tftp.backends.plugin import BackendSpec, installed_plugins, make_backend

#: Names of plugins and keywords.
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)

#: Arguments and values.
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=30)


@pytest.mark.parametrize(
    ("text", "name", "argument", "keywords"),
    [
        ("memory", "memory", "", {}),
        ("memory:", "memory", "", {}),
        ("memory:capacity=20M", "memory", "", {"capacity": "20M"}),
        ("filesystem:/srv/tftp", "filesystem", "/srv/tftp", {}),
        ("filesystem:/srv,cache=0,quota=4G", "filesystem", "/srv", {"cache": "0", "quota": "4G"}),
        ("filesystem:/srv,make_dirs=yes", "filesystem", "/srv", {"make-dirs": "yes"}),
        ("filesystem:,cache=0", "filesystem", "", {"cache": "0"}),
        (r"filesystem:/a\,b\\c\d", "filesystem", r"/a,b\c\d", {}),
        (r"x:y,k=a\,b\=c\\", "x", "y", {"k": "a,b=c\\"}),
        (r"x:k\=v", "x", "k=v", {}),
        ("x:/k=v", "x", "/k=v", {}),
        ("x:a:b,k=http://h/?a=b", "x", "a:b", {"k": "http://h/?a=b"}),
        ("x:y,k=", "x", "y", {"k": ""}),
        ("readonly:of=a:b,c=d", "readonly", "", {"of": "a:b,c=d"}),
        (r"x:y,k=v,of=a:\,,of=b", "x", "y", {"k": "v", "of": r"a:\,,of=b"}),
    ],
)
def test_text_is_split(text: str, name: str, argument: str, keywords: dict[str, str]) -> None:
    """Commas separate keywords, a backslash takes the meaning of a comma, `of` takes the rest."""
    assert BackendSpec.parse(text) == BackendSpec(name, argument, keywords)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "must be NAME:ARGUMENT"),
        (":x", "must be NAME:ARGUMENT"),
        ("/srv/tftp", "must be NAME:ARGUMENT"),
        ("Memory", "must be NAME:ARGUMENT"),
        ("x:a\0b", "must be NAME:ARGUMENT"),
        ("x:a,b", "'b' is not key=value"),
        ("x:a,", "'' is not key=value"),
        ("x:a,B=c", "'B=c' is not key=value"),
        ("x:a,k=1,k=2", "k is given twice"),
        ("x:a,k-l=1,k_l=2", "k_l is given twice"),
    ],
)
def test_other_texts_are_rejected(text: str, error: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValueError, match=error):
        BackendSpec.parse(text)


@pytest.mark.parametrize("text", ["X:URL", "x:URL,b", "x:a,k=URL,k=1"])
def test_rejected_text_is_shown_without_secrets(text: str) -> None:
    """A URL may have an access token."""
    with pytest.raises(ValueError, match=r"https://\.\.\.@h/\?\.\.\.") as caught:
        BackendSpec.parse(text.replace("URL", "https://user:S3CRET@h/?token=S3CRET"))
    assert "S3CRET" not in str(caught.value)


@given(NAMES, TEXTS, st.dictionaries(NAMES, TEXTS, max_size=3))
def test_text_of_a_spec_is_parsed_to_the_same(
    name: str, argument: str, keywords: dict[str, str]
) -> None:
    """Whatever characters are in it."""
    spec = BackendSpec(name, argument, keywords)
    assert BackendSpec.parse(str(spec)) == spec


def test_table_is_converted() -> None:
    """`path` is the argument; flags, numbers, lists and a nested table become texts."""
    table = {
        "type": "readonly",
        "of": {
            "type": "filesystem",
            "path": "/a,b",
            "make_dirs": True,
            "literal_names": False,
            "cache": 0,
            "follow_links": ["/x", "/y"],
        },
    }
    assert str(BackendSpec.from_table(table)) == (
        r"readonly:of=filesystem:/a\,b,make-dirs=yes,literal-names=no,cache=0,follow-links=/x:/y"
    )


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"path": "/srv"}, "needs `type`"),
        ({"type": 1}, "needs `type`"),
        ({"type": "Files"}, "needs `type`"),
        ({"type": "x", "of": ["a", "b"]}, "of must not be a list"),
        ({"type": "x", "of": {"path": "/srv"}}, "needs `type`"),
        ({"type": "x", "k": [1]}, "k must be texts"),
        ({"type": "x", "k": {"type": "y"}}, "k must be a text, a number or a flag, not dict"),
        ({"type": "x", "path": "/srv\0"}, "path must not have a NUL character"),
        ({"type": "x", "k": ["/a:b", "/c"]}, "k: a path in a list can't have ':'"),
        ({"type": "x", "path": None}, "path must be a text"),
        ({"type": "x", "A": "b"}, "'A' cannot be the name of a keyword"),
        ({"type": "x", "a-b": "1", "a_b": "2"}, "a_b is given twice"),
    ],
)
def test_other_tables_are_rejected(table: dict[str, Any], error: str) -> None:
    """The message names the key."""
    with pytest.raises(ValueError, match=error):
        BackendSpec.from_table(table)


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("filesystem:a", "filesystem:/etc/tftp/a"),
        ("filesystem:/a", "filesystem:/a"),
        ("filesystem:.,follow-links=x:/y", "filesystem:/etc/tftp/.,follow-links=/etc/tftp/x:/y"),
        ("filesystem:/a:b", "filesystem:/a:b"),
        ("readonly:of=filesystem:a,cache=0", "readonly:of=filesystem:/etc/tftp/a,cache=0"),
        ("memory:capacity=1", "memory:capacity=1"),
        ("unknown:a", "unknown:a"),
        ("filesystem:", "filesystem"),
        ("filesystem:http://a/b", "filesystem:http://a/b"),
    ],
)
def test_relative_paths_start_at_the_folder_of_the_file(text: str, absolute: str) -> None:
    """Only those arguments that the plugin says are paths."""
    assert str(BackendSpec.parse(text).with_absolute_paths("/etc/tftp")) == absolute


def test_backends_of_the_package_are_installed() -> None:
    """They are listed in sort order."""
    names = list(installed_plugins())
    assert names == sorted(names)
    assert {"filesystem", "memory", "readonly"} <= set(names)


def test_filesystem_is_made(tmp_path: Path) -> None:
    """It serves the directory, with its keywords."""
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_bytes(b"octets")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "other" / "file")
    backend = make_backend(f"filesystem:{tmp_path}/root,cache=7")
    assert isinstance(backend, FilesystemBackend)
    assert backend.root == f"{tmp_path}/root"
    backend.check()


def test_readonly_is_made_around_another(tmp_path: Path) -> None:
    """`of` names the other one, with its own keywords."""
    backend = make_backend(f"readonly:of=filesystem:{tmp_path},cache=0")
    assert isinstance(backend, ReadOnlyBackend)
    assert isinstance(backend.backend, FilesystemBackend)


def test_memory_is_made() -> None:
    """It is empty."""
    backend = make_backend(BackendSpec("memory", "", {"capacity": "10"}))
    assert isinstance(backend, MemoryBackend)
    backend.files["file"] = b"octets"
    assert octets_of(backend, "file") == b"octets"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("filesytem:/srv", "there is no backend 'filesytem': did you mean filesystem?"),
        ("zzz", "there is no backend 'zzz': installed are filesystem, memory, readonly"),
        ("filesystem", "backend filesystem: it needs a directory"),
        ("filesystem:/a,cahce=0", "no keyword 'cahce', did you mean cache?"),
        ("filesystem:paht=/a", "there is no keyword 'paht', did you mean path? (only a table has"),
        ("filesystem:cahce=0", "there is no keyword 'cahce', did you mean cache?"),
        ("memory:x,zzz=0", "there is no keyword 'zzz'"),
        ("readonly:off=x", "there is no keyword 'off', did you mean of?"),
        ("filesystem:/a,zzz=0", "backend filesystem: there is no keyword 'zzz'"),
        ("filesystem:/a,cache=x", "cache must be a size"),
        ("filesystem:/a,quota=", "quota must be a size"),
        ("filesystem:/a,make-dirs=perhaps", "make-dirs must be yes or no, not 'perhaps'"),
        ("filesystem:/a,upload-mode=44", "upload-mode must be an octal number"),
        ("memory:/srv", "it takes no argument"),
        ("memory:capacity=-1", "capacity must be a size"),
        ("readonly", "it needs the backend that it wraps"),
        ("readonly:/a,of=memory", "it needs the backend that it wraps"),
        ("readonly:of=zzz", "backend readonly: there is no backend 'zzz'"),
        ("readonly:of=", "it needs the backend that it wraps"),
    ],
)
def test_mistakes_have_one_line(text: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name suggests the nearest one."""
    own = {name: installed_plugins()[name] for name in ("filesystem", "memory", "readonly")}
    monkeypatch.setattr(plugin, "installed_plugins", lambda: own)
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        make_backend(text)
    assert "\n" not in str(caught.value)


class Plugin:
    """A plugin that returns or raises what a test says."""

    def __init__(self, result: object) -> None:
        self.result = result

    def from_arguments(self, argument: str, keywords: dict[str, str]) -> object:
        """Return or raise the result."""
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (ValueError("two\nlines"), "backend x: two lines"),
        (TypeError("a\nb"), r"backend x: its plugin fails: TypeError: a\x0ab"),
        (ImportError("no module"), "backend x: its plugin fails: ImportError: no module"),
        (SystemExit(3), "backend x: its plugin fails: SystemExit: 3"),
        ("text", "backend x: its plugin made no backend, but 'text'"),
    ],
)
def test_plugin_that_fails_is_a_mistake_of_one_line(
    result: object, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises or returns."""
    monkeypatch.setattr(plugin, "installed_plugins", lambda: {"x": Plugin(result)})
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        make_backend("x:y")


def test_result_without_a_text_is_a_mistake_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `repr` fails."""

    class NoText:
        def __repr__(self) -> str:
            raise RuntimeError("two\nlines")

    monkeypatch.setattr(plugin, "installed_plugins", lambda: {"x": Plugin(NoText())})
    with pytest.raises(
        ValueError, match=r"^backend x: its plugin made no backend, but <"
    ) as caught:
        make_backend("x:y")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
