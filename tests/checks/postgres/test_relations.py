"""`relations:`: values against queries of our own, what an entry chooses, locks, hostile names, thousands of tables."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter, ValidationError

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from servers import until
from vedette import Emit, Kind, Status
from vedette.emit import Channel
from vedette.testing import CheckRun, assert_declared
from vedette_checks.postgres.relations import RelationConfig, RelationConfigs, Relations, regex_problem
from vedette_checks.postgres.session import Limits, Session
from vedette_checks.postgres.target import Target
from vedette_checks.postgres.visit import Memory, Visit

from .conftest import run

pytestmark = pytest.mark.anyio

REFERENCE = Path(__file__).parents[2] / "data" / "datadog-postgres-metrics.csv"
KINDS = {"gauge": Kind.GAUGE, "count": Kind.COUNTER, "rate": Kind.RATE}
SIZES = ("relation_size", "toast_size", "table_size", "index_size", "total_size")


def _fresh(server: PostgresServer, dbname: str, *statements: str) -> str:
    """A new database in which these statements were run."""
    server.sql(f"DROP DATABASE IF EXISTS {dbname} WITH (FORCE)")
    server.sql(f"CREATE DATABASE {dbname}")
    for statement in statements:
        server.sql(statement, dbname)
    return dbname


def _series(outcome: CheckRun, key: str = "table") -> set[str]:
    """The values of this tag on the samples of relations."""
    found = set()
    for sample in outcome.samples:
        tags = dict(tag.split(":", 1) for tag in sample.tags)
        if "schema" in tags and key in tags:
            found.add(tags[key])
    return found


def _measured(outcome: CheckRun, name: str) -> set[str]:
    """The tables that have this metric."""
    samples = [sample for sample in outcome.samples if sample.name == f"postgresql.{name}"]
    return {tag.removeprefix("table:") for one in samples for tag in one.tags if tag.startswith("table:")}


def _findings(outcome: CheckRun) -> str:
    """What was found wrong."""
    return outcome.message("postgres.reads")


@asynccontextmanager
async def _visited(server: PostgresServer, dbname: str) -> AsyncIterator[Visit]:
    """A visit as the check makes it."""
    target = Target("127.0.0.1", server.port, "watcher", "", dbname, "prefer")
    session = Session(target)
    channel = Channel("postgres/test", "postgres", Relations.metrics, ())
    try:
        await session.connect(Limits(1.0, 10.0), 10.0)
        visit = Visit(session, Emit(channel, 0.0), Memory())
        await visit.greet()
        yield visit
    finally:
        session.drop()


@asynccontextmanager
async def _sessions(server: PostgresServer, dbname: str) -> AsyncIterator[Callable[[str], Any]]:
    """Starts psql sessions that run one text each and then stay; they end with the block."""
    started: list[asyncio.subprocess.Process] = []

    async def start(sql: str) -> asyncio.subprocess.Process:
        made = await asyncio.create_subprocess_exec(
            str(server.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres",
            "-d", dbname, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(made)
        assert made.stdin is not None
        made.stdin.write(sql.encode() + b"\n")
        return made

    try:
        yield start
    finally:
        for one in started:
            assert one.stdin is not None
            one.stdin.close()
        for one in started:
            await one.communicate()


async def _held(session: asyncio.subprocess.Process) -> None:
    """Wait until a session that ends its text with `\\echo held` got there."""
    assert session.stdout is not None
    assert await session.stdout.readline() == b"held\n"


# --- what is read ---

ORDERS = (
    "CREATE TABLE orders (id int PRIMARY KEY, city text, note text) WITH (autovacuum_enabled = off, fillfactor = 50);"
    "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL; CREATE INDEX orders_city ON orders (city);"
    "INSERT INTO orders SELECT n, 'c' || n % 7, CASE WHEN n % 50 = 0 THEN repeat('x', 9000) END"
    " FROM generate_series(1, 1000) n; SELECT pg_stat_force_next_flush()",
    "VACUUM ANALYZE orders; VACUUM orders",
    "CREATE TABLE quiet (a int)",
    "UPDATE orders SET note = 'new' WHERE id <= 30; DELETE FROM orders WHERE id > 960;"
    "SELECT pg_stat_force_next_flush()",
    "SET enable_seqscan = off; SELECT count(note) FROM orders WHERE id = 5;"
    "SELECT count(note) FROM orders WHERE city = 'c3'; SET enable_seqscan = on; SET enable_indexscan = off;"
    "SET enable_bitmapscan = off; SET enable_indexonlyscan = off; SELECT count(*) FROM orders WHERE id > 0;"
    "SELECT pg_stat_force_next_flush()",
)
OF_TABLE = {
    "seq_scans": ("s", "seq_scan"),
    "seq_rows_read": ("s", "seq_tup_read"),
    "index_rel_scans": ("s", "idx_scan"),
    "index_rel_rows_fetched": ("s", "idx_tup_fetch"),
    "rows_hot_updated": ("s", "n_tup_hot_upd"),
    "live_rows": ("s", "n_live_tup"),
    "dead_rows": ("s", "n_dead_tup"),
    "vacuumed": ("s", "vacuum_count"),
    "autovacuumed": ("s", "autovacuum_count"),
    "analyzed": ("s", "analyze_count"),
    "autoanalyzed": ("s", "autoanalyze_count"),
    "heap_blocks_read": ("b", "heap_blks_read"),
    "heap_blocks_hit": ("b", "heap_blks_hit"),
    "index_blocks_read": ("b", "idx_blks_read"),
    "index_blocks_hit": ("b", "idx_blks_hit"),
    "toast_blocks_read": ("b", "toast_blks_read"),
    "toast_blocks_hit": ("b", "toast_blks_hit"),
    "toast_index_blocks_read": ("b", "tidx_blks_read"),
    "toast_index_blocks_hit": ("b", "tidx_blks_hit"),
    "relation.pages": ("c", "relpages"),
    "relation.tuples": ("c", "reltuples::int8"),
    "relation.all_visible": ("c", "relallvisible"),
}
OF_SIZE = {
    "relation_size": "pg_relation_size(c.oid)",
    "toast_size": "pg_total_relation_size(c.reltoastrelid)",
    "table_size": "pg_table_size(c.oid)",
    "index_size": "pg_indexes_size(c.oid)",
    "total_size": "pg_total_relation_size(c.oid)",
}
OF_INDEX = {"index_scans": "idx_scan", "index_rows_read": "idx_tup_read", "index_rows_fetched": "idx_tup_fetch"}


async def test_values_are_those_of_independent_queries(server: PostgresServer) -> None:
    def prepare() -> tuple[list[str], list[tuple[str, ...]]]:
        _fresh(server, "orders", *ORDERS)
        chosen = [*(f"{view}.{column}" for view, column in OF_TABLE.values()), *OF_SIZE.values()]
        query = (
            f"SELECT {', '.join(chosen)} FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid"
            " JOIN pg_statio_user_tables b ON b.relid = c.oid WHERE c.relname = 'orders'"
        )
        indexes = f"SELECT indexrelname, pg_relation_size(indexrelid), {', '.join(OF_INDEX.values())}"
        ((*table,),) = server.sql(query, "orders")
        return table, server.sql(f"{indexes} FROM pg_stat_user_indexes ORDER BY 1", "orders")

    table, indexes = await asyncio.to_thread(prepare)
    outcome = await run(server, dbname="orders", relations=[{}])
    assert outcome.error is None
    assert _findings(outcome) == ""
    assert_declared(outcome)
    where = {"db": "orders", "schema": "public", "table": "orders"}
    for name, expected in zip((*OF_TABLE, *OF_SIZE), table, strict=True):
        assert str(outcome.value(f"postgresql.{name}", **where)) == expected, name
    assert [row[0] for row in indexes] == ["orders_city", "orders_pkey"]
    for index, size, *numbers in indexes:
        assert str(outcome.value("postgresql.individual_index_size", index=index, **where)) == size
        for name, expected in zip(OF_INDEX, numbers, strict=True):
            assert str(outcome.value(f"postgresql.{name}", index=index, **where)) == expected, name


async def test_what_was_done_is_what_is_counted(server: PostgresServer) -> None:
    """The same against what we know rather than against the server's word."""
    await asyncio.to_thread(_fresh, server, "orders", *ORDERS)
    outcome = await run(server, dbname="orders", relations=[{}])

    def number(name: str, **tags: str) -> Any:
        return outcome.value(f"postgresql.{name}", **{"table": "orders", **tags})

    assert (number("live_rows"), number("dead_rows")) == (960, 40)  # the other 30 were HOT
    assert (number("vacuumed"), number("analyzed"), number("autovacuumed"), number("autoanalyzed")) == (2, 1, 0, 0)
    assert number("relation.tuples") == 1000
    assert number("relation.all_visible") == number("relation.pages")
    assert 1000 * 32 < number("relation.pages") * 8192 <= number("relation_size")
    assert number("index_scans", index="orders_city") == 1
    alive = len([n for n in range(1, 961) if n % 7 == 3])
    assert alive <= number("index_rows_read", index="orders_city") <= alive + 70  # dead entries among them
    assert number("rows_hot_updated") == 30
    assert number("index_rel_scans") == number("index_scans", index="orders_city") + number(
        "index_scans", index="orders_pkey"
    )
    own = number("individual_index_size", index="orders_city") + number("individual_index_size", index="orders_pkey")
    assert own == number("index_size")
    assert number("total_size") == number("table_size") + number("index_size")
    assert number("table_size") >= number("relation_size") + number("toast_size")
    assert number("toast_size") >= 20 * 9000
    assert 0 < number("last_vacuum_age") < 60
    assert 0 < number("last_analyze_age") < 60
    assert number("last_vacuum_age") < number("last_analyze_age")
    for absent in ("last_autovacuum_age", "last_autoanalyze_age"):
        assert outcome.values(f"postgresql.{absent}") == []


