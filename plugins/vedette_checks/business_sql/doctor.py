"""What an instance needs of its database, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlglot
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import TextClause
from sqlglot import exp
from sqlglot.errors import SqlglotError

from vedette import CheckError, Diagnosis, SecretError
from vedette.kit import probe_clock, probe_file, probe_tcp
from vedette_checks.business_sql.binding import ORDER, values
from vedette_checks.business_sql.config import BusinessSqlConfig
from vedette_checks.business_sql.database import Database
from vedette_checks.business_sql.findings import lost, refused, unreachable
from vedette_checks.business_sql.queries import Queries
from vedette_checks.business_sql.windows import Grid, Window

_EXPLAIN = {"postgresql": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_FAILURES = (SQLAlchemyError, OSError, TimeoutError, SecretError)
_MAY = """
SELECT quote_ident(n.nspname), quote_ident(c.relname), has_schema_privilege(n.oid, 'USAGE'),
    has_table_privilege(c.oid, 'SELECT'), quote_ident(current_user)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = :name
    AND (n.nspname = :schema OR :schema = '' AND n.nspname = ANY (current_schemas(true)))
"""
_UNFIT = re.compile(r"query argument|operator does not exist|invalid input", re.IGNORECASE)


async def diagnose(config: BusinessSqlConfig, diagnosis: Diagnosis) -> None:
    """Look at the database, layer by layer, then at each query."""
    database = Database(config.url, config.password, config.statement_limit)
    queries = Queries(config, database)
    try:
        queries.prepare()
    except CheckError as error:
        diagnosis.failed("SQL", error.message, error.hint)
    if not await _reach(config, diagnosis):
        diagnosis.not_reached("login")
        return
    try:
        await database.connect()
        diagnosis.ok("login", database.place)
        await _look(config, database, queries.clauses(), diagnosis)
    except _FAILURES as error:
        found = unreachable(error, database.place, database.secrets)
        diagnosis.failed("login", found.message, found.hint)
    finally:
        await database.close()


async def _reach(config: BusinessSqlConfig, diagnosis: Diagnosis) -> bool:
    url = config.url.url
    if config.url.dialect == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            return True
        return probe_file(diagnosis, Path(url.database), "database")
    port = url.port or _PORTS.get(config.url.dialect)
    if not url.host or port is None:
        return True  # the driver knows where
    return await probe_tcp(diagnosis, url.host, port)


async def _look(
    config: BusinessSqlConfig, database: Database, queries: list[tuple[str, TextClause, str]], diagnosis: Diagnosis
) -> None:
    window = None
    if config.window is not None:
        window = Grid(config.window.every, ZoneInfo(config.window.timezone)).closed(time.time())
    if database.dialect == "postgresql":
        await _look_at_server(config, database, diagnosis)
    for name, clause, bind in queries:
        await _look_at_query(database, name, clause, bind, window, diagnosis)


async def _look_at_server(config: BusinessSqlConfig, database: Database, diagnosis: Diagnosis) -> None:
    asked = time.time()
    async with database.reading() as transaction:
        sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS float8), current_setting('TimeZone')"
        ((theirs, zone),) = (await transaction.fetch(text(sql))).rows
    probe_clock(diagnosis, theirs, asked, time.time())
    if config.window is not None and zone != config.window.timezone:
        hint = "columns without a zone are compared in UTC: see `bind`"
        diagnosis.info("time zone", f"the session's is {zone}, the windows' {config.window.timezone}", hint)


async def _look_at_query(
    database: Database, name: str, clause: TextClause, bind: str, window: Window | None, diagnosis: Diagnosis
) -> None:
    prefix = _EXPLAIN.get(database.dialect)
    if prefix is None:
        diagnosis.info(name, f"cannot be looked at without asking it on {database.dialect}", "the run below asks it")
        return
    ways = (bind,) if bind or window is None or database.dialect == "sqlite" else ORDER
    explain = text(prefix + clause.text)
    error: BaseException | None = None
    for way in ways:
        error = await _explain(database, explain, way, window)
        if error is None:
            shown = f", bounds are {way}" if way and window is not None else ""
            diagnosis.ok(name, f"the database takes it{shown}")
            return
        if not _UNFIT.search(f"{error} {error.__cause__}"):
            break
    found = refused(error or TimeoutError(), name, database.secrets)
    grants = await _grants(database, clause.text) if "permission denied" in found.message else []
    diagnosis.failed(name, found.message.removeprefix(f"{name}: "), found.hint, "\n".join(grants))


async def _explain(database: Database, clause: TextClause, bind: str, window: Window | None) -> BaseException | None:
    """What the database has against it."""
    bound = {} if window is None else values(window, bind or "iso")
    try:
        async with database.reading() as transaction:
            await transaction.fetch(clause, bound)
    except (SQLAlchemyError, TimeoutError) as error:
        if isinstance(error, SQLAlchemyError) and lost(error):
            raise
        return error
    return None


async def _grants(database: Database, sql: str) -> list[str]:
    """What lets the user read the tables of a query that it may not read, on PostgreSQL."""
    if database.dialect != "postgresql":
        return []
    grants: dict[str, None] = {}
    async with database.reading() as transaction:
        for schema, name in _tables(sql.replace("\\:", ":")):
            rows = (await transaction.fetch(text(_MAY), {"schema": schema, "name": name})).rows
            for there, table, usable, readable, user in rows:
                if not usable:
                    grants[f"GRANT USAGE ON SCHEMA {there} TO {user};"] = None
                if not readable:
                    grants[f"GRANT SELECT ON {there}.{table} TO {user};"] = None
    return list(grants)


def _tables(sql: str) -> Iterator[tuple[str, str]]:
    """Schema (or nothing) and name of every table in a query."""
    try:
        statement = sqlglot.parse_one(sql, dialect="postgres")
    except (SqlglotError, RecursionError):
        return
    for table in statement.find_all(exp.Table):
        parts = [part for part in (table.args.get("db"), table.this) if isinstance(part, exp.Identifier)]
        names = [part.this if part.args.get("quoted") else part.this.lower() for part in parts]
        if names:
            yield ("", names[0]) if len(names) == 1 else (names[0], names[1])
