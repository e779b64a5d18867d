"""What an instance needs of its server, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from asyncpg import InterfaceError, PostgresError, exceptions

from vedette import CheckError, Diagnosis
from vedette.kit import probe_clock, probe_tcp, probe_tls, probe_unix, tls_context
from vedette_checks.postgres.config import PostgresConfig
from vedette_checks.postgres.findings import denied_function, failure, refusal_of_own
from vedette_checks.postgres.masking import mask_sql
from vedette_checks.postgres.queries import QueryConfig, sent
from vedette_checks.postgres.session import LOST, Limits, Session
from vedette_checks.postgres.target import Target

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""Source: PostgreSQL documentation, 54.7 Message Formats, SSLRequest."""
_EXPLAIN = "EXPLAIN "
_WHO = """
SELECT current_user::text, pg_has_role('pg_monitor', 'USAGE'), extract(epoch FROM clock_timestamp())::float8,
    current_setting('track_io_timing')::bool, current_setting('track_activities')::bool
"""
_DATABASES = """
SELECT datname::text FROM pg_database
WHERE datallowconn AND NOT datistemplate AND NOT has_database_privilege(oid, 'CONNECT') ORDER BY datname
"""
_EXTENSION = """
SELECT quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
"""
_PRELOADED = "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"
_DENIED = """
SELECT quote_ident(n.nspname), quote_ident(c.relname), has_schema_privilege(n.oid, 'USAGE'),
    has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname::text = $2
    AND CASE WHEN $1 = '' THEN n.nspname = ANY (current_schemas(true)) OR NOT has_schema_privilege(n.oid, 'USAGE')
        AND n.nspname::text = ANY (string_to_array(replace(current_setting('search_path'), ' ', ''), ','))
        ELSE n.nspname::text = $1 END
"""
_UNCALLABLE = """
SELECT quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE'), has_function_privilege(p.oid, 'EXECUTE'),
    quote_ident(p.proname) || '(' || coalesce((
        SELECT string_agg(CASE m.nspname WHEN 'pg_catalog' THEN format_type(t.oid, NULL)
            ELSE quote_ident(m.nspname) || '.' || quote_ident(t.typname) END, ', ' ORDER BY a.place)
        FROM unnest(p.proargtypes) WITH ORDINALITY a (type, place)
        JOIN pg_type t ON t.oid = a.type JOIN pg_namespace m ON m.oid = t.typnamespace), '') || ')'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind <> 'p' AND p.proname::text = $2
    AND CASE WHEN $1 = '*' THEN true WHEN $1 = '' THEN n.nspname = ANY (current_schemas(true))
        ELSE n.nspname::text = $1 END
    AND (p.proname::text = $3 OR NOT EXISTS (SELECT FROM pg_proc o WHERE o.proname = p.proname
        AND o.pronamespace = p.pronamespace AND has_function_privilege(o.oid, 'EXECUTE')
        AND has_schema_privilege(n.oid, 'USAGE')))
ORDER BY n.nspname, p.oid
"""
"""Of functions of one name, those that the role may not call: all, if it is one of them that the server refused, else
only if it may call none. A function that a view calls may be in any schema, `*`."""
_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_READS = re.compile(rf"\b(?:from|join)\s+(?:only\s+)?(?:({_NAME})\s*\.\s*)?({_NAME})", re.IGNORECASE)
_CALLS = re.compile(rf"(?:({_NAME})\s*\.\s*)?({_NAME})\s*\(")


async def diagnose(config: PostgresConfig, diagnosis: Diagnosis) -> None:
    """Look at the server, and at its replica, layer by layer."""
    patience = config.deadline / 2
    target = config.target
    session = Session(target)
    try:
        if await _log_in(session, config.limits, patience, diagnosis):
            async with asyncio.timeout(patience):
                await _rights(session, config, diagnosis)
    except (*LOST, OSError, PostgresError) as error:
        found = failure(error, target, patience, greeted=True)
        diagnosis.failed("rights", found.message, found.hint)
    finally:
        session.drop()
    if config.replica is not None:
        replica = config.replica.target(target)
        session = Session(replica)
        try:
            await _log_in(session, config.limits, patience, diagnosis)
        finally:
            session.drop()