async def test_what_is_not_known_is_absent(server: PostgresServer) -> None:
    await asyncio.to_thread(_fresh, server, "orders", *ORDERS)
    outcome = await run(server, dbname="orders", relations=[{"name": "quiet"}])
    made = {sample.name: sample.value for sample in outcome.samples if "table:quiet" in sample.tags}
    assert made.pop("postgresql.total_size") == 0
    assert {name for name, value in made.items() if value} == set()
    unknown = ("relation.tuples", "relation.pages", "last_vacuum_age", "toast_blocks_hit", "index_rel_scans")
    assert not made.keys() & {f"postgresql.{name}" for name in unknown}
    assert made.keys() >= {"postgresql.live_rows", "postgresql.index_size", "postgresql.toast_size"}


async def test_ninety_names_of_the_reference_list_and_their_kinds(server: PostgresServer) -> None:
    with REFERENCE.open() as file:
        rows = list(csv.DictReader(file))
    reference = {
        row["metric_name"]: Kind.RATE if row["per_unit_name"] == "second" else KINDS[row["metric_type"]] for row in rows
    }
    units = {row["metric_name"]: (row["unit_name"], row["per_unit_name"]) for row in rows}
    for metric in Relations.metrics:
        assert (metric.kind, (metric.unit, metric.per)) == (reference[metric.name], units[metric.name]), metric.name
    await asyncio.to_thread(_fresh, server, "orders", *ORDERS)
    outcome = await run(server, dbname="orders", relations=[{}])
    assert outcome.dropped == {}
    made = {sample.name: sample.kind for sample in outcome.samples if sample.name in reference}
    assert len(made) >= 90
    assert made == {name: reference[name] for name in made}


