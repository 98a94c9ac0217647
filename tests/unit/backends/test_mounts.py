"""Tests of mounts: which backend serves a name, for whom, and with which rules for uploads."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface.verify import verifyObject

from tests.support.backends import content
from tests.support.contexts import PEER, read_context, write_context
from tests.support.deferreds import value
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.mounts import Mount, Mounts
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import IBackendLifecycle, IExplainable, IFileBackend
from twisted_tftp.policy import UploadSettings, WriteMode


class Recorder:
    """A backend that returns what it is asked for, instead of a file."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def open_reader(self, path: str, context: Any) -> tuple[str, str]:
        return self.prefix, path

    def open_writer(self, path: str, context: Any) -> tuple[str, str, Any]:
        return self.prefix, path, context.uploads


def recorders(*prefixes: str, ignore_case: bool = False) -> Mounts:
    """Return mounts of which each returns its prefix and the name that it was asked for."""
    return Mounts(
        [Mount(prefix=prefix, backend=Recorder(prefix)) for prefix in prefixes],
        ignore_case=ignore_case,
    )


def asked(mounts: Mounts, name: str) -> tuple[str, str]:
    """Return the prefix of the mount that a read of `name` reaches, and the name that it gets."""
    result: tuple[str, str] = mounts.open_reader(name, read_context(name))
    return result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", ("/", "x")),
        ("/x", ("/", "x")),
        ("configs/x", ("/configs", "x")),
        ("//configs/./x", ("/configs", "x")),
        ("configs/a/x", ("/configs", "a/x")),
        ("configs/lab/x", ("/configs/lab/", "x")),
        ("configsx/y", ("/", "configsx/y")),
        ("config", ("/", "config")),
        ("Configs/x", ("/", "Configs/x")),
        ("a/configs/x", ("/", "a/configs/x")),
        ("configs/a/../x", ("/configs", "x")),
        ("a/../configs/x", ("/configs", "x")),
        ("a/../x", ("/", "x")),
        ("a\\b", ("/", "a\\b")),
        ("configs/a\\b", ("/configs", "a\\b")),
        ("configs\\x", ("/configs", "x")),
        ("\\configs\\lab\\x", ("/configs/lab/", "x")),
        ("configs/lab\\x", ("/configs/lab/", "x")),
        ("a\\..\\configs\\x", ("/configs", "x")),
        ("configs/link\\..\\x", ("/configs", "x")),
        ("configs/é\udcff", ("/configs", "é\udcff")),
        ("configs/" + "long" * 50, ("/configs", "long" * 50)),
    ],
)
def test_longest_prefix_of_whole_components_decides(name: str, expected: tuple[str, str]) -> None:
    """The backend gets the rest of the name, without `..`; backslashes do not get around it."""
    assert asked(recorders("/", "/configs", "/configs/lab/"), name) == expected


@pytest.mark.parametrize(
    ("name", "error", "detail"),
    [
        ("configs/../x", AccessViolation, ".. leads out of /configs"),
        ("configs/a/../../x", AccessViolation, ".. leads out of /configs"),
        ("a/../configs/../x", AccessViolation, ".. leads out of /configs"),
        ("configs\\..\\x", AccessViolation, ".. leads out of /configs"),
        ("configs/lab/../x", AccessViolation, ".. leads out of /configs/lab"),
        ("../x", AccessViolation, ".. leads out of /"),
        ("a/../../x", AccessViolation, ".. leads out of /"),
        ("..\\x", AccessViolation, ".. leads out of /"),
        ("configs", AccessViolation, ""),
        ("a/../configs", AccessViolation, ""),
        ("\\configs", AccessViolation, ""),
        ("configs/", AccessViolation, ""),
        ("configs/a/..", AccessViolation, ""),
        ("", FileNotFound, "no file can have that name"),
        ("configs/\0", FileNotFound, "no file can have that name"),
        ("a/" * 2100 + "x", FileNotFound, "no file can have that name"),
    ],
)
@pytest.mark.parametrize("method", ["open_reader", "open_writer"])
def test_name_that_leaves_its_mount_or_is_no_file_is_refused(
    method: str, name: str, error: type[TFTPError], detail: str
) -> None:
    """No backend is asked. The client is not told of the mounts, but the log is."""
    mounts = recorders("/", "/configs", "/configs/lab/")
    with pytest.raises(error) as caught:
        getattr(mounts, method)(name, read_context(name))
    assert caught.value.detail == detail
    assert "configs" not in caught.value.message


