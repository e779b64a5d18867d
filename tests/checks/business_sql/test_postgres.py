"""Windows over PostgreSQL: every way to store a time, numeric money, a read-only transaction, a replica."""

# ruff: noqa: E501 - tables of SQL and times

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from servers import until

from .conftest import COLUMNS, NOW, SUMMARY, Instance, message, values

pytestmark = pytest.mark.anyio

END = 1_795_525_200
VOLUME = "business.hourly.transaction_volume"
ONE = {"n": {"metric": "a.n"}}


def url(server: PostgresServer) -> str:
    return f"postgresql+asyncpg://watcher@127.0.0.1:{server.port}/postgres"


@pytest.fixture(scope="module", autouse=True)
def payments(server: PostgresServer) -> Iterator[None]:
    server.sql(
        "SET timezone = 'UTC'; CREATE TABLE payments (id serial PRIMARY KEY, currency text, amount numeric(20, 4), at_tz timestamptz, "
        "at_plain timestamp, at_text text, at_epoch bigint, at_z text, at_ms bigint, at_day date);"
        "INSERT INTO payments (currency, amount, at_tz, at_plain, at_text, at_epoch) SELECT c, a, t, t, to_char(t, 'YYYY-MM-DD HH24:MI:SS'), "
        "extract(epoch FROM t) FROM (VALUES ('EUR', 12.50, timestamptz '2026-11-24 12:00:00+00'), ('EUR', 0.10, '2026-11-24 12:59:59+00'), "
        "('USD', 1234567890123456.7891, '2026-11-24 12:30:00+00'), ('EUR', 5, '2026-11-24 11:59:59+00'), "
        "('EUR', 7, '2026-11-24 13:00:00+00')) AS v(c, a, t); UPDATE payments SET at_z = to_char(at_plain, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), "
        "at_ms = at_epoch * 1000, at_day = at_plain::date; GRANT SELECT ON payments TO watcher;"
        "ALTER ROLE watcher SET timezone = 'Australia/Lord_Howe'"  # what a session thinks of time must not matter
    )
    yield
    server.sql("DROP TABLE payments")


@pytest.mark.parametrize("column", ["at_tz", "at_plain", "at_text", "at_epoch", "CAST(at_plain AS text)"])
async def test_every_way_to_store_a_time_gives_the_same_window(server: PostgresServer, column: str) -> None:
    sql = (
        f"SELECT currency, sum(amount) AS volume FROM payments WHERE {column} >= :start_time AND {column} < :end_time "
        "GROUP BY currency"
    )
    columns = {"currency": {"type": "tag"}, "volume": {"metric": VOLUME}}
    instance = Instance(url(server), sql=sql, columns=columns, window={"every": "1h", "timezone": "Europe/Berlin"})
    batch, error = await instance.run()
    instance.time += 3600
    following, _ = await instance.run()
    await instance.close()
    assert error == ""
    assert values(batch, VOLUME) == {
        (END, "currency:EUR"): Decimal("12.6000"),
        (END, "currency:USD"): Decimal("1234567890123456.7891"),
    }
    assert values(following, VOLUME) == {(END + 3600, "currency:EUR"): Decimal("7.0000")}
    assert message(batch, "queries") == ""


DAILY = {"every": "1d", "timezone": "UTC"}