async def test_a_reset_of_the_statistics_leaves_totals_level(server: PostgresServer) -> None:
    dbname = await asyncio.to_thread(_fresh, server, "orders", *ORDERS)
    part = Relations((RelationConfig.model_validate({"name": "orders"}),))
    made = []
    async with _visited(server, dbname) as visit:
        for statement in (
            "SELECT pg_stat_reset()",
            "SELECT count(*) FROM orders; SELECT pg_stat_force_next_flush()",
            "",
        ):
            visit.emit = Emit(Channel("postgres/test", "postgres", Relations.metrics, ()), 0.0)
            await part.collect(visit)
            made.append({one.name: one.value for one in visit.emit.batch().samples if "table:orders" in one.tags})
            await asyncio.to_thread(server.sql, statement, dbname)
    before, after, later = made
    totals = ("seq_scans", "seq_rows_read", "rows_hot_updated", "vacuumed", "heap_blocks_hit")
    for name in totals:
        assert 0 < before[f"postgresql.{name}"] == after[f"postgresql.{name}"], name  # type: ignore[operator]
    assert later["postgresql.seq_scans"] == before["postgresql.seq_scans"] + 1  # type: ignore[operator]
    assert after["postgresql.live_rows"] == 0


# --- which relations ---

SHOP = (
    "CREATE TABLE pay_in (id int PRIMARY KEY); CREATE TABLE pay_out (id int); CREATE TABLE other (id int PRIMARY KEY);"
    "CREATE SCHEMA attic; CREATE TABLE attic.pay_in (id int); CREATE INDEX by_id ON pay_out (id);"
    "CREATE MATERIALIZED VIEW pay_sums AS SELECT count(*) AS n FROM pay_in; CREATE UNIQUE INDEX sums_n ON pay_sums (n);"
    "CREATE VIEW pay_view AS SELECT 1 AS one; CREATE SEQUENCE pay_ids; CREATE UNLOGGED TABLE pay_scratch (id int);"
    "CREATE TABLE days (day int, id int, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);"
    "CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (1) TO (2);"
    "CREATE TABLE attic.days_0 PARTITION OF days FOR VALUES FROM (0) TO (1);"
    "INSERT INTO days VALUES (0, 1), (1, 1), (1, 2); INSERT INTO pay_in SELECT generate_series(1, 5000);"
    "INSERT INTO pay_out SELECT generate_series(1, 100); SELECT pg_stat_force_next_flush()",
    "VACUUM ANALYZE",
)
ALL_TABLES = {"pay_in", "pay_out", "other", "pay_sums", "pay_scratch", "days_1", "days_0"}


