"""The default views: names of the reference list, values against queries of our own, both ends of replication."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from servers import until
from vedette import Kind, Status
from vedette.testing import assert_declared

from .conftest import psql, run

pytestmark = pytest.mark.anyio

REFERENCE = Path(__file__).parents[2] / "data" / "datadog-postgres-metrics.csv"
KINDS = {"gauge": Kind.GAUGE, "count": Kind.COUNTER, "rate": Kind.RATE}


def _reference() -> dict[str, Kind]:
    """Names of Datadog's list; a gauge per second is a rate here."""
    with REFERENCE.open() as file:
        rows = list(csv.DictReader(file))
    return {
        row["metric_name"]: Kind.RATE if row["per_unit_name"] == "second" else KINDS[row["metric_type"]] for row in rows
    }


async def test_sixty_names_of_the_reference_list_and_their_kinds(server: PostgresServer) -> None:
    outcome = await run(server)
    assert outcome.error is None
    assert outcome.dropped == {}
    reference = _reference()
    made = {sample.name: sample.kind for sample in outcome.samples if sample.name in reference}
    assert len(made) >= 60
    assert made == {name: reference[name] for name in made}


QUERIES = {
    "postgresql.max_connections": "SHOW max_connections",
    "postgresql.db.count": "SELECT count(*) FROM pg_database WHERE NOT datistemplate",
    "postgresql.control.timeline_id": "SELECT timeline_id FROM pg_control_checkpoint()",
    "postgresql.wal_size": "SELECT sum(size) FROM pg_ls_waldir() WHERE length(name) = 24",
    "postgresql.wal_count": "SELECT count(*) FROM pg_ls_waldir() WHERE length(name) = 24",
    "postgresql.archiver.failed_count": "SELECT failed_count FROM pg_stat_archiver",
}


async def test_values_are_those_of_independent_queries(server: PostgresServer) -> None:
    outcome = await run(server)
    for name, query in QUERIES.items():
        assert str(outcome.value(name)) == await asyncio.to_thread(server.scalar, query), name
    assert outcome.value("postgresql.percent_usage_connections") == pytest.approx(
        outcome.value("postgresql.connections", db="postgres") / outcome.value("postgresql.max_connections")  # type: ignore[operator]
    )


async def test_the_numbers_of_a_quiet_database(server: PostgresServer) -> None:
    def prepare() -> list[tuple[str, ...]]:
        server.sql("DROP DATABASE IF EXISTS quiet")
        server.sql("CREATE DATABASE quiet")
        server.sql(
            "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 500); UPDATE t SET a = 0 WHERE a <= 20;"
            "DELETE FROM t WHERE a > 490; SELECT pg_stat_force_next_flush()",
            "quiet",
        )
        return server.sql(
            "SELECT tup_inserted, tup_updated, tup_deleted, xact_commit, sessions, pg_database_size('quiet'),"
            " 2147483648 - age(datfrozenxid) FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid"
            " WHERE s.datname = 'quiet'"
        )

    ((inserted, updated, deleted, commits, sessions, size, room),) = await asyncio.to_thread(prepare)
    assert (int(inserted) >= 500, int(updated) >= 20, int(deleted) >= 10) == (True, True, True)
    outcome = await run(server)
    seen = {
        "rows_inserted": inserted,
        "rows_updated": updated,
        "rows_deleted": deleted,
        "commits": commits,
        "sessions.count": sessions,
        "database_size": size,
        "before_xid_wraparound": room,
        "connections": "0",
    }
    for name, expected in seen.items():
        assert str(outcome.value(f"postgresql.{name}", db="quiet")) == expected, name