def test_name_of_no_mount_is_not_found() -> None:
    """Without a mount of `/`, other names exist nowhere, not even for `..`."""
    mounts = recorders("/a/b")
    for name in ("x", "a/x", "a", "a/c/../x"):
        with pytest.raises(FileNotFound) as caught:
            asked(mounts, name)
        assert caught.value.detail == "no mount has this name"
    assert asked(mounts, "a/../a/b/x") == ("/a/b", "x")


def test_name_never_falls_through_to_another_mount() -> None:
    """A miss in the mount of the name is the answer, even if another mount has such a name."""
    mounts = Mounts(
        [
            Mount(prefix="/", backend=MemoryBackend({"configs/x": b"hidden", "x": b"hidden"})),
            Mount(prefix="/configs", backend=MemoryBackend()),
        ]
    )
    with pytest.raises(FileNotFound):
        asked(mounts, "configs/x")


@pytest.mark.parametrize("prefix", ["/a/../b", "a\\b", "/a\0"])
def test_prefix_that_cannot_be_one_is_rejected(prefix: str) -> None:
    """It is a mistake in the configuration."""
    with pytest.raises(ValueError, match="must not contain"):
        recorders(prefix)


def test_second_mount_of_a_prefix_is_rejected() -> None:
    """Prefixes with the same components are the same, however they are written."""
    with pytest.raises(ValueError, match="two mounts have the prefix /a/b"):
        recorders("/a/b", "a//b/")


# -- the model ---------------------------------------------------------------------------------

#: The components of the mounts and names in random tests: few, so that they often match.
WORDS = ("a", "b", "A")

PREFIXES = st.sets(st.lists(st.sampled_from(WORDS), max_size=3).map(tuple), max_size=5)
NAMES = st.lists(
    st.tuples(st.sampled_from((*WORDS, "..", ".", "")), st.sampled_from("//\\")), max_size=8
).map(lambda pieces: "".join(word + separator for word, separator in pieces))


def model(prefixes: set[tuple[str, ...]], name: str) -> tuple[tuple[str, ...], list[str]] | None:
    """Return the prefix and the rest of a name without backslashes; None if it is refused."""
    here: list[str] = []
    for word in name.split("/"):
        if word == "..":
            if not here or tuple(here) in prefixes:
                return None
            here.pop()
        elif word not in ("", "."):
            here.append(word)
    matching = [prefix for prefix in prefixes if tuple(here[: len(prefix)]) == prefix]
    if not matching or tuple(here) in prefixes:
        return None
    longest = max(matching, key=len)
    return longest, here[len(longest) :]


def spelled(prefix: tuple[str, ...]) -> str:
    """Return a prefix as text."""
    return "/" + "/".join(prefix)


def answer(mounts: Mounts, name: str) -> tuple[str, str] | None:
    """Return what a read of `name` reaches; None if it is refused."""
    try:
        return asked(mounts, name)
    except (FileNotFound, AccessViolation):
        return None


@given(PREFIXES, NAMES, st.sampled_from(WORDS))
@example({(), ("a",)}, "b/../a/", "b")
def test_mount_is_that_of_the_model(prefixes: set[tuple[str, ...]], name: str, last: str) -> None:
    """For any mounts and any name with slashes, the mount and the rest are those of the model."""
    name = name.replace("\\", "/") + last
    expected = model(prefixes, name)
    found = answer(recorders(*map(spelled, prefixes)), name)
    assert found == (expected and (spelled(expected[0]), "/".join(expected[1])))


