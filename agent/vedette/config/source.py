"""Floor 2: YAML text to a tree whose every value knows its line, and our own sentence for every YAML mistake.

Scalars follow the core schema of YAML 1.2, with two differences for safety: only `true` and `false` are booleans
(`yes`, `on`, `12:30`, `2024-01-01` are text), and numbers with leading zeros are text. Keys are always text.
YAML's own error texts quote the file, so they never get out of this module and `syntax`.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from vedette.config.problems import QUOTE, Path, Report
from vedette.config.syntax import syntax_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.passwords import Minted

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_VALUES: Final = 250_000
MAX_DEPTH: Final = 40


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `quoted` tells text in quotes or blocks from a plain word or number.

    `fixed` are the spans of text that came from a secret: no template variable is looked for in them.
    """

    value: str | int | float | bool | Minted | None
    line: int
    quoted: bool = False
    fixed: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a value is missing whose problem is already reported: validation says nothing more about it.

    A `pending` one is a secret that this load does not resolve; any other keeps its instance out.
    """

    line: int
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Entry:
    """The value behind a key; `line` is the key's, `inherited` says that it came from `defaults`."""

    node: Node
    line: int
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in file order."""

    entries: dict[str, Entry]
    line: int


Node = Scalar | Hole | Sequence | Mapping

PLACEHOLDER: Final = "unresolved"
"""Stands for a hole in plain data."""


def plain(node: Node, *, pending: bool = True) -> Any:
    """The tree as dicts, lists and scalars; a hole becomes `PLACEHOLDER`, or is left out if `pending` is False."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Mapping):
        entries = node.entries.items()
        return {k: plain(e.node, pending=pending) for k, e in entries if pending or not isinstance(e.node, Hole)}
    if isinstance(node, Sequence):
        return [plain(i, pending=pending) for i in node.items if pending or not isinstance(i, Hole)]
    return PLACEHOLDER


def values(node: Node, path: Path, line: int) -> Iterator[tuple[Path, Node, int]]:
    """Everything below a node: where it stands, what it is, and the line of its key or list item."""
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield (*path, key), entry.node, entry.line
            yield from values(entry.node, (*path, key), entry.line)
    elif isinstance(node, Sequence):
        for place, item in enumerate(node.items):
            yield (*path, place), item, item.line
            yield from values(item, (*path, place), item.line)


def has_hole(node: Node) -> bool:
    """Whether a value in the tree is missing for good."""
    if isinstance(node, Mapping):
        return any(has_hole(entry.node) for entry in node.entries.values())
    if isinstance(node, Sequence):
        return any(has_hole(item) for item in node.items)
    return isinstance(node, Hole) and not node.pending


def parse(data: bytes, report: Report, most: int = MAX_VALUES) -> Node | None:
    """The tree of one file, or None if it cannot be read at all; problems go to `report`.

    A file without any content gives `Scalar(None)`.

    Args:
        data: the file's bytes.
        report: gets the problems.
        most: how many values it may hold once its aliases are expanded.
    """
    text = _decode(data, report)
    if text is None:
        return None
    if yaml.__with_libyaml__:  # fast; but what it refuses is for the Python parser to judge, whose errors we know
        attempt = Report(report.file)
        try:
            root = _compose(text, yaml.CSafeLoader, attempt, most)
        except (yaml.YAMLError, ValueError, OverflowError, _TooMuch):
            pass
        else:
            report.take(attempt)
            return root
    try:
        return _compose(text, yaml.SafeLoader, report, most)
    except _TooMuch as error:
        report.error(error.line, (), error.message)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        line, message, hint = syntax_problem(error, text)
        report.error(line, (), message, hint)
    return None


_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ODD_INDENT = re.compile("^[ -]*[\xa0\u2000-\u200b\u202f\u3000]", re.MULTILINE)


