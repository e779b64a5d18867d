"""Replication from both ends: standbys, slots, the WAL receiver, replay.

Source: PostgreSQL documentation, 27.2.4 pg_stat_replication, 27.2.6 pg_stat_wal_receiver, 53.20 pg_replication_slots.
"""

from __future__ import annotations

from vedette import Kind
from vedette_checks.postgres.view import Column, View

G, C = Kind.GAUGE, Kind.COUNTER
_HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"


def _seconds(interval: str) -> str:
    return f"extract(epoch FROM {interval})::float8"


def _behind(lsn: str) -> str:
    return f"greatest(0, pg_wal_lsn_diff({_HERE}, {lsn}))::int8"


STANDBYS = View(
    "pg_stat_replication",
    (
        Column("replication.wal_write_lag", G, _seconds("write_lag"), "Delay of a standby's writes.", "second"),
        Column("replication.wal_flush_lag", G, _seconds("flush_lag"), "Delay of a standby's flushes.", "second"),
        Column("replication.wal_replay_lag", G, _seconds("replay_lag"), "Delay of a standby's replay.", "second"),
        Column("replication.backend_xmin_age", G, "age(backend_xmin)", "Age of the snapshot a standby holds back."),
        Column("replication_delay_bytes", G, _behind("replay_lsn"), "WAL that is not replayed yet.", "byte"),
    ),
    "pg_stat_replication",
    tags={
        "wal_app_name": "application_name",
        "wal_client_addr": "host(client_addr)",
        "wal_state": "state",
        "wal_sync_state": "sync_state",
    },
)

REPLAY = View(
    "pg_last_wal_replay_lsn",
    (
        Column(
            "replication_delay",
            G,
            "CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0"
            " WHEN pg_last_xact_replay_timestamp() IS NOT NULL"
            f" THEN greatest(0, {_seconds('now() - pg_last_xact_replay_timestamp()')}) END::float8",
            "Age of the last transaction replayed; 0 where all that was received is replayed.",
            "second",
        ),
        Column(
            "replication_delay_bytes",
            G,
            "greatest(0, pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()))::int8",
            "WAL that is not replayed yet.",
            "byte",
        ),
    ),
    "(SELECT) nothing",
    role="standby",
)

WAL_RECEIVER = View(
    "pg_stat_wal_receiver",
    (
        Column("wal_receiver.connected", G, "count(w.status)", "Whether the standby streams from its primary: 1 or 0."),
        Column("wal_receiver.received_timeline", G, "max(w.received_tli)", "Timeline of the WAL received last."),
        Column(
            "wal_receiver.last_msg_send_age",
            G,
            _seconds("clock_timestamp() - max(w.last_msg_send_time)"),
            "Age of the primary's last message, by its own clock.",
            "second",
        ),
        Column(
            "wal_receiver.last_msg_receipt_age",
            G,
            _seconds("clock_timestamp() - max(w.last_msg_receipt_time)"),
            "Time since the primary's last message arrived.",
            "second",
        ),
        Column(
            "wal_receiver.latest_end_age",
            G,
            _seconds("clock_timestamp() - max(w.latest_end_time)"),
            "Time since the last position was reported to the primary.",
            "second",
        ),
    ),
    "pg_stat_wal_receiver w",
    role="standby",
)

SLOTS = View(
    "pg_replication_slots",
    (
        Column("replication_slot.xmin_age", G, "age(xmin)", "Age of the snapshot the slot holds back.", "transaction"),
        Column(
            "replication_slot.restart_delay_bytes", G, _behind("restart_lsn"), "WAL that is kept for the slot.", "byte"
        ),
        Column(
            "replication_slot.confirmed_flush_delay_bytes",
            G,
            _behind("confirmed_flush_lsn"),
            "WAL that the slot's consumer has not confirmed.",
            "byte",
        ),
        Column(
            "replication_slot.safe_wal_size",
            G,
            "safe_wal_size",
            "WAL that can be written before the slot is in danger of losing its own.",
            "byte",
            since=13,
        ),
        Column(
            "replication_slot.wal_status",
            G,
            "array_position(ARRAY['reserved', 'extended', 'unreserved', 'lost'], wal_status) - 1",
            "State of the WAL kept for the slot: 0 reserved, 1 extended, 2 unreserved, 3 lost.",
            since=13,
        ),
    ),
    "pg_replication_slots",
    tags={
        "slot_name": "slot_name::text",
        "slot_type": "slot_type",
        "slot_persistence": "CASE WHEN temporary THEN 'temporary' ELSE 'permanent' END",
        "slot_state": "CASE WHEN active THEN 'active' ELSE 'inactive' END",
    },
)

SLOT_STATISTICS = View(
    "pg_stat_replication_slots",
    (
        Column("replication_slot.spill_txns", C, "spill_txns", "Transactions spilled to disk.", "transaction"),
        Column("replication_slot.spill_count", C, "spill_count", "Spills to disk."),
        Column("replication_slot.spill_bytes", C, "spill_bytes", "Bytes spilled to disk.", "byte"),
        Column("replication_slot.stream_txns", C, "stream_txns", "Transactions streamed early.", "transaction"),
        Column("replication_slot.stream_count", C, "stream_count", "Early streamings."),
        Column("replication_slot.stream_bytes", C, "stream_bytes", "Bytes streamed early.", "byte"),
        Column("replication_slot.total_txns", C, "total_txns", "Transactions decoded.", "transaction"),
        Column("replication_slot.total_bytes", C, "total_bytes", "Bytes decoded.", "byte"),
    ),
    "pg_stat_replication_slots",
    tags={"slot_name": "slot_name"},
    since=14,
)