async def _log_in(session: Session, limits: Limits, patience: float, diagnosis: Diagnosis) -> bool:
    target = session.target
    if not await _reach(target, diagnosis):
        diagnosis.not_reached("login")
        return False
    try:
        async with asyncio.timeout(patience):
            await session.connect(limits, patience)
    except (*LOST, OSError, PostgresError) as error:
        found = failure(error, target, patience, greeted=False)
        diagnosis.failed("login", found.message, found.hint, _login_snippet(error, target))
        return False
    diagnosis.ok("login", f"to {target.dbname}{', through PgBouncer' if session.pooled else ''}")
    return True


def _login_snippet(error: BaseException, target: Target) -> str:
    role = identifier(target.username) if target.username else ""
    if isinstance(error, exceptions.InsufficientPrivilegeError) and role:
        return f"GRANT CONNECT ON DATABASE {identifier(target.dbname)} TO {role};"
    unknown = isinstance(error, exceptions.InvalidAuthorizationSpecificationError) and "does not exist" in str(error)
    if unknown and role:
        return f"CREATE ROLE {role} LOGIN PASSWORD '…' IN ROLE pg_monitor;"
    if "not permitted to log in" in str(error) and role:
        return f"ALTER ROLE {role} LOGIN;"
    return ""


async def _reach(target: Target, diagnosis: Diagnosis) -> bool:
    if target.host.startswith("/"):
        return await probe_unix(diagnosis, Path(target.host) / f".s.PGSQL.{target.port}")
    if not await probe_tcp(diagnosis, target.host, target.port):
        return False
    if target.sslmode not in ("require", "verify-ca", "verify-full"):
        return True
    try:
        context = tls_context(target, verify=target.verified, check_hostname=target.sslmode == "verify-full")
    except CheckError as error:
        diagnosis.failed("TLS", error.message, error.hint)
        return False
    return await probe_tls(diagnosis, target.host, target.port, context, upgrade=_ask_for_tls)


async def _ask_for_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_SSL_REQUEST)
    return await reader.readexactly(1) == b"S"


async def _rights(session: Session, config: PostgresConfig, diagnosis: Diagnosis) -> None:
    asked = time.time()
    ((role, monitors, theirs, timed, tracked),) = await session.fetch(_WHO)
    probe_clock(diagnosis, theirs, asked, time.time())
    if monitors:
        diagnosis.ok("pg_monitor", f"the role {role} has it")
    else:
        seen = f"the role {role} does not have it: what other sessions and users do stays hidden"
        diagnosis.failed("pg_monitor", seen, snippet=f"GRANT pg_monitor TO {identifier(role)};")
    if not tracked:
        diagnosis.warning("track_activities", "is off: nothing is known of sessions", snippet=_set("track_activities"))
    if not timed:
        hint = "blk_read_time and blk_write_time stay 0; see pg_test_timing for what it costs"
        diagnosis.info("track_io_timing", "is off", hint, _set("track_io_timing"))
    if config.databases is not None:
        await _databases(session, config, role, diagnosis)
    if config.statements is not None:
        await _statements(session, role, diagnosis)
    for query in config.queries:
        await _query(session, query, role, diagnosis)


def _set(name: str) -> str:
    return f"ALTER SYSTEM SET {name} = on;\nSELECT pg_reload_conf();"


async def _databases(session: Session, config: PostgresConfig, role: str, diagnosis: Diagnosis) -> None:
    assert config.databases is not None  # noqa: S101 - the caller has looked
    closed = config.databases.choose([row[0] for row in await session.fetch(_DATABASES)])
    if closed:
        grants = [f"GRANT CONNECT ON DATABASE {identifier(name)} TO {identifier(role)};" for name in closed]
        diagnosis.failed("databases", f"{role} may not connect to {', '.join(closed)}", snippet="\n".join(grants))
    else:
        diagnosis.ok("databases", f"{role} may connect to each")


