"""The log of slow commands, each entry reported once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vedette_checks.redis.options import OTHER, SlowlogConfig
from vedette_checks.redis.part import Names, Part, Scene
from vedette_checks.redis.session import Command

_GLANCE = 8  # entries hold up to 4 KB of arguments each; only where all of these are new the rest is asked for
_COMMAND = re.compile(r"[a-z0-9_.-]{1,64}")


class _Entry(NamedTuple):
    number: int
    time: float
    micros: int
    command: str


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the log was read, and on which server.

    The server's run id makes it safe to keep for an instance without a name of its own: on any other server the mark
    means only "everything before this time is old".
    """

    server: str
    number: int
    time: float

    @classmethod
    def read(cls, stored: Any) -> _Mark | None:
        """What was committed, or None."""
        try:
            return cls(str(stored["server"]), int(stored["number"]), float(stored["time"]))
        except (TypeError, ValueError, LookupError):
            return None


class Slowlog(Part):
    """Reads SLOWLOG GET and reports what came since the last run. Arguments are thrown away at once.

    Args:
        config: its options.
        limit: most commands to tell apart.
        state: what the instance committed.
        key: under which key to commit.
    """

    def __init__(self, config: SlowlogConfig, limit: int, state: Mapping[str, Any], key: str = "slowlog") -> None:
        self._limit = config.limit
        self._glance = min(_GLANCE, config.limit)
        self._names = Names(limit, "slowlog")
        self._state = state
        self._key = key
        self._seen = 0.0
        self._entries: list[_Entry] | None = None

    def commands(self) -> Iterable[Command]:
        """The newest few entries."""
        self._entries = None
        return (("SLOWLOG", "GET", self._glance),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Ask for more if all of these are new."""
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "slowlog|get", option="slowlog")
            return ()
        self._entries = entries = _entries(reply)
        if len(entries) == self._glance < self._limit and len(self._news(entries, scene)[0]) == len(entries):
            return (("SLOWLOG", "GET", self._limit),)
        return ()

    def take_late(self, replies: Iterator[Any], scene: Scene) -> None:
        """The same log, further back."""
        reply = next(replies)
        if not isinstance(reply, Exception):
            self._entries = _entries(reply)

    def settle(self, scene: Scene) -> None:
        """Emit the new entries and commit the newest one's number."""
        entries = self._entries
        if entries is None:
            return
        self._names.begin(scene.now)
        fresh, missed = self._news(entries, scene)
        for entry in fresh:
            command = self._names.tag(entry.command) if entry.command else OTHER
            scene.emit.histogram("redis.slowlog.micros", entry.micros, (*scene.tags, f"command:{command}"))
        if missed:
            scene.emit.count("redis.slowlog.missed", missed, scene.tags)
        self._names.report(scene)
        self._commit(entries, scene)

    def _commit(self, entries: list[_Entry], scene: Scene) -> None:
        mark = _Mark.read(self._state.get(self._key))
        number = max((entry.number for entry in entries), default=-1)
        if mark is not None and mark.server == scene.server and not entries:
            number = mark.number  # SLOWLOG RESET empties the log, but the numbers go on
        if mark is None or (mark.server, mark.number) != (scene.server, number):
            value = {"server": scene.server, "number": number, "time": scene.now}
            scene.emit.commit(self._key, value)
        self._seen = scene.now

    def _news(self, entries: list[_Entry], scene: Scene) -> tuple[list[_Entry], int]:
        """The entries that came since the last run, and how many came and were not seen."""
        mark = _Mark.read(self._state.get(self._key))
        if mark is None or not entries:
            return [], 0
        newest = max(entry.number for entry in entries)
        seen = max(mark.time, self._seen)
        since = mark.number
        if mark.server != scene.server or newest < mark.number:
            if not scene.started_since(seen):  # another server has taken over: its numbers say nothing
                return [entry for entry in entries if entry.time > seen], 0
            since = -1
        fresh = [entry for entry in entries if entry.number > since]
        return fresh, newest - since - len(fresh)


def _entries(reply: Any) -> list[_Entry]:
    """The entries of a reply: (number, Unix seconds, microseconds, arguments, …), newest first."""
    entries = []
    for number, time, micros, *rest in reply:
        arguments = next((one for one in rest if isinstance(one, list)), None)  # some providers put a column before
        command = arguments[0].decode("utf-8", "replace").lower() if arguments else ""
        entries.append(_Entry(number, time, micros, command if _COMMAND.fullmatch(command) else ""))
    return entries
