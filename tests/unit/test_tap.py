"""Tests of the twistd plugin and its options, in this process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.scripts.twistd import ServerOptions

from twisted_tftp import __version__
from twisted_tftp.config.name_options import COMMAND_OPTIONS
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.policy import Policy, WriteMode
from twisted_tftp.server import TFTPService
from twisted_tftp.tap import OPTION_COLUMN_WIDTH, Options, makeService


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def test_twistd_finds_the_plugin() -> None:
    """There is one `tftp` command, and it makes our service."""
    (maker,) = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "tftp"]
    assert maker.options is Options


def test_defaults_are_the_documented_ones() -> None:
    """Without options: the working directory, read-only, port 69, the default policy."""
    settings = parse().settings
    assert (settings.root, settings.port, settings.drain) == (".", 69, 5)
    assert settings.write is WriteMode.NEVER
    assert settings.host == ()
    assert settings.policy == Policy()
    assert not settings.verbose


def test_options_reach_the_settings(tmp_path: Path) -> None:
    """Options of the command line set the attributes of their names."""
    settings = parse(
        *("--root", str(tmp_path), "--host", "127.0.0.1", "--host", "::1", "--port", "6969"),
        *("--write", "create", "--timeout", "2", "--retries", "4", "--retransmit", "fixed"),
        *("--drain", "1", "--max-blksize", "1428", "--max-windowsize", "16"),
        *("--port-range", "40000:40999", "--rollover", "1", "--max-upload", "20M"),
        *("--upload-quota", "1G"),
        *("--max-transfers", "99", "--verbose"),
    ).settings
    assert settings.host == ("127.0.0.1", "::1")
    assert settings.verbose
    assert settings.upload_quota == 1 << 30
    policy = settings.policy
    assert (policy.timeout, policy.retries, policy.max_upload) == (2.0, 4, 20 << 20)
    assert (policy.max_blksize, policy.max_windowsize) == (1428, 16)
    assert policy.port_range == (40000, 40999)
    assert policy.max_transfers == 99
    assert parse("--single-port").settings.policy.single_port


@pytest.mark.parametrize("option", ["--rundir", "--chroot"])
def test_root_is_not_checked_before_its_directory_is_entered(option: str, tmp_path: Path) -> None:
    """The root may exist only inside the directory that twistd enters."""
    twistd = ServerOptions()
    twistd.parseOptions([option, str(tmp_path), "tftp", "--root", "/missing/here"])
    assert makeService(twistd.subOptions).backend.root == "/missing/here"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "x"),
        ("--port", "70000"),
        ("--no-such-option",),
        ("stray",),
        ("--port-range", "5"),
        ("--port-range", "40000:40001", "--single-port"),
    ],
)
def test_wrong_option_exits_with_one_line(arguments: tuple[str, ...]) -> None:
    """The parser raises SystemExit with a text, which Python prints, with exit status 1."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert isinstance(caught.value.code, str)
    assert "\n" not in caught.value.code


def test_help_is_grouped() -> None:
    """Each option is listed under a title, in lines of at most 80 characters."""
    usage = Options().getUsage(80)
    assert [line for line in usage.splitlines() if line.endswith(":")] == [
        "Configuration:",
        "Files:",
        "Names:",
        "Addresses:",
        "Time:",
        "Access:",
        "Limits:",
        "Hooks:",
        "Other:",
    ]
    assert all(len(line) <= 80 for line in usage.splitlines())
    known = {name.rstrip("=") for name in Options().longOpt}
    listed = {line.split()[0][2:] for line in usage.splitlines() if line.startswith("  --")}
    assert listed == known


def test_help_separates_each_option_from_its_text() -> None:
    """An option that fills the first column is on a line of its own."""
    lines = Options().getUsage(80).splitlines()
    for option in (*COMMAND_OPTIONS, *OPTIONS):
        (line,) = (line for line in lines if f"{line} ".startswith(f"  {option.usage} "))
        rest = line[len(option.usage) + 2 :]
        assert not rest or rest.startswith(" " * (OPTION_COLUMN_WIDTH - 2 - len(option.usage)))


def test_help_says_what_the_units_of_sizes_are() -> None:
    """It does so at each option that takes a size."""
    usage = " ".join(Options().getUsage(80).split())
    sizes = re.findall(r"--[a-z-]+ SIZE ", usage)
    assert len(sizes) == usage.count("(k, M, G: powers of 1024)") > 0


@pytest.mark.parametrize(
    ("option", "is_of_twistd"),
    [("-n", True), ("--logfile=x", True), ("--pidf=x", True), ("-z", False), ("--nosuch", False)],
)
def test_option_of_twistd_behind_tftp_is_explained(option: str, is_of_twistd: bool) -> None:
    """The error says where it belongs; twistd's abbreviations of options count too."""
    with pytest.raises(SystemExit) as caught:
        ServerOptions().parseOptions(["tftp", option])
    name = option.partition("=")[0]
    assert (f"{name} belongs before `tftp`" in str(caught.value.code)) is is_of_twistd


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version, with exit status 0."""
    with pytest.raises(SystemExit) as caught:
        parse("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"twisted-tftp {__version__}\n"


def test_make_service_returns_a_tftp_service(tmp_path: Path) -> None:
    """twistd gets the service that the settings describe."""
    made: Any = makeService(parse("--root", str(tmp_path)))
    assert isinstance(made, TFTPService)


def test_backends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help-backends` prints those that are installed, with exit status 0."""
    with pytest.raises(SystemExit) as caught:
        parse("--help-backends")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "\nfilesystem: the files of a directory" in shown
    assert "\n    ARGUMENT: the directory\n" in shown


def test_backends_reach_the_settings() -> None:
    """The option may be given several times."""
    settings = parse("--backend", "memory:capacity=1k", "--backend", "filesystem:/a").settings
    assert [str(spec) for spec in settings.backend] == ["memory:capacity=1k", "filesystem:/a"]


@pytest.mark.parametrize("text", ["/srv/tftp", "memory:x,y"])
def test_text_that_names_no_backend_is_rejected(text: str) -> None:
    """The message begins with the name of the option."""
    with pytest.raises(SystemExit) as caught:
        parse("--backend", text)
    assert str(caught.value.code).startswith("tftp: backend ")
