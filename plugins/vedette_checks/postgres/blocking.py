"""Who waits for whom: sessions that wait for locks, and the sessions at the root of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vedette import Kind, Metric, Status
from vedette_checks.postgres.masking import mask_sql
from vedette_checks.postgres.visit import Visit

STATUS = "postgres.blocking"
_MOST_NAMED = 3

_WAITING = """
SELECT a.pid, pg_blocking_pids(a.pid) AS blockers,
       extract(epoch FROM clock_timestamp() - coalesce({since}, a.query_start))::float8 AS seconds
FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
WHERE a.wait_event_type = 'Lock'
ORDER BY seconds DESC NULLS LAST LIMIT 1000
"""
_ROOTS = """
SELECT pid, coalesce(usename::text, backend_type) AS who, coalesce(state, '') AS state, coalesce(query, '') AS query,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
FROM pg_stat_activity WHERE pid = ANY($1::int[])
"""


@dataclass(frozen=True, slots=True)
class Tree:
    """The sessions that wait because of one.

    Attributes:
        root: process id of the session that everybody waits for, itself waiting for none.
        waiting: how many sessions wait, directly or behind others.
        seconds: the longest wait.
    """

    root: int
    waiting: int
    seconds: float


def trees(waits: Sequence[tuple[int, Sequence[int], float]]) -> list[Tree]:
    """The trees of (pid, whom it waits for, seconds), longest wait first.

    A circle, which the server will break as a deadlock, has no root and makes no tree. Process 0 stands for a
    prepared transaction.
    """
    blockers = {pid: set(of) for pid, of, _ in waits}
    found: dict[int, list[float]] = {}
    for pid, _, seconds in waits:
        for root in _roots(pid, blockers):
            found.setdefault(root, []).append(seconds)
    made = [Tree(root, len(seconds), max(seconds)) for root, seconds in found.items()]
    return sorted(made, key=lambda tree: (-tree.seconds, -tree.waiting, tree.root))


def _roots(pid: int, blockers: dict[int, set[int]]) -> set[int]:
    seen, queue, roots = {pid}, [pid], set()
    while queue:
        for blocker in blockers.get(queue.pop(), ()):
            if blocker not in blockers:
                roots.add(blocker)
            elif blocker not in seen:
                seen.add(blocker)
                queue.append(blocker)
    return roots


def _gauge(name: str, unit: str, text: str) -> Metric:
    return Metric(f"postgresql.blocking.{name}", Kind.GAUGE, unit, text, ("replication_role",))


class Blocking:
    """The part that reports blocking trees.

    Args:
        warning: seconds of waiting from which on the status is WARNING.
        critical: seconds of waiting from which on it is CRITICAL.
    """

    metrics: tuple[Metric, ...] = (
        _gauge("waiting", "session", "Sessions that wait for a lock."),
        _gauge("roots", "session", "Sessions that others wait for, themselves free."),
        _gauge("longest_wait", "second", "Longest wait for a lock."),
    )

    everywhere = False

    def __init__(self, warning: float, critical: float) -> None:
        self._warning = warning
        self._critical = critical

    async def collect(self, visit: Visit) -> None:
        """Ask who waits; only if somebody does, ask about whom they wait for."""
        if not visit.sees_all:
            return
        since = "l.waitstart" if visit.version >= 14 else "NULL"
        rows = await visit.rows("pg_blocking_pids", _WAITING.format(since=since))
        if rows is None:
            return
        found = trees([(row["pid"], row["blockers"], max(row["seconds"] or 0.0, 0.0)) for row in rows])
        longest = max((tree.seconds for tree in found), default=0.0)
        emit, tags = visit.emit, visit.tags
        emit.gauge("postgresql.blocking.waiting", len({row["pid"] for row in rows}), tags)
        emit.gauge("postgresql.blocking.roots", len(found), tags)
        emit.gauge("postgresql.blocking.longest_wait", longest, tags)
        message = await self._name(visit, found[:_MOST_NAMED]) if longest >= self._warning else ""
        emit.status(STATUS, self._judge(longest), message, visit.target.tags)

    def _judge(self, seconds: float) -> Status:
        if seconds >= self._critical:
            return Status.CRITICAL
        return Status.WARNING if seconds >= self._warning else Status.OK

    async def _name(self, visit: Visit, found: Sequence[Tree]) -> str:
        rows = await visit.rows("pg_stat_activity", _ROOTS, [tree.root for tree in found]) or ()
        sessions = {row["pid"]: row for row in rows}
        return "; ".join(_sentence(tree, sessions.get(tree.root)) for tree in found)


def _sentence(tree: Tree, session: Any) -> str:
    others = "1 session" if tree.waiting == 1 else f"{tree.waiting} sessions"
    victims = f"blocks {others}, the longest for {tree.seconds:.0f}s"
    if session is None:
        who = "a prepared transaction" if tree.root == 0 else f"pid {tree.root}"
        return f"{who} {victims}"
    age = "" if session["seconds"] is None else f" for {session['seconds']:.0f}s"
    said = mask_sql(session["query"])
    return f"pid {tree.root} ({session['who']}, {session['state']}{age}) {victims}: {said}"
