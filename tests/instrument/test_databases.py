"""asyncpg on a real PostgreSQL, SQLAlchemy on SQLite: each statement once, by its verb, and the pools by themselves."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement
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


class Own(asyncpg.Connection):  # type: ignore[misc]
    """A connection class of the application's own."""

    __slots__ = ()

    async def prepare(self, query: str, **options: Any) -> Any:
        return await super().prepare(query + " -- own", **options)


@pytest.mark.parametrize("pooled", [False, True], ids=["connection", "pool"])
async def test_what_asyncpgs_log_leaves_out(
    server: PostgresServer, port: Port, technical: TechnicalMetrics, pooled: bool
) -> None:
    measured = instrument_asyncpg(metrics=technical)
    if pooled:
        pool = await asyncpg.create_pool(server.dsn, min_size=1, max_size=1, init=measured, connection_class=Own)
        async with pool.acquire() as connection:
            await _all_ways(connection, own=True)
        await pool.close()
    else:
        connection = await asyncpg.connect(server.dsn)
        await measured(connection)
        await _all_ways(connection, own=False)
        await connection.close()
    assert await queries(technical, port) == [
        ("create", "true"), ("copy", "true"), ("copy", "true"), ("copy", "false"),
        ("select", "true"), ("select", "true"), ("select", "true"), ("insert", "true"), ("select", "false"),
        ("begin", "true"),
        ("select", "true"), ("fetch", "true"),
        ("select", "true"), ("fetch", "true"), ("move", "true"), ("fetch", "true"),
        ("select", "true"),
        ("select", "true"), ("fetch", "false"),
        ("rollback", "true"),
    ]  # fmt: skip
    assert technical.stats().failed == 0


async def _all_ways(connection: Any, own: bool) -> None:
    await connection.execute("CREATE TEMP TABLE t (id int)")
    await connection.copy_records_to_table("t", records=[(number,) for number in range(5)])
    assert await connection.copy_from_query("SELECT * FROM t", output=io.BytesIO()) == "COPY 5"
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.copy_from_table("nowhere", output=io.BytesIO())
    statement = await connection.prepare("SELECT 10 / $1::int")
    assert statement.get_query().endswith("own") == own
    assert await statement.fetchval(5) == 2
    assert (await statement.fetchrow(2))[0] == 5
    assert [row[0] for row in await statement.fetch(1)] == [10]
    insert = await connection.prepare("INSERT INTO t VALUES ($1)")
    await insert.executemany([(5,), (6,)])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await statement.fetchval(0)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await _cursors(connection, statement)


async def _cursors(connection: Any, statement: Any) -> None:
    async with connection.transaction():
        every = "SELECT id FROM t ORDER BY id"
        assert [row["id"] async for row in connection.cursor(every, prefetch=7)] == list(range(7))
        cursor = await connection.cursor(every)
        assert [row["id"] for row in await cursor.fetch(2)] == [0, 1]
        assert await cursor.forward(2) == 2
        assert (await cursor.fetchrow())["id"] == 4
        assert [row[0] async for row in statement.cursor(5)] == [2]
        late = await connection.prepare("SELECT 10 / (6 - n) FROM generate_series(0, 6) n")
        rows = late.cursor(prefetch=4).__aiter__()
        assert [(await rows.__anext__())[0] for _ in range(4)] == [1, 2, 2, 3]
        await rows.__anext__()


async def test_an_asyncpg_that_is_built_in_another_way_works_as_ever(
    server: PostgresServer, port: Port, technical: TechnicalMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = instrument_asyncpg(metrics=technical)
    connection = await asyncpg.connect(server.dsn)
    with monkeypatch.context() as patch:
        patch.delattr(asyncpg.Connection, "copy_from_table")
        await measured(connection)
    assert type(connection) is asyncpg.Connection
    await measured(connection)
    with monkeypatch.context() as patch:
        patch.delattr(PreparedStatement, "cursor")
        assert await (await connection.prepare("SELECT 1")).fetchval() == 1
    await connection.close()
    assert technical.stats().failed == 2


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
    await until(lambda: not asked, "the watch to end")
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
        ("WITH a AS (SELECT $$ ) update $$) INSERT INTO b SELECT 1", "insert"),
        ("WITH a AS (SELECT $x$ $$ ) update $x$, $1) INSERT INTO b SELECT 1", "insert"),
        ("WITH a AS (SELECT 1) " + "$a$" * 5_000, "with"),
        ("BEGIN;", "begin"),
        ("", ""),
        ("-- nothing", ""),
        ("123", ""),
        ("'" * 5000, ""),
        ("(" * 50_000 + "SELECT", ""),
        ("WITH " + "(" * 50_000, "with"),
        ("/*" * 50_000, ""),
    ],
    ids=range(17),
)
def test_verbs(statement: str, word: str) -> None:
    assert verb(statement) == word


async def test_a_statement_of_no_known_kind_is_other(port: Port, technical: TechnicalMetrics) -> None:
    technical.track_database_performance(operation="frobnicate", execution_time_ms=1)
    technical.track_database_performance(operation="", execution_time_ms=1)
    assert await queries(technical, port) == [("other", "true"), ("other", "true")]
    assert technical.stats().other == {"database_operation": 2}