async def test_sessions_in_transactions_and_their_locks(server: PostgresServer) -> None:
    await asyncio.to_thread(server.sql, "DROP TABLE IF EXISTS busy; CREATE TABLE busy (a int)")
    async with psql(server, "BEGIN; INSERT INTO busy VALUES (1); LOCK TABLE busy IN EXCLUSIVE MODE"):
        outcome = await run(server)
    assert outcome.value("postgresql.transactions.open", db="postgres") == 1
    assert outcome.value("postgresql.transactions.idle_in_transaction", db="postgres") == 1
    assert outcome.value("postgresql.active_queries", db="postgres") == 0
    assert 0 < outcome.value("postgresql.activity.xact_start_age", db="postgres") < 60  # type: ignore[operator]
    assert outcome.values("postgresql.locks", lock_mode="ExclusiveLock", lock_type="relation", granted=True) == [1]


async def test_both_ends_of_replication(servers: Callable[..., PostgresServer]) -> None:
    primary = await asyncio.to_thread(servers)
    standby = await asyncio.to_thread(lambda: servers(replica_of=primary))
    caught_up = (
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = pg_current_wal_lsn()"
    )
    await asyncio.to_thread(until, lambda: primary.scalar(caught_up) == "1", "the standby to catch up")
    sent = await run(primary, username="postgres")
    assert sent.value("postgresql.replication_delay_bytes", replication_role="master", wal_state="streaming") == 0
    assert sent.value("postgresql.replication_slot.restart_delay_bytes", slot_name=standby.slot) == 0
    assert sent.value("postgresql.replication_slot.wal_status", slot_state="active") == 0
    received = await run(standby, username="postgres")
    assert received.value("postgresql.wal_receiver.connected", replication_role="standby") == 1
    assert received.value("postgresql.replication_delay") == 0
    assert received.values("postgresql.wal_receiver.received_timeline") == [1]

    await asyncio.to_thread(primary.sql, "CREATE TABLE sooner (a int)")
    replayed = "SELECT count(pg_last_xact_replay_timestamp())"
    await asyncio.to_thread(until, lambda: standby.scalar(replayed) == "1", "a transaction to be replayed")
    await asyncio.to_thread(standby.sql, "SELECT pg_wal_replay_pause()")
    paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
    await asyncio.to_thread(until, lambda: standby.scalar(paused) == "t", "the replay to pause")
    await asyncio.to_thread(primary.sql, "CREATE TABLE later (a int)")
    got = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
    await asyncio.to_thread(until, lambda: standby.scalar(got) == "t", "more WAL to arrive")
    lagging = await run(standby, username="postgres")
    assert lagging.value("postgresql.replication_delay_bytes") > 0  # type: ignore[operator]
    assert lagging.value("postgresql.replication_delay") > 0  # type: ignore[operator]

    await asyncio.to_thread(standby.sql, "SELECT pg_wal_replay_resume()")
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(standby.promote)
    promoted = await run(standby, username="postgres")
    assert promoted.value("postgresql.connections", db="postgres", replication_role="master") == 1
    assert promoted.values("postgresql.wal_receiver.connected") == []


async def test_a_role_without_rights_is_told_what_to_grant(server: PostgresServer) -> None:
    outcome = await run(server, username="nobody_much")
    assert outcome.error is None
    assert outcome.status("postgres.can_connect") is Status.OK
    assert outcome.status("postgres.reads") is Status.WARNING
    assert outcome.message("postgres.reads") == (
        "nobody_much may not see what other sessions do: their activity and blocking are left out; "
        "GRANT pg_monitor TO nobody_much; pg_ls_waldir: nobody_much may not read it; GRANT pg_monitor TO nobody_much"
    )
    assert outcome.values("postgresql.wal_size") == []
    assert outcome.value("postgresql.max_connections") == 30


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
@pytest.mark.parametrize("options", [{}, {"ignore_startup_parameters": "lock_timeout,statement_timeout,"
                                          "idle_in_transaction_session_timeout,default_transaction_read_only"}],
                         ids=["refusing", "ignoring"])  # fmt: skip
async def test_pgbouncer_in_transaction_mode_is_noticed(server: PostgresServer, options: dict[str, str]) -> None:
    bouncer = PgBouncer(server, **options)
    with running(bouncer):
        outcome = await run(bouncer, runs=2)
    assert outcome.error is None
    assert outcome.message("postgres.reads") == ""
    assert outcome.value("postgresql.max_connections", port=bouncer.port) == 30
    assert len({sample.name for sample in outcome.samples}) >= 60