@pytest.mark.parametrize(
    ("where", "window", "said"),
    [
        ("{} >= :start_time AND {} < :end_time".format(*["to_char(at_plain, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"] * 2), None, ""),
        ("at_z >= :start_time AND at_z < :end_time", None, ""),
        (":start_time <= p.at_z AND :end_time > p.at_z", None, ""),
        ("at_ms >= :start_time AND at_ms < :end_time", None, "times are stored as milliseconds: compare with"),
        ("at_ms >= CAST(:start_time AS bigint) * 1000 AND at_ms < CAST(:end_time AS bigint) * 1000", None, ""),
        ("at_day >= :start_time AND at_day < :end_time", None, "compares days with windows that are no days of UTC"),
        ("at_day >= :start_time AND at_day < :end_time", {"every": "1d", "timezone": "Europe/Berlin"},
         "compares days with windows that are no days of UTC"),
        ("at_day >= :start_time AND at_day < :end_time", DAILY, ""),
        ("to_char(at_tz, 'TMDay') BETWEEN :start_time AND :end_time", None,
         "times are stored in a form that cannot be compared as text"),
        ("at_tz >= CAST(:start_time AS timestamptz) AND at_tz < to_timestamp(CAST(:end_time AS text), 'YYYY-MM-DD')", None, None),
        ("at_epoch >= extract(epoch FROM CAST(:start_time AS timestamptz)) AND at_tz < CAST(:end_time AS timestamptz)", None, ""),
        ("at_epoch IN (:start_time, :end_time)", None, "it cannot be made out how it compares times"),
    ],
)  # fmt: skip
async def test_times_that_would_match_nothing_are_told(
    server: PostgresServer, where: str, window: Any, said: str | None
) -> None:
    sql = f"SELECT currency, sum(amount) AS volume FROM payments AS p WHERE {where} GROUP BY currency"
    columns = {"currency": {"type": "tag"}, "volume": {"metric": VOLUME}}
    instance = Instance(url(server), sql=sql, columns=columns, window=window or {"every": "1h"}, timeout="60s")
    if window is DAILY:
        instance.time = NOW + 24 * 3600
    for hours in (0, 24):
        instance.time += hours * 3600
        instance.state.clear()
        batch, error = await instance.run()
        assert error == ""
        if said:
            assert message(batch, "queries").startswith(f"q: {said}")
        elif said is not None:
            assert message(batch, "queries") == ""
        if said == "" and not hours and window is None:
            assert values(batch, VOLUME)[END, "currency:EUR"] == Decimal("12.6000")
        if window is DAILY and not hours:
            assert values(batch, VOLUME)[END + 11 * 3600, "currency:EUR"] == Decimal("24.6000")
    await instance.close()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT 1 FROM nowhere", 'relation "nowhere" does not exist; correct its `sql`'),
        ("SELECT 1 FROM pg_authid", "permission denied for table pg_authid; GRANT SELECT to the user of `url`"),
        ("SELECT pg_sleep(600), 1 AS n", "took longer than statement_timeout; add an index, or raise it"),
        ("SELECT nextval('payments_id_seq') AS n", "permission denied for sequence payments_id_seq; "
         "GRANT SELECT to the user of `url`"),
        ("SELECT 1 / 0 AS n", "division by zero"),
    ],
)  # fmt: skip
async def test_a_query_that_is_refused(server: PostgresServer, sql: str, said: str) -> None:
    options: dict[str, Any] = {"window": None, "statement_timeout": "2s" if "sleep" in sql else "30s", "timeout": "60s"}
    queries = [{"name": "q", "sql": sql, "columns": ONE}]
    instance = Instance(url(server), queries=queries, **options)
    for _ in range(2):
        batch, error = await instance.run()
        assert (error, message(batch, "queries")) == ("", f"q: {said}")
    await instance.close()


async def test_what_writes_is_refused_by_the_server_itself(server: PostgresServer) -> None:
    server.sql("CREATE TABLE own (n int); GRANT ALL ON own TO watcher; CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS "
               "'INSERT INTO own VALUES (1) RETURNING n'")  # fmt: skip
    instance = Instance(url(server), window=None, sql="SELECT sneak() AS n", columns=ONE)
    batch, _ = await instance.run()
    await instance.close()
    assert message(batch, "queries") == "q: cannot execute INSERT in a read-only transaction; queries only read"
    assert server.scalar("SELECT count(*) FROM own") == "0"
    server.sql("DROP TABLE own; DROP FUNCTION sneak")


async def test_a_lock_is_not_waited_for_and_one_connection_is_all(server: PostgresServer) -> None:
    instance = Instance(url(server), window=None, sql="SELECT count(*) AS n FROM payments", columns=ONE)
    await instance.run()
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vedette'"
    assert await asyncio.to_thread(server.scalar, ours) == "1"
    assert await asyncio.to_thread(
        server.scalar, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vedette' AND state = 'idle'"
    ) == "1"  # no transaction is left open  # fmt: skip
    held = await asyncio.create_subprocess_exec(
        str(server.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert held.stdin is not None
    assert held.stdout is not None
    held.stdin.write(b"BEGIN; LOCK TABLE payments; \\echo locked\n")
    await held.stdout.readline()
    batch, _ = await instance.run()
    assert message(batch, "queries") == "q: gave up waiting for a lock; somebody writes for a long time"
    assert await asyncio.to_thread(server.scalar, ours) == "1"
    await held.communicate(b"ROLLBACK;\n")
    batch, _ = await instance.run()
    assert values(batch, "a.n") == {(None,): 5}
    await instance.close()


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
async def test_through_pgbouncer(server: PostgresServer) -> None:
    bouncer = PgBouncer(server)
    with running(bouncer):
        address = f"postgresql+asyncpg://watcher@127.0.0.1:{bouncer.port}/postgres?prepared_statement_cache_size=0"
        instances = [
            Instance(address, window=None, sql=f"SELECT count(*) + {n} AS n FROM payments", columns=ONE)
            for n in range(3)
        ]
        for _ in range(3):
            batches = await asyncio.gather(*(one.run() for one in instances))
            assert [values(batch, "a.n") for batch, _ in batches] == [{(None,): 5 + n} for n in range(3)]
        for one in instances:
            await one.close()


async def test_a_connection_that_died_since_the_last_run_is_made_anew(server: PostgresServer) -> None:
    instance = Instance(url(server), window=None, sql="SELECT 5 AS n", columns=ONE)
    await instance.run()
    await asyncio.to_thread(
        server.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vedette'"
    )
    batch, error = await instance.run()
    await instance.close()
    assert (error, values(batch, "a.n")) == ("", {(None,): 5})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: "postgresql://watcher@127.0.0.1:1/postgres", "nothing listens on 127.0.0.1:"),
        (lambda port: f"postgresql://watcher@no-such-host.invalid:{port}/x", "the host name of no-such-host.invalid"),
        (lambda port: f"postgresql://watcher:s3cret@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist'),
        (lambda port: f"postgresql://nobody:s3cret@127.0.0.1:{port}/postgres", 'role "nobody" does not exist'),
    ],
)  # fmt: skip
async def test_no_talking_to_it(server: PostgresServer, change: Any, said: str) -> None:
    instance = Instance(change(server.port), window=None, sql="SELECT 1 AS n", columns=ONE)
    batch, error = await instance.run()
    await instance.close()
    assert said in error
    assert message(batch, "can_connect") == error
    assert "s3cret" not in error


