"""Which queues and exchanges are meant, and how to have the server choose them itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from urllib.parse import quote

from vedette_checks.rabbitmq.names import Object

_GROUP = re.compile(r"\(\?P<\w+>")
_LONGEST = 4_000
"""Of a filter in an address: servers take 8,000 bytes of it, and proxies less."""


class Choice:
    """By name or `vhost/name`, and by regular expressions of which one is found in the name.

    Args:
        names: exact ones.
        patterns: regular expressions.
        family: the tag for what their groups find, such as `rabbitmq_queue_family`; empty for none.
    """

    def __init__(self, names: Collection[str], patterns: Iterable[str], family: str) -> None:
        self._names = frozenset(names)
        self._patterns = tuple(map(re.compile, patterns))
        self._family = family
        self.everything = not self._names and not self._patterns
        self.filter = self._filter()
        """A regular expression for the server, which finds all that are meant, and perhaps more; empty for none."""

    def tags(self, one: Object) -> tuple[str, ...] | None:
        """The tags of something's family; None if it is not meant."""
        name = str(one.get("name", ""))
        if self.everything or name in self._names or full_name(one) in self._names:
            return ()
        for pattern in self._patterns:
            if found := pattern.search(name):
                return self._families(found)
        return None

    def _families(self, found: re.Match[str]) -> tuple[str, ...]:
        if not self._family or not found.groups():
            return ()
        named = found.groupdict()
        if named:
            return tuple(f"{self._family}_{key}:{value}" for key, value in named.items() if value)
        return (f"{self._family}:{found[1]}",) if found[1] else ()

    def found(self, seen: Iterable[Object]) -> dict[str, bool]:
        """Of each name whether something seen has it."""
        there = {text for one in seen for text in (str(one.get("name", "")), full_name(one))}
        return {name: name in there for name in sorted(self._names)}

    def _filter(self) -> str:
        bare = {text[at:] for text in self._names for at in _starts(text)}
        parts = [_GROUP.sub("(?:", pattern.pattern) for pattern in self._patterns]
        parts += [f"^(?:{'|'.join(map(re.escape, sorted(bare)))})$"] if bare else []
        text = "|".join(parts)
        return text if len(quote(text)) <= _LONGEST else ""


def full_name(one: Object) -> str:
    """`vhost/name`."""
    return f"{one.get('vhost', '')}/{one.get('name', '')}"


def halves(text: str) -> tuple[str, str]:
    """Vhost and name of `vhost/name`; no vhost of a mere name. Names hold slashes more rarely than vhosts do."""
    vhost, _, name = text.rpartition("/")
    return (vhost, name) if vhost and name else ("", text)


def _starts(text: str) -> Iterable[int]:
    """Where in `vhost/name` the name may begin: vhosts may hold slashes, and so may names."""
    return (0, *(at + 1 for at, letter in enumerate(text[:-1]) if letter == "/"))
