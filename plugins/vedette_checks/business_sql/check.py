"""One run: the windows that have closed since the last one, in order, or the queries of an interval."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from vedette import Check, Diagnosis, Emit, Estimate, Kind, Metric, Remark, SecretError, Status
from vedette_checks.business_sql.columns import Point, declared
from vedette_checks.business_sql.config import BusinessSqlConfig
from vedette_checks.business_sql.database import Database
from vedette_checks.business_sql.findings import unreachable
from vedette_checks.business_sql.ledger import Ledger
from vedette_checks.business_sql.queries import Queries
from vedette_checks.business_sql.standby import is_closed, replayed_until
from vedette_checks.business_sql.windows import Grid, Window

_G, _C = Kind.GAUGE, Kind.COUNT
CONNECT, QUERIES, WINDOWS = "business_sql.can_connect", "business_sql.queries", "business_sql.windows"
_OWN = (
    Metric("business_sql.query_time", _G, "millisecond", "How long a query took, the longest of the run.", ("query",)),
    Metric("business_sql.rows", _G, "row", "Rows that a query returned in the run.", ("query",)),
    Metric(
        "business_sql.cut",
        _C,
        "",
        "Rows and tag sets that were left out because of a limit: at least so many, as "
        "rows beyond `limit` are not fetched, and count as one.",
        ("query",),
    ),
)
_WINDOWED = (
    Metric("business_sql.windows.reported", _C, "", "Windows that were reported."),
    Metric("business_sql.windows.restated", _C, "", "Values that were sent again because they had changed."),
    Metric("business_sql.windows.lost", _C, "", "Windows beyond `catch_up` that will not be reported."),
    Metric("business_sql.windows.behind", _G, "", "Windows that have closed and are still to be reported."),
)
_FAILURES = (SQLAlchemyError, OSError, TimeoutError, SecretError)
_LONGEST_PAUSE = 30.0


class BusinessSql(Check[BusinessSqlConfig]):
    """Asks a database about closed windows of time, or every interval, and reports the numbers to the cent."""

    name = "business_sql"
    statuses = (CONNECT, QUERIES, WINDOWS)
    keeps_state = True
    host_bound = False

    @classmethod
    def declare(cls, config: BusinessSqlConfig) -> Iterable[Metric]:
        """The metrics of the queries' columns, and the check's own."""
        own = (*_OWN, *_WINDOWED) if config.window is not None else _OWN
        return [*own, *declared((query.columns, query.tags) for query in config.queries)]

    @classmethod
    def lint(cls, config: BusinessSqlConfig) -> Iterable[str]:
        """Warns of points that are older than an hour, and of databases whose transactions are not read-only here."""
        if config.url.dialect not in ("postgresql", "sqlite"):
            yield "only the rights of the user keep its SQL from writing: here transactions are not read-only"
        if config.window is None:
            return
        oldest = config.window.lag + config.restate * config.window.every
        if oldest > 3600:
            yield (
                "points will be more than an hour old, which Datadog takes only for metrics with historical ingestion "
                "switched on"
            )
        counted = any(
            column.type != "gauge"
            for query in config.queries
            for column in query.columns.values()
            if column.type != "tag"
        )
        if config.restate and counted:
            yield "what `restate` sends again adds up where a column is no gauge"
        if any(column.type == "histogram" for query in config.queries for column in query.columns.values()):
            yield "a histogram has the time it is sent at on DogStatsD, not its window's end: use a gauge or a count"

    @classmethod
    def examine(cls, config: BusinessSqlConfig) -> Iterable[Remark]:
        """Parses the SQL: what would write, what cannot be read, what columns are not there."""
        from vedette_checks.business_sql.reading import remarks

        return remarks(config)

    def __init__(self, config: BusinessSqlConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._database = Database(config.url, config.password, config.statement_limit)
        self._queries = Queries(config, self._database)
        self._ledger: Ledger | None = None
        if config.window is not None:
            grid = Grid(config.window.every, ZoneInfo(config.window.timezone))
            self._ledger = Ledger(grid, config, self.state)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def next_due(self, after: float) -> float | None:
        """A window's end and its lag; sooner again while there is one that could not be reported."""
        if self._ledger is None or self.config.window is None:
            return None
        pause = max(1.0, min(self.config.window.every / 4, _LONGEST_PAUSE))
        return self._ledger.next_due(after, pause)

    async def open(self) -> None:
        """Read the files of SQL.

        Raises:
            CheckError: one cannot be read, or does not fit.
        """
        self._queries.prepare()

    async def close(self) -> None:
        """Drop the connection."""
        await self._database.close()

    async def run(self, emit: Emit) -> None:
        """Report what is due.

        Raises:
            CheckError: there is no talking to the database.
        """
        if self._ledger is not None:
            self._ledger.begin()
        kept = self._database.connected
        try:
            await self._once(emit, again=kept)
        finally:
            self._queries.report(emit)
            if self._ledger is not None:
                emit.gauge("business_sql.windows.behind", self._ledger.behind(self.now()))
        emit.status(CONNECT, Status.OK)
        wrong = self._queries.take_wrong()
        emit.status(QUERIES, Status.WARNING if wrong else Status.OK, "; ".join(wrong))

    async def estimate(self) -> Iterable[Estimate]:
        """What the database thinks that each query costs."""
        from vedette_checks.business_sql.costs import explain

        window = None
        if self._ledger is not None and self.config.window is not None:
            window = Grid(self.config.window.every, ZoneInfo(self.config.window.timezone)).closed(self.now())
        await self._database.connect()
        async with self._database.reading() as transaction:
            return await explain(self._queries.clauses(), transaction, self._database, window)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the database, the login, and what it has against each query."""
        from vedette_checks.business_sql.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def _once(self, emit: Emit, *, again: bool) -> None:
        """Do it; `again` on a new connection if the old one has died since the last run."""
        try:
            await self._database.connect()
            if self._ledger is None:
                await self._ask(emit)
            else:
                await self._report(emit, self._ledger)
        except _FAILURES as error:
            await self._database.close()
            if not again:
                found = unreachable(error, self._database.place, self._database.secrets)
                emit.status(CONNECT, Status.CRITICAL, "; ".join(filter(None, (found.message, found.hint))))
                raise found from None
        else:
            return
        await self._once(emit, again=False)

    async def _ask(self, emit: Emit) -> None:
        async with self._database.reading() as transaction:
            for point in await self._queries.ask(transaction, None):
                _send(emit, point, None)

    async def _report(self, emit: Emit, ledger: Ledger) -> None:
        until, said = monotonic() + self.config.deadline * 0.7, ""
        lost = ledger.skip(self.now(), emit)
        if lost:
            emit.count("business_sql.windows.lost", lost)
            said = f"{lost} windows are older than `catch_up` allows, and are left out"
        reported = 0
        for window in ledger.due(self.now()):
            if monotonic() >= until:
                break
            points = await self._read(window)
            if points is None:
                said = said or "waits: the replica has not replayed all of the window yet"
                break
            if self._queries.failed:
                said = said or "waits: a query was refused, see business_sql.queries"
                break
            await ledger.promise(window, emit)
            for point in points:
                _send(emit, point, window.end)
            ledger.reported(window, points, emit)
            reported += 1
        if reported:
            emit.count("business_sql.windows.reported", reported)
            await self._restate(emit, ledger, until)
        emit.status(WINDOWS, Status.WARNING if said else Status.OK, said)

    async def _read(self, window: Window) -> list[Point] | None:
        """The values of a window; None where it is not closed yet."""
        async with self._database.reading() as transaction:
            if not transaction.standby:
                return await self._queries.ask(transaction, window)
            if not is_closed(window, await replayed_until(transaction)):
                return None
        async with self._database.reading() as transaction:  # what was replayed meanwhile is only seen by a new one
            return await self._queries.ask(transaction, window)

    async def _restate(self, emit: Emit, ledger: Ledger, until: float) -> None:
        changed = 0
        for window in ledger.to_restate():
            if monotonic() >= until:
                break
            points = await self._read(window)
            if points is None or self._queries.failed:
                break
            for point in ledger.changed(window, points, emit, complete=self._queries.complete):
                _send(emit, point, window.end)
                changed += 1
        if changed:
            emit.count("business_sql.windows.restated", changed)


def _send(emit: Emit, point: Point, at: float | None) -> None:
    send = {Kind.GAUGE: emit.gauge, Kind.COUNT: emit.count, Kind.HISTOGRAM: emit.histogram}[point.kind]
    send(point.name, point.value, point.tags, at)
