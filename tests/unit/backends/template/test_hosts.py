"""Tests of hosts files: their formats, their mistakes, and which entry a request gets."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from twisted_tftp.backends.template.hosts import (
    MAX_DEPTH,
    MAX_VALUES,
    HostsError,
    HostTable,
    Machine,
)
from twisted_tftp.backends.template.hosts_formats import MAX_KEY_PARTS, parse

yaml = pytest.importorskip("yaml")

MAC = "52:54:00:12:34:56"

UUID = "b8945908-d6a6-41a9-611d-74a6ab80b83d"

#: The same two machines in all formats.
TOML = f"""\
# machines
["{MAC}"]
name = "node1"
role = "compute"

[node2]
mac = "01-52-54-00-12-34-57"
address = "192.0.2.2"
"""

ARRAY = f"""\
[[host]]
mac = "{MAC}"
name = "node1"
role = "compute"

[[host]]
name = "node2"
mac = "01-52-54-00-12-34-57"
address = "192.0.2.2"
"""

YAML = f"""\
{MAC}:
  name: node1
  role: compute
node2:
  mac: 52:54:00:12:34:57
  address: 192.0.2.2
"""

YAML_LIST = f"""\
- mac: {MAC}
  name: node1
  role: compute
- {{name: node2, mac: 52-54-00-12-34-57, address: 192.0.2.2}}
"""

CSV = f"""\
mac,name,address,role
{MAC},node1,,compute

# another one
52-54-00-12-34-57,node2,192.0.2.2,
"""

#: What is wrong with a file whose aliases repeat an entry.
TOO_LARGE = "the entries up to this one are too large: at most 64 MiB as JSON and 2,000,000 values"

EXAMPLES = [(".toml", TOML), (".toml", ARRAY), (".yaml", YAML), (".yml", YAML_LIST), (".csv", CSV)]


def machine(name: str = "boot.cfg", **values: Any) -> Machine:
    """Return a machine that is known by some values."""
    is_named = bool(values) and "client" not in values
    known = {"mac": None, "uuid": None, "address": None, "client": "192.0.2.9"}
    return Machine(**{**known, "name": name, "is_named": is_named, **values})


def table(extension: str, text: str) -> HostTable:
    """Parse a hosts file."""
    return HostTable(parse(extension, text))


def entry(hosts: HostTable, wanted: Machine) -> Any:
    """Return the entry of a machine; None if there is none."""
    found = hosts.find(wanted).entry
    return found if found is None else json.loads(found)


@pytest.mark.parametrize(("extension", "text"), EXAMPLES)
def test_entry_is_found_by_each_of_its_keys(extension: str, text: str) -> None:
    """MAC address, IP address and name lead to the same entry, in each format."""
    hosts = table(extension, text)
    first = {"mac": MAC, "name": "node1", "role": "compute"}
    second = {"mac": "52:54:00:12:34:57", "name": "node2", "address": "192.0.2.2"}
    assert entry(hosts, machine(mac=MAC)) == first
    assert entry(hosts, machine("cfg/node1.cfg")) == entry(hosts, machine("node1")) == first
    assert entry(hosts, machine(address="192.0.2.2")) == second
    assert entry(hosts, machine(client="192.0.2.2")) == second
    assert entry(hosts, machine(mac="52:54:00:00:00:00")) is None


def test_value_in_the_name_wins() -> None:
    """If a name is for another machine, the client's own entry is not used instead."""
    hosts = table(".toml", TOML)
    assert (
        entry(hosts, machine(mac="52:54:00:00:00:00", client="192.0.2.2", is_named=True)) is None
    )
    assert entry(hosts, machine(uuid=UUID, client="192.0.2.2", is_named=True)) is None
    answer = hosts.find(machine(uuid=UUID))
    assert answer.problem == f"the hosts file has no entry for uuid {UUID}"


