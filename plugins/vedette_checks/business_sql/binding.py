"""What `:start_time` and `:end_time` are for a database, and finding out which of the ways its columns want.

Traps (each has a test): a PostgreSQL `timestamp` column refuses times with a zone; texts are compared letter by letter,
so `2026-11-24T10:00:00+01:00` never fits `2026-11-24 10:00:00`; asyncpg makes a date of a time. Nobody says anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from vedette_checks.business_sql.comparing import Bound
from vedette_checks.business_sql.windows import Window

ORDER = ("timestamptz", "timestamp_utc", "epoch", "iso")
"""In which order a database is asked what it takes."""
ISO_T = "iso_t"
"""As `iso`, with a `T` where the blank is; only ever found out, never configured."""
_TEXT = re.compile(r"\d{4}-\d\d-\d\d(?P<between>[ T])\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?")
_MOST_SECONDS = 100_000_000_000  # more are milliseconds
UNCLEAR = "it cannot be made out how it compares times with :start_time and :end_time: say what they are with `bind`"
_OFFSET = "times are stored with an offset, and compared as text"
_MILLISECONDS = "times are stored as milliseconds"
_DATES = "compares days with windows that are no days of UTC: compare a time, or cast nothing to a date"


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """How bounds are to be given to a query.

    Attributes:
        bind: what they are; empty while nothing is stored to tell by.
        wrong: why they would match nothing all the same, or that it is unclear; empty if nothing is wrong.
    """

    bind: str
    wrong: str = ""


def judge(kind: str, stored: Any, bound: Bound, *, whole_days: bool) -> Verdict:
    """How to bind for a column that holds such a value.

    Args:
        kind: the value's type, as the database calls it.
        stored: the value.
        bound: how the bound is compared with it.
        whole_days: whether windows are days of UTC.
    """
    if isinstance(stored, int | float | Decimal):
        return _of_number(stored, bound)
    if isinstance(stored, datetime):
        return Verdict("timestamptz" if stored.tzinfo is not None else "timestamp_utc")
    if isinstance(stored, date):
        return Verdict("timestamptz", "" if whole_days else _DATES)
    if isinstance(stored, str):
        verdict = _of_text(stored)
        return verdict if bound == "bare" or verdict == Verdict("iso") else Verdict(verdict.bind, UNCLEAR)
    return Verdict("iso", f"compares times with {kind}, which is none")


def settled(taken: str, verdict: Verdict) -> Verdict:
    """What holds where a server has taken one kind of bounds, which says more than what is stored.

    Args:
        taken: what they were.
        verdict: what the stored times say.
    """
    if verdict.bind in ("", taken) or (verdict.bind == ISO_T and taken == "iso"):
        return verdict
    doubtful = verdict.wrong == UNCLEAR and taken in ("iso", "epoch")  # other types tell the server what is meant
    return Verdict(taken, UNCLEAR if doubtful else "")


def _of_number(stored: float | Decimal, bound: Bound) -> Verdict:
    if bound == "wrapped":
        return Verdict("epoch", UNCLEAR)
    if bound == "bare" and not -_MOST_SECONDS <= stored <= _MOST_SECONDS:
        return Verdict("epoch", f"{_MILLISECONDS}: compare with CAST(:start_time AS bigint) * 1000, and so on")
    return Verdict("epoch")


def _of_text(stored: str) -> Verdict:
    shape = _TEXT.fullmatch(stored.strip())
    if shape is None:
        return Verdict(
            "iso", "times are stored in a form that cannot be compared as text: store 2026-11-24 13:00:00 (UTC)"
        )
    if shape["zone"] not in (None, "Z", "+00", "+00:00", "+0000"):
        return Verdict("iso", f"{_OFFSET}: write datetime(column) >= :start_time, or what the database has for it")
    return Verdict(ISO_T if shape["between"] == "T" else "iso")