@given(PREFIXES, NAMES, st.sampled_from(WORDS), st.booleans())
@example({(), ("a",)}, "b\\..\\a\\", "b", False)
@example({(), ("a",)}, "A/", "b", True)
def test_no_name_reaches_a_directory_of_another_mount(
    prefixes: set[tuple[str, ...]], name: str, last: str, ignore_case: bool
) -> None:
    """The place that a backend could see in its name is in its mount, and in none below it."""
    found = answer(recorders(*map(spelled, prefixes), ignore_case=ignore_case), name + last)
    if found is None:
        return
    prefix, inner = found
    for understood in (inner, inner.replace("\\", "/")):
        assert ".." not in understood.split("/")
        place = os.path.normpath(f"{prefix}/{understood}").lstrip("/").split("/")
        wanted = [word.casefold() for word in place] if ignore_case else place
        matching = [
            other
            for other in prefixes
            if wanted[: len(other)] == [w.casefold() if ignore_case else w for w in other]
        ]
        assert len(prefix.split("/")[1:] if prefix != "/" else []) == max(map(len, matching))


# -- upper and lower case ----------------------------------------------------------------------


def test_prefix_matches_in_upper_and_lower_case_if_that_is_wanted() -> None:
    """An exact match wins, then the first prefix in sort order; `..` stays in the mount too."""
    mounts = recorders("/", "/boot", "/Boot", "/Straße", ignore_case=True)
    assert asked(mounts, "BOOT/x") == ("/Boot", "x")
    assert asked(mounts, "boot/x") == ("/boot", "x")
    assert asked(mounts, "\\STRASSE\\x") == ("/Straße", "x")
    for name in ("BOOT/../x", "BOOT"):
        with pytest.raises(AccessViolation):
            asked(mounts, name)


def test_uploads_go_to_the_exact_prefix() -> None:
    """A prefix in other case is an ordinary directory for an upload."""
    mounts = recorders("/", "/boot", ignore_case=True)
    assert mounts.open_writer("BOOT/x", write_context())[:2] == ("/", "BOOT/x")
    assert mounts.open_writer("boot/x", write_context())[:2] == ("/boot", "x")


# -- rules for clients -------------------------------------------------------------------------


def only(*hosts: str) -> Any:
    """Return a function that says whether a host is one of `hosts`."""
    return lambda host: host in hosts


def test_client_outside_allow_may_neither_read_nor_write_in_the_mount() -> None:
    """Its name is not looked up there; other mounts do not matter."""
    mounts = Mounts(
        [
            Mount(prefix="/", backend=Recorder()),
            Mount(prefix="/a", backend=Recorder(), may_use=only("::1")),
        ]
    )
    with pytest.raises(AccessViolation) as read:
        mounts.open_reader("a/x", read_context())
    with pytest.raises(AccessViolation) as written:
        mounts.open_writer("a/x", write_context())
    assert read.value.message == "your address may not read here"
    assert written.value.message == "your address may not write here"
    detail = f"{PEER.host} is not in allow of the mount /a"
    assert read.value.detail == written.value.detail == detail
    assert mounts.open_reader("x", read_context()) == ("", "x")


def test_client_outside_allow_write_may_only_read() -> None:
    """A read is not affected; a write needs both lists."""
    mount = Mount(prefix="/a", backend=Recorder(), may_use=only(PEER.host), may_write=only("::1"))
    mounts = Mounts([mount])
    assert mounts.open_reader("a/x", read_context()) == ("", "x")
    with pytest.raises(AccessViolation) as caught:
        mounts.open_writer("a/x", write_context())
    assert caught.value.message == "your address may not write here"
    assert caught.value.detail == f"{PEER.host} is not in allow_write of the mount /a"
    allowed = Mounts([Mount(prefix="/a", backend=Recorder(), may_write=only(PEER.host))])
    assert allowed.open_writer("a/x", write_context())[:2] == ("", "x")


def rules(mount: dict[str, Any], request: UploadSettings | None) -> UploadSettings | None:
    """Return the rules that the backend of a mount gets for an upload."""
    mounts = Mounts([Mount(prefix="/", backend=Recorder(), **mount)])
    found: UploadSettings | None = mounts.open_writer("x", write_context(uploads=request))[2]
    return found


