"""What is read of chosen tables and indexes: statistics, block traffic, sizes. `$1` of each query is their oids.

Names follow Datadog's integration: `index_rel_*` are a table's index scans summed up, `index_*` those of one index.
Sizes are those of PostgreSQL's own functions, so that `total_size` is `table_size` plus `index_size`, and `table_size`
holds `toast_size`.

Source: PostgreSQL documentation, 27.2.19 pg_stat_all_tables to 27.2.22 pg_statio_all_indexes, 52.11 pg_class, 9.28.7
database object size functions, 13.3.1 on which locks conflict.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G, R, C = Kind.GAUGE, Kind.RATE, Kind.COUNTER

_TABLE_TAGS = {
    "schema": "n.nspname::text",
    "table": "c.relname::text",
    "partition_of": "CASE WHEN p.relnamespace = c.relnamespace THEN p.relname::text"
    " WHEN p.oid IS NOT NULL"
    " THEN (SELECT nspname FROM pg_namespace WHERE oid = p.relnamespace) || '.' || p.relname END",
}
_INDEX_TAGS = {**_TABLE_TAGS, "index": "i.relname::text"}
_NAMED = (  # the parent in another schema gets that schema's name before its own
    "JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition LEFT JOIN pg_class p ON p.oid = h.inhparent"
)


def _stored(sql: str) -> str:
    """A number that a partitioned table does not have: its rows are in its partitions."""
    return f"CASE WHEN c.relkind <> 'p' THEN {sql} END"


def _estimate(sql: str) -> str:
    """A number of pg_class that means nothing before the first VACUUM or ANALYZE."""
    return f"CASE WHEN c.reltuples >= 0 THEN {sql} END"


def _age(time: str) -> str:
    return f"extract(epoch FROM clock_timestamp() - s.{time})::float8"


def _table_column(name: str, kind: Kind, column: str, help: str, unit: str) -> Column:
    return Column(name, kind, _stored(f"s.{column}"), help, unit, "second" if kind is R else "")


def _block_column(name: str, column: str, help: str, unit: str) -> Column:
    return Column(name, R, f"b.{column}", help, unit, "second")


_SCANS = (
    _table_column("seq_scans", R, "seq_scan", "Sequential scans of the table.", "scan"),
    _table_column("seq_rows_read", R, "seq_tup_read", "Rows read by sequential scans.", "row"),
    _table_column("index_rel_scans", R, "idx_scan", "Scans of any index of the table.", "scan"),
    _table_column("index_rel_rows_fetched", R, "idx_tup_fetch", "Rows fetched by any index of the table.", "row"),
)
_ROWS = (
    _table_column("rows_hot_updated", R, "n_tup_hot_upd", "Rows updated without a new index entry.", "row"),
    _table_column("live_rows", G, "n_live_tup", "Live rows, as estimated.", "row"),
    _table_column("dead_rows", G, "n_dead_tup", "Dead rows that vacuum has yet to clear, as estimated.", "row"),
    _table_column("vacuumed", C, "vacuum_count", "Runs of VACUUM, not FULL, by hand.", ""),
    _table_column("autovacuumed", C, "autovacuum_count", "Runs of VACUUM by autovacuum.", ""),
    Column("analyzed", C, "s.analyze_count", "Runs of ANALYZE by hand."),
    Column("autoanalyzed", C, "s.autoanalyze_count", "Runs of ANALYZE by autovacuum."),
    Column("last_vacuum_age", G, _age("last_vacuum"), "Time since the last VACUUM by hand.", "second"),
    Column("last_autovacuum_age", G, _age("last_autovacuum"), "Time since the last VACUUM by autovacuum.", "second"),
    Column("last_analyze_age", G, _age("last_analyze"), "Time since the last ANALYZE by hand.", "second"),
    Column("last_autoanalyze_age", G, _age("last_autoanalyze"), "Time since the last one by autovacuum.", "second"),
)
_BLOCKS = (
    _block_column("heap_blocks_read", "heap_blks_read", "Blocks of the table read.", "block"),
    _block_column("heap_blocks_hit", "heap_blks_hit", "Blocks of the table found in shared buffers.", "hit"),
    _block_column("index_blocks_read", "idx_blks_read", "Blocks of all its indexes read.", "block"),
    _block_column("index_blocks_hit", "idx_blks_hit", "Blocks of all its indexes found in shared buffers.", "hit"),
    _block_column("toast_blocks_read", "toast_blks_read", "Blocks of its TOAST table read.", "block"),
    _block_column("toast_blocks_hit", "toast_blks_hit", "Blocks of its TOAST table found in shared buffers.", "hit"),
    _block_column("toast_index_blocks_read", "tidx_blks_read", "Blocks of its TOAST table's index read.", "block"),
    _block_column("toast_index_blocks_hit", "tidx_blks_hit", "The same, found in shared buffers.", "block"),
)
_ESTIMATES = (
    Column("relation.pages", G, _estimate(_stored("c.relpages")), "Pages, as of the last VACUUM or ANALYZE."),
    Column("relation.tuples", G, _estimate("c.reltuples::int8"), "Rows, as of the last VACUUM or ANALYZE."),
    Column("relation.all_visible", G, _estimate(_stored("c.relallvisible")), "Pages all of whose rows everybody sees."),
)
_TABLES = f"""pg_class c {_NAMED}
    LEFT JOIN (SELECT * FROM pg_stat_all_tables WHERE relid = ANY($1::oid[])) s ON s.relid = c.oid
    LEFT JOIN (SELECT * FROM pg_statio_all_tables WHERE relid = ANY($1::oid[])) b ON b.relid = c.oid
    WHERE c.oid = ANY($1::oid[])"""  # noqa: S608

TABLES = View(
    "pg_stat_all_tables", (*_SCANS, *_ROWS, *_BLOCKS, *_ESTIMATES), _TABLES, _TABLE_TAGS, role="primary", local=True
)
STANDBY_TABLES = View(
    "pg_stat_all_tables", (*_SCANS, *_BLOCKS, *_ESTIMATES), _TABLES, _TABLE_TAGS, role="standby", local=True
)
"""A standby counts its own reads, but neither rows nor vacuums: replay does not tell the statistics."""

INDEXES = View(
    "pg_stat_all_indexes",
    (
        Column("index_scans", R, "s.idx_scan", "Scans of this index.", "scan", "second"),
        Column("index_rows_read", R, "s.idx_tup_read", "Entries that scans of this index returned.", "row", "second"),
        Column("index_rows_fetched", R, "s.idx_tup_fetch", "Rows fetched by this index alone.", "row", "second"),
    ),
    f"pg_stat_all_indexes s JOIN pg_class i ON i.oid = s.indexrelid JOIN pg_class c ON c.oid = s.relid {_NAMED}"
    " WHERE s.indexrelid = ANY($1::oid[])",
    _INDEX_TAGS,
    local=True,
)

_LOCKED = """
ARRAY(
    WITH locked AS MATERIALIZED (
        SELECT relation FROM pg_locks
        WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    SELECT relation FROM locked
    UNION SELECT indrelid FROM pg_index WHERE indexrelid IN (SELECT relation FROM locked)
)
"""
"""Relations that a size function would wait for: held or asked for exclusively, or one of their indexes is."""

SIZES = View(
    "pg_total_relation_size",
    (
        Column("relation_size", G, "size.rows", "Bytes of the table's rows, without TOAST and maps.", "byte"),
        Column("toast_size", G, "size.toast", "Bytes of its TOAST table and that one's index.", "byte"),
        Column("table_size", G, "size.whole", "Bytes of the table with TOAST and maps, without indexes.", "byte"),
        Column("index_size", G, "size.indexes", "Bytes of all its indexes.", "byte"),
        Column("total_size", G, "size.whole + size.indexes", "Bytes of the table, TOAST and indexes.", "byte"),
        Column("individual_index_size", G, "size.index", "Bytes of this index; they add up to index_size.", "byte"),
    ),
    f"""pg_class r
    CROSS JOIN (SELECT {_LOCKED} AS oids OFFSET 0) locked
    LEFT JOIN pg_index x ON x.indexrelid = r.oid
    LEFT JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = coalesce(x.indrelid, r.oid)
    {_NAMED}
    LEFT JOIN LATERAL (
        SELECT pg_relation_size(t) AS rows, CASE WHEN t IS NOT NULL THEN
                coalesce(pg_total_relation_size(nullif(r.reltoastrelid, 0)), 0) END AS toast,
            pg_table_size(t) AS whole, pg_indexes_size(t) AS indexes, pg_table_size(i.oid) AS index
        FROM (SELECT CASE WHEN i.oid IS NULL THEN r.oid END AS t) only_table
        WHERE r.oid <> ALL (locked.oids) AND r.reltoastrelid <> ALL (locked.oids)
        OFFSET 0
    ) size ON size.whole IS NOT NULL OR size.index IS NOT NULL
    WHERE r.oid = ANY($1::oid[]) AND r.relkind <> 'p'""",  # noqa: S608
    _INDEX_TAGS,
    local=True,
)
