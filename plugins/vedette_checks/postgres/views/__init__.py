"""What is read by default: PostgreSQL's own statistics views, one module per topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vedette import Metric
from vedette_checks.postgres.view import PreparedView, View
from vedette_checks.postgres.views import activity, database, objects, progress, replication, server, subscription
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
    """The part that reads the default views; of a database beside the instance's own, those about a database."""

    metrics: tuple[Metric, ...] = METRICS
    everywhere = True

    def __init__(self) -> None:
        self._plans: dict[tuple[int, bool, bool], _Plan] = {}

    async def collect(self, visit: Visit) -> None:
        """Read each view that this server has and that has something to say."""
        key = (visit.version, visit.standby, visit.main)
        if key not in self._plans:
            fitting = [view for view in VIEWS if view.on(visit.version, standby=visit.standby)]
            self._plans[key] = _Plan.of([view for view in fitting if visit.main or view.local], visit.version)
        plan = self._plans[key]
        gates: Any = await visit.rows("what there is", plan.gates)
        for view, gate in plan.views:
            if gate < 0 or not gates or gates[0][gate]:
                rows = await visit.rows(view.name, view.sql)
                if rows:
                    view.emit(rows, visit.emit, visit.place if view.local else visit.tags, visit.memory.totals)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to ask a server of one version and role.

    Attributes:
        gates: one query for the conditions of all views that have one, in order.
        views: each view, and the place of its condition, -1 for none.
    """

    gates: str
    views: tuple[tuple[PreparedView, int], ...]

    @classmethod
    def of(cls, views: Sequence[View], version: int) -> _Plan:
        conditions = list(dict.fromkeys(view.when for view in views if view.when))
        places = {"": -1, **{condition: n for n, condition in enumerate(conditions)}}
        return cls(
            f"SELECT {', '.join(conditions)}",
            tuple((view.prepare(version), places[view.when]) for view in views),
        )