@pytest.fixture
async def shop(server: PostgresServer) -> str:
    return await asyncio.to_thread(_fresh, server, "shop", *SHOP)


SELECTIONS: list[tuple[dict[str, Any], set[str], set[str]]] = [
    ({}, ALL_TABLES, {"pay_in_pkey", "other_pkey", "by_id", "sums_n", "days_1_pkey", "days_0_pkey"}),
    ({"name": "pay_out"}, {"pay_out"}, {"by_id"}),
    ({"name": "by_id"}, {"pay_out"}, {"by_id"}),
    ({"name": "PAY_OUT"}, set(), set()),
    ({"regex": "^pay_", "kinds": ["table"]}, {"pay_in", "pay_out", "pay_scratch"}, set()),
    ({"regex": "^pay_", "kinds": ["index"]}, {"pay_in", "pay_out", "pay_sums"}, {"pay_in_pkey", "by_id", "sums_n"}),
    ({"regex": "r_pkey$", "schema": "public"}, {"other"}, {"other_pkey"}),
    ({"regex": r"\mdays\M|(?=other)other$", "kinds": ["table", "partitioned_table"]}, {"days", "other"}, set()),
    ({"schema": "attic"}, {"pay_in", "days_0"}, {"days_0_pkey"}),
    ({"kinds": ["materialized_view"]}, {"pay_sums"}, set()),
    ({"kinds": ["partitioned_table"]}, {"days"}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "tables", "indexes"), SELECTIONS, ids=[str(one[0]) for one in SELECTIONS])
async def test_an_entry_chooses(
    server: PostgresServer, shop: str, entry: dict[str, Any], tables: set[str], indexes: set[str]
) -> None:
    outcome = await run(server, dbname=shop, relations=[entry])
    assert outcome.error is None
    assert (_series(outcome), _series(outcome, "index")) == (tables, indexes)
    missing = "no such relation: relations[0] PAY_OUT; `name` goes without the schema; `kinds` and `schema` must fit"
    assert _findings(outcome) == (missing if not tables else "")


