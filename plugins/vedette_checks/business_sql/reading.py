"""Reads the SQL of a configuration as a parser does: what writes, what cannot be parsed, what columns are not there.

Only `vedette validate` does this; the guard at run time is the transaction that only reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from vedette import Remark
from vedette_checks.business_sql.config import BusinessSqlConfig, QueryConfig, bind_problem, sql_of

_DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql", "mssql": "tsql",
             "oracle": "oracle", "snowflake": "snowflake", "redshift": "redshift"}  # fmt: skip
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable, exp.Copy,
           exp.Command, exp.Set, exp.Into, exp.Lock)  # fmt: skip


def remarks(config: BusinessSqlConfig) -> Iterator[Remark]:
    """What is wrong with the queries."""
    for place, query in enumerate(config.queries):
        option = "sql" if query.sql else "sql_file"
        for remark in _query(config, query):
            yield Remark(remark.message, remark.hint, ("queries", place, *(remark.path or (option,))), remark.severity)


def _query(config: BusinessSqlConfig, query: QueryConfig) -> Iterator[Remark]:
    try:
        sql = sql_of(query)
    except (OSError, UnicodeDecodeError) as error:
        yield Remark(f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}", severity="error")
        return
    if problem := bind_problem(sql, windowed=config.window is not None):
        yield Remark(problem, severity="error")
        return
    try:
        found = [one for one in sqlglot.parse(sql, dialect=_DIALECTS.get(config.url.dialect)) if one is not None]
    except (SqlglotError, RecursionError):
        yield Remark(
            "cannot be parsed here; the database may still know it", "try it with `vedette check business_sql`"
        )
        return
    if len(found) != 1:
        yield Remark("must be one statement, without a ; in it", severity="error")
        return
    yield from _statement(found[0], query)


def _statement(statement: Any, query: QueryConfig) -> Iterator[Remark]:
    for node in statement.walk():
        if isinstance(node, _WRITES):
            word = "locks rows" if isinstance(node, exp.Lock) else "writes"
            yield Remark(f"{word} ({node.key.upper()}): it must only read", severity="error")
            return
    if not isinstance(statement, exp.Query):
        yield Remark("must be a SELECT", severity="error")
        return
    names = statement.named_selects
    if "*" in names or statement.is_star or not all(names):
        return
    for column in query.columns:
        if column.lower() not in {name.lower() for name in names}:
            yield Remark(
                "the query has no column of this name", f"it has {', '.join(names[:20])}", ("columns", column), "error"
            )