def test_keys_that_a_mount_sets_replace_those_of_the_request() -> None:
    """Each key by itself: of the mount, else of the request."""
    request = UploadSettings(WriteMode.CREATE, keep=3, make_dirs=True)
    assert rules({}, request) is request
    assert rules({"write": WriteMode.VERSION}, request) == UploadSettings(
        WriteMode.VERSION, keep=3, make_dirs=True
    )
    assert rules({"keep": 1}, request) == UploadSettings(WriteMode.CREATE, 1, True)
    assert rules({"make_dirs": False}, request) == UploadSettings(WriteMode.CREATE, 3, False)
    assert rules({"write": WriteMode.NEVER}, request).write is WriteMode.NEVER  # type: ignore[union-attr]


def test_mount_can_allow_what_the_server_does_not() -> None:
    """The rule of the whole server holds in the mounts that have none."""
    mount = {"write": WriteMode.OVERWRITE, "keep": 2}
    of_server = UploadSettings(WriteMode.NEVER)
    assert rules(mount, of_server) == UploadSettings(WriteMode.OVERWRITE, keep=2)


def test_request_without_rules_gets_those_of_the_mount() -> None:
    """A mount without rules leaves the backend its own."""
    assert rules({}, None) is None
    assert rules({"write": WriteMode.CREATE}, None) == UploadSettings(WriteMode.CREATE)


# -- with real backends ------------------------------------------------------------------------


def at_once(function: Any, *args: Any) -> Deferred[Any]:
    """Call a function now, instead of in a thread."""
    return maybeDeferred(function, *args)


ATTACKS = (
    "configs/secret",
    "/a/../configs/secret",
    "a\\..\\configs\\secret",
    "configs\\secret",
    "/.//configs/secret",
    "deep/link/../configs/secret",
    "deep/link\\..\\configs\\secret",
    "deep\\link\\..\\configs\\secret",
    "deep/link/../../configs/secret",
    "configs/../configs/secret",
    "./configs\\./secret",
)


@pytest.mark.parametrize("name", ATTACKS)
def test_rules_of_a_mount_hold_if_the_directory_of_another_mount_contains_its_own(
    tmp_path: Path, name: str
) -> None:
    """No spelling of a name reads a file of the mount through the backend of `/`."""
    for directory in ("configs", "a", "deep/configs"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "deep" / "link").symlink_to("../a")
    (tmp_path / "configs" / "secret").write_bytes(b"secret")
    mounts = Mounts(
        [
            Mount(prefix="/", backend=FilesystemBackend(str(tmp_path), in_thread=at_once)),
            Mount(
                prefix="/configs",
                backend=FilesystemBackend(str(tmp_path / "configs"), in_thread=at_once),
                may_use=only("::1"),
            ),
        ]
    )
    with pytest.raises((TFTPError, OSError)):
        value(mounts.open_reader(name, read_context(name)))
    allowed = read_context("configs/secret", peer=PEER._replace(host="::1"))
    assert content(value(mounts.open_reader("configs/secret", allowed))) == b"secret"


def test_explanation_names_the_mount() -> None:
    """It says what the backend says, or why the client may not read."""
    mounts = Mounts(
        [
            Mount(prefix="a/", backend=MemoryBackend({"x": b"22"})),
            Mount(prefix="/b", backend=MemoryBackend(), may_use=only()),
        ]
    )
    assert value(mounts.explain("a/x", read_context())) == ["mount: /a", "found: 2 octets"]
    assert value(mounts.explain("b/x", read_context())) == [
        "mount: /b",
        f"ERROR 2: your address may not read here ({PEER.host} is not in allow of the mount /b)",
    ]


def test_interfaces_are_implemented() -> None:
    """Mounts are a backend, with a lifecycle and an explanation."""
    for interface in (IFileBackend, IBackendLifecycle, IExplainable):
        verifyObject(interface, recorders("/"))