@pytest.mark.parametrize(
    ("extension", "text", "line", "problem"),
    [
        (".toml", "[a]\nx = 1\n[b\n", 3, "Expected"),
        (".toml", "[a]\nmac = '1'\n", 2, "'1' is not a MAC address"),
        (".toml", "[a]\nx = 1\naddress = 'x'\n", 3, "'x' is not an IP address"),
        (".toml", "[a]\nmac = 1\n", 2, "mac must be a text"),
        (".toml", f"['{MAC}']\n[b]\nmac = '{MAC}'\n", 3, f"mac '{MAC}' is given twice (first in "),
        (".toml", "a = 1\n", 0, "'a' must be a table"),
        (".toml", "[[host]]\nname = 'a'\n[[host]]\nx = 1\n", 3, "an entry needs a mac"),
        (".toml", "[[host]]\nname='a'\n[[host]]\nuuid = ''\n", 4, "'' is not a UUID"),
        (".toml", "[a]\nx = " + "[" * 30 + "]" * 30, 2, f"x: more than {MAX_DEPTH} levels"),
        (".toml", "[a]\nx = " + "[" * 100_000, 0, "too many levels"),
        (".yaml", "a:\n  mac: 'x\n", 3, "found unexpected end of stream"),
        (".yaml", "a:\n  mac: 1\n", 2, "'1' is not a MAC address"),
        (".yaml", "a:\n  mac: [1]\n", 2, "mac must be a text"),
        (".yaml", "a: 1\n", 1, "'a' must be a mapping"),
        (".yaml", "- 1\n", 1, "'an element' must be a mapping"),
        (".yaml", "x\n", 1, "must be a mapping of keys"),
        (".yaml", "a: {x: !!python/name:os.system }\n", 1, "could not determine a constructor"),
        (".yaml", "a: {x: !!binary aa== }\n", 1, "a bytes can't be a value"),
        (".yaml", "a: &a {x: *a}\n", 1, "found unconstructable recursive node"),
        (".yaml", "a: {1: 2, [3]: 4}\n", 1, "a key must be a text"),
        (".yaml", "a: {x: 2026-99-99}\n", 1, "month must be in"),
        (".yaml", "\x01", 0, "not allowed"),
        (".yaml", f"{MAC}: {{}}\nb:\n  mac: {MAC}\n", 3, "is given twice (first in line 1)"),
        (".csv", "mac,name\n\n1,a\n", 3, "'1' is not a MAC address"),
        (".csv", f"mac,name\n{MAC}\n", 2, "1 fields, the first line has 2"),
        (".csv", "a,b\n", 1, "no field is named mac, uuid, address, name"),
        (".csv", "mac,mac\n", 1, "the field 'mac' is there twice"),
        (".csv", f'mac,name\n{MAC},a\n{MAC},"b\n', 3, "unexpected end of data"),
        (".csv", f"mac,name\n{MAC},a\n{MAC},b\n", 3, "is given twice (first in line 2)"),
    ],
)
def test_mistake_is_reported_with_its_line(
    extension: str, text: str, line: int, problem: str
) -> None:
    """The exception has the line of the wrong key, if that is known."""
    with pytest.raises(HostsError) as caught:
        table(extension, text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.line == line


def test_aliases_that_multiply_are_refused() -> None:
    """A file of a few lines can't make an entry of billions of values."""
    text = "a: {x: &x0 [1]}\n"
    text += "".join(f"b{n}: {{x: &x{n} [{','.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 10))
    with pytest.raises(HostsError, match=f"x: more than {MAX_VALUES:,} values"):
        table(".yaml", text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a: {x: [&s '" + "y" * 100_000 + "'" + ",*s" * 5000 + "]}\n",
            "x: more than 1 MiB in one entry",
        ),
        (
            "a: {x: [&s {? " + "y" * 100_000 + " : 1}" + ",*s" * 4500 + "]}\n",
            "x: more than 1 MiB in one entry",
        ),
        (
            "a: {? &s " + "y" * 600_000 + " : {? *s : 1}}\n",
            "y: more than 1 MiB in one entry",
        ),
        (
            "a: &a {v: ["
            + "1," * 8000
            + "]}\n"
            + "".join(f"b{number}: {{name: n{number}, x: *a}}\n" for number in range(4000)),
            TOO_LARGE,
        ),
        (
            "a: &a {v: "
            + "x" * 1_000_000
            + "}\n"
            + "".join(f"b{number}: {{name: n{number}, x: *a}}\n" for number in range(100)),
            TOO_LARGE,
        ),
    ],
    ids=["text", "key of a table", "name of a field", "entry", "entry of a long text"],
)
def test_aliases_that_repeat_are_refused(text: str, problem: str) -> None:
    """A small file does not fill the memory of the server."""
    with pytest.raises(HostsError, match=problem):
        table(".yaml", text)


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "!!int ''", "!!float ''"])
def test_text_that_does_not_fit_its_type_is_a_mistake(value: str) -> None:
    """PyYAML has other exceptions for it than for other mistakes."""
    with pytest.raises(HostsError, match="a value does not fit its type") as caught:
        table(".yaml", f"a:\n  x: {value}\n")
    assert caught.value.line == 2


