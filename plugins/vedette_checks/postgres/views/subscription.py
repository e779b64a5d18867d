"""Logical replication at the receiving end.

Source: PostgreSQL documentation, 27.2.8 pg_stat_subscription, 27.2.9 pg_stat_subscription_stats, 52.55
pg_subscription_rel.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G, C = Kind.GAUGE, Kind.COUNTER
_HERE = "(SELECT oid FROM pg_database WHERE datname = current_database())"


def _age(time: str) -> str:
    return f"extract(epoch FROM clock_timestamp() - max({time}))::float8"


SUBSCRIPTIONS = View(
    "pg_stat_subscription",
    (
        Column(
            "subscription.last_msg_send_age",
            G,
            _age("last_msg_send_time"),
            "Age of the publisher's last message, by its own clock.",
            "second",
        ),
        Column(
            "subscription.last_msg_receipt_age",
            G,
            _age("last_msg_receipt_time"),
            "Time since the publisher's last message arrived.",
            "second",
        ),
        Column(
            "subscription.latest_end_age",
            G,
            _age("latest_end_time"),
            "Time since the last position was reported to the publisher.",
            "second",
        ),
    ),
    "pg_stat_subscription GROUP BY subname",
    tags={"subscription_name": "subname::text"},
)

ERRORS = View(
    "pg_stat_subscription_stats",
    (
        Column("subscription.apply_error", C, "apply_error_count", "Errors while applying changes."),
        Column("subscription.sync_error", C, "sync_error_count", "Errors while copying tables at first."),
    ),
    "pg_stat_subscription_stats",
    tags={"subscription_name": "subname::text"},
    since=15,
)

STATES = View(
    "pg_subscription_rel",
    (Column("subscription.state", G, "1", "1 for the state that a table of a subscription is in."),),
    "pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid JOIN pg_class c ON c.oid = r.srrelid"
    f" WHERE s.subdbid = {_HERE} ORDER BY s.subname, c.relname LIMIT 500",
    tags={
        "subscription_name": "s.subname::text",
        "relation": "c.relname::text",
        "state": "CASE r.srsubstate WHEN 'i' THEN 'initialize' WHEN 'd' THEN 'data_copy' WHEN 'f' THEN 'finished_copy'"
        " WHEN 's' THEN 'synchronized' WHEN 'r' THEN 'ready' END",
    },
    local=True,
)