async def test_a_replica_reports_a_window_once_it_has_all_of_it(binaries: Any, servers: Any) -> None:
    primary = await asyncio.to_thread(lambda: servers())
    await asyncio.to_thread(
        primary.sql,
        "CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats; CREATE TABLE transactions (currency text, amount_minor bigint, created_at "
        "timestamptz DEFAULT now()); GRANT SELECT ON transactions TO watcher",
    )
    standby = await asyncio.to_thread(lambda: servers(replica_of=primary))
    await asyncio.to_thread(primary.sql, "INSERT INTO transactions VALUES ('EUR', 1250)")
    await asyncio.to_thread(until, lambda: standby.scalar("SELECT count(*) FROM transactions") == "1", "the standby")
    now = float(await asyncio.to_thread(primary.scalar, "SELECT extract(epoch FROM now())"))
    instance = Instance(url(standby), sql=SUMMARY, columns=COLUMNS, window={"every": "1s", "lag": "0s"}, catch_up=1000)
    await asyncio.to_thread(standby.sql, "SELECT pg_wal_replay_pause()")
    paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
    await asyncio.to_thread(until, lambda: standby.scalar(paused) == "t", "the replay to pause")
    await asyncio.to_thread(primary.sql, "INSERT INTO transactions VALUES ('EUR', 99)")
    written = float(
        await asyncio.to_thread(primary.scalar, "SELECT extract(epoch FROM max(created_at)) FROM transactions")
    )
    instance.state["watermark"] = int(now) - 3
    instance.time = written + 2
    batch, _ = await instance.run()
    assert message(batch, "windows") == "waits: the replica has not replayed all of the window yet"
    assert instance.state["watermark"] <= int(written)
    assert all(time <= written for time, *_ in values(batch, VOLUME))
    await asyncio.to_thread(standby.sql, "SELECT pg_wal_replay_resume()")
    await asyncio.to_thread(until, lambda: standby.scalar("SELECT count(*) FROM transactions") == "2", "the standby")
    await asyncio.to_thread(primary.sql, "INSERT INTO transactions VALUES ('USD', 1)")  # time goes on at the primary
    heard = "SELECT extract(epoch FROM pg_last_xact_replay_timestamp()) > {}"
    await asyncio.to_thread(
        until, lambda: standby.scalar(heard.format(written + 1)) == "t" or _nudge(primary), "time to pass"
    )
    instance.time = written + 1
    batch, _ = await instance.run()
    await instance.close()
    assert message(batch, "windows") == ""
    total = sum(
        sample.value for one in instance.batches for sample in one.samples
        if sample.name == VOLUME and "currency:EUR" in sample.tags and sample.time <= written + 1
    )  # fmt: skip
    assert total == Decimal("13.49")


def _nudge(primary: PostgresServer) -> bool:
    primary.sql("INSERT INTO transactions VALUES ('USD', 1)")
    return False


async def test_an_idle_primary_does_not_hold_windows_open(servers: Any) -> None:
    primary = await asyncio.to_thread(lambda: servers(wal_sender_timeout="200ms"))
    await asyncio.to_thread(primary.sql, "CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats; CREATE TABLE t (at timestamptz); "
                            "GRANT SELECT ON t TO watcher; INSERT INTO t VALUES (now())")  # fmt: skip
    standby = await asyncio.to_thread(lambda: servers(replica_of=primary))
    end = int(float(await asyncio.to_thread(primary.scalar, "SELECT extract(epoch FROM now())"))) + 1
    heard = f"SELECT extract(epoch FROM last_msg_send_time) > {end} AND pg_last_wal_replay_lsn() >= latest_end_lsn FROM pg_stat_wal_receiver"
    await asyncio.to_thread(until, lambda: standby.sql(heard) == [("t",)], "the replica to hear from the primary")
    sql = "SELECT count(*) AS n FROM t WHERE at >= :start_time AND at < :end_time"
    instance = Instance(url(standby), sql=sql, columns=ONE, window={"every": "1s", "lag": "0s"})
    instance.state["watermark"] = end - 1
    instance.time = end + 0.5
    batch, error = await instance.run()
    await instance.close()
    assert (error, message(batch, "windows")) == ("", "")
    assert list(values(batch, "a.n")) == [(end,)]


def test_now_is_where_the_fixtures_think_it_is() -> None:
    assert END == NOW - 300
