"""What is read by default: PostgreSQL's own statistics views, one module per topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

from asyncpg import InterfaceError, PostgresError
from asyncpg.exceptions import QueryCanceledError

from vedette import Metric
from vedette_checks.postgres.findings import refusal
from vedette_checks.postgres.view import PreparedView, View
from vedette_checks.postgres.views import activity, database, objects, progress, replication, server, subscription
from vedette_checks.postgres.visit import PUT_OFF, Visit

VIEWS: tuple[View, ...] = (
    server.SERVER,
    database.DATABASES,
    database.SIZES,
    activity.ACTIVITY,
    activity.LOCKS,
    server.CONTROL,
    server.BGWRITER,
    server.CHECKPOINTER,
    server.ARCHIVER,
    server.WAL,
    server.WAL_IO,
    server.WAL_FILES,
    server.SLRU,
    replication.STANDBYS,
    replication.REPLAY,
    replication.WAL_RECEIVER,
    replication.SLOTS,
    replication.SLOT_STATISTICS,
    subscription.SUBSCRIPTIONS,
    subscription.ERRORS,
    progress.VACUUM,
    progress.ANALYZE,
    progress.CREATE_INDEX,
    progress.CLUSTER,
    objects.TABLES,
    objects.FUNCTIONS,
    subscription.STATES,
)


def _declared() -> tuple[Metric, ...]:
    """Each metric once: some stand in a view of old servers and in one of new ones."""
    found: dict[str, Metric] = {}
    for view in VIEWS:
        for metric in view.metrics():
            found.setdefault(metric.name, metric)
    return tuple(found.values())


METRICS = _declared()


class Defaults:
    """The part that reads the default views, all in one query; if the server refuses that, each by itself.

    Of a database beside the instance's own it reads the views that are about a database.
    """

    metrics: tuple[Metric, ...] = METRICS
    everywhere = True

    def __init__(self) -> None:
        self._prepared: dict[tuple[int, bool, bool], list[PreparedView]] = {}
        self._texts: dict[tuple[int, tuple[str, ...]], str] = {}

    async def collect(self, visit: Visit) -> None:
        """Read each view that this server has."""
        views = [view for view in self._fitting(visit) if not visit.is_put_off(view.name)]
        for view, rows in zip(views, await self._read(visit, views), strict=True):
            if rows:
                view.emit(rows, visit.emit, visit.place if view.local else visit.tags, visit.memory.totals)

    def _fitting(self, visit: Visit) -> list[PreparedView]:
        key = (visit.version, visit.standby, visit.main)
        if key not in self._prepared:
            fitting = [view for view in VIEWS if view.on(visit.version, standby=visit.standby)]
            self._prepared[key] = [view.prepare(visit.version) for view in fitting if visit.main or view.local]
        return self._prepared[key]

    async def _read(self, visit: Visit, views: list[PreparedView]) -> Iterable[Sequence[Any] | None]:
        key = (visit.version, tuple(view.name for view in views))
        if key not in self._texts:
            self._texts[key] = "SELECT " + ", ".join(view.expression for view in views)
        if monotonic() >= visit.memory.apart_until:
            if not visit.can_ask("statistics views"):
                return [None] * len(views)
            answer = await visit.attempt(self._texts[key])
            if not isinstance(answer, PostgresError | InterfaceError):
                return tuple(answer[0])
            if isinstance(answer, QueryCanceledError):  # the next runs will tell which it is, this one has no time left
                visit.memory.apart_until = monotonic() + PUT_OFF
                visit.findings.append(refusal(answer, "statistics views", visit.target))
                return [None] * len(views)
        return await self._read_apart(visit, views)

    async def _read_apart(self, visit: Visit, views: list[PreparedView]) -> Iterable[Sequence[Any] | None]:
        """Each view by itself, in at most half of the time that is left: each may have to wait for a lock."""
        turns, until = visit.memory.turns, monotonic() + visit.left / 2
        rows: dict[str, Sequence[Any] | None] = {}
        for view in sorted(views, key=lambda view: turns.last(view.name)):
            if monotonic() >= until:
                visit.leave_out(view.name)
                continue
            turns.note(view.name)
            rows[view.name] = await visit.rows(view.name, view.sql)
        return [rows.get(view.name) for view in views]
