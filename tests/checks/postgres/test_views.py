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

from .conftest import run

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
    holder = await asyncio.create_subprocess_exec(
        str(server.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"BEGIN; INSERT INTO busy VALUES (1); LOCK TABLE busy IN EXCLUSIVE MODE;\n\\echo held\n")
    assert await holder.stdout.readline() == b"held\n"
    outcome = await run(server)
    holder.stdin.close()
    await holder.wait()
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
        "pg_ls_waldir: nobody_much may not read it; GRANT pg_monitor TO nobody_much"
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
