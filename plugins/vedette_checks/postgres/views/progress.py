"""Maintenance commands at work: VACUUM, ANALYZE, CREATE INDEX and REINDEX, CLUSTER and VACUUM FULL.

Source: PostgreSQL documentation, 27.4 Progress Reporting. A series is there while its command runs.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G = Kind.GAUGE


def _source(view: str) -> str:
    """The view, and the names of relations where they can be known: in the database of the session."""
    return f"{view} p LEFT JOIN pg_class c ON c.oid = p.relid AND p.datname = current_database()"


def _index(oid: str) -> str:
    return f"(SELECT i.relname::text FROM pg_class i WHERE i.oid = {oid} AND p.datname = current_database())"  # noqa: S608


_TAGS = {"db": "p.datname::text", "table": "c.relname::text", "phase": "p.phase"}

VACUUM = View(
    "pg_stat_progress_vacuum",
    (
        Column("vacuum.heap_blks_total", G, "p.heap_blks_total", "Blocks of the table.", "block"),
        Column("vacuum.heap_blks_scanned", G, "p.heap_blks_scanned", "Blocks scanned.", "block"),
        Column("vacuum.heap_blks_vacuumed", G, "p.heap_blks_vacuumed", "Blocks vacuumed.", "block"),
        Column("vacuum.index_vacuum_count", G, "p.index_vacuum_count", "Rounds over the indexes completed.", "block"),
        Column("vacuum.max_dead_tuples", G, "p.max_dead_tuples", "Dead rows that memory has room for.", until=16),
        Column("vacuum.num_dead_tuples", G, "p.num_dead_tuples", "Dead rows collected in this round.", until=16),
    ),
    _source("pg_stat_progress_vacuum"),
    tags=_TAGS,
)

ANALYZE = View(
    "pg_stat_progress_analyze",
    (
        Column("analyze.sample_blks_total", G, "p.sample_blks_total", "Blocks to sample.", "block"),
        Column("analyze.sample_blks_scanned", G, "p.sample_blks_scanned", "Blocks sampled.", "block"),
        Column("analyze.ext_stats_total", G, "p.ext_stats_total", "Extended statistics to compute."),
        Column("analyze.ext_stats_computed", G, "p.ext_stats_computed", "Extended statistics computed."),
        Column("analyze.child_tables_total", G, "p.child_tables_total", "Child tables to scan."),
        Column("analyze.child_tables_done", G, "p.child_tables_done", "Child tables scanned."),
    ),
    _source("pg_stat_progress_analyze"),
    tags={**_TAGS, "child_relation": _index("nullif(p.current_child_table_relid, 0)")},
)

CREATE_INDEX = View(
    "pg_stat_progress_create_index",
    (
        Column("create_index.lockers_total", G, "p.lockers_total", "Sessions to wait for."),
        Column("create_index.lockers_done", G, "p.lockers_done", "Sessions waited for."),
        Column("create_index.blocks_total", G, "p.blocks_total", "Blocks to process in this phase."),
        Column("create_index.blocks_done", G, "p.blocks_done", "Blocks processed in this phase."),
        Column("create_index.tuples_total", G, "p.tuples_total", "Rows to process in this phase."),
        Column("create_index.tuples_done", G, "p.tuples_done", "Rows processed in this phase."),
        Column("create_index.partitions_total", G, "p.partitions_total", "Partitions to index."),
        Column("create_index.partitions_done", G, "p.partitions_done", "Partitions indexed."),
    ),
    _source("pg_stat_progress_create_index"),
    tags={**_TAGS, "index": _index("p.index_relid"), "command": "p.command"},
)

CLUSTER = View(
    "pg_stat_progress_cluster",
    (
        Column("cluster.heap_tuples_scanned", G, "p.heap_tuples_scanned", "Rows scanned."),
        Column("cluster.heap_tuples_written", G, "p.heap_tuples_written", "Rows written."),
        Column("cluster.heap_blks_total", G, "p.heap_blks_total", "Blocks of the table.", "block"),
        Column("cluster.heap_blks_scanned", G, "p.heap_blks_scanned", "Blocks scanned.", "block"),
        Column("cluster.index_rebuild_count", G, "p.index_rebuild_count", "Indexes rebuilt."),
    ),
    _source("pg_stat_progress_cluster"),
    tags={**_TAGS, "index": _index("nullif(p.cluster_index_relid, 0)"), "command": "p.command"},
)