def _decode(data: bytes, report: Report) -> str | None:
    """The file's text, or None after reporting why it is not plain UTF-8."""
    problem: tuple[int, str, str] | None = None
    text = ""
    if len(data) > MAX_BYTES:
        problem = (0, f"is larger than {MAX_BYTES // 1024**2} MiB", "split it into several files")
    elif data.startswith(_UTF16) or data[:64].count(0) >= 16:
        problem = (0, "is UTF-16 or UTF-32 text", "save it as UTF-8")
    elif data.startswith(b"\xef\xbb\xbf"):
        problem = (1, "begins with a byte order mark (BOM)", "save it as UTF-8 without BOM")
    elif b"\0" in data:
        problem = (data.count(b"\n", 0, data.index(0)) + 1, "holds a NUL byte", "save it as plain UTF-8 text")
    else:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            problem = (data.count(b"\n", 0, error.start) + 1, "holds bytes that are not UTF-8", "save it as UTF-8")
    if problem is None:
        if odd := _CONTROL.search(text):
            problem = (text.count("\n", 0, odd.start()) + 1, "holds a control character", "delete it")
        elif odd := _ODD_INDENT.search(text):
            line = text.count("\n", 0, odd.end()) + 1
            problem = (line, "is indented with a special space character", "use ordinary spaces")
    if problem is not None:
        report.error(problem[0], (), problem[1], problem[2])
        return None
    return text


