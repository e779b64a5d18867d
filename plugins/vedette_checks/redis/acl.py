"""Denied commands, keys, channels and logins, from the server's ACL log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vedette_checks.redis.info import number
from vedette_checks.redis.part import Names, Part, Scene
from vedette_checks.redis.session import Command

_ENTRIES = 128  # the server's own default of acllog-max-len
_GROWS = 120.0  # seconds: twice the time for which the server adds to an entry instead of making another

_Kind = tuple[bytes, bytes, bytes]
"""Reason, context and user name of a denial."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the log; what was asked for is left out but for telling entries apart.

    Attributes:
        kind: reason, context and user name.
        object: the command, key or channel; empty for a login.
        count: how often it was denied.
        age: seconds since the last time.
        number: the entry's id; None before Redis 7.2.
    """

    kind: _Kind
    object: bytes
    count: int
    age: float
    number: int | None

    @classmethod
    def read(cls, row: Any) -> _Entry:
        """The entry in a flat list of names and values."""
        fields = dict(zip(row[::2], row[1::2], strict=False))
        kind = (fields[b"reason"], fields[b"context"], fields[b"username"])
        age = number(fields[b"age-seconds"].decode()) or 0.0
        return cls(kind, fields[b"object"], fields[b"count"], age, fields.get(b"entry-id"))


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the log was counted, and on which server.

    Attributes:
        server: its run id.
        number: the highest id.
        counts: the counts of entries that may still grow, by id.
        time: Unix seconds.
    """

    server: str
    number: int
    counts: dict[str, int]
    time: float

    @classmethod
    def read(cls, stored: Any) -> _Mark | None:
        """What was committed, or None."""
        try:
            counts = {str(number): int(count) for number, count in stored["counts"].items()}
            return cls(str(stored["server"]), int(stored["number"]), counts, float(stored["time"]))
        except (TypeError, ValueError, LookupError, AttributeError):
            return None


class AclLog(Part):
    """Counts the denials that came since the last run.

    The log has an entry for equal denials within a minute, so that an entry's count grows after it was first seen.
    Entries have ids since Redis 7.2: with them the counting goes on after a restart of the agent too. Before, denials
    are told by how the counts of equal entries grew, and what the log has lost in between is not seen.

    Args:
        limit: most user names to tell apart.
        state: what the instance committed.
        key: under which key to commit.
    """

    def __init__(self, limit: int, state: Mapping[str, Any], key: str = "acl_log") -> None:
        self._names = Names(limit, "acl_log")
        self._state = state
        self._key = key
        self._entries: list[_Entry] | None = None
        self._seen: tuple[str, float, list[_Entry]] | None = None

    def commands(self) -> Iterable[Command]:
        """ACL LOG."""
        self._entries = None
        return (("ACL", "LOG", _ENTRIES),)

    def take(self, replies: Iterator[Any], scene: Scene) -> Iterable[Command]:
        """Keep the entries until nothing can fail any more."""
        reply = next(replies)
        if isinstance(reply, Exception):
            scene.refused(reply, "acl|log", option="acl_log")
        else:
            self._entries = [_Entry.read(row) for row in reply]
        return ()

    def settle(self, scene: Scene) -> None:
        """Emit the denials and commit what was counted."""
        entries = self._entries
        if entries is None:
            return
        numbered = all(entry.number is not None for entry in entries)
        denials = self._by_number(entries, scene) if numbered else self._by_growth(entries, scene)
        self._seen = (scene.server, scene.now, entries)
        self._names.begin(scene.now)
        counts: Counter[tuple[str, ...]] = Counter()
        for (reason, context, user), count in denials.items():
            tags = [f"reason:{reason.decode()}", f"context:{context.decode()}"]
            if reason != b"auth":  # a login that failed names whom it likes
                tags.append(f"username:{self._names.tag(user)}")
            counts[tuple(tags)] += count
        for here, count in counts.items():
            if count:
                scene.emit.count("redis.acl.denied", count, (*scene.tags, *here))
        self._names.report(scene)

    def _by_number(self, entries: list[_Entry], scene: Scene) -> Counter[_Kind]:
        mark = _Mark.read(self._state.get(self._key))
        baseline, last, known = mark is None, -1, {}
        if mark is not None:
            if mark.server == scene.server:
                last, known = mark.number, mark.counts
            else:  # its ids begin anew
                baseline = not scene.started_since(mark.time)
        denials: Counter[_Kind] = Counter()
        for entry in entries:
            number = entry.number or 0
            if not baseline and (str(number) in known or number > last):
                denials[entry.kind] += max(entry.count - known.get(str(number), 0), 0)
        growing = {str(entry.number): entry.count for entry in entries if entry.age < _GROWS}
        newest = max([last, *(entry.number or 0 for entry in entries)])
        if mark is None or (mark.server, mark.number, mark.counts) != (scene.server, newest, growing):
            value = {"server": scene.server, "number": newest, "counts": growing, "time": scene.now}
            scene.emit.commit(self._key, value)
        return denials

    def _by_growth(self, entries: list[_Entry], scene: Scene) -> Counter[_Kind]:
        if self._seen is None:
            return Counter()
        server, time, before = self._seen
        if server != scene.server:
            if not scene.started_since(time):
                return Counter()
            before = []
        if len(entries) < len(before):  # ACL LOG RESET: a log never shrinks by itself
            before = []
        then, now, fresh = _sums(before), _sums(entries), Counter[tuple[_Kind, bytes]]()
        for entry in entries:
            if entry.age < scene.now - time - 0.1:
                fresh[entry.kind, entry.object] += 1
        denials: Counter[_Kind] = Counter()
        for key, count in now.items():  # the oldest entries may be gone: each that changed was denied once at least
            denials[key[0]] += max(count - then[key], fresh[key])
        return denials


def _sums(entries: Iterable[_Entry]) -> Counter[tuple[_Kind, bytes]]:
    """How often each thing was denied, as far as the log goes back."""
    sums: Counter[tuple[_Kind, bytes]] = Counter()
    for entry in entries:
        sums[entry.kind, entry.object] += entry.count
    return sums
