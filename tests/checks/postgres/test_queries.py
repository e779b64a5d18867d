"""`queries:`: each type of column, when they are asked, and what a query that cannot be answered costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from vedette import Kind, Status
from vedette.emit import Channel, Emit
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.postgres import Postgres, PostgresConfig
from vedette_checks.postgres.queries import Queries, QueryConfig
from vedette_checks.postgres.session import Limits, Session
from vedette_checks.postgres.visit import Memory, Visit

from .conftest import psql, run

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def orders(server: PostgresServer) -> None:
    server.sql("DROP TABLE IF EXISTS orders; CREATE TABLE orders (id int, status text, cents bigint)")
    server.sql("INSERT INTO orders VALUES (1, 'open', 1050), (2, 'open', 50), (3, 'paid', 99999999999999)")
    server.sql("DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('ready')")
    server.sql("CREATE SEQUENCE IF NOT EXISTS ids; GRANT SELECT ON orders TO watcher; GRANT USAGE ON ids TO watcher")


def query(sql: str, *columns: str, **options: Any) -> dict[str, Any]:
    """An entry of `queries:`; a column is `type name`."""
    pairs = [column.split(" ", 1) for column in columns]
    return {"name": "q", "sql": sql, "columns": [{"type": a, "name": b} for a, b in pairs], **options}


async def ask(server: Any, *queries: dict[str, Any], **options: Any) -> CheckRun:
    return await run(server, queries=list(queries), **options)


def reads(outcome: CheckRun) -> str:
    assert outcome.error is None
    assert outcome.value("postgresql.max_connections") == 30  # all else is there
    return outcome.message("postgres.reads")


async def test_each_type_of_column(server: PostgresServer) -> None:
    outcome = await ask(
        server,
        query(
            "SELECT status, count(*), sum(cents) / 100.0, 7::float4, sum(id), 12, bool_or(id = 3), interval '1.5 s',"
            " NULL::text, NULL::int FROM orders GROUP BY 1 ORDER BY 1; ",
            "tag status", "gauge shop.orders", "gauge shop.revenue", "count shop.new", "counter shop.total",
            "rate shop.speed", "gauge shop.flag", "gauge shop.age", "tag nothing", "gauge shop.nothing",
        ),
    )  # fmt: skip
    assert reads(outcome) == ""
    assert_declared(outcome)
    found = {(sample.name, sample.kind): sample.value for sample in outcome.samples if "status:paid" in sample.tags}
    assert found == {
        ("shop.orders", Kind.GAUGE): 1,
        ("shop.revenue", Kind.GAUGE): Decimal("999999999999.99"),
        ("shop.new", Kind.COUNT): 7,
        ("shop.total", Kind.COUNTER): 3,
        ("shop.speed", Kind.RATE): 12,
        ("shop.flag", Kind.GAUGE): 1,
        ("shop.age", Kind.GAUGE): 1.5,
    }
    assert outcome.value("shop.orders", status="open", db="postgres", replication_role="master") == 2


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT count(*) FRM orders", 'query q: syntax error at or near "orders" at character 21; correct its `sql`'),
        ("SELECT 1 FROM no_such", 'query q: relation "no_such" does not exist at character 15; correct its `sql`'),
        ("SELECT 1 / 0", "query q: division by zero"),
        ("SELECT 1 FROM pg_authid", "query q: permission denied for table pg_authid; GRANT SELECT to watcher"),
        ("SELECT nextval('ids')", "query q: cannot execute nextval() in a read-only transaction; queries only read"),
        ("SELECT 'NaN'::float8", "query q: shop.n is NaN or infinite, which no metric can be; leave such rows out"),
        ("SELECT 'NaN'::numeric", "query q: shop.n is NaN or infinite, which no metric can be; leave such rows out"),
        ("SELECT 1, 2", "query q: returns 2 columns, `columns` names 1; name each column in order"),
        ("SELECT 'many'", "query q: shop.n is str, not a number; cast it to a number, such as ::float8"),
        ("SELECT 1 UNION ALL SELECT 2", "query q: several rows have the same tags; the last one counts; make what tells"
         " them apart a tag, or GROUP BY the tags"),
        ("SELECT DISTINCT 1 FROM orders WHERE false", ""),
    ],
)  # fmt: skip
async def test_what_is_wrong_costs_only_that_query(server: PostgresServer, sql: str, message: str) -> None:
    outcome = await ask(server, query(sql, "gauge shop.n"), query("SELECT 5", "gauge shop.other", name="r"), runs=2)
    assert reads(outcome) == message
    assert outcome.status("postgres.reads") is (Status.WARNING if message else Status.OK)
    assert outcome.values("shop.other") == [5]


async def test_a_statement_that_takes_too_long(server: PostgresServer) -> None:
    outcome = await ask(
        server, query("SELECT 1 FROM pg_sleep(600)", "gauge shop.n"), interval=60, timeout=60, statement_timeout="2s"
    )
    assert reads(outcome).startswith("query q: took longer than statement_timeout; ")


async def test_a_table_that_is_locked_is_given_up_after_lock_timeout(server: PostgresServer) -> None:
    async with psql(server, "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"):
        outcome = await ask(server, query("SELECT count(*) FROM orders", "gauge shop.n"), lock_timeout="50ms")
    assert reads(outcome).startswith("query q: gave up waiting for a lock; ")
    assert outcome.values("shop.n") == []


@pytest.mark.parametrize(
    "setting",
    ["set_config('lock_timeout', '0', false)", "set_config('default_transaction_read_only', 'off', false)"],
)
async def test_what_a_query_sets_holds_for_no_other(server: PostgresServer, setting: str) -> None:
    others = [
        query("SELECT nextval('ids')", "gauge shop.id", name="writes"),
        query("SELECT count(*) FROM orders", "gauge shop.n", name="waits"),
        query("SELECT (current_setting('lock_timeout') = '50ms')::int", "gauge shop.limited", name="limit"),
    ]
    async with psql(server, "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"):
        outcome = await ask(
            server, query(f"SELECT length({setting})", "gauge shop.set"), *others, lock_timeout="50ms", runs=2
        )
    assert reads(outcome) == (
        "query writes: cannot execute nextval() in a read-only transaction; queries only read; "
        "query waits: gave up waiting for a lock; see who holds it: postgres.blocking and pg_locks"
    )
    assert outcome.values("shop.limited") == [1]
    assert len(outcome.values("shop.set")) == 1


async def test_what_the_server_calls_malformed_costs_only_that_query(server: PostgresServer) -> None:
    """The option refuses a NUL; this is what becomes of one that reaches the server."""
    whole = QueryConfig(**query("SELECT 1", "gauge shop.n"))
    config = PostgresConfig(host="127.0.0.1", port=server.port, username="watcher")
    session = Session(config.target)
    await session.connect(Limits(1, 5), 5)
    part = Queries([whole.model_copy(update={"sql": "SELECT '\0'"}), whole.model_copy(update={"name": "r"})])
    emit = Emit(Channel("postgres/x", "postgres", part.metrics, ()), 1000.0)
    visit = Visit(session, emit, Memory())
    await part.collect(visit)
    session.drop()
    assert [finding.message for finding in visit.findings] == ["query q: insufficient data left in message"]
    assert [sample.value for sample in emit.batch().samples] == [1]


async def test_more_rows_than_the_limit(server: PostgresServer) -> None:
    sql = "SELECT n::text, n FROM generate_series(1, 10000000) n"
    outcome = await ask(server, query(sql, "tag n", "gauge shop.n", limit=3))
    assert reads(outcome) == "query q: more than 3 rows; the rest is left out; raise its `limit`, or ask for fewer"
    assert outcome.values("shop.n") == [1, 2, 3]


async def test_hostile_tags(server: PostgresServer) -> None:
    sql = "SELECT E'a\"b''c,d|e:f#🐘\\n' || repeat('x', 300), true, 1"
    outcome = await ask(server, query(sql, "tag text", "tag flag", "gauge shop.n"))
    assert reads(outcome) == ""
    (sample,) = (sample for sample in outcome.samples if sample.name == "shop.n")
    (text,) = (tag for tag in sample.tags if tag.startswith("text:"))
    assert text == "text:" + ("a\"b'c,d|e:f#🐘_" + "x" * 300)[:200]
    assert "flag:true" in sample.tags


ENUM = query("SELECT 'ready'::mood, count(*) FROM orders", "tag mood", "gauge shop.n")


async def test_a_type_of_the_users_own(server: PostgresServer) -> None:
    outcome = await ask(server, ENUM, runs=2)
    assert reads(outcome) == ""
    assert outcome.value("shop.n", mood="ready") == 3


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
async def test_through_pgbouncer(server: PostgresServer) -> None:
    bouncer = PgBouncer(server)
    with running(bouncer):
        outcome = await ask(bouncer, ENUM, runs=2)
    assert reads(outcome) == ""
    assert outcome.value("shop.n", mood="ready") == 3


async def test_a_query_with_an_interval_of_its_own_is_asked_when_it_is_due(server: PostgresServer) -> None:
    now = 1000.0
    one = QueryConfig(**query("SELECT 1", "gauge shop.n", interval="1m"))
    part = Queries([one], 15.0, lambda: now)
    config = PostgresConfig(host="127.0.0.1", port=server.port, username="watcher")
    session = Session(config.target)
    await session.connect(Limits(1, 5), 5)
    asked = []
    for late in (0, 15, 31, 44.9, 60.2, 75, 119, 135, 300, 315, 360):
        now = 1000.0 + late
        emit = Emit(Channel("postgres/x", "postgres", part.metrics, ()), now)
        await part.collect(Visit(session, emit, Memory()))
        asked += [late] * len(emit.batch().samples)
    session.drop()
    assert asked == [0, 60.2, 119, 300, 360]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sql": "DELETE FROM orders"}, "must be a SELECT"),
        ({"sql": "/* SELECT */ -- WITH\n SET x = 1"}, "must be a SELECT"),
        ({"sql": ""}, "must be a SELECT"),
        ({"sql": "SELECT 1; SELECT 2"}, "must be one statement"),
        ({"sql": "SELECT '\0'"}, "must not hold a NUL"),
        ({"sql": "SELECT 1 WHERE 'a' LIKE $1"}, r"takes a parameter \(\$1\)"),
        ({"columns": [{"name": "status", "type": "tag"}]}, "has no number"),
        ({"columns": [{"name": "a", "type": "tag"}, {"name": "a", "type": "gauge"}]}, "has a twice"),
        ({"columns": [{"name": "a b", "type": "gauge"}]}, "letters, digits, _ and dots"),
        ({"columns": [{"name": "1", "type": "tag"}]}, "must be a letter, then"),
        (
            {"columns": [{"name": "db", "type": "tag"}, {"name": "n", "type": "gauge"}]},
            "the check itself sets the tag db",
        ),
        ({"columns": [{"name": "postgresql.commits", "type": "gauge"}]}, "are the check's own"),
        ({"interval": "5s"}, r"queries\[0\]\.interval must not be shorter"),
    ],
)
async def test_bad_options(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await run_check(Postgres, {"queries": [{**query("SELECT 1", "gauge shop.n"), **changes}]})


async def test_queries_that_do_not_fit_together() -> None:
    twice = [query("SELECT 1", "gauge shop.n"), query("SELECT 2", "gauge shop.m")]
    with pytest.raises(ValueError, match="two are called q"):
        await run_check(Postgres, {"queries": twice})
    kinds = [query("SELECT 1", "gauge shop.n"), query("SELECT 2", "count shop.n", name="r")]
    with pytest.raises(ValueError, match=r"shop\.n is a gauge in one query, a count in another"):
        await run_check(Postgres, {"queries": kinds})


@pytest.mark.parametrize(
    "sql",
    [
        "(SELECT 1)",
        "-- why\nselect 1",
        "/* a */ WITH x AS (SELECT 1) TABLE x",
        "VALUES (1)",
        "SELECT 1; -- all orders",
        "SELECT 1;; /* ; */",
        "SELECT 1 WHERE '$1;' = $$$1;$$",
    ],
)
async def test_what_may_be_asked(server: PostgresServer, sql: str) -> None:
    outcome = await ask(server, query(sql, "gauge shop.n"))
    assert reads(outcome) == ""
    assert outcome.values("shop.n") == [1]
