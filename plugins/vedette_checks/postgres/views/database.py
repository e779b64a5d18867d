"""Per database: sessions, transactions, blocks, rows, sizes, conflicts.

Source: PostgreSQL documentation, 27.2.17 pg_stat_database, 27.2.18 pg_stat_database_conflicts, 24.1.5 on wraparound.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G, R, C = Kind.GAUGE, Kind.RATE, Kind.COUNTER
_ORDINARY = "d.datname NOT IN ('template0', 'template1')"
_DB = {"db": "d.datname::text"}

DATABASES = View(
    "pg_stat_database",
    (
        Column("connections", G, "s.numbackends", "Sessions connected to this database.", "connection"),
        Column("commits", R, "s.xact_commit", "Transactions committed.", "transaction", "second"),
        Column("rollbacks", R, "s.xact_rollback", "Transactions rolled back.", "transaction", "second"),
        Column("disk_read", R, "s.blks_read", "Blocks read from disk or the system's cache.", "block", "second"),
        Column("buffer_hit", R, "s.blks_hit", "Blocks found in shared buffers.", "hit", "second"),
        Column("rows_returned", R, "s.tup_returned", "Rows read by scans.", "row", "second"),
        Column("rows_fetched", R, "s.tup_fetched", "Rows fetched by index scans.", "row", "second"),
        Column("rows_inserted", R, "s.tup_inserted", "Rows inserted.", "row", "second"),
        Column("rows_updated", R, "s.tup_updated", "Rows updated.", "row", "second"),
        Column("rows_deleted", R, "s.tup_deleted", "Rows deleted.", "row", "second"),
        Column("deadlocks", R, "s.deadlocks", "Deadlocks.", "lock", "second"),
        Column("deadlocks.count", C, "s.deadlocks", "Deadlocks.", "lock"),
        Column("temp_bytes", R, "s.temp_bytes", "Bytes written to temporary files.", "byte", "second"),
        Column("temp_files", R, "s.temp_files", "Temporary files created.", "file", "second"),
        Column("sessions.session_time", C, "s.session_time", "Time spent in sessions.", "millisecond", since=14),
        Column("sessions.active_time", C, "s.active_time", "Time spent on statements.", "millisecond", since=14),
        Column(
            "sessions.idle_in_transaction_time",
            C,
            "s.idle_in_transaction_time",
            "Time spent idle within a transaction.",
            "millisecond",
            since=14,
        ),
        Column("sessions.count", C, "s.sessions", "Sessions begun.", "session", since=14),
        Column("sessions.abandoned", C, "s.sessions_abandoned", "Sessions whose client was lost.", "session", since=14),
        Column("sessions.fatal", C, "s.sessions_fatal", "Sessions ended by a fatal error.", "session", since=14),
        Column("sessions.killed", C, "s.sessions_killed", "Sessions ended by an operator.", "session", since=14),
        Column(
            "before_xid_wraparound",
            G,
            "2147483648 - age(d.datfrozenxid)",
            "Transactions left before the oldest row's id wraps around.",
            "transaction",
        ),
        Column("conflicts.tablespace", C, "c.confl_tablespace", "Queries cancelled: dropped tablespace.", "query"),
        Column("conflicts.lock", C, "c.confl_lock", "Queries cancelled: lock timeouts.", "query"),
        Column("conflicts.snapshot", C, "c.confl_snapshot", "Queries cancelled: old snapshots.", "query"),
        Column("conflicts.bufferpin", C, "c.confl_bufferpin", "Queries cancelled: pinned buffers.", "query"),
        Column("conflicts.deadlock", C, "c.confl_deadlock", "Queries cancelled: deadlocks.", "query"),
    ),
    "pg_database d JOIN pg_stat_database s ON s.datid = d.oid JOIN pg_stat_database_conflicts c ON c.datid = d.oid"
    f" WHERE {_ORDINARY}",
    tags=_DB,
)

SIZES = View(
    "pg_database_size",
    (Column("database_size", G, "pg_database_size(d.oid)", "Bytes on disk.", "byte"),),
    f"pg_database d WHERE {_ORDINARY} AND (has_database_privilege(d.oid, 'CONNECT')"
    " OR pg_has_role('pg_read_all_stats', 'MEMBER'))",
    tags=_DB,
)
