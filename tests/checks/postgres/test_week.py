"""A week of statistics resets, failovers, crashes and restarts, two hours a step, as a sink would count it.

The traffic is known, so what arrives can be compared with what happened: every row in a quiet step, never more than
what happened in any step, and never less than nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from postgres_servers import PostgresServer
from servers import relay, until
from vedette.kit import Deltas
from vedette.metrics import Batch, Kind
from vedette_checks.postgres.statements import fingerprint

from .conftest import Watch

pytestmark = pytest.mark.anyio

STEP = 7_200.0
STEPS = 84
RESETS = {
    5: "SELECT pg_stat_reset()",
    17: "SELECT pg_stat_reset_shared('bgwriter'), pg_stat_reset_shared('archiver'), pg_stat_reset_shared('wal')",
    29: "SELECT pg_stat_reset_slru(NULL), pg_stat_statements_reset()",
    30: "SELECT pg_stat_reset()",
    71: "SELECT pg_stat_reset_single_table_counters('orders'::regclass)",
}
RESTARTS, CRASHES, FAILOVERS = {11, 47}, {23, 59}, {35, 65}
TRAFFIC = "INSERT INTO orders SELECT generate_series(1, {}); SELECT pg_stat_force_next_flush()"
SIGNATURE = f"query_signature:{fingerprint('INSERT INTO orders SELECT generate_series($1, $2)')}"


class Sink:
    """Counts totals as the sinks do, and looks that none ever falls."""

    def __init__(self) -> None:
        self._deltas = Deltas()
        self._last: dict[Any, Any] = {}

    def take(self, batch: Batch, time: float) -> dict[tuple[str, tuple[str, ...]], Any]:
        """What each series grew by; deltas are themselves."""
        grown = {}
        for sample in batch.samples:
            series = (sample.name, sample.tags)
            if sample.kind is Kind.COUNT:
                assert sample.value >= 0, series  # type: ignore[operator]
                grown[series] = sample.value
            elif sample.kind in (Kind.COUNTER, Kind.RATE):
                assert sample.value >= self._last.get(series, sample.value), series
                self._last[series] = sample.value
                grown[series] = self._deltas.delta("x", series, sample.value, time)
        return grown


class Cluster:
    """A primary, a standby, and an address that leads to the primary."""

    def __init__(self, make: Callable[..., PostgresServer]) -> None:
        self._make = make
        self.primary = make()
        self.primary.sql("CREATE EXTENSION pg_stat_statements; CREATE TABLE orders (a int)")
        self.standby = make(replica_of=self.primary)

    def fail_over(self) -> None:
        """The standby takes over, and gets a standby of its own."""
        written = self.primary.scalar("SELECT pg_current_wal_lsn()")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        until(lambda: self.standby.scalar(replayed) == "t", "the standby to catch up")
        self.primary.kill()
        self.standby.promote()
        self.primary = self.standby
        for rows in (400, 70_000):  # it had a life of its own before anybody looks
            self.primary.sql(TRAFFIC.format(rows))
        self.standby = self._make(replica_of=self.primary)

    def happen(self, step: int) -> None:
        """What the plan says for this step."""
        if step in RESETS:
            self.primary.sql(RESETS[step])
        if step in RESTARTS:
            self.primary.restart()
        if step in CRASHES:
            self.primary.kill()
            self.primary.start()
        if step in FAILOVERS:
            self.fail_over()


def counted(grown: dict[tuple[str, tuple[str, ...]], Any], name: str, tag: str) -> Any:
    """What came of this metric, over the series that have this tag; None where nothing is known."""
    values = [value for (known, tags), value in grown.items() if known == f"postgresql.{name}" and tag in tags]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@pytest.mark.soak
async def test_a_week(servers: Callable[..., PostgresServer]) -> None:
    cluster = await asyncio.to_thread(Cluster, servers)
    sink, truth, seen = Sink(), [], defaultdict(list)
    async with relay(lambda: cluster.primary.port) as port:
        watch = Watch(type("Address", (), {"port": port}), relations=[{}], statements={})
        for step in range(STEPS):
            rows = 100 + 37 * step % 50
            await asyncio.to_thread(cluster.happen, step)
            await asyncio.to_thread(cluster.primary.sql, TRAFFIC.format(rows))
            batch, error = await watch.run(step * STEP)
            assert error == ""
            grown = sink.take(batch, step * STEP)
            truth.append(rows)
            seen["rows"].append(counted(grown, "rows_inserted", "db:postgres"))
            seen["calls"].append(counted(grown, "queries.count", SIGNATURE))
            if step in RESTARTS | CRASHES | FAILOVERS:
                assert {series: value for series, value in grown.items() if value} == {}, step
        await watch.check.close()
    began_anew = {0, *RESTARTS, *CRASHES, *FAILOVERS}
    for step, rows in enumerate(truth):
        quiet = step not in began_anew and step not in RESETS
        came, calls = seen["rows"][step] or 0, seen["calls"][step] or 0
        assert came == rows if quiet else 0 <= came <= rows, step
        assert calls == 1 if quiet else 0 <= calls <= 1, step
