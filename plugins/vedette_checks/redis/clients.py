"""Connections by the name that clients gave themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from vedette_checks.redis.part import Names, Part, Scene
from vedette_checks.redis.session import Command

_NAMELESS = b"unknown"  # as Datadog's integration has it


class Clients(Part):
    """Counts the lines of CLIENT LIST by name; names cannot hold spaces."""

    def __init__(self, limit: int) -> None:
        self._names = Names(limit, "clients")

    def commands(self) -> Iterable[Command]:
        """CLIENT LIST."""
        return (("CLIENT", "LIST"),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Emit how many connections each name has."""
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "client|list", option="clients")
            return ()
        names = self._names
        names.begin(scene.now)
        counts: Counter[str] = Counter()
        after_name = reply.split(b" name=")  # once a line; reading the fields would cost ten times as much
        for raw, count in Counter(text.partition(b" ")[0] for text in after_name[1:]).items():
            counts[names.tag(raw or _NAMELESS)] += count
        for name, count in counts.items():
            scene.emit.gauge("redis.net.connections", count, (*scene.tags, f"source:{name}"))
        names.report(scene)
        return ()
