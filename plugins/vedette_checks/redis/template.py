"""Key templates of counters: `hourly:{%Y%m%d%H}:{tag:region}`; any other braces are part of the key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

_FIELD = re.compile(r"\{(?:(?P<time>%[^{}]*)|tag:(?P<tag>[^{}]*))\}")
_OPEN = re.compile(r"\{(?:%|tag:)")
_DIRECTIVES = frozenset("YymdHMSjUWVGuwIpaAbBz%")


class KeyTemplate:
    """A key with fields for the time and for tags.

    Fields are `{%…}` (strftime) and `{tag:NAME}`. Everything else is literal, so `{user42}:cart`, a hash tag of
    Redis Cluster, stays as it is.

    Args:
        text: the template as the user wrote it.

    Raises:
        ValueError: a field is not closed, or has a directive that is not portable; the text is not repeated.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: tuple[tuple[str, str], ...] = tuple(_parse(text))

    def with_tags(self, tags: Iterable[str]) -> KeyTemplate:
        """The same template with its tag fields replaced by the values of these `key:value` tags; the first wins.

        Raises:
            ValueError: a field names a tag that is not among them.
        """
        values: dict[str, str] = {}
        for tag in tags:
            key, colon, value = tag.partition(":")
            if colon:
                values.setdefault(key, value)
        filled = KeyTemplate.__new__(KeyTemplate)
        filled.text = self.text
        parts = [("literal", values.get(part)) if kind == "tag" else (kind, part) for kind, part in self._parts]
        if any(part is None for _, part in parts):
            raise ValueError("a {tag:…} field names a tag that neither the counter nor the instance has")
        filled._parts = tuple((kind, part or "") for kind, part in parts)
        return filled

    def render(self, when: datetime) -> str:
        """The key at this moment."""
        return "".join([when.strftime(part) if kind == "time" else part for kind, part in self._parts])

    @property
    def glob(self) -> str:
        """A glob pattern that all its keys match, for ACL rules."""
        return "".join(part if kind == "literal" else "*" for kind, part in self._parts)


def _parse(text: str) -> Iterable[tuple[str, str]]:
    end = 0
    for match in _FIELD.finditer(text):
        yield from _literal(text[end : match.start()])
        end = match.end()
        if match["time"] is not None:
            _check_directives(match["time"])
            yield "time", match["time"]
        elif not match["tag"]:
            raise ValueError("{tag:…} needs the name of a tag")
        else:
            yield "tag", match["tag"]
    yield from _literal(text[end:])


def _literal(text: str) -> Iterable[tuple[str, str]]:
    if _OPEN.search(text):
        raise ValueError("a {%…} or {tag:…} field is not closed")
    if text:
        yield "literal", text


def _check_directives(field: str) -> None:
    letters = iter(field)
    for letter in letters:
        if letter == "%" and next(letters, "") not in _DIRECTIVES:
            raise ValueError(f"a {{%…}} field knows the directives {' '.join('%' + d for d in sorted(_DIRECTIVES))}")
        if not letter.isprintable():  # strftime stops at a NUL
            raise ValueError("a {%…} field holds a control character")