async def test_entries_that_overlap_report_a_relation_once(server: PostgresServer, shop: str) -> None:
    outcome = await run(server, dbname=shop, relations=[{}, {"name": "pay_in"}, {"schema": "public"}])
    assert outcome.dropped == {}
    assert _series(outcome) == ALL_TABLES
    assert outcome.value("postgresql.live_rows", table="pay_in", schema="public") == 5000
    assert outcome.value("postgresql.live_rows", table="pay_in", schema="attic") == 0


async def test_the_largest_come_first_and_the_rest_is_said(server: PostgresServer, shop: str) -> None:
    chosen = [{"regex": "^pay_", "kinds": ["table"], "limit": 2}, {"kinds": ["materialized_view"]}, {"limit": 1}]
    outcome = await run(server, dbname=shop, relations=chosen)
    assert _series(outcome) == {"pay_in", "pay_out", "pay_sums"}
    assert outcome.values("postgresql.live_rows", table="pay_in") == [5000]
    assert outcome.status("postgres.reads") is Status.WARNING
    assert _findings(outcome) == (
        "relations left out, the smallest: 2 of relations[0] ~ ^pay_, 13 of relations[2]; raise `limit`"
    )


async def test_partitions_and_their_parent(server: PostgresServer, shop: str) -> None:
    kinds = ["table", "partitioned_table", "index"]
    outcome = await run(server, dbname=shop, relations=[{"regex": "^days", "kinds": kinds}])
    assert outcome.value("postgresql.live_rows", table="days_1", partition_of="days") == 2
    assert outcome.value("postgresql.live_rows", table="days_0", partition_of="public.days", schema="attic") == 1
    assert outcome.value("postgresql.individual_index_size", index="days_1_pkey", partition_of="days") == 16384
    parent = {sample.name: sample.value for sample in outcome.samples if "table:days" in sample.tags}
    assert parent.pop("postgresql.last_analyze_age") < 60  # type: ignore[operator]
    assert parent == {
        "postgresql.relation.tuples": 3, "postgresql.analyzed": 1, "postgresql.autoanalyzed": 0,
    }  # fmt: skip


async def test_temporary_tables_and_those_of_the_system_are_left_out(server: PostgresServer, shop: str) -> None:
    async with _sessions(server, shop) as start:
        await _held(await start("CREATE TEMP TABLE mine (a text PRIMARY KEY);\n\\echo held"))
        outcome = await run(server, dbname=shop, relations=[{"kinds": ["table", "index"], "limit": 10000}])
    assert _series(outcome) == ALL_TABLES
    assert _series(outcome, "schema") == {"public", "attic"}


# --- names ---

HOSTILE = (
    "it's", 'say "hi"', "line\nbreak", "😀 table", "a,b|c:d", "back\\slash", "percent %s %% {x} $1", "x" * 63,
    "pay'; DROP TABLE victims; --", "[brackets](", "ÄÖ",
)  # fmt: skip


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def test_hostile_names_are_carried_and_break_nothing(server: PostgresServer) -> None:
    create = 'CREATE TABLE victims (a int); CREATE SCHEMA "sch\'""ema";' + "".join(
        f'CREATE TABLE "sch\'""ema".{_quoted(name)} (id int);' for name in HOSTILE
    )
    dbname = await asyncio.to_thread(_fresh, server, "hostile", create)
    outcome = await run(server, dbname=dbname, relations=[{}])
    tags = {name.replace("\n", "_") for name in HOSTILE}
    assert _series(outcome) == {*tags, "victims"}
    for name in tags:
        assert outcome.value("postgresql.total_size", table=name, schema="sch'\"ema", db="hostile") == 0
    for name in HOSTILE:
        one = await run(server, dbname=dbname, relations=[{"name": name, "schema": "sch'\"ema"}])
        assert (_series(one), _findings(one)) == ({name.replace("\n", "_")}, "")
    lost = await run(server, dbname=dbname, relations=[{"name": "no\nsuch"}])
    assert _findings(lost).startswith("no such relation: relations[0] no_such; ")


# --- locks, and things that vanish ---