async def test_functions_and_tables_of_the_database(server: PostgresServer) -> None:
    def prepare() -> None:
        server.sql("DROP DATABASE IF EXISTS functional")
        server.sql("CREATE DATABASE functional")
        server.sql(
            "CREATE FUNCTION add_one(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n + 1; END';"
            "CREATE SCHEMA shop; CREATE TABLE shop.a (x int); CREATE TABLE shop.b (x int); CREATE TABLE c (x int);"
            "SELECT sum(add_one(n)) FROM generate_series(1, 7) n; SELECT pg_stat_force_next_flush()",
            "functional",
        )

    await asyncio.to_thread(prepare)
    called = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions"
    await asyncio.to_thread(until, lambda: server.scalar(called, "functional") == "7", "the calls to be counted")
    outcome = await run(server, dbname="functional")
    assert outcome.value("postgresql.function.calls", function="add_one", schema="public", db="functional") == 7
    assert outcome.value("postgresql.table.count", schema="shop", db="functional") == 2
    assert outcome.value("postgresql.table.count", schema="public", db="functional") == 1


async def test_an_index_that_waits_for_an_older_transaction(server: PostgresServer) -> None:
    await asyncio.to_thread(server.sql, "DROP TABLE IF EXISTS big; CREATE TABLE big AS SELECT 1 AS a")
    waiting = "SELECT count(*) FROM pg_stat_progress_create_index WHERE lockers_total = 1"
    async with (
        psql(server, "BEGIN; INSERT INTO big VALUES (1)"),
        psql(server, "CREATE INDEX CONCURRENTLY big_a ON big (a)", wait=False),
    ):
        await asyncio.to_thread(until, lambda: server.scalar(waiting) == "1", "the index to wait for the transaction")
        outcome = await run(server)
        await asyncio.to_thread(server.sql, END_OTHERS)
    assert_declared(outcome)
    tags = {
        "db": "postgres",
        "table": "big",
        "index": "big_a",
        "command": "CREATE INDEX CONCURRENTLY",
        "phase": "waiting for writers before build",
    }
    assert outcome.value("postgresql.create_index.lockers_total", **tags) == 1
    assert outcome.value("postgresql.create_index.lockers_done", **tags) == 0
    assert outcome.values("postgresql.vacuum.heap_blks_total") == []


END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND pid <> pg_backend_pid() AND application_name = 'psql'"
)
SLOW_INDEX = """
DROP TABLE IF EXISTS slow;
CREATE OR REPLACE FUNCTION wait_for(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE
AS 'BEGIN PERFORM pg_advisory_lock_shared(77); PERFORM pg_advisory_unlock_shared(77); RETURN n; END';
CREATE TABLE slow AS SELECT generate_series(1, 1000) AS a;
CREATE INDEX slow_a ON slow (wait_for(a));
"""


@pytest.mark.parametrize(
    ("command", "view", "column"),
    [
        ("VACUUM FULL slow", "cluster", "heap_blks_total"),
        ("CLUSTER slow USING slow_a", "cluster", "heap_tuples_written"),
        ("ANALYZE slow", "analyze", "sample_blks_scanned"),
        ("REINDEX INDEX slow_a", "create_index", "blocks_total"),
    ],
)
async def test_the_progress_of_maintenance(server: PostgresServer, command: str, view: str, column: str) -> None:
    """The command is caught where it computes an index entry, which waits for an advisory lock."""
    await asyncio.to_thread(server.sql, SLOW_INDEX)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    async with psql(server, "SELECT pg_advisory_lock(77)"), psql(server, command, wait=False):
        await asyncio.to_thread(until, lambda: server.scalar(waiting) == "1", f"{command} to wait")
        outcome = await run(server)
        expected = await asyncio.to_thread(server.scalar, f"SELECT {column} FROM pg_stat_progress_{view}")
        await asyncio.to_thread(server.sql, END_OTHERS)
    assert_declared(outcome)
    assert outcome.values(f"postgresql.{view}.{column}", db="postgres", table="slow") == [int(expected)]
    assert int(expected) > 0