@pytest.mark.parametrize("extension", [".toml", ".yaml"])
def test_number_that_json_cannot_have_is_a_mistake(extension: str) -> None:
    """Python refuses to write it."""
    number = "0x" + "f" * 5000
    text = f"[a]\nx = {number}\n" if extension == ".toml" else f"a:\n  x: {number}\n"
    with pytest.raises(HostsError, match="x: a number is too large") as caught:
        table(extension, text)
    assert caught.value.line == 2


def test_decimal_number_of_many_digits_is_a_mistake() -> None:
    """The TOML parser has another exception for it than for other mistakes."""
    with pytest.raises(HostsError, match="integer string conversion"):
        table(".toml", "[a]\nx = " + "1" * 5000)


@pytest.mark.parametrize(
    "text",
    [
        "{parts} = 1",
        "[{parts}]",
        "[[ {parts} ]]",
        "x = {{ y = 1, {parts} = 1 }}",
        'x = ["#", \'"\', {{{parts} = 1}}] # "',
        "\"a\" . 'b.c' . {parts} = 1",
    ],
)
def test_key_of_many_parts_is_refused(text: str) -> None:
    """The TOML parser needs a time for it that is quadratic in their number."""
    parts = ".".join(["a"] * (MAX_KEY_PARTS + 1))
    with pytest.raises(HostsError, match="a key has more than 64 parts") as caught:
        parse(".toml", "[b]\nx = 1\n" + text.format(parts=parts))
    assert caught.value.line == 3


@pytest.mark.parametrize("start", ['x = """\\', 'x = "\\n', "x = 'y", "a = ", '"""\\'])
def test_wrong_toml_is_refused_in_a_short_time(start: str) -> None:
    """The time of the check is linear in the size of the file."""
    started = time.monotonic()
    with pytest.raises(HostsError):
        parse(".toml", start * 200_000)
    with pytest.raises(HostsError, match="64 parts"):
        parse(".toml", "a." * 1_000_000)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "value",
    ["'{parts}'", '"\\"{parts}"', "'''\n{parts}\n'''", '"""\n\\"""{parts}\n"""', "1 # {parts}"],
)
def test_dots_elsewhere_are_no_key(value: str) -> None:
    """In a text or a comment; a key may have 64 parts."""
    parts = ".".join(["a"] * 100)
    allowed = ".".join(["a"] * MAX_KEY_PARTS)
    parse(".toml", f"[b]\n{allowed} = 1\nx = {value.format(parts=parts)}\n")


def test_yaml_of_many_levels_is_refused() -> None:
    """The parser does not overflow the stack."""
    with pytest.raises(HostsError):
        table(".yaml", "a: " + "[" * 200_000)


def test_dates_become_text() -> None:
    """Templates get what JSON has."""
    text = "[a]\nwhen = 2026-11-21T10:30:00Z\nday = 2026-11-21\nat = 10:30:00\nf = 1.5\nt = true\n"
    assert entry(table(".toml", text), machine("a")) == {
        "name": "a",
        "when": "2026-11-21T10:30:00+00:00",
        "day": "2026-11-21",
        "at": "10:30:00",
        "f": 1.5,
        "t": True,
    }


@pytest.mark.parametrize("extension", [".toml", ".yaml"])
def test_empty_file_has_no_entries(extension: str) -> None:
    """It is valid."""
    assert len(table(extension, "")) == 0