class _TooMuch(Exception):
    """The document is too deep or too large to go on with."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def _compose(text: str, parser: Any, report: Report, most: int) -> Node:
    events: Any = yaml.parse(text, Loader=parser)
    with closing(events):
        return _Composer(text, events, report, most).document()


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


class _Composer:
    """Builds the tree from parser events.

    Its own, since PyYAML's composer has no limit on depth (its C half overflows the stack) and stops at the
    first mistake.
    """

    def __init__(self, text: str, events: Iterator[Any], report: Report, most: int) -> None:
        self._text = text
        self._most = most
        self._events = events
        self._report = report
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}  # node, size, height; None while it is open
        self._values = 0
        self._path: list[str | int] = []

    def document(self) -> Node:
        """The first document, or `Scalar(None)` if there is none."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), StreamEndEvent):
            return Scalar(None, 1)
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        following = next(self._events)
        if not isinstance(following, StreamEndEvent):
            self._error(_line(following), "a second document begins here ('---')", "use one file for each")
        return root

    def _error(self, line: int, message: str, hint: str = "") -> None:
        path: Path = tuple(self._path)
        self._report.error(line, path, message, hint)

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        before = self._values
        self._count(1, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = self._content(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._values - before, _height(node))
        return node

    def _content(self, event: Any, depth: int) -> Node:
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        self._check_depth(depth + 1, event)
        known_tag = self._check_tag(event, "map" if isinstance(event, MappingStartEvent) else "seq")
        if isinstance(event, MappingStartEvent):
            node: Node = self._mapping(event, depth)
        else:
            node = self._sequence(event, depth)
        return node if known_tag else Hole(node.line)

    @staticmethod
    def _check_depth(depth: int, event: Any) -> None:
        if depth > MAX_DEPTH:
            raise _TooMuch(_line(event), f"is nested more than {MAX_DEPTH} levels deep")

    def _count(self, size: int, event: Any) -> None:
        self._values += size
        if self._values > self._most:
            raise _TooMuch(_line(event), f"holds more than {self._most:,} values once its aliases (*) are expanded")

    def _alias(self, event: Any, depth: int) -> Node:
        line = _line(event)
        if event.anchor not in self._anchors:
            self._error(line, "an alias (*) without an anchor (&) of that name", f"if it is text, {QUOTE}")
            return Hole(line)
        target = self._anchors[event.anchor]
        if target is None:
            self._error(line, "an alias (*) inside its own anchor (&)")
            return Hole(line)
        self._count(target[1], event)
        self._check_depth(depth + target[2], event)
        return target[0]

    def _check_tag(self, event: Any, *allowed: str) -> bool:
        if event.tag in (None, "!") or event.tag in {f"tag:yaml.org,2002:{name}" for name in allowed}:
            return True
        self._error(_line(event), "a tag (!) is not allowed here", f"if it is text, {QUOTE}")
        return False

    def _scalar(self, event: Any) -> Node:
        line = _line(event)
        if not self._check_tag(event, "str"):
            return Hole(line)
        text: str = event.value
        quoted = bool(event.style) or event.tag is not None  # plain is None in Python and '' in C
        if event.anchor is not None and not text and not quoted:
            self._error(line, "an anchor (&) with nothing behind it", f"if it is text, {QUOTE}")
            return Hole(line)
        if not text and not quoted and _COMMENTED.match(self._text, event.start_mark.index):
            hint = f"if it is text, {QUOTE}"
            self._report.warning(line, tuple(self._path), "is empty, since '#' begins a comment", hint)
        if not text.isascii() and not _encodable(text):
            self._error(line, "holds an escape that is no character")
            return Hole(line)
        return Scalar(text if quoted else resolve(text), line, quoted)

    def _sequence(self, start: SequenceStartEvent, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            self._path.append(len(items))
            items.append(self._node(event, depth + 1))
            self._path.pop()
        return Sequence(tuple(items), _line(start))

    def _mapping(self, start: MappingStartEvent, depth: int) -> Mapping | Hole:
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        whole = True
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = _line(event)
            key = self._key(event, depth)
            value = next(self._events)
            if key is None or self._lacks_colon(event, value):
                if key is not None:
                    self._error(line, "expected 'key: value'", f"if it is text, {QUOTE}")
                whole = False
                self._path.append("?")
            else:
                self._path.append(key)
            node = self._node(value, depth + 1)
            if key == "<<" and not event.style:
                merged += self._merge_sources(node)
            elif key in entries:
                self._error(line, "duplicate key", f"the first is on line {entries[key].line}")
            elif key is not None:
                entries[key] = Entry(node, line)
            self._path.pop()
        for source in merged:
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return Mapping(entries, _line(start)) if whole else Hole(_line(start))

    def _key(self, event: Any, depth: int) -> str | None:
        node = self._node(event, depth + 1)
        if isinstance(event, ScalarEvent) and isinstance(node, Scalar):
            return str(event.value)
        if isinstance(node, Scalar) and isinstance(node.value, str):  # an alias of text
            return node.value
        if not isinstance(node, Hole):
            self._error(_line(event), "a key must be a word", f"if this is text, {QUOTE}")
        return None

    def _lacks_colon(self, key: Any, value: Any) -> bool:
        """Whether a key stands alone, as `b` in `{password: a,b}`: most likely half of a value."""
        if not isinstance(value, ScalarEvent) or value.value or value.style:
            return False
        start: Any = value.start_mark
        return ":" not in self._text[key.end_mark.index : start.index]

    def _merge_sources(self, node: Node) -> list[Mapping]:
        sources = node.items if isinstance(node, Sequence) else (node,)
        good = [source for source in sources if isinstance(source, Mapping)]
        if len(good) < len(sources) and not any(isinstance(source, Hole) for source in sources):
            self._error(node.line, "'<<' takes a mapping or a list of mappings")
        return good


_COMMENTED = re.compile(r"[ \t]+#\w")  # as in `password: #secret`; a comment for people has a space after its #


def _height(node: Node) -> int:
    """How many collections stand inside one another; at most `MAX_DEPTH`."""
    if isinstance(node, Mapping):
        return 1 + max((_height(entry.node) for entry in node.entries.values()), default=0)
    if isinstance(node, Sequence):
        return 1 + max(map(_height, node.items), default=0)
    return 0


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_WORDS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})", re.ASCII)
_PREFIXED = re.compile(r"0(?:x[0-9a-fA-F]{1,80}|o[0-7]{1,100})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain (unquoted) scalar means.

    Source: YAML 1.2.2, 10.3.2 "Tag Resolution" of the core schema, without leading zeros.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.":
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if text.lstrip("+-").isdigit():  # leading zeros, or more digits than any number has
        return text
    return float(text) if _FLOAT.fullmatch(text) else text
