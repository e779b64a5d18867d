"""YAML to values with lines."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from config.parts import SECRET
from vedette.config.problems import Report
from vedette.config.source import MAX_BYTES, Mapping, Node, Scalar, Sequence, parse, plain


@pytest.fixture(params=[True, False], ids=["c", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(yaml, "__with_libyaml__", request.param)


def good(text: str) -> Node:
    report = Report("x.yaml")
    node = parse(text.encode(), report)
    assert [str(problem) for problem in report.problems] == []
    assert node is not None
    return node


def problems(data: str | bytes) -> list[str]:
    report = Report("x.yaml")
    parse(data.encode() if isinstance(data, str) else data, report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("n", "n"),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("+12", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("0123", "0123"),
        ("007.5", "007.5"),
        ("1_000", "1_000"),
        ("1" * 200, "1" * 200),
        ("1.50", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("12:30", "12:30"),
        ("1:20:30", "1:20:30"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        (".", "."),
        ("-x", "-x"),
        ("1.2.3.4", "1.2.3.4"),
        ("$${x}", "$${x}"),
        ("'true'", "true"),
        ('"12"', "12"),
        ("''", ""),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    node = good(f"key: {text}\n")
    result = plain(node)["key"]
    assert result == value
    assert type(result) is type(value)


def test_nan() -> None:
    assert str(plain(good("[.nan]"))[0]) == "nan"


def test_keys_are_text() -> None:
    assert plain(good("200: a\ntrue: b\n~: c\n'x y': d\n1.5: e\n")) == {
        "200": "a",
        "true": "b",
        "~": "c",
        "x y": "d",
        "1.5": "e",
    }


def test_lines_of_keys_items_and_values() -> None:
    node = good("# é comment\na:\n  - 1\n\n  - {b: 2,\n     c: 3}\nd:\n  'text'\n")
    assert isinstance(node, Mapping)
    assert node.entries["a"].line == 2
    assert node.entries["d"].line == 7
    assert node.entries["d"].node == Scalar("text", 8, quoted=True)
    items = node.entries["a"].node
    assert isinstance(items, Sequence)
    assert [item.line for item in items.items] == [3, 5]
    second = items.items[1]
    assert isinstance(second, Mapping)
    assert {key: entry.line for key, entry in second.entries.items()} == {"b": 5, "c": 6}


@pytest.mark.parametrize("text", ["", "\n\n", "# comment\n", "---\n", "---\n...\n"])
def test_empty(text: str) -> None:
    assert plain(good(text)) is None


def test_aliases_and_merge_keys() -> None:
    text = (
        "base: &base {host: a, port: 1}\nmore: &more {port: 2, tls: true}\n"
        "one: {<<: *base, port: 9}\ntwo: {<<: [*base, *more]}\nthree: *base\nfour: {'<<': x}\n"
    )
    data = plain(good(text))
    assert data["one"] == {"host": "a", "port": 9}
    assert data["two"] == {"host": "a", "port": 1, "tls": True}
    assert data["three"] == {"host": "a", "port": 1}
    assert data["four"] == {"<<": "x"}


def test_a_merged_option_keeps_its_own_line() -> None:
    node = good("base: &base\n  host: a\none:\n  <<: *base\n")
    assert isinstance(node, Mapping)
    one = node.entries["one"].node
    assert isinstance(one, Mapping)
    assert one.entries["host"].line == 2


def test_windows_line_ends() -> None:
    assert plain(good("a: 1\r\nb:\r\n  - x\r\n")) == {"a": 1, "b": ["x"]}
    assert problems("a: 1\r\n\tb: 2\r\n") == ["x.yaml:2: a tab where only spaces may stand; indent with spaces"]


def test_all_structural_mistakes_at_once() -> None:
    found = problems("a: 1\na: 2\nb: *nothing\nc: !tag x\n")
    assert found == [
        "x.yaml:2: a: duplicate key; the first is on line 1",
        "x.yaml:3: b: an alias (*) without an anchor (&) of that name; if it is text, put quotes around it",
        "x.yaml:4: c: a tag (!) is not allowed here; if it is text, put quotes around it",
    ]


def test_alias_bomb_ends_at_once() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 60))
    assert problems(bomb) == ["x.yaml:7: holds more than 250,000 values once its aliases (*) are expanded"]


def test_alias_bomb_by_merge() -> None:
    bomb = "m0: &m0 {a: {b: c}}\n" + "".join(
        f"m{i}: &m{i} {{x: *m{i - 1}, y: *m{i - 1}, z: *m{i - 1}, <<: *m{i - 1}}}\n" for i in range(1, 40)
    )
    assert len(found := problems(bomb)) == 1
    assert "250,000" in found[0]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting(opening: str) -> None:
    assert problems(opening * 100_000) == ["x.yaml:1: is nested more than 40 levels deep"]


@pytest.mark.parametrize("link", ["a{}: &a{} [*a{}]", "a{}: &a{} {{x: *a{}}}", "a{}: &a{} {{<<: {{x: *a{}}}}}"])
def test_deep_nesting_by_aliases(link: str) -> None:
    chain = "a0: &a0 {b: c}\n" + "".join(f"{link}\n".format(i, i, i - 1) for i in range(1, 600))
    assert len(found := problems(chain)) == 1
    assert found[0].endswith(": is nested more than 40 levels deep")


def test_too_large() -> None:
    assert problems(b"#" * (MAX_BYTES + 1)) == ["x.yaml: is larger than 4 MiB; split it into several files"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings(encoding: str) -> None:
    text = f"instances:\n  - password: {SECRET} and then some more text\n"
    assert problems(text.encode(encoding)) == ["x.yaml: is UTF-16 or UTF-32 text; save it as UTF-8"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (r'"\UFFFFFFFF"', "holds an escape that is no character"),
        (r'"\ud800"', "holds an escape that is no character"),
        (r'"\xZZ"', "a backslash in double quotes that is no escape"),
        ("'open", "a quote is opened and never closed"),
        ("{a: 1", "'{' is opened and not closed properly"),
        ("[a, b", "'[' is opened and not closed properly"),
        ("{a: ${env:X}}", "braces in unquoted text"),
        ("[${env:X}]", "braces in unquoted text"),
        ("- a", "a list item ('- ') cannot stand here"),
        ("!<x", "a value cannot start with '!'"),
        ("!x!y z", "a value cannot start with '!'"),
        ("[}", "a bracket or comma that does not fit"),
        ("[a]]", "text follows where the value has ended"),
        ("*", "a value cannot start with '*'"),
        ("& x", "a value cannot start with '&'"),
        (">9x", "a text after '|' or '>' must begin on the next line"),
        ("`x`", "a value cannot start with '`'"),
        ("'a' b", "text follows where the value has ended"),
    ],
)
def test_sentences(value: str, sentence: str) -> None:
    found = problems(f"first: line\nkey: {value}\n")
    assert len(found) == 1
    assert sentence in found[0]
    assert found[0].startswith(("x.yaml:2: ", "x.yaml: holds"))


@pytest.mark.parametrize("value", ["${env:X}}", "{{ x }}", "%x", "@x", "`x", "[x", "*x", "&x", "[${env:X}]"])
def test_the_hint_is_quotes(value: str) -> None:
    found = problems(f"first: {{key: {value}}}\n")
    assert found
    assert all("put quotes around it" in line for line in found)


def test_a_comment_that_eats_a_value() -> None:
    assert problems("password: #hunter2\nother: # a remark\n") == [
        "x.yaml:1: password: warning: is empty, since '#' begins a comment; if it is text, put quotes around it"
    ]
