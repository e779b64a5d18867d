"""Counts keys by pattern and prefix, in a walk over the database with SCAN that many runs share; never KEYS."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from vedette_checks.redis.options import OTHER, ScanConfig
from vedette_checks.redis.part import Names, Scene, tag_value
from vedette_checks.redis.session import Replies, Session

_BATCH = 500  # keys a SCAN: Redis 6.2 needs 0.2 ms for them, in which it serves nobody else
_SLACK = 50  # keys that a SCAN may return beyond COUNT: it never splits a bucket
_LEAST_SHARE = 200  # keys of a budget: smaller slices would cost more than they find
_MOST_PREFIXES = 10_000  # held in memory during a pass
_NONE = "none"
_CLASS = re.compile(rb"\[(?P<not>\^?)(?P<members>(?:\\.|[^\]]-.|[^\]])*)\]?", re.DOTALL)
_MEMBER = re.compile(rb"\\(?P<escaped>.)|(?P<low>[^\]])-(?P<high>.)|(?P<plain>.)", re.DOTALL)


def glob(pattern: str) -> bytes:
    """A regular expression for a glob pattern of Redis (`stringmatchlen` in its util.c).

    Each `*` takes as little as lets what follows it match, and never gives back: nothing else could match instead, and
    a pattern with many stars takes no longer than one with few.
    """
    raw, place = pattern.encode(), 0
    parts: list[bytes] = [b""]
    while place < len(raw):
        one = raw[place : place + 1]
        place += 1
        if one == b"*":
            parts.append(b"")
        elif one == b"?":
            parts[-1] += b"."
        elif one == b"[" and (found := _CLASS.match(raw, place - 1)):
            parts[-1] += _class(found)
            place = found.end()
        elif one == b"\\" and place < len(raw):
            parts[-1] += re.escape(raw[place : place + 1])
            place += 1
        else:
            parts[-1] += re.escape(one)
    if len(parts) == 1:
        return parts[0]
    return parts[0] + b"".join(b"(?>.*?%s)" % part for part in parts[1:-1] if part) + b".*" + parts[-1]


def _class(found: re.Match[bytes]) -> bytes:
    members = b""
    for member in _MEMBER.finditer(found["members"]):
        ends = sorted((member["low"], member["high"])) if member["low"] else [member["escaped"] or member["plain"]]
        members += b"-".join(re.escape(end) for end in ends)
    if not members:
        return b"." if found["not"] else b"(?!)"
    return b"[" + found["not"] + members + b"]"


@dataclass(slots=True)
class _Pass:
    """A walk over the whole database, under way or done.

    Attributes:
        server: run id of the server.
        started: monotonic seconds.
        cursor: where SCAN goes on.
        runs: how many runs took part.
        counts: keys of each pattern by its place; of those that match none under 0.
        prefixes: keys of each prefix; under None of those beyond what is held in memory.
        ended: monotonic seconds.
    """

    server: str
    started: float
    cursor: bytes = b"0"
    runs: int = 0
    counts: Counter[int] = field(default_factory=Counter)
    prefixes: Counter[bytes | None] = field(default_factory=Counter)
    ended: float = 0.0


class Shares:
    """Divides the budget of a run among the primaries of a cluster; what is a copy of them is not walked.

    Where there are so many that a share would be next to nothing, they take turns.

    Args:
        budget: most keys that a run may visit.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._next = 0

    def deal(self, primaries: Sequence[Scan], copies: Iterable[Scan]) -> None:
        """Give each its share.

        Args:
            primaries: walks over the nodes that have keys of their own, always in the same order.
            copies: walks over the others.
        """
        for scan in copies:
            scan.rest()
        at_once = min(len(primaries), self._budget // _LEAST_SHARE)
        for place, scan in enumerate(primaries):
            its_turn = (place - self._next) % len(primaries) < at_once
            scan.budget = self._budget // at_once if its_turn else 0
        self._next = (self._next + at_once) % max(1, len(primaries))


class Scan:
    """The walk of an instance. It reports the last pass that was completed, with its age.

    Args:
        config: its options.
    """

    def __init__(self, config: ScanConfig) -> None:
        self._config = config
        groups = (b"(%s)" % glob(pattern.pattern) for pattern in config.patterns)
        self._match = re.compile(b"|".join(groups), re.DOTALL).fullmatch if config.patterns else None
        self._separator = config.by_prefix.encode()
        self._names = Names(config.prefixes, "scan.prefixes")
        self.budget = config.budget
        """Most keys to visit in the next run; 0 only reports."""
        self._pass: _Pass | None = None
        self._done: _Pass | None = None

    def rest(self) -> None:
        """Visit nothing and forget what was counted: the server is a copy of another one that is walked."""
        self.budget, self._pass, self._done = 0, None, None

    async def walk(self, session: Session, scene: Scene, until: float) -> None:
        """Visit as many keys as the budget allows, and report.

        Args:
            session: the connection.
            scene: the run.
            until: monotonic seconds after which no further SCAN is sent.

        Raises:
            redis.exceptions.RedisError, OSError: the connection failed.
        """
        if self._done is not None and self._done.server != scene.server:
            self._done = None
        if self.budget:
            if self._pass is None or self._pass.server != scene.server:
                self._pass = _Pass(scene.server, monotonic())
            self._pass.runs += 1
            visited = await self._visit(session, scene, self._pass, until)
            scene.emit.count("redis.scan.keys", visited, scene.database)
        if self._done is not None:
            self._report(self._done, scene)

    async def _visit(self, session: Session, scene: Scene, walk: _Pass, until: float) -> int:
        """Visit keys; returns how many."""
        visited = calls = 0
        most = 2 * -(-self.budget // _BATCH)
        while calls < most and (room := self.budget - visited - _SLACK) > 0 and monotonic() < until:
            replies = Replies()
            await session.exchange([("SCAN", walk.cursor, "COUNT", min(room, _BATCH))], replies)
            calls += 1
            reply = replies.values[0]
            if isinstance(reply, Exception):
                self._pass = None
                if "invalid cursor" not in str(reply):
                    scene.refused(reply, "scan", option="scan")
                break
            walk.cursor, keys = reply
            visited += len(keys)
            self._count(keys, walk)
            if walk.cursor == b"0":
                walk.ended = monotonic()
                self._done, self._pass = walk, None
                break
        return visited

    def _count(self, keys: Iterable[bytes], walk: _Pass) -> None:
        match, separator = self._match, self._separator
        if match is not None:
            found = map(match, keys)
            walk.counts.update(hit.lastindex or 0 if hit else 0 for hit in found)
        if separator:
            prefixes = walk.prefixes
            for key in keys:
                end = key.find(separator)
                prefix = key[:end] if end >= 0 else b""
                if prefix in prefixes or len(prefixes) < _MOST_PREFIXES:
                    prefixes[prefix] += 1
                else:
                    prefixes[None] += 1

    def _report(self, walk: _Pass, scene: Scene) -> None:
        emit, tags = scene.emit, scene.database
        emit.gauge("redis.scan.age_seconds", monotonic() - walk.ended, tags)
        emit.gauge("redis.scan.duration_seconds", walk.ended - walk.started, tags)
        emit.gauge("redis.scan.runs", walk.runs, tags)
        if self._match is not None:
            labels = (OTHER, *(pattern.label for pattern in self._config.patterns))
            totals: Counter[str] = Counter()
            for place, label in enumerate(labels):
                totals[tag_value(label)] += walk.counts[place]
            for label, total in totals.items():
                emit.gauge("redis.keys.matched", total, (*tags, f"pattern:{label}"))
        if self._separator:
            for prefix, total in self._by_name(walk.prefixes, scene).items():
                emit.gauge("redis.keys.prefix", total, (*tags, f"prefix:{prefix}"))

    def _by_name(self, prefixes: Counter[bytes | None], scene: Scene) -> Counter[str]:
        self._names.begin(scene.now)
        totals: Counter[str] = Counter()
        for prefix, total in prefixes.most_common():
            totals[OTHER if prefix is None else self._names.tag(prefix) if prefix else _NONE] += total
        self._names.report(scene)
        return totals