async def test_a_table_behind_a_waiting_alter_table_costs_nobody_else(server: PostgresServer, shop: str) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    async with _sessions(server, shop) as start:
        await _held(await start("BEGIN; SELECT count(*) AS held FROM pay_in \\gset\n\\echo held"))
        await start("ALTER TABLE pay_in ADD b int;")
        await asyncio.to_thread(until, lambda: server.scalar(waiting) == "1", "the ALTER TABLE to wait")
        outcome = await run(server, dbname=shop, relations=[{}])
    assert outcome.error is None
    assert outcome.values("postgresql.live_rows", table="pay_in", schema="public") == [5000]
    assert outcome.values("postgresql.heap_blocks_hit", table="pay_in", schema="public") != []
    for name in SIZES:
        assert _measured(outcome, name) == ALL_TABLES, name  # the other schema's pay_in among them
        assert outcome.values(f"postgresql.{name}", table="pay_in", schema="public") == [], name
    assert outcome.value("postgresql.individual_index_size", index="pay_in_pkey") == 131072
    assert _findings(outcome) == (
        "sizes not measured: locked exclusively: public.pay_in; "
        "see who holds or awaits the lock: postgres.blocking and pg_locks"
    )


async def test_of_many_locked_tables_three_are_named(server: PostgresServer) -> None:
    create = "".join(f"CREATE TABLE t{n} (id int PRIMARY KEY, b text); " for n in range(6))
    dbname = await asyncio.to_thread(_fresh, server, "locked", create)
    async with _sessions(server, dbname) as start:
        await _held(await start("BEGIN; LOCK TABLE t3, t2, t1, t0, t4;\n\\echo held"))
        outcome = await run(server, dbname=dbname, relations=[{}])
    assert _measured(outcome, "total_size") == {"t5"}
    assert _measured(outcome, "individual_index_size") == _measured(outcome, "live_rows") == {f"t{n}" for n in range(6)}
    assert _findings(outcome).startswith(
        "sizes not measured: locked exclusively: public.t0, public.t1, public.t2 and 2 more; "
    )


@pytest.mark.parametrize("part", ["index", "TOAST"])
async def test_a_lock_on_a_part_of_a_table_keeps_from_its_sizes(server: PostgresServer, part: str) -> None:
    def prepare() -> str:
        _fresh(server, "parts", "CREATE TABLE t (id int PRIMARY KEY, b text); CREATE TABLE other (a text)")
        return server.scalar("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 't'", "parts")

    toast = await asyncio.to_thread(prepare)
    lock = "REINDEX INDEX t_pkey" if part == "index" else f"REINDEX TABLE {toast}"
    async with _sessions(server, "parts") as start:
        await _held(await start(f"BEGIN; {lock};\n\\echo held"))
        outcome = await run(server, dbname="parts", relations=[{}])
    assert outcome.error is None
    assert _measured(outcome, "total_size") == {"other"}
    assert _measured(outcome, "live_rows") == {"t", "other"}
    assert _measured(outcome, "individual_index_size") == (set() if part == "index" else {"t"})
    named = "public.t, public.t_pkey; " if part == "index" else "public.t; "
    assert _findings(outcome).startswith(f"sizes not measured: locked exclusively: {named}")


