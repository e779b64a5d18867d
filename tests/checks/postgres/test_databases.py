"""`databases:`: found by pattern, visited in turn, one connection at a time, dropped under us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from servers import until
from vedette import Status
from vedette.testing import CheckRun
from vedette_checks.postgres.tour import DatabasesConfig

from .conftest import Watch, run

pytestmark = pytest.mark.anyio

NAMES = ("shop_a", "shop_b", "shop_c", "log", "Qu\"ote's, 🐘 & $HOME")


@pytest.fixture(scope="module")
def shops(server: PostgresServer) -> PostgresServer:
    """The shared server with some databases more, each with a table of its own."""
    for n, name in enumerate(NAMES, 1):
        server.sql(f"CREATE DATABASE {quoted(name)}")
        server.sql(f"CREATE TABLE only_here (a int); INSERT INTO only_here SELECT generate_series(1, {n})", name)
        server.sql("ANALYZE only_here", name)
    yield server  # type: ignore[misc]
    for name in NAMES:
        server.sql(f"DROP DATABASE {quoted(name)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def rows_by_database(outcome: CheckRun) -> dict[str, Any]:
    """Rows of the table, by the tag `db`."""
    found = {}
    for sample in outcome.samples:
        if sample.name == "postgresql.relation.tuples" and "table:only_here" in sample.tags:
            (name,) = (tag.removeprefix("db:") for tag in sample.tags if tag.startswith("db:"))
            found[name] = sample.value
    return found


async def test_each_database_that_matches_is_visited(shops: PostgresServer) -> None:
    everything = await run(shops, databases={}, relations=[{}])
    assert everything.message("postgres.reads") == ""
    assert rows_by_database(everything) == {name: n for n, name in enumerate(NAMES, 1)}
    some = await run(shops, databases={"include": ["shop_*", "log"], "exclude": ["*_b"]}, relations=[{}])
    assert rows_by_database(some) == {"shop_a": 1, "shop_c": 3, "log": 4}
    assert len(some.values("postgresql.uptime")) == 1
    assert some.values("postgresql.table.count", db="shop_c") == [1]


async def test_more_than_the_limit_is_said(shops: PostgresServer) -> None:
    outcome = await run(shops, databases={"include": ["shop_*"], "limit": 1}, relations=[{}])
    assert rows_by_database(outcome) == {"shop_a": 1}
    assert outcome.status("postgres.reads") is Status.WARNING
    assert outcome.message("postgres.reads") == (
        "2 more databases match: shop_b, shop_c; raise `databases.limit`, or choose fewer"
    )


async def test_no_connection_is_left_behind(shops: PostgresServer) -> None:
    watch = Watch(shops, databases={"include": ["shop_*"]})
    _, error = await watch.run()
    assert error == ""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vedette'"
    await asyncio.to_thread(until, lambda: shops.scalar(count) == "1", "the visited databases to be left")
    await asyncio.to_thread(shops.sql, "CREATE DATABASE shop_brief")
    await asyncio.to_thread(shops.sql, "DROP DATABASE shop_brief")  # nobody is in it
    await watch.check.close()


async def test_a_database_that_refuses_costs_the_others_nothing(shops: PostgresServer) -> None:
    await asyncio.to_thread(shops.sql, "REVOKE CONNECT ON DATABASE shop_b FROM PUBLIC")
    try:
        outcome = await run(shops, databases={"include": ["shop_*"]}, relations=[{}])
    finally:
        await asyncio.to_thread(shops.sql, "GRANT CONNECT ON DATABASE shop_b TO PUBLIC")
    assert outcome.error is None
    assert rows_by_database(outcome) == {"shop_a": 1, "shop_c": 3}
    assert outcome.message("postgres.reads") == (
        "shop_b: watcher may not connect to shop_b; GRANT CONNECT ON DATABASE shop_b TO watcher"
    )


async def test_a_database_dropped_under_us(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    for name in ("home", "away"):
        await asyncio.to_thread(server.sql, f"CREATE DATABASE {name}")
    watch = Watch(server, dbname="home", databases={"include": ["away"]})
    batch, error = await watch.run()
    assert error == ""
    assert [s.value for s in batch.samples if "db:away" in s.tags and s.name == "postgresql.connections"] == [0]
    await asyncio.to_thread(server.sql, "DROP DATABASE away")
    batch, error = await watch.run()
    assert error == ""
    assert [status.message for status in batch.statuses if status.name == "postgres.reads"] == [""]
    await asyncio.to_thread(server.sql, "DROP DATABASE home WITH (FORCE)")
    batch, error = await watch.run()
    assert error == f"127.0.0.1:{server.port} has no database home"
    assert batch.samples == ()
    await asyncio.to_thread(server.sql, "CREATE DATABASE home")
    batch, error = await watch.run()
    assert error == ""
    await watch.check.close()


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
@pytest.mark.parametrize("pgbouncer", [None, True])
async def test_through_pgbouncer(shops: PostgresServer, pgbouncer: bool | None) -> None:
    bouncer = PgBouncer(shops)
    with running(bouncer):
        outcome = await run(bouncer, databases={"include": ["shop_?"]}, relations=[{}], pgbouncer=pgbouncer)
    assert outcome.message("postgres.reads") == ""
    assert rows_by_database(outcome) == {"shop_a": 1, "shop_b": 2, "shop_c": 3}


def test_patterns_are_those_of_a_shell() -> None:
    config = DatabasesConfig(include=("pay_*", "[ab]?"), exclude=("*_old",))
    assert config.choose(["pay_1", "Pay_1", "pay_old", "a1", "c1", "a12"]) == ["pay_1", "a1"]
