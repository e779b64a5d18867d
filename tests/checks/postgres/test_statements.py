"""`statements:`: what ran between two runs, exactly, whatever was reset, evicted or restarted in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postgres_servers import PostgresServer, postgres15, postgres18, running
from vedette import Status
from vedette.metrics import Batch
from vedette_checks.postgres.masking import mask_sql
from vedette_checks.postgres.statements import Growth, Ranking, fingerprint

from .conftest import Watch, run

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def counting(binaries: Path) -> Iterator[PostgresServer]:
    """A server that has the extension, in a schema with a name that wants quoting."""
    made = PostgresServer(binaries, autovacuum="off")
    made.start()
    made.sql('CREATE SCHEMA "My, \'schema"; CREATE EXTENSION pg_stat_statements SCHEMA "My, \'schema"')
    made.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody_much LOGIN; CREATE ROLE shop LOGIN")
    made.sql(
        "CREATE TABLE accounts (id int, owner text); INSERT INTO accounts SELECT n, 'x' FROM generate_series(1, 9) n"
    )
    made.sql("GRANT ALL ON accounts TO shop")
    yield made
    made.stop()


def sums(batch: Batch, tag: str = "") -> Counter[str]:
    """What was counted of the queries, by name, over the series that have this tag."""
    found: Counter[str] = Counter()
    for sample in batch.samples:
        if sample.name.startswith("postgresql.queries.") and sample.kind == "count" and (not tag or tag in sample.tags):
            found[sample.name.removeprefix("postgresql.queries.")] += sample.value  # type: ignore[operator]
    return found


def signature(sql: str) -> str:
    return f"query_signature:{fingerprint(mask_sql(sql, 1000))}"


async def watching(server: PostgresServer, **options: Any) -> Watch:
    """An instance whose first run is done."""
    watch = Watch(server, statements=options)
    batch, error = await watch.run()
    assert (error, sums(batch)) == ("", Counter())
    return watch


async def test_calls_and_rows_of_a_query_between_two_runs(counting: PostgresServer) -> None:
    watch = await watching(counting)
    for n in (1, 2, 3):
        sql = f"SELECT owner FROM accounts WHERE id <= {n} /* secret {n} */"
        await asyncio.to_thread(counting.sql, sql, username="shop")
    batch, _ = await watch.run()
    seen = sums(batch, signature("SELECT owner FROM accounts WHERE id <= $1"))
    assert {name: seen[name] for name in ("count", "rows", "shared_blks_hit")} == {
        "count": 3,
        "rows": 6,
        "shared_blks_hit": 3,
    }
    assert 0 < seen["time"] < 10e9
    tags = {tag for sample in batch.samples if signature("SELECT owner FROM accounts WHERE id <= $1") in sample.tags
            for tag in sample.tags}  # fmt: skip
    assert {"db:postgres", "user:shop", "replication_role:master"} < tags
    (log,) = (log for log in batch.logs if "accounts" in log.message)
    assert log.message == "SELECT owner FROM accounts WHERE id <= $1"
    assert signature(log.message) == f"query_signature:{log.attributes['query_signature']}"
    again, _ = await watch.run()
    assert not sums(again, signature("SELECT owner FROM accounts WHERE id <= $1"))
    assert [log.message for log in again.logs if "accounts" in log.message] == []
    await watch.check.close()


async def test_what_is_not_at_the_top_is_summed_exactly(counting: PostgresServer) -> None:
    total = 'SELECT coalesce(sum(calls), 0), sum(rows) FROM "My, \'schema".pg_stat_statements WHERE queryid IS NOT NULL'
    watch = await watching(counting, top=2)
    ((before, _),) = await asyncio.to_thread(counting.sql, total)
    for n in range(12):
        columns = ", ".join(["id"] * (n + 1))
        await asyncio.to_thread(counting.sql, f"SELECT {columns} FROM accounts")
    batch, _ = await watch.run()
    ((after, _),) = await asyncio.to_thread(counting.sql, total)
    series = {tag for s in batch.samples for tag in s.tags if tag.startswith("query_signature:")}
    assert "query_signature:other" in series
    assert len(series) <= 3
    assert sums(batch)["count"] >= 12
    ours = 12  # statements of the check itself in its two runs, between the two looks at the total
    assert int(after) - int(before) - ours <= sums(batch)["count"] <= int(after) - int(before) + ours
    assert sums(batch, "query_signature:other")["rows"] >= 9 * 10
    await watch.check.close()


async def test_a_reset_a_restart_and_another_server_make_no_spike(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    await asyncio.to_thread(server.sql, "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int)")
    for _ in range(20):
        await asyncio.to_thread(server.sql, "SELECT a FROM t")
    watch = await watching(server)
    tag = signature("SELECT a FROM t")
    await asyncio.to_thread(server.sql, "SELECT pg_stat_statements_reset()")
    for _ in range(3):
        await asyncio.to_thread(server.sql, "SELECT a FROM t")
    batch, _ = await watch.run()
    assert sums(batch, tag)["count"] == 3
    await asyncio.to_thread(server.restart)  # which keeps the statistics
    await asyncio.to_thread(server.sql, "SELECT a FROM t")
    batch, error = await watch.run()
    assert (error, sums(batch)) == ("", Counter())
    await asyncio.to_thread(server.sql, "SELECT a FROM t")
    batch, _ = await watch.run()
    assert sums(batch, tag)["count"] == 1
    await watch.check.close()


COMMANDS = (
    "SELECT owner FROM accounts WHERE id IN (1,2,3)",
    "SELECT owner FROM accounts WHERE id IN (-1, 2, 3, 4)",
    "SELECT owner FROM accounts WHERE owner NOT IN ('a'::text, 'b')",
    "SELECT owner FROM accounts WHERE id = ANY(ARRAY[1, 2])",
    "CALL pp(5)",
    "SET work_mem = '4MB'",
    "SET enable_seqscan TO off",
    "SET search_path = public, pg_catalog",
    "BEGIN; SAVEPOINT one; ROLLBACK TO one; RELEASE one; COMMIT",
    "EXPLAIN SELECT owner FROM accounts WHERE id IN (1, 2)",
    "BEGIN; DECLARE c CURSOR FOR SELECT 1 WHERE 1 = 2; COMMIT",
    "INSERT INTO accounts VALUES (1, 'a'), (2, 'b')",
)


@pytest.mark.skipif(postgres15() is None, reason="PostgreSQL 15 is not installed")
def test_a_signature_is_the_same_on_every_version() -> None:
    """What each says of itself is not: 18 writes `IN ($1 /*, ... */)` and `SET work_mem = $1`."""
    texts, told = [], "SELECT query FROM pg_stat_statements WHERE query !~ 'pg_stat_statements' ORDER BY lower(query)"
    for binaries in (postgres15(), postgres18()):
        assert binaries is not None
        server = PostgresServer(binaries)
        with running(server):
            server.sql("CREATE EXTENSION pg_stat_statements; CREATE TABLE accounts (id int, owner text)")
            server.sql("CREATE PROCEDURE pp(a int) LANGUAGE sql AS 'SELECT 1'")
            for command in COMMANDS:
                server.sql("SELECT pg_stat_statements_reset()")
                server.sql(command)
                texts.append((command, [row[0] for row in server.sql(told)]))
    old, new = texts[: len(COMMANDS)], texts[len(COMMANDS) :]
    assert old != new
    assert all(found for _, found in texts)
    signatures = [[(command, {fingerprint(text) for text in found}) for command, found in half] for half in (old, new)]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("SELECT a FROM t WHERE id IN ($1, $2)", "select a\nfrom t where id in ($1 /*, ... */)", True),
        ("SELECT a FROM t WHERE id = $1", "SELECT a FROM t WHERE id=$2", True),
        ("SELECT a FROM t WHERE id IN ($1, b)", "SELECT a FROM t WHERE id IN ($1, c)", False),
        ('SELECT a FROM "T"', 'SELECT a FROM "t"', False),
        ("SELECT f($1)", "SELECT f($1, $2)", False),
        ("SET a.b = 1", "SET a.b TO DEFAULT", False),
        ("SET work_mem = 1", "SET temp_buffers = 1", False),
        ("DEALLOCATE ALL", "DEALLOCATE one", False),
    ],
)
def test_what_has_the_same_signature(one: str, other: str, same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same


async def test_no_extension(server: PostgresServer) -> None:
    await asyncio.to_thread(server.sql, "CREATE DATABASE without")
    outcome = await run(server, statements={}, dbname="without")
    assert outcome.error is None
    assert outcome.status("postgres.reads") is Status.WARNING
    assert outcome.message("postgres.reads") == (
        "statements: this database has no extension pg_stat_statements; "
        "CREATE EXTENSION pg_stat_statements, and preload it: shared_preload_libraries"
    )


async def test_an_extension_that_is_not_loaded(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(lambda: servers(shared_preload_libraries=""))
    await asyncio.to_thread(server.sql, "CREATE EXTENSION pg_stat_statements")
    outcome = await run(server, username="postgres", statements={})
    assert outcome.message("postgres.reads") == (
        "pg_stat_statements: the server has not loaded it; add it to shared_preload_libraries and restart"
    )


async def test_a_role_that_may_not_see_the_others(counting: PostgresServer) -> None:
    await asyncio.to_thread(counting.sql, 'GRANT USAGE ON SCHEMA "My, \'schema" TO nobody_much')
    outcome = await run(counting, username="nobody_much", statements={}, runs=2)
    assert "statements: nobody_much may not see the queries of other users; GRANT pg_monitor TO nobody_much" in (
        outcome.message("postgres.reads")
    )
    assert outcome.values("postgresql.pg_stat_statements.dealloc") == [0]


async def test_more_entries_than_are_read(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    many = "".join(f"SELECT {', '.join(['1'] * n)};" for n in range(1, 150))
    await asyncio.to_thread(server.sql, f"CREATE EXTENSION pg_stat_statements; {many}")
    outcome = await run(server, username="postgres", statements={"rows": 100})
    assert outcome.message("postgres.reads") == (
        "statements: there are more than 100; the least of them are not counted; raise `statements.rows`"
    )


def test_growth_counts_what_is_certain() -> None:
    growth = Growth()
    one, two, three = (1, 1, 1, True), (1, 1, 2, True), (1, 1, 3, True)
    assert growth.since([(*one, 10, 5.0)], "a", whole=True) == []
    assert growth.since([(*one, 12, 6.0), (*two, 4, 1.0)], "a", whole=True) == [(one, [2, 1.0]), (two, (4, 1.0))]
    assert growth.since([(*one, 12, 6.0), (*two, 1, 0.5)], "a", whole=False) == [(two, (1, 0.5))]
    assert growth.since([(*three, 900, 9.0), (*two, 2, 0.75)], "a", whole=True) == [(two, [1, 0.25])]
    assert growth.since([(*two, 50, 1.0)], "b", whole=True) == []
    assert growth.since([(*two, 60, 0.5)], "b", whole=True) == [(two, (60, 0.5))]


def test_who_is_at_the_top_changes_slowly() -> None:
    ranking = Ranking(1)
    steady, brief = (1, 1, 1, True), (1, 1, 2, True)
    for minute in range(30):
        assert ranking.choose([(steady, (1, 10.0))], minute * 60.0) == {steady}
    assert ranking.choose([(steady, (1, 10.0)), (brief, (1, 60.0))], 1800.0) == {steady}
    assert ranking.choose([(brief, (1, 600.0))], 1860.0) == {brief}
    assert ranking.choose([], 1860.0 + 100 * 600) == set()
