"""The server as a whole: background writer, checkpoints, WAL, archiver, caches.

Source: PostgreSQL documentation, 27.2 The Cumulative Statistics System; 9.28 for pg_control_checkpoint.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G, R, C = Kind.GAUGE, Kind.RATE, Kind.COUNTER

SERVER = View(
    "pg_settings",
    (
        Column("db.count", G, "n.databases", "Databases, templates left out.", "item"),
        Column("max_connections", G, "n.most", "Sessions that the server allows.", "connection"),
        Column(
            "percent_usage_connections",
            G,
            "n.sessions::float8 / n.most",
            "Client sessions as a fraction of those allowed.",
            "fraction",
        ),
        Column(
            "uptime",
            G,
            "extract(epoch FROM now() - pg_postmaster_start_time())::float8",
            "Time since the server started.",
            "second",
        ),
        Column("snapshot.xmin", G, "pg_snapshot_xmin(n.now)::text::int8", "Oldest transaction id still running."),
        Column("snapshot.xmax", G, "pg_snapshot_xmax(n.now)::text::int8", "Next transaction id."),
        Column(
            "snapshot.xip_count",
            G,
            "(SELECT count(*) FROM pg_snapshot_xip(n.now))",
            "Transactions in progress that have an id.",
        ),
    ),
    "(SELECT pg_current_snapshot() AS now, current_setting('max_connections')::int AS most,"
    " (SELECT count(*) FROM pg_database WHERE datname NOT IN ('template0', 'template1')) AS databases,"
    " (SELECT sum(numbackends)::int FROM pg_stat_database) AS sessions) n",
)

CONTROL = View(
    "pg_control_checkpoint",
    (
        Column("control.timeline_id", G, "timeline_id", "Timeline of the last checkpoint; a promotion adds one."),
        Column(
            "control.checkpoint_delay",
            G,
            "extract(epoch FROM now() - checkpoint_time)::float8",
            "Age of the last checkpoint.",
            "second",
        ),
    ),
    "pg_control_checkpoint()",
)

_CLEAN = (
    Column("bgwriter.buffers_clean", C, "b.buffers_clean", "Buffers written by the background writer."),
    Column("bgwriter.maxwritten_clean", C, "b.maxwritten_clean", "Rounds that ended at bgwriter_lru_maxpages."),
    Column("bgwriter.buffers_alloc", C, "b.buffers_alloc", "Buffers allocated."),
)


def _checkpoints(timed: str, requested: str, buffers: str, write: str, sync: str) -> tuple[Column, ...]:
    return (
        Column("bgwriter.checkpoints_timed", C, timed, "Checkpoints that were due."),
        Column("bgwriter.checkpoints_requested", C, requested, "Checkpoints that were asked for."),
        Column("bgwriter.buffers_checkpoint", C, buffers, "Buffers written by checkpoints."),
        Column("bgwriter.write_time", C, write, "Time checkpoints spent writing.", "millisecond"),
        Column("bgwriter.sync_time", C, sync, "Time checkpoints spent syncing.", "millisecond"),
    )


BGWRITER = View(
    "pg_stat_bgwriter",
    (
        *_CLEAN,
        *_checkpoints(
            "b.checkpoints_timed",
            "b.checkpoints_req",
            "b.buffers_checkpoint",
            "b.checkpoint_write_time",
            "b.checkpoint_sync_time",
        ),
        Column("bgwriter.buffers_backend", C, "b.buffers_backend", "Buffers that sessions wrote (to 16).", "buffer"),
        Column("bgwriter.buffers_backend_fsync", C, "b.buffers_backend_fsync", "Syncs that sessions did (to 16)."),
    ),
    "pg_stat_bgwriter b",
    until=16,
)

CHECKPOINTER = View(
    "pg_stat_checkpointer",
    (*_CLEAN, *_checkpoints("c.num_timed", "c.num_requested", "c.buffers_written", "c.write_time", "c.sync_time")),
    "pg_stat_bgwriter b, pg_stat_checkpointer c",
    since=17,
)

ARCHIVER = View(
    "pg_stat_archiver",
    (
        Column("archiver.archived_count", C, "archived_count", "WAL files archived."),
        Column("archiver.failed_count", C, "failed_count", "Failed attempts to archive a WAL file."),
    ),
    "pg_stat_archiver",
)

WAL = View(
    "pg_stat_wal",
    (
        Column("wal.records", C, "wal_records", "WAL records written.", "record"),
        Column("wal.full_page_images", C, "wal_fpi", "Full page images written to WAL.", "page"),
        Column("wal.bytes", C, "wal_bytes::int8", "WAL written.", "byte"),
        Column("wal.buffers_full", C, "wal_buffers_full", "Times that WAL was written because its buffers were full."),
        Column("wal.write", C, "wal_write", "Writes of WAL buffers.", "write", until=17),
        Column("wal.sync", C, "wal_sync", "Syncs of WAL files.", until=17),
        Column("wal.write_time", C, "wal_write_time", "Time spent writing WAL.", "millisecond", until=17),
        Column("wal.sync_time", C, "wal_sync_time", "Time spent syncing WAL.", "millisecond", until=17),
    ),
    "pg_stat_wal",
    since=14,
)

WAL_IO = View(
    "pg_stat_io",
    (
        Column("wal.write", C, "sum(writes)::int8", "Writes of WAL buffers.", "write"),
        Column("wal.sync", C, "sum(fsyncs)::int8", "Syncs of WAL files."),
        Column("wal.write_time", C, "sum(write_time)", "Time spent writing WAL.", "millisecond"),
        Column("wal.sync_time", C, "sum(fsync_time)", "Time spent syncing WAL.", "millisecond"),
    ),
    "pg_stat_io WHERE object = 'wal'",
    since=18,
)

WAL_FILES = View(
    "pg_ls_waldir",
    (
        Column("wal_count", G, "count(*)", "WAL files on disk."),
        Column("wal_size", G, "sum(size)::int8", "Their size.", "byte"),
        Column(
            "wal_age",
            G,
            "extract(epoch FROM max(now() - modification))::float8",
            "Age of the oldest of them.",
            "second",
        ),
    ),
    "pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
)

SLRU = View(
    "pg_stat_slru",
    (
        Column("slru.blks_zeroed", C, "blks_zeroed", "Blocks zeroed.", "block"),
        Column("slru.blks_hit", C, "blks_hit", "Blocks found in the cache.", "block"),
        Column("slru.blks_read", C, "blks_read", "Blocks read from disk.", "block"),
        Column("slru.blks_written", C, "blks_written", "Blocks written to disk.", "block"),
        Column("slru.blks_exists", C, "blks_exists", "Blocks looked up for existence.", "block"),
        Column("slru.flushes", C, "flushes", "Flushes of dirty data."),
        Column("slru.truncates", C, "truncates", "Truncations."),
    ),
    "pg_stat_slru",
    tags={"slru_name": "name"},
    since=13,
)
