"""Templates of a flow: `{{ name }}` is replaced by a variable's value, and nothing else is known.

There are no expressions, filters or calls: what a server answers ends up in variables, and must never become code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_FIELD = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}", re.ASCII)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

Variables = Mapping[str, Any]
"""The values by name: text, numbers, booleans, None, or what JSON nests of them."""


class UnsetError(LookupError):
    """A template names a variable that has no value.

    Args:
        name: the variable.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Template:
    """A text with at least one `{{ name }}`.

    Args:
        text: the template as the user wrote it.

    Raises:
        ValueError: a `{{` does not begin a variable's name; the text is not repeated.
    """

    __slots__ = ("_parts", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = _FIELD.split(text)
        if any("{{" in literal for literal in pieces[::2]):
            raise ValueError("has a `{{` that no variable's name and `}}` follow; write {{ name }}")
        self._parts = tuple(pieces)
        self.names: tuple[str, ...] = tuple(pieces[1::2])

    @property
    def lone(self) -> bool:
        """Whether it is one variable and nothing else."""
        return len(self._parts) == 3 and not self._parts[0] and not self._parts[2]

    def fill(self, variables: Variables, quote: Callable[[str], str] = str) -> str:
        """The text with its variables' values.

        Args:
            variables: the values.
            quote: makes a value fit for its surroundings, such as a URL.

        Raises:
            UnsetError: one of them has none.
        """
        parts = list(self._parts)
        for place in range(1, len(parts), 2):
            parts[place] = quote(as_text(_value(variables, parts[place])))
        return "".join(parts)

    def value(self, variables: Variables) -> Any:
        """As `fill`, but what is one variable and nothing else keeps its type: a number stays a number in JSON."""
        return _value(variables, self.names[0]) if self.lone else self.fill(variables)


def _value(variables: Variables, name: str) -> Any:
    try:
        return variables[name]
    except KeyError:
        raise UnsetError(name) from None


def as_text(value: Any) -> str:
    """A value as it stands in a URL, a header or a form: `true`, `1.5`, text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def compiled(value: Any) -> Any:
    """A value of the configuration with a `Template` for each text in it that has a variable.

    Raises:
        ValueError: one of them is not well formed.
    """
    if isinstance(value, str):
        return Template(value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: compiled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [compiled(item) for item in value]
    return value


def filled(value: Any, variables: Variables) -> Any:
    """What `compiled` made, with values in place of templates.

    Raises:
        UnsetError: a variable has no value.
    """
    if isinstance(value, Template):
        return value.value(variables)
    if isinstance(value, dict):
        return {key: filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables) for item in value]
    return value


def texts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text inside a value of the configuration, with where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from texts(item, (*path, place))
