"""What the queries cost the database, by its own EXPLAIN: for `vedette plan`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import TextClause

from vedette import Estimate
from vedette_checks.business_sql.binding import ORDER, values
from vedette_checks.business_sql.database import Database, Rows, Transaction
from vedette_checks.business_sql.findings import lost, refused
from vedette_checks.business_sql.windows import Window

_EXPLAIN = {"postgresql": "EXPLAIN (FORMAT JSON) ", "sqlite": "EXPLAIN QUERY PLAN "}
_SCAN = re.compile(r"SCAN (?:TABLE )?(?P<table>\w+)(?: AS \w+)?")
_OURS = frozenset({"q"})
"""The name of the query within the one that limits its rows."""


async def explain(
    queries: Iterable[tuple[str, TextClause, str]], transaction: Transaction, database: Database, window: Window | None
) -> list[Estimate]:
    """One line for each query: the planner's cost where it tells one, and which tables it reads from end to end.

    Args:
        queries: name, text, and what the bounds are.
        transaction: where to ask.
        database: what it is, and what must not be shown of it.
        window: values for the bounds.

    Raises:
        SQLAlchemyError, OSError: the connection is lost.
    """
    made: list[Estimate] = []
    prefix = _EXPLAIN.get(database.dialect)
    for name, clause, bind in queries:
        if prefix is None:
            made.append(Estimate(f"{name}: EXPLAIN", None, hint=f"not known for {database.dialect}"))
            continue
        bound: Mapping[str, Any] = {} if window is None else values(window, bind or ORDER[0])
        try:
            rows = await transaction.fetch(text(prefix + clause.text), bound)
        except (SQLAlchemyError, TimeoutError) as error:
            if isinstance(error, SQLAlchemyError) and lost(error):
                raise
            made.append(Estimate(f"{name}: EXPLAIN", None, hint=refused(error, name, database.secrets).message))
            break  # the transaction is of no use after an error
        made.append(_of_postgres(name, rows) if database.dialect == "postgresql" else _of_sqlite(name, rows))
    return made


def _of_postgres(name: str, rows: Rows) -> Estimate:
    answer = rows.rows[0][0]
    plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return Estimate(f"{name}: EXPLAIN cost", plan["Total Cost"], "cost units", _hint(sorted(_scanned(plan))))


def _scanned(plan: Mapping[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set[str]()
    for inner in plan.get("Plans", ()):
        found |= _scanned(inner)
    return found


def _of_sqlite(name: str, rows: Rows) -> Estimate:
    details = [str(row[3]) for row in rows.rows]
    tables = sorted({found["table"] for one in details if (found := _SCAN.fullmatch(one.strip()))} - _OURS)
    return Estimate(f"{name}: tables read in full", len(tables), "tables", _hint(tables))


def _hint(tables: list[str]) -> str:
    return f"reads {', '.join(tables)} from end to end" if tables else ""