async def test_a_prepared_transaction_holds_locks_too(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(lambda: servers(max_prepared_transactions=2))
    await asyncio.to_thread(server.sql, "CREATE TABLE t (a int); CREATE TABLE other (a int)")
    await asyncio.to_thread(server.sql, "BEGIN; LOCK TABLE t; PREPARE TRANSACTION 'left behind'")
    outcome = await run(server, username="postgres", relations=[{}])
    assert _measured(outcome, "total_size") == {"other"}
    assert _findings(outcome).startswith("sizes not measured: locked exclusively: public.t; ")


async def test_a_table_dropped_between_the_queries_is_simply_gone(server: PostgresServer) -> None:
    dbname = await asyncio.to_thread(
        _fresh, server, "vanishing", "CREATE TABLE stays (id int PRIMARY KEY); CREATE TABLE goes (id int PRIMARY KEY)"
    )
    part = Relations((RelationConfig.model_validate({}),))
    async with _visited(server, dbname) as visit:
        asked: list[str] = []
        plain = visit.rows

        async def rows(name: str, sql: str, *arguments: Any) -> Any:
            answer = await plain(name, sql, *arguments)
            if not asked:
                await asyncio.to_thread(server.sql, "DROP TABLE goes", dbname)
            asked.append(name)
            return answer

        visit.rows = rows  # type: ignore[method-assign]
        await part.collect(visit)
        tags = {tag for sample in visit.emit.batch().samples for tag in sample.tags}
        assert asked == ["relations", "pg_stat_all_tables", "pg_stat_all_indexes", "pg_total_relation_size"]
        assert ("table:stays" in tags, "table:goes" in tags) == (True, False)
        assert visit.findings == []


async def test_the_server_decides_about_regular_expressions(server: PostgresServer, shop: str) -> None:
    chosen = [{"regex": "pay_in"}, {"regex": "a{3,1}"}, {"regex": "(?i)^OTHER$"}, {"regex": r"(?<=a)b\y(?{x}"}]
    outcome = await run(server, runs=2, dbname=shop, relations=chosen)
    assert outcome.error is None
    assert _series(outcome) == {"pay_in", "other"}
    first, second, *rest = _findings(outcome).split("; ")
    assert first.startswith("relations[1] ~ a{3,1}: invalid regular expression: ")
    assert second == "correct its `regex`"
    assert len(rest) == 2


# --- scale, replicas, poolers, rights ---


async def test_statements_do_not_depend_on_how_many_tables_there_are(server: PostgresServer) -> None:
    few = await asyncio.to_thread(_fresh, server, "few", "CREATE TABLE t1 (id int PRIMARY KEY, b text)")
    many = await asyncio.to_thread(
        _fresh,
        server,
        "many",
        "DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, b text)', n);"
        " IF n % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    await asyncio.to_thread(server.sql, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    calls = {}
    for dbname in (few, many):
        await asyncio.to_thread(server.sql, "SELECT pg_stat_statements_reset()")
        outcome = await run(server, dbname=dbname, relations=[{"limit": 10000}])
        assert (outcome.error, _findings(outcome), outcome.dropped) == (None, "", {})
        query = (
            "SELECT sum(calls) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            f" JOIN pg_roles r ON r.oid = s.userid WHERE datname = '{dbname}' AND rolname = 'watcher'"
        )
        calls[dbname] = int(await asyncio.to_thread(server.scalar, query))
    assert calls[few] == calls[many] > 4
    assert len(outcome.values("postgresql.total_size")) == len(outcome.values("postgresql.seq_scans")) == 2000
    assert set(outcome.values("postgresql.individual_index_size")) == {8192}
    cut = await run(server, dbname=many, relations=[{}])
    assert len(cut.values("postgresql.total_size")) + len(cut.values("postgresql.index_scans")) == 100
    assert _findings(cut) == "relations left out, the smallest: 3900 of relations[0]; raise `limit`"


async def test_a_standby_says_what_it_knows(servers: Callable[..., PostgresServer]) -> None:
    primary = await asyncio.to_thread(servers)
    await asyncio.to_thread(primary.sql, ORDERS[0])
    await asyncio.to_thread(primary.sql, ORDERS[1])
    standby = await asyncio.to_thread(lambda: servers(replica_of=primary))
    caught_up = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
    await asyncio.to_thread(until, lambda: primary.scalar(caught_up) == "1", "the standby to catch up")
    await asyncio.to_thread(standby.sql, "SELECT count(*) FROM orders; SELECT pg_stat_force_next_flush()")
    outcome = await run(standby, username="postgres", relations=[{}])
    assert outcome.error is None
    where = {"table": "orders", "replication_role": "standby"}
    assert outcome.value("postgresql.seq_scans", **where) == 1
    assert outcome.value("postgresql.relation.tuples", **where) == 1000
    size = await asyncio.to_thread(standby.scalar, "SELECT pg_total_relation_size('orders')")
    assert str(outcome.value("postgresql.total_size", **where)) == size
    for unknown in ("live_rows", "dead_rows", "vacuumed", "last_vacuum_age", "rows_hot_updated"):
        assert outcome.values(f"postgresql.{unknown}") == [], unknown

    async with _sessions(primary, "postgres") as start:
        await _held(await start("BEGIN; LOCK TABLE orders; SELECT pg_switch_wal() AS held \\gset\n\\echo held"))
        replayed = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation'"
        await asyncio.to_thread(until, lambda: standby.scalar(replayed) == "1", "the lock to arrive")
        locked = await run(standby, username="postgres", relations=[{}])
    assert locked.values("postgresql.total_size") == []
    assert _findings(locked).startswith("sizes not measured: locked exclusively: public.orders; ")


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
async def test_through_pgbouncer(server: PostgresServer, shop: str) -> None:
    bouncer = PgBouncer(server)
    with running(bouncer):
        outcome = await run(bouncer, runs=2, dbname=shop, relations=[{}])
    assert (outcome.error, _findings(outcome), _series(outcome)) == (None, "", ALL_TABLES)


async def test_no_right_on_the_tables_is_needed(server: PostgresServer) -> None:
    await asyncio.to_thread(_fresh, server, "orders", *ORDERS)
    await asyncio.to_thread(server.sql, "CREATE SCHEMA shut; CREATE TABLE shut.t (a int)", "orders")
    with pytest.raises(RuntimeError, match="permission denied"):
        await asyncio.to_thread(server.sql, "SELECT * FROM shut.t", "orders", "watcher")
    outcome = await run(server, dbname="orders", relations=[{"schema": "shut"}])
    assert outcome.value("postgresql.total_size", table="t", schema="shut") == 0
    assert _findings(outcome) == ""


# --- options ---

REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([{"name": "a", "regex": "b"}], "`name` and `regex` exclude each other"),
    ([{"kinds": []}], "at least 1 item"),
    ([{"kinds": ["view"]}], "Input should be 'table'"),
    ([{"limit": 0}], "greater than or equal to 1"),
    ([{"name": "a\0b"}], "must not hold a NUL character"),
    ([{"schema": "pg_catalog"}], "is one of the system's own schemas"),
    ([{"regex": "*_log"}], "`*` has nothing to repeat"),
    ([{"regex": "pay_["}], "unterminated character set"),
    ([{"name": "a"}, {}, {"name": "a", "limit": 5}], "entry 2 chooses the same as entry 0"),
]


@pytest.mark.parametrize(("entries", "problem"), REFUSED)
def test_options_that_make_no_sense_are_refused(entries: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(RelationConfigs).validate_python(entries)
    assert problem in str(caught.value)


PATTERNS = [
    "", "^pay_", "a|b", "(a", "a)", "[a", "a]", "[]a]", "[^]a]", "[a\\]", "a\\", "\\(", "\\[", "*a", "+a", "?a", "a**",
    "***=a(b", "***:a(", "(?q)a(b", "(?b)a(b", "(?e)a)", "(?i)a(", "(?#(comment)a", "(?:a)", "(?=a)b", "(?<!a)b",
    "(?P<n>a)", "[[:alpha:](]", "[[:alpha:]", "[[.(.]]", "[[=a=](]", "\\ma\\M", "\\ya", "\\c(", "\\c[a", "a{2",
    "a{,5}*", "a{2,1}", "()", "()*", "|", "(|a)", "a{2}{3}", "\\x", "\\1", "(a)\\1", "[a-", "[z-a]", "[[]", "[--a]",
    "a.*?b", "\\b*",
]  # fmt: skip


async def test_no_regular_expression_is_refused_that_the_server_takes(server: PostgresServer) -> None:
    connection: Any = await asyncpg.connect(host="127.0.0.1", port=server.port, user="watcher", database="postgres")
    wrongly, found = [], []
    try:
        for pattern in PATTERNS:
            try:
                await connection.fetchval("SELECT '' ~ $1", pattern)
            except asyncpg.InvalidRegularExpressionError:
                if regex_problem(pattern):
                    found.append(pattern)
            else:
                if regex_problem(pattern):
                    wrongly.append(pattern)
    finally:
        await connection.close()
    assert wrongly == []
    assert found == ["(a", "a)", "[a", "[a\\]", "a\\", "*a", "+a", "?a", "[a-"]
