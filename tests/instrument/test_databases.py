"""asyncpg on a real PostgreSQL, SQLAlchemy on SQLite: each statement once, by its verb, and the pools by themselves."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from postgres_servers import PostgresServer, postgres18
from sinks.parts import Port, until
from vedette.instrument import TechnicalMetrics, instrument_asyncpg, instrument_sqlalchemy
from vedette.instrument.statements import verb

from .conftest import Made
from .parts import Line

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    binaries = postgres18()
    assert binaries is not None
    made = PostgresServer(binaries)
    made.start()
    yield made
    made.kill()


async def queries(technical: TechnicalMetrics, port: Port) -> list[tuple[str, str]]:
    """Operation and success of each query so far."""
    assert await asyncio.to_thread(technical.flush, 10.0)
    await port.wait_for(technical.stats().sent)
    found = [Line.of(line) for line in port.lines if line.startswith("database.query_time")]
    assert all(line.kind == "h" and float(line.value) >= 0 for line in found)
    return [(line.tags[0].partition(":")[2], line.tags[1].partition(":")[2]) for line in found]


def gauges(port: Port, tags: tuple[str, ...] = ()) -> dict[str, str]:
    found = [Line.of(line) for line in port.lines if line.startswith("database.pool")]
    return {line.name.split(".")[-1]: line.value for line in found if line.tags == tags}


async def test_asyncpg(server: PostgresServer, port: Port, technical: TechnicalMetrics) -> None:
    own: list[Any] = []

    async def init(connection: Any) -> None:
        own.append(connection)

    measured = instrument_asyncpg(metrics=technical, init=init)
    pool = measured.watch(await asyncpg.create_pool(server.dsn, min_size=1, max_size=2, init=measured))
    async with pool.acquire() as connection:
        await connection.execute("CREATE TEMP TABLE t (id int PRIMARY KEY)")
        await connection.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
        assert await connection.fetchval("-- how many\n SELECT count(*) FROM t") == 2
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO t VALUES ($1)", 1)
        assert await connection.fetch("WITH a AS (SELECT 1) UPDATE t SET id = id + 5 RETURNING id")
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
        await until(lambda: gauges(port) != {}, "the pool's gauges")
        assert gauges(port) == {"active_connections": "1", "idle_connections": "0", "total_connections": "1"}
    await pool.fetch("SELECT 1")  # released and acquired again
    await pool.close()
    assert len(own) == 1
    assert await queries(technical, port) == [
        ("create", "true"), ("insert", "true"), ("select", "true"), ("insert", "false"), ("update", "true"),
        ("select", "false"), ("select", "true"),
    ]  # fmt: skip
    assert technical.stats().failed == 0


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_sqlalchemy(kind: str, port: Port, made: Made, tmp_path: Any) -> None:
    technical = made.technical(port)
    if kind == "plain":
        engine = instrument_sqlalchemy(create_engine(f"sqlite:///{tmp_path}/a.db"), metrics=technical, name="main")
        with engine.begin() as connection:
            _statements(connection)
            await until(lambda: gauges(port, ("pool:main",)) != {}, "the pool's gauges")
        engine.dispose()
    else:
        aio = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
        assert instrument_sqlalchemy(aio, metrics=technical, name="main") is aio
        async with aio.begin() as connection:
            await connection.run_sync(_statements)
            await until(lambda: gauges(port, ("pool:main",)) != {}, "the pool's gauges")
        await aio.dispose()
    assert gauges(port, ("pool:main",)) == {
        "active_connections": "1", "idle_connections": "0", "total_connections": "1",
    }  # fmt: skip
    assert await queries(technical, port) == [
        ("create", "true"), ("insert", "true"), ("select", "true"), ("select", "false"),
    ]  # fmt: skip


def _statements(connection: Any) -> None:
    connection.execute(text("CREATE TABLE t (id INTEGER)"))
    connection.execute(text("INSERT INTO t VALUES (:id)"), [{"id": 1}, {"id": 2}])
    assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 2
    with pytest.raises(OperationalError):
        connection.execute(text("SELECT * FROM nowhere"))


async def test_a_pool_that_is_gone_is_asked_no_more(port: Port, technical: TechnicalMetrics) -> None:
    instrument_sqlalchemy(create_engine("sqlite://"), metrics=technical)
    asked = technical._client._polls
    assert len(asked) == 1
    gc.collect()
    await until(lambda: asked == [], "the watch to end")
    assert technical.stats().failed == 0


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("SELECT 1", "select"),
        ("  select\n*", "select"),
        ("/* a */ -- b\n(SELECT 1)", "select"),
        ("WITH a AS (SELECT ')' FROM b), c AS (DELETE FROM d) INSERT INTO x SELECT", "insert"),
        ('WITH "update" AS (SELECT 1) SELECT', "select"),
        ("WITH a AS (SELECT 1)", "with"),
        ("BEGIN;", "begin"),
        ("", ""),
        ("-- nothing", ""),
        ("123", ""),
        ("'" * 5000, ""),
        ("(" * 50_000 + "SELECT", ""),
        ("WITH " + "(" * 50_000, "with"),
        ("/*" * 50_000, ""),
    ],
    ids=range(14),
)
def test_verbs(statement: str, word: str) -> None:
    assert verb(statement) == word


async def test_a_statement_of_no_known_kind_is_other(port: Port, technical: TechnicalMetrics) -> None:
    technical.track_database_performance(operation="frobnicate", execution_time_ms=1)
    technical.track_database_performance(operation="", execution_time_ms=1)
    assert await queries(technical, port) == [("other", "true"), ("other", "true")]
    assert technical.stats().other == {"database_operation": 2}
