"""`vedette check postgres --json`, as a user types it: how many names of the reference list, and whose values."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.process import vedette
from postgres_servers import PostgresServer
from servers import until

REFERENCE = Path(__file__).parents[2] / "data" / "datadog-postgres-metrics.csv"
_DB = "FROM pg_stat_database WHERE datname = 'shop'"
_TABLE = "FROM pg_stat_user_tables WHERE relname = 'accounts'"
_BLOCKS = "FROM pg_statio_user_tables WHERE relname = 'accounts'"
_INDEX = "FROM pg_stat_user_indexes WHERE indexrelname = 'accounts_pkey'"

QUERIES = {
    "max_connections": "SHOW max_connections",
    "db.count": "SELECT count(*) FROM pg_database WHERE NOT datistemplate",
    "control.timeline_id": "SELECT timeline_id FROM pg_control_checkpoint()",
    "bgwriter.buffers_clean": "SELECT buffers_clean FROM pg_stat_bgwriter",
    "bgwriter.maxwritten_clean": "SELECT maxwritten_clean FROM pg_stat_bgwriter",
    "wal_count": "SELECT count(*) FROM pg_ls_waldir() WHERE length(name) = 24",
    "wal_size": "SELECT sum(size)::bigint FROM pg_ls_waldir() WHERE length(name) = 24",
    "archiver.archived_count": "SELECT archived_count FROM pg_stat_archiver",
    "connections db:shop": f"SELECT numbackends {_DB}",
    "rollbacks db:shop": f"SELECT xact_rollback {_DB}",
    "rows_inserted db:shop": f"SELECT tup_inserted {_DB}",
    "rows_updated db:shop": f"SELECT tup_updated {_DB}",
    "rows_deleted db:shop": f"SELECT tup_deleted {_DB}",
    "deadlocks db:shop": f"SELECT deadlocks {_DB}",
    "temp_files db:shop": f"SELECT temp_files {_DB}",
    "temp_bytes db:shop": f"SELECT temp_bytes {_DB}",
    "sessions.abandoned db:shop": f"SELECT sessions_abandoned {_DB}",
    "sessions.fatal db:shop": f"SELECT sessions_fatal {_DB}",
    "sessions.killed db:shop": f"SELECT sessions_killed {_DB}",
    "conflicts.lock db:shop": "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = 'shop'",
    "database_size db:other": "SELECT pg_database_size('other')",
    "before_xid_wraparound db:other": "SELECT 2147483648 - age(datfrozenxid) FROM pg_database WHERE datname = 'other'",
    "slru.blks_zeroed slru_name:{slru}": "SELECT blks_zeroed FROM pg_stat_slru WHERE name ILIKE '%subtrans%'",
    "replication_slot.wal_status": "SELECT CASE wal_status WHEN 'reserved' THEN 0 ELSE 1 END FROM pg_replication_slots",
    "replication_delay_bytes wal_state:streaming": "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint"
    " FROM pg_stat_replication",
    "table.count schema:public": "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    " AND table_type = 'BASE TABLE'",
    "live_rows table:accounts": f"SELECT n_live_tup {_TABLE}",
    "dead_rows table:accounts": f"SELECT n_dead_tup {_TABLE}",
    "rows_hot_updated table:accounts": f"SELECT n_tup_hot_upd {_TABLE}",
    "seq_scans table:accounts": f"SELECT seq_scan {_TABLE}",
    "seq_rows_read table:accounts": f"SELECT seq_tup_read {_TABLE}",
    "index_rel_scans table:accounts": f"SELECT idx_scan {_TABLE}",
    "index_rel_rows_fetched table:accounts": f"SELECT idx_tup_fetch {_TABLE}",
    "vacuumed table:accounts": f"SELECT vacuum_count {_TABLE}",
    "autovacuumed table:accounts": f"SELECT autovacuum_count {_TABLE}",
    "analyzed table:accounts": f"SELECT analyze_count {_TABLE}",
    "autoanalyzed table:accounts": f"SELECT autoanalyze_count {_TABLE}",
    "heap_blocks_read table:accounts": f"SELECT heap_blks_read {_BLOCKS}",
    "heap_blocks_hit table:accounts": f"SELECT heap_blks_hit {_BLOCKS}",
    "index_blocks_hit table:accounts": f"SELECT idx_blks_hit {_BLOCKS}",
    "toast_blocks_hit table:accounts": f"SELECT toast_blks_hit {_BLOCKS}",
    "index_scans index:accounts_pkey": f"SELECT idx_scan {_INDEX}",
    "index_rows_read index:accounts_pkey": f"SELECT idx_tup_read {_INDEX}",
    "index_rows_fetched index:accounts_pkey": f"SELECT idx_tup_fetch {_INDEX}",
    "relation_size table:accounts": "SELECT pg_relation_size('accounts')",
    "table_size table:accounts": "SELECT pg_table_size('accounts')",
    "index_size table:accounts": "SELECT pg_indexes_size('accounts')",
    "total_size table:accounts": "SELECT pg_total_relation_size('accounts')",
    "individual_index_size index:accounts_pkey": "SELECT pg_relation_size('accounts_pkey')",
    "relation.pages table:accounts": "SELECT relpages FROM pg_class WHERE relname = 'accounts'",
    "relation.tuples table:accounts": "SELECT reltuples::bigint FROM pg_class WHERE relname = 'accounts'",
    "relation.all_visible table:accounts": "SELECT relallvisible FROM pg_class WHERE relname = 'accounts'",
}
SLOW_TO_CHANGE = 40
"""So many of these values at least hold still on a quiet server, and must be the same."""


@pytest.fixture(scope="module")
def shop(binaries: Path) -> Iterator[PostgresServer]:
    """A primary with a replica and a small shop."""
    made = PostgresServer(binaries, autovacuum="off", checkpoint_timeout="1h")
    made.start()
    for statement in ("CREATE DATABASE shop", "CREATE DATABASE other", "CREATE ROLE watcher LOGIN IN ROLE pg_monitor"):
        made.sql(statement)
    for statement in (
        "CREATE TABLE accounts (id int PRIMARY KEY, owner text, cents bigint)",
        "INSERT INTO accounts SELECT n, 'owner', n FROM generate_series(1, 2000) n",
        "UPDATE accounts SET cents = 0 WHERE id <= 50; DELETE FROM accounts WHERE id > 1990",
        "SELECT owner FROM accounts WHERE id = 7",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; SELECT f()",
        "BEGIN; INSERT INTO accounts VALUES (5000); ROLLBACK",
    ):
        made.sql(statement, "shop")
    made.sql("VACUUM ANALYZE accounts", "shop")
    replica = PostgresServer(binaries, replica_of=made)
    replica.start()
    made.sql("CHECKPOINT")
    caught_up = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
    until(lambda: made.scalar(caught_up) == "1", "the replica to catch up")
    yield made
    replica.stop()
    made.stop()


def check(server: PostgresServer, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """What the command prints."""
    (folder / "conf.d").mkdir(exist_ok=True)
    dsn = f"postgresql://watcher@127.0.0.1:{server.port}/shop"
    (folder / "conf.d" / "postgres.yaml").write_text(json.dumps({"instances": [{"dsn": dsn, **options}]}))
    done = vedette("check", "postgres", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def names(rows: list[dict[str, Any]]) -> set[str]:
    """The names of the reference list among them."""
    with REFERENCE.open() as file:
        reference = {row["metric_name"] for row in csv.DictReader(file)}
    return {row["name"] for row in rows} & reference


def test_sixty_names_by_default_and_ninety_with_relations(shop: PostgresServer, tmp_path: Path) -> None:
    plain = names(check(shop, tmp_path))
    assert len(plain) >= 60, sorted(plain)
    more = names(check(shop, tmp_path, relations=[{}]))
    assert len(more) >= 90, sorted(more)
    assert {name for name in plain if "_lag" not in name} < more  # lags are unknown while nothing is written


def test_values_are_those_of_independent_queries(shop: PostgresServer, tmp_path: Path) -> None:
    slru = shop.scalar("SELECT name FROM pg_stat_slru WHERE name ILIKE '%subtrans%'")
    before = {name: shop.scalar(sql, "shop") for name, sql in QUERIES.items()}
    rows = check(shop, tmp_path, relations=[{}])
    after = {name: shop.scalar(sql, "shop") for name, sql in QUERIES.items()}
    still = 0
    for name in QUERIES:
        metric, _, tag = name.format(slru=slru).partition(" ")
        (value,) = (r["value"] for r in rows if r["name"] == f"postgresql.{metric}" and (not tag or tag in r["tags"]))
        if before[name] == after[name]:
            still += 1
            assert str(value) == before[name], name
        else:
            assert int(before[name]) <= value <= int(after[name]), name
    assert still >= SLOW_TO_CHANGE
