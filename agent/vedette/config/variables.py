"""Floor 2: `%%host%%`, `%%port_name%%` and the like inside string values, filled in from what a discovery found.

`%%%%` is a literal `%%`. What is filled in is never parsed again, neither as YAML nor for variables nor for `${…}`, and
text that came from a secret is not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import quote

from vedette.config.problems import Path, Report, one_line
from vedette.config.source import Entry, Hole, Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from collections.abc import Mapping as Dict

    from vedette.discovery import Container, Target

T = TypeVar("T")

_VARIABLE = re.compile(r"%%([^%\s]*)%%")
_MOST_NAMED = 12
_SHAPE: Final = "write %%host%%, or %%%% for a literal %%"
_FORMS: Final = "there are %%host%%, %%port%%, %%port_NAME%%, %%env:NAME%%, %%label:NAME%%"
MAX_VALUE: Final = 4 * 1024
"""Characters of a value that is filled in."""
SAMPLE_HOST: Final = "192.0.2.1"
"""Stands for a host that is not known yet: an address of RFC 5737, which nobody has."""
SAMPLE_PORT: Final = "65535"


class Unknown(LookupError):
    """A variable without a value.

    Args:
        message: why; it does not repeat the variable, which might be a stray value.
        hint: what there is instead.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Variables(Protocol):
    """Knows the values of variables."""

    def __call__(self, name: str) -> str | None:
        """The value of `%%name%%`; None where it has one that is not known yet.

        Raises:
            Unknown: it has none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables of one target, or of some of its containers.

    Attributes:
        target: what was found.
        containers: those that `%%port…%%` and `%%env:…%%` are about; of two that say the same the first counts.
    """

    target: Target
    containers: tuple[Container, ...]

    def __call__(self, name: str) -> str:
        """See `Variables`."""
        kind, colon, key = name.partition(":")
        if name == "host":
            return self.target.host
        if name == "port":
            return self._only_port()
        if name.startswith("port_"):
            return str(self._find(self._ports, name[5:], "port", "%%port_{}%%"))
        if colon and kind == "env":
            return self._find(self._environ, key, "environment variable with a value of its own", "%%env:{}%%")
        if colon and kind == "label":
            return self._find(self.target.labels, key, "label", "%%label:{}%%")
        if name in self.target.variables:
            return self.target.variables[name]
        raise Unknown("an unknown variable", f"this {self.target.kind} has {_some(self._names())}")

    def _find(self, values: Dict[str, T], key: str, word: str, form: str) -> T:
        if key in values and len(str(values[key])) > MAX_VALUE:
            raise Unknown(f"this {word} is longer than {MAX_VALUE // 1024} KiB")
        if key in values:
            return values[key]
        there = _some(form.format(one) for one in values) if values else "none"
        raise Unknown(f"this {self.target.kind} has no such {word}", f"it has {there}")

    def _only_port(self) -> str:
        numbers = {str(number) for number in self._ports.values()}
        if len(numbers) == 1:
            return numbers.pop()
        if not numbers:
            raise Unknown(f"this {self.target.kind} declares no port", "write the number")
        raise Unknown(
            f"this {self.target.kind} has several ports", f"write {_some(f'%%port_{one}%%' for one in self._ports)}"
        )

    @property
    def _ports(self) -> dict[str, int]:
        return {name: port for one in reversed(self.containers) for name, port in one.ports.items()}

    @property
    def _environ(self) -> dict[str, str]:
        return {name: value for one in reversed(self.containers) for name, value in one.environ.items()}

    def _names(self) -> Iterator[str]:
        yield "%%host%%"
        yield from (f"%%port_{name}%%" for name in self._ports)
        yield from (f"%%env:{name}%%" for name in self._environ)
        yield from (f"%%{name}%%" for name in self.target.variables)
        yield from (f"%%label:{name}%%" for name in self.target.labels)


@dataclass(frozen=True, slots=True)
class Samples:
    """What a template is checked with before anything is found.

    Attributes:
        more: names that the configured discoveries know beside the common ones; None if nobody was asked.
    """

    more: Collection[str] | None = None

    def __call__(self, name: str) -> str | None:
        """See `Variables`."""
        kind, colon, key = name.partition(":")
        if name == "host":
            return SAMPLE_HOST
        if name == "port" or (name.startswith("port_") and name != "port_"):
            return SAMPLE_PORT
        if (colon and key and kind in ("env", "label")) or self.more is None or name in self.more:
            return None
        own = [f"%%{one}%%" for one in self.more]
        raise Unknown("an unknown variable", ", ".join([_FORMS, *own]))


def _some(names: Iterable[str]) -> str:
    """The first of these for people: they are others' text."""
    known = [one_line(name, 60) for name in names]
    more = len(known) - _MOST_NAMED
    return ", ".join(known[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def substitute(node: Node, variables: Variables, path: Path, report: Report) -> Node:
    """The tree with its variables filled in; one that cannot be becomes a `Hole` and is reported.

    Args:
        node: the tree.
        variables: knows the values.
        path: where the tree stands in its document.
        report: gets the problems.
    """
    if isinstance(node, Scalar):
        if not isinstance(node.value, str) or "%%" not in node.value:
            return node
        return _fill(node, node.value, variables, path, report)
    if isinstance(node, Mapping):
        entries = {
            key: replace(entry, node=substitute(entry.node, variables, (*path, key), report))
            for key, entry in node.entries.items()
        }
        return Mapping(entries, node.line)
    if isinstance(node, Sequence):
        items = (substitute(item, variables, (*path, i), report) for i, item in enumerate(node.items))
        return Sequence(tuple(items), node.line)
    return node


def _fill(node: Scalar, text: str, variables: Variables, path: Path, report: Report) -> Node:
    filled, position, pending = "", 0, False
    for start, end, fixed in _stretches(text, node.fixed):
        if fixed:
            filled += text[start:end]
            continue
        position = start
        for found in _VARIABLE.finditer(text, start, end):
            filled += text[position : found.start()]
            if "%%" in text[position : found.start()]:
                report.error(node.line, path, "a '%%' that begins no variable", _SHAPE)
                return Hole(node.line)
            position = found.end()
            try:
                value = variables(found[1]) if found[1] else "%%"
            except Unknown as error:
                report.error(node.line, path, error.message, error.hint)
                return Hole(node.line)
            pending = pending or value is None
            filled += _fitting(found, value or "", text)
        if "%%" in text[position:end]:
            report.error(node.line, path, "a '%%' that begins no variable", _SHAPE)
            return Hole(node.line)
        filled += text[position:end]
    return Hole(node.line, pending=True) if pending else Scalar(filled, node.line, quoted=True)


def _fitting(found: re.Match[str], value: str, text: str) -> str:
    """The value as it may stand there (RFC 3986, 2.1 and 3.2).

    An IPv6 address inside a longer text stands in brackets. What a target says of itself cannot name another host where
    a URL has user, password and host: it is percent-encoded there.
    """
    if found[1] == "host":
        return f"[{value}]" if ":" in value and found[0] != text else value
    scheme, slashes, authority = text[: found.start()].rpartition("://")
    if scheme and slashes and not set("/?#") & set(authority) and not found[1].startswith("port"):
        return quote(value, safe="")
    return value


def _stretches(text: str, fixed: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int, bool]]:
    at = 0
    for start, end in fixed:
        yield at, start, False
        yield start, end, True
        at = end
    yield at, len(text), False


def with_entry(tree: Mapping, key: str, node: Node, line: int) -> Mapping:
    """The mapping with an entry of ours."""
    return Mapping({**tree.entries, key: Entry(node, line)}, tree.line)
