"""What sessions do now: queries, transactions and their age, locks.

Source: PostgreSQL documentation, 27.2.3 pg_stat_activity, 53.13 pg_locks.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G = Kind.GAUGE
_AGE = "extract(epoch FROM clock_timestamp() - xact_start)"
_QUERY = "CASE WHEN state = 'active' THEN extract(epoch FROM clock_timestamp() - query_start) ELSE 0 END"

ACTIVITY = View(
    "pg_stat_activity",
    (
        Column("transactions.open", G, "count(xact_start)", "Sessions within a transaction.", "transaction"),
        Column(
            "transactions.idle_in_transaction",
            G,
            "count(*) FILTER (WHERE state LIKE 'idle in transaction%')",
            "Sessions that sit idle within a transaction.",
            "transaction",
        ),
        Column("active_queries", G, "count(*) FILTER (WHERE state = 'active')", "Sessions that run a query."),
        Column("waiting_queries", G, "count(wait_event)", "Sessions that wait for something, be it for their client."),
        Column(
            "active_waiting_queries",
            G,
            "count(wait_event) FILTER (WHERE state = 'active')",
            "Sessions that run a query and wait.",
        ),
        Column("activity.xact_start_age", G, f"max({_AGE})::float8", "Age of the oldest transaction.", "second"),
        Column(
            "activity.backend_xid_age",
            G,
            "max(age(backend_xid))",
            "Age of the oldest transaction id of a session.",
            "transaction",
        ),
        Column(
            "activity.backend_xmin_age",
            G,
            "max(age(backend_xmin))",
            "Age of the oldest snapshot: what vacuum cannot clear.",
            "transaction",
        ),
        Column(
            "transactions.duration.max",
            G,
            f"(max({_AGE}) * 1e9)::int8",
            "Age of the oldest transaction.",
            "nanosecond",
        ),
        Column(
            "transactions.duration.sum",
            G,
            f"(sum({_AGE}) * 1e9)::int8",
            "Ages of all transactions.",
            "nanosecond",
        ),
        Column("queries.duration.max", G, f"(max({_QUERY}) * 1e9)::int8", "Age of the oldest query.", "nanosecond"),
        Column("queries.duration.sum", G, f"(sum({_QUERY}) * 1e9)::int8", "Ages of all queries.", "nanosecond"),
    ),
    "pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname IS NOT NULL"
    " GROUP BY datname",
    tags={"db": "datname::text"},
)

LOCKS = View(
    "pg_locks",
    (Column("locks", G, "count(*)", "Locks held or waited for.", "lock"),),
    "pg_locks l LEFT JOIN pg_database d ON d.oid = l.database WHERE l.pid IS DISTINCT FROM pg_backend_pid()"
    " GROUP BY d.datname, l.mode, l.locktype, l.granted, l.fastpath",
    tags={
        "db": "d.datname::text",
        "lock_mode": "l.mode",
        "lock_type": "l.locktype",
        "granted": "l.granted::text",
        "fastpath": "l.fastpath::text",
    },
)
