"""When a window is closed on a replica: once everything that the primary wrote up to its end has been replayed.

Either a transaction from after the end was replayed; or the replica streams, has heard from the primary since the end,
and has replayed the last that it heard of: an idle primary must not hold windows open.
Source: PostgreSQL documentation, 9.28.5 Recovery Information Functions, 27.2.5 pg_stat_wal_receiver.
"""

from __future__ import annotations

from sqlalchemy import text

from vedette_checks.business_sql.database import Transaction
from vedette_checks.business_sql.windows import Window

_STATE = text("""
SELECT extract(epoch FROM pg_last_xact_replay_timestamp())::float8 AS replayed,
       (SELECT extract(epoch FROM last_msg_send_time)::float8 FROM pg_stat_wal_receiver
        WHERE status = 'streaming' AND pg_last_wal_replay_lsn() >= latest_end_lsn) AS heard
""")


async def replayed_until(transaction: Transaction) -> float:
    """The Unix time up to which the replica surely has everything.

    Raises:
        SQLAlchemyError, TimeoutError, OSError: the server does not answer.
    """
    ((replayed, heard),) = (await transaction.fetch(_STATE)).rows
    return max(replayed or 0.0, heard or 0.0)


def is_closed(window: Window, until: float) -> bool:
    """Whether nothing of this window is still to be replayed."""
    return until > window.end
