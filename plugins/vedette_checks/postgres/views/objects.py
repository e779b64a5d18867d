"""What is in one database: how many tables, which functions are called.

Source: PostgreSQL documentation, 52.11 pg_class, 27.2.22 pg_stat_user_functions.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

_OWN = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'"

TABLES = View(
    "pg_class",
    (Column("table.count", Kind.GAUGE, "count(*)", "Tables, partitions among them.", "table"),),
    f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND {_OWN}"
    " GROUP BY n.nspname ORDER BY count(*) DESC LIMIT 100",
    tags={"schema": "n.nspname::text"},
    local=True,
)

FUNCTIONS = View(
    "pg_stat_user_functions",
    (Column("function.calls", Kind.RATE, "sum(calls)::int8", "Calls of a function (`track_functions`)."),),
    "pg_stat_user_functions GROUP BY schemaname, funcname ORDER BY sum(calls) DESC, schemaname, funcname LIMIT 100",
    tags={"schema": "schemaname::text", "function": "funcname::text"},
    when="current_setting('track_functions') <> 'none'",
    local=True,
)
