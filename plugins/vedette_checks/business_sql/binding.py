"""What `:start_time` and `:end_time` are for a database, and finding out which of the ways its columns want.

Traps (each has a test): a PostgreSQL `timestamp` column refuses times with a zone; SQLite compares texts letter by
letter, so `2026-11-24T10:00:00+01:00` never fits `2026-11-24 10:00:00`, and says nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from vedette_checks.business_sql.windows import Window

ORDER = ("timestamptz", "timestamp_utc", "epoch", "iso")
"""In which order a database is asked what it takes."""
ISO_T = "iso_t"
"""As `iso`, with a `T` where the blank is; only ever found out, never configured."""
_COMPARED = re.compile(r"([\w.\"]+)\s*(?:>=|>|<=|<|\bBETWEEN\b)\s*:(?:start|end)_time", re.IGNORECASE)
_FROM = re.compile(r"\bFROM\s+([\w.\"]+)", re.IGNORECASE)
_TEXT = re.compile(r"\d{4}-\d\d-\d\d(?P<between>[ T])\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?")
_MOST_SECONDS = 100_000_000_000  # more are milliseconds


def values(window: Window, bind: str) -> dict[str, Any]:
    """The values of `:start_time` and `:end_time`."""
    return {"start_time": _value(window.start, bind), "end_time": _value(window.end, bind)}


def _value(time: int, bind: str) -> Any:
    if bind == "epoch":
        return time
    moment = datetime.fromtimestamp(time, UTC)
    if bind == "timestamptz":
        return moment
    if bind == "timestamp_utc":
        return moment.replace(tzinfo=None)
    return moment.strftime("%Y-%m-%dT%H:%M:%S" if bind == ISO_T else "%Y-%m-%d %H:%M:%S")


def probe(sql: str) -> str:
    """A query for one stored time of the column that this one compares with a bound, and its type; empty if unclear."""
    column, table = _COMPARED.search(sql), _FROM.search(sql)
    if column is None or table is None:
        return ""
    name = column[1].rpartition(".")[2]
    return f"SELECT typeof({name}), {name} FROM {table[1]} WHERE {name} IS NOT NULL LIMIT 1"  # noqa: S608


def judge(kind: str, stored: Any) -> tuple[str, str]:
    """How to bind for an SQLite column that holds such a value, and what is wrong with it, if anything is.

    Args:
        kind: SQLite's `typeof`.
        stored: the value.
    """
    if kind in ("integer", "real"):
        if abs(stored) > _MOST_SECONDS:
            return "epoch", "times are stored as milliseconds: compare with :start_time * 1000 and :end_time * 1000"
        return "epoch", ""
    shape = _TEXT.fullmatch(str(stored).strip())
    if shape is None:
        return "iso", "times are stored in a form that cannot be compared as text: store 2026-11-24 13:00:00 (UTC)"
    if shape["zone"] not in (None, "Z", "+00:00", "+0000"):
        return "iso", "times are stored with an offset, and compared as text: write datetime(column) >= :start_time"
    return (ISO_T if shape["between"] == "T" else "iso"), ""