async def test_the_progress_of_a_vacuum(server: PostgresServer) -> None:
    await asyncio.to_thread(
        server.sql,
        "DROP TABLE IF EXISTS wide; CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)",
    )
    slowly = "SET vacuum_cost_delay = '100ms'; SET vacuum_cost_limit = 1; VACUUM wide"
    scanning = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE heap_blks_total > 0"
    async with psql(server, slowly, wait=False):
        await asyncio.to_thread(until, lambda: server.scalar(scanning) == "1", "the VACUUM to be at work")
        outcome = await run(server)
        await asyncio.to_thread(server.sql, END_OTHERS)
    pages = await asyncio.to_thread(server.scalar, "SELECT pg_relation_size('wide') / 8192")
    tags = {"db": "postgres", "table": "wide", "phase": "scanning heap"}
    assert_declared(outcome)
    assert outcome.value("postgresql.vacuum.heap_blks_total", **tags) == int(pages)
    assert outcome.value("postgresql.vacuum.heap_blks_vacuumed", **tags) == 0


async def test_a_view_that_is_refused_costs_only_itself(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    await asyncio.to_thread(
        server.sql, "CREATE ROLE watcher LOGIN; REVOKE ALL ON pg_stat_archiver, pg_stat_slru FROM PUBLIC"
    )
    outcome = await run(server, runs=2)
    assert outcome.error is None
    assert outcome.message("postgres.reads").split("; ")[::2] == [
        "watcher may not see what other sessions do: their activity and blocking are left out",
        "pg_stat_archiver: watcher may not read it",
        "pg_ls_waldir: watcher may not read it",
        "pg_stat_slru: watcher may not read it",
    ]
    first, second = ({sample.name for sample in batch.samples} for batch in outcome.batches)
    assert first == second
    assert "postgresql.database_size" in first
    assert "postgresql.bgwriter.buffers_clean" in first
    assert "postgresql.slru.blks_hit" not in first


async def test_logical_replication_at_the_receiving_end(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(lambda: servers(wal_level="logical"))

    def prepare() -> None:
        for name in ("source", "sink"):
            server.sql(f"CREATE DATABASE {name}")
            server.sql("CREATE TABLE orders (a int PRIMARY KEY)", name)
        server.sql("CREATE PUBLICATION shop FOR TABLE orders", "source")
        server.sql("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')", "source")
        server.sql(
            f"CREATE SUBSCRIPTION shop CONNECTION 'host=127.0.0.1 port={server.port} user=postgres dbname=source'"
            " PUBLICATION shop WITH (create_slot = false, slot_name = 'shop')",
            "sink",
        )

    await asyncio.to_thread(prepare)
    ready = "SELECT string_agg(srsubstate::text, '') FROM pg_subscription_rel"
    await asyncio.to_thread(until, lambda: server.scalar(ready, "sink") == "r", "the subscription to be in step")
    outcome = await run(server, username="postgres", dbname="sink")
    assert outcome.message("postgres.reads") == ""
    assert_declared(outcome)
    assert (
        outcome.value("postgresql.subscription.state", subscription_name="shop", relation="orders", state="ready") == 1
    )
    for age in ("last_msg_send_age", "last_msg_receipt_age", "latest_end_age"):
        assert 0 <= outcome.value(f"postgresql.subscription.{age}", subscription_name="shop") < 60  # type: ignore[operator]
    assert outcome.value("postgresql.subscription.apply_error", subscription_name="shop") == 0
    assert outcome.value("postgresql.subscription.sync_error", subscription_name="shop") == 0
    assert outcome.value("postgresql.replication_slot.confirmed_flush_delay_bytes", slot_name="shop") >= 0  # type: ignore[operator]
    assert len(outcome.values("postgresql.replication_slot.total_txns", slot_name="shop")) == 1
