"""Lengths of named keys: of whatever type the key is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vedette import Emit
from vedette_checks.redis.findings import Advisor, Finding
from vedette_checks.redis.session import Command

LENGTH = {
    "list": "LLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "hash": "HLEN",
    "stream": "XLEN",
    "string": "STRLEN",
}
"""The command that tells the length of a key, by its type."""


class KeyLength:
    """One named key.

    The command depends on the key's type. It is guessed from the last run, so that type and length come in one
    exchange; only where the guess was wrong a second exchange follows.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._type = ""
        self._sent = ""

    def commands(self) -> Iterator[Command]:
        """TYPE, and the length by the type of the last run."""
        yield ("TYPE", self.key)
        self._sent = self._type
        if self._sent:
            yield (LENGTH[self._sent], self.key)

    def take(
        self, replies: Iterator[Any], emit: Emit, tags: tuple[str, ...], advisor: Advisor
    ) -> Finding | Command | None:
        """Take the replies of `commands`: returns what was wrong, or the command still to be sent, or None."""
        kind = next(replies)
        length = next(replies) if self._sent else None
        if isinstance(kind, Exception):
            return self._refused(kind, "type", advisor)
        name = kind.decode("utf-8", "replace")
        if name == "none":  # what Redis makes of an empty list or set; the length of a key that is not there is 0
            self._emit(0, emit, tags)
            return None
        if name not in LENGTH:
            return Finding(f"keys: {self.key} is of a type that has no length: {name[:50]}", "leave it out")
        self._type = name
        if name != self._sent:
            return (LENGTH[name], self.key)
        return self.take_length(length, emit, tags, advisor)

    def take_length(self, reply: Any, emit: Emit, tags: tuple[str, ...], advisor: Advisor) -> Finding | None:
        """Take the length itself; returns what was wrong, if anything."""
        if isinstance(reply, Exception):
            return self._refused(reply, LENGTH[self._type].lower(), advisor)
        self._emit(reply, emit, tags)
        return None

    def _emit(self, length: int, emit: Emit, tags: tuple[str, ...]) -> None:
        kind = (f"key_type:{self._type}",) if self._type else ()
        emit.gauge("redis.key.length", length, (*tags, f"key:{self.key}", *kind))

    def _refused(self, error: Exception, command: str, advisor: Advisor) -> Finding:
        why = advisor.refusal(error, command, self.key)
        return Finding(f"keys: {self.key}: {why.message}", why.hint)
