"""Tests of the arguments of the plugin `template`."""

from __future__ import annotations

import pytest

from twisted_tftp.backends.plugin import BackendSpec, make_backend
from twisted_tftp.backends.template import plugin
from twisted_tftp.backends.template.backend import TemplateBackend

pytest.importorskip("jinja2")


@pytest.mark.parametrize(
    "text",
    [
        "template:/srv/templates",
        "template:/srv,hosts=/srv/hosts.toml,verify-mac=yes,time-limit=1,memory=20M,output=1k",
        "template:/srv,hosts=http://a/{mac},ttl=0,stale=yes,hosts-limit=1,workers=4,cache=0",
    ],
)
def test_backend_is_made_from_a_text(text: str) -> None:
    """With all keywords."""
    assert isinstance(make_backend(text), TemplateBackend)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("template:", "it needs a folder"),
        ("template:paht=/srv", "there is no keyword 'paht', did you mean path?"),
        ("template:/srv,memory=0", "memory must be from 4,194,304 to 1,099,511,627,776 octets"),
        ("template:/srv,memory=9999999T", "memory must be from"),
        ("template:/srv,output=0", "output must be from 1 to 1,073,741,824 octets"),
        ("template:/srv,output=4G", "output must be from"),
        ("template:/srv,workers=100000", "workers must be 256 or less, not 100000"),
        ("template:/srv,host=x", "there is no keyword 'host', did you mean hosts?"),
        ("template:/srv,hosts=x.ini", "must end in .toml, .yaml, .yml, .csv"),
        ("template:/srv,hosts=ftp://a/b.csv", "hosts must be a file"),
        ("template:/srv,hosts=http://a/{b}", "is none of {mac}"),
        ("template:/srv,hosts=a.csv,ttl=1", "ttl needs a URL"),
        ("template:/srv,time-limit=0", "time-limit must be 0.1 seconds or more"),
        ("template:/srv,workers=0", "workers must be a whole number from 1"),
    ],
)
def test_mistake_is_one_line(text: str, problem: str) -> None:
    """The text names the backend and the keyword."""
    with pytest.raises(ValueError, match=r"^backend template: ") as caught:
        make_backend(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "text"), [("jinja2", "template:/srv"), ("yaml", "template:/srv,hosts=x.yaml")]
)
def test_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, text: str
) -> None:
    """The user sees what to install."""
    find = plugin.find_spec
    monkeypatch.setattr(plugin, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(ValueError, match=r"pip install 'twisted-tftp\[templates\]'"):
        make_backend(text)


def test_relative_paths_start_at_the_folder_of_the_configuration() -> None:
    """A URL stays as it is."""
    spec = BackendSpec.parse("template:t,hosts=h.toml").with_absolute_paths("/etc/x")
    assert str(spec) == "template:/etc/x/t,hosts=/etc/x/h.toml"
    spec = BackendSpec.parse("template:t,hosts=http://h/{mac}").with_absolute_paths("/etc/x")
    assert str(spec) == "template:/etc/x/t,hosts=http://h/{mac}"
