"""Streams and their consumer groups: how much is in them, how far behind the readers are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vedette_checks.redis.findings import Finding
from vedette_checks.redis.options import OTHER
from vedette_checks.redis.part import Names, Part, Scene, tag_value
from vedette_checks.redis.session import Command

_FIRST_TIME = 1_000_000_000_000  # milliseconds: an id below was chosen by the application and tells no time
_SUMS = ("pending", "consumers", "lag")


class Streams(Part):
    """XINFO STREAM and XINFO GROUPS of each stream, then XPENDING of each group in which something waits.

    Args:
        streams: keys of the streams.
        limit: most groups to tell apart, of all streams together.
    """

    def __init__(self, streams: Sequence[str], limit: int) -> None:
        self._streams = streams
        self._names = Names(limit, "streams")
        self._late: list[tuple[str, tuple[str, ...]]] = []

    def commands(self) -> Iterable[Command]:
        """Two commands for each stream."""
        for stream in self._streams:
            yield ("XINFO", "STREAM", stream)
            yield ("XINFO", "GROUPS", stream)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Emit what streams and groups say; ask for the oldest entry that a group has not acknowledged."""
        self._names.begin(scene.now)
        self._late = []
        late: list[Command] = []
        for stream in self._streams:
            about, groups = next(replies), next(replies)
            here = (*scene.database, f"stream:{tag_value(stream)}")
            if self._take_stream(stream, about, here, scene):
                late += self._take_groups(stream, groups, here, scene)
        self._names.report(scene)
        return late

    def take_late(self, replies: Iterator[Any], scene: Scene) -> None:
        """Emit the age of the oldest entry of each XPENDING: (how many, smallest id, …)."""
        for stream, here in self._late:
            reply = next(replies)
            if isinstance(reply, Exception):
                if "NOGROUP" not in str(reply):  # gone since XINFO named it
                    self._refused(reply, "xpending", stream, scene)
            elif (age := _age(reply[1], scene.now)) is not None:
                scene.emit.gauge("redis.stream.group.oldest_pending_seconds", age, here)

    def _take_stream(self, stream: str, reply: Any, here: tuple[str, ...], scene: Scene) -> bool:
        """Emit what the stream says; returns whether it can have groups."""
        emit = scene.emit
        if isinstance(reply, Exception):
            if "no such key" not in str(reply):
                self._refused(reply, "xinfo|stream", stream, scene)
                return False
            emit.gauge("redis.stream.length", 0, here)  # as XLEN has it
            return False
        fields = _fields(reply)
        emit.gauge("redis.stream.length", fields[b"length"], here)
        emit.gauge("redis.stream.groups", fields[b"groups"], here)
        if (age := _age(fields[b"last-generated-id"], scene.now)) is not None:
            emit.gauge("redis.stream.last_entry_age_seconds", age, here)
        return True

    def _take_groups(self, stream: str, reply: Any, here: tuple[str, ...], scene: Scene) -> Iterator[Command]:
        if isinstance(reply, Exception):
            if "no such key" not in str(reply):
                self._refused(reply, "xinfo|groups", stream, scene)
            return
        sums: dict[str, dict[str, int]] = {}
        for row in reply:
            fields = _fields(row)
            name = tag_value(fields[b"name"])
            admitted = self._names.admits((stream, name))
            there = (*here, f"group:{name if admitted else OTHER}")
            group = sums.setdefault(there[-1], {})
            for field in _SUMS:  # the lag is absent before Redis 7, and empty where the server cannot tell it
                if (value := fields.get(field.encode())) is not None:
                    group[field] = group.get(field, 0) + value
            if admitted and fields[b"pending"]:
                self._late.append((stream, there))
                yield ("XPENDING", stream, fields[b"name"])
        for tag, group in sums.items():
            for field, value in group.items():
                scene.emit.gauge(f"redis.stream.group.{field}", value, (*here, tag))

    def _refused(self, error: Exception, command: str, stream: str, scene: Scene) -> None:
        if "WRONGTYPE" in str(error):
            scene.findings.append(Finding(f"streams: {tag_value(stream)}: the key is not a stream", "leave it out"))
        else:
            scene.refused(error, command, stream, about=f"streams: {tag_value(stream)}", option="streams")


def _fields(reply: Sequence[Any]) -> Mapping[bytes, Any]:
    """A flat list of names and values as a mapping."""
    return dict(zip(reply[::2], reply[1::2], strict=False))


def _age(entry: bytes | None, now: float) -> float | None:
    """Seconds since the time in an entry's id, `<milliseconds>-<number>`; None if it holds none."""
    milliseconds = int((entry or b"0").partition(b"-")[0])
    return max(now - milliseconds / 1000, 0.0) if milliseconds >= _FIRST_TIME else None
