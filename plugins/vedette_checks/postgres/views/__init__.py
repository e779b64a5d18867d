"""What is read by default: PostgreSQL's own statistics views, one module per topic."""

from __future__ import annotations

from vedette import Metric
from vedette_checks.postgres.view import PreparedView, View
from vedette_checks.postgres.views import activity, database, replication, server
from vedette_checks.postgres.visit import Visit

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
    """The part that reads the default views."""

    metrics: tuple[Metric, ...] = METRICS
    everywhere = False

    def __init__(self) -> None:
        self._prepared: dict[tuple[int, bool], list[PreparedView]] = {}

    async def collect(self, visit: Visit) -> None:
        """Read each view that this server has."""
        key = (visit.version, visit.standby)
        if key not in self._prepared:
            fitting = [view for view in VIEWS if view.on(visit.version, standby=visit.standby)]
            self._prepared[key] = [view.prepare(visit.version) for view in fitting]
        for view in self._prepared[key]:
            rows = await visit.rows(view.name, view.sql) or ()
            view.emit(rows, visit.emit, visit.tags, visit.memory.totals)
