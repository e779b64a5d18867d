"""A ledger of payments in SQLite and PostgreSQL, and the agent's side of an instance on a clock that the test sets."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postgres_servers import PostgresServer, postgres15, postgres18
from vedette import CheckError
from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette_checks.business_sql import BusinessSql, BusinessSqlConfig

NOW = 1_795_525_500.0
"""2026-11-24 13:05:00 UTC."""
SUMMARY = (
    "SELECT currency, count(*) AS n, sum(amount_minor) AS volume FROM transactions "
    "WHERE created_at >= :start_time AND created_at < :end_time GROUP BY currency"
)
COLUMNS: dict[str, Any] = {
    "currency": {"type": "tag"},
    "n": {"metric": "business.hourly.transaction_count"},
    "volume": {"metric": "business.hourly.transaction_volume", "scale": 2},
}


@pytest.fixture(scope="session", params=[pytest.param("15", marks=pytest.mark.soak), "18"])
def binaries(request: pytest.FixtureRequest) -> Path:
    found = {"15": postgres15, "18": postgres18}[request.param]()
    if found is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    return found


@pytest.fixture(scope="session")
def server(binaries: Path) -> Iterator[PostgresServer]:
    made = PostgresServer(binaries)
    made.start()
    made.sql("CREATE ROLE watcher LOGIN; GRANT CREATE ON SCHEMA public TO watcher")
    yield made
    made.stop()


@pytest.fixture
def servers(binaries: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Makes servers of its own for one test."""
    started: list[PostgresServer] = []

    def make(**settings: Any) -> PostgresServer:
        made = PostgresServer(binaries, **settings)
        started.append(made)
        made.start()
        return made

    yield make
    for one in reversed(started):
        one.kill()


class Ledger:
    """Payments in a file of SQLite."""

    def __init__(self, path: Path, kind: str = "text") -> None:
        self.path = path
        self.sql(
            f"CREATE TABLE transactions (id integer PRIMARY KEY, currency text, amount_minor int, created_at {kind})"
        )

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

    def sql(self, sql: str, rows: Iterable[tuple[Any, ...]] = ((),)) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as database, database:
            found: list[Any] = []
            database.execute("PRAGMA synchronous = OFF")  # a busy disk must not hold a test up
            for row in rows:
                found = database.execute(sql, row).fetchall()
            return found

    def pay(self, *payments: tuple[str, int, Any]) -> None:
        """Currency, minor units, created_at."""
        self.sql("INSERT INTO transactions (currency, amount_minor, created_at) VALUES (?, ?, ?)", payments)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "payments.db")


class Clocked(BusinessSql):
    """The check on a clock that the test sets."""

    time = NOW

    def now(self) -> float:
        return self.time


class Instance:
    """What the agent is for one instance: state that outlives the check, and batches."""

    def __init__(self, url: str, *, sql: str = SUMMARY, columns: Any = None, **options: Any) -> None:
        options.setdefault("window", {"every": "1h", "lag": "5m"})
        if options["window"] is None:
            del options["window"]
        options.setdefault("queries", [{"name": "q", "sql": sql, "columns": COLUMNS if columns is None else columns}])
        self.config = BusinessSqlConfig.model_validate({"name": "summary", "url": url, **options})
        self.state: dict[str, Any] = {}
        self.batches: list[Batch] = []
        self.time = NOW
        self.restart()

    def restart(self) -> None:
        """Another process."""
        self.check = Clocked(self.config, self.state)
        self.opened = False
        self.channel = Channel(
            "business_sql/summary", "business_sql", BusinessSql.declare(self.config), BusinessSql.statuses
        )

    async def save(self, key: str, value: Any) -> bool:
        """What the agent writes to disk at once."""
        self.state[key] = value
        return True

    async def run(self, *, delivered: bool = True, committed: bool = True) -> tuple[Batch, str]:
        """The batch, and what the check raised; a batch that is not delivered is lost."""
        self.check.time = self.time
        emit, error = Emit(self.channel, self.time, save=self.save), ""
        try:
            if not self.opened:
                await self.check.open()
                self.opened = True
            await self.check.run(emit)
        except CheckError as found:
            error = "; ".join(filter(None, (found.message, found.hint)))
        batch = emit.batch()
        if delivered:
            self.batches.append(batch)
            if committed:
                self.state.update(batch.commits)
        return batch, error

    async def close(self) -> None:
        await self.check.close()


def values(batch: Batch, name: str) -> dict[tuple[str, ...], Any]:
    """(time, other tags) to value."""
    return {(sample.time, *sample.tags): sample.value for sample in batch.samples if sample.name == name}  # type: ignore[misc]


def message(batch: Batch, status: str) -> str:
    return next(one.message for one in batch.statuses if one.name == f"business_sql.{status}")