async def _statements(session: Session, role: str, diagnosis: Diagnosis) -> None:
    what, dbname = "pg_stat_statements", session.target.dbname
    loaded = await session.fetch(_PRELOADED)
    if loaded and "pg_stat_statements" not in loaded[0][0]:
        libraries = ",".join(filter(None, (loaded[0][0], "pg_stat_statements")))
        snippet = f"ALTER SYSTEM SET shared_preload_libraries = {libraries};"
        diagnosis.failed(what, "the server has not loaded it", "then restart the server", snippet)
    found = await session.fetch(_EXTENSION)
    if not found:
        hint = f"as a superuser, in the database {dbname}"
        diagnosis.failed(what, f"{dbname} has no such extension", hint, "CREATE EXTENSION pg_stat_statements;")
        return
    ((schema, usable),) = found
    if not usable:
        snippet = f"GRANT USAGE ON SCHEMA {schema} TO {identifier(role)};"
        diagnosis.failed(what, f"{role} may not use its schema {schema}", f"in the database {dbname}", snippet)
        return
    try:
        await session.fetch(f"SELECT 1 FROM {schema}.pg_stat_statements(false) LIMIT 1")  # noqa: S608 - quoted by the server
    except exceptions.ObjectNotInPrerequisiteStateError:
        if not loaded:
            hint = "add it to shared_preload_libraries, beside what stands there, and restart the server"
            diagnosis.failed(what, "the server has not loaded it", hint)
    else:
        diagnosis.ok(what, f"in the schema {schema}")


async def _query(session: Session, query: QueryConfig, role: str, diagnosis: Diagnosis) -> None:
    what = f"query {query.name}"
    try:
        await session.fetch(_EXPLAIN + sent(query))
    except exceptions.InsufficientPrivilegeError as error:
        refused = denied_function(error)
        grants = await _grants(session, query.sql, identifier(role))
        grants += await _grants_to_call(session, query.sql, identifier(role), refused)
        hint = f"in the database {session.target.dbname}"
        if not grants:
            hint = f"grant the role what the query {'calls' if refused else 'reads'}"
        elif _share_a_name(grants):
            hint += "; of functions that share a name, only what the query calls is needed"
        diagnosis.failed(what, str(error), hint, "\n".join(dict.fromkeys(grants)))
    except (PostgresError, InterfaceError) as error:
        if not session.stands:
            raise
        found = refusal_of_own(error, "refused", session.target, len(_EXPLAIN))
        diagnosis.failed(what, found.message, found.hint)
    else:
        diagnosis.ok(what, "the role may read what it reads")


async def _grants(session: Session, sql: str, role: str) -> list[str]:
    """What lets the role read the relations behind FROM and JOIN, for those that it may not."""
    grants: dict[str, None] = {}
    for schema, name in _found(_READS, sql):
        for there, relation, usable, readable in await session.fetch(_DENIED, schema, name):
            if not usable:
                grants[f"GRANT USAGE ON SCHEMA {there} TO {role};"] = None
            if not readable:
                grants[f"GRANT SELECT ON {there}.{relation} TO {role};"] = None
    return list(grants)


async def _grants_to_call(session: Session, sql: str, role: str, refused: str) -> list[str]:
    """What lets the role call the functions in a query, and the one that was refused, which a view may call."""
    calls = _found(_CALLS, sql)
    if refused and all(name != refused for _, name in calls):
        calls = [*calls, ("*", refused)]
    grants: dict[str, None] = {}
    for schema, name in calls:
        for there, usable, callable_, function in await session.fetch(_UNCALLABLE, schema, name, refused):
            if not usable and schema != "*":  # a view's functions were looked up when it was made
                grants[f"GRANT USAGE ON SCHEMA {there} TO {role};"] = None
            if not callable_:
                grants[f"GRANT EXECUTE ON FUNCTION {there}.{function} TO {role};"] = None
    return list(grants)


def _share_a_name(grants: list[str]) -> bool:
    names = [grant.partition("(")[0].rpartition(".")[2] for grant in grants if " ON FUNCTION " in grant]
    return len(set(names)) < len(names)


def _found(pattern: re.Pattern[str], sql: str) -> list[tuple[str, str]]:
    """Schema (or nothing) and name of what a pattern finds in a query, outside of its texts and comments."""
    matches = pattern.finditer(mask_sql(sql, 2 * len(sql)))
    return list(dict.fromkeys((_folded(match[1] or ""), _folded(match[2])) for match in matches))


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def identifier(name: str) -> str:
    """The name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
