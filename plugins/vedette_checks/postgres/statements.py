"""`statements:`, queries by fingerprint: what the extension pg_stat_statements counted since the last run.

Source: PostgreSQL documentation, F.30 pg_stat_statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from heapq import nlargest
from time import monotonic
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vedette import Kind, Metric
from vedette_checks.postgres.findings import Finding
from vedette_checks.postgres.masking import canonical_sql, mask_sql
from vedette_checks.postgres.visit import Visit

OTHER = "other"
_NAME = "pg_stat_statements"
_HALF_LIFE = 600.0  # seconds after which time spent counts half in who is at the top
_MOST_REMEMBERED = 10_000  # fingerprints
_LONGEST_LOG = 1_000
_TAGS = ("replication_role", "query_signature", "db", "user")
_BLOCKS = (
    ("shared_blks_hit", "Shared blocks found in the cache by a query."),
    ("shared_blks_read", "Shared blocks read by a query."),
    ("shared_blks_dirtied", "Shared blocks dirtied by a query."),
    ("shared_blks_written", "Shared blocks written by a query."),
    ("local_blks_hit", "Local blocks found in the cache by a query."),
    ("local_blks_read", "Local blocks read by a query."),
    ("local_blks_dirtied", "Local blocks dirtied by a query."),
    ("local_blks_written", "Local blocks written by a query."),
    ("temp_blks_read", "Temporary blocks read by a query."),
    ("temp_blks_written", "Temporary blocks written by a query."),
)
_TIMES = (
    ("blk_read_time", "Time a query spent reading blocks (`track_io_timing`)."),
    ("blk_write_time", "Time a query spent writing blocks (`track_io_timing`)."),
)
_COUNTED = (
    Metric("postgresql.queries.count", Kind.COUNT, "query", "Calls of a query.", _TAGS),
    Metric("postgresql.queries.time", Kind.COUNT, "nanosecond", "Time spent on a query.", _TAGS),
    Metric("postgresql.queries.rows", Kind.COUNT, "row", "Rows that a query returned or changed.", _TAGS),
    *(Metric(f"postgresql.queries.{name}", Kind.COUNT, "block", text, _TAGS) for name, text in _BLOCKS),
    *(Metric(f"postgresql.queries.{name}", Kind.COUNT, "nanosecond", text, _TAGS) for name, text in _TIMES),
)
_TIME = 1
"""The place of queries.time among what is counted."""
_DEALLOC = Metric(
    "postgresql.pg_stat_statements.dealloc",
    Kind.COUNTER,
    "",
    "Times that queries were forgotten because there were more than pg_stat_statements.max.",
    ("replication_role",),
)
_WHERE = """
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""
_NAMES = "SELECT oid::int8, rolname::text FROM pg_roles UNION ALL SELECT oid::int8, datname::text FROM pg_database"

Key = tuple[int, int, int, bool]
"""Which entry: ids of user and database, queryid, whether a client sent it (and not a function)."""


class StatementsConfig(BaseModel):
    """`statements:`, what pg_stat_statements knows of the queries that take the most time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int = Field(
        50, description="Queries to tell apart, by time spent; all others are `query_signature:other`.", ge=1, le=1000
    )
    rows: int = Field(
        5000,
        description="Most entries to read, by time spent: the `pg_stat_statements.max` of the server, or less.",
        ge=100,
        le=100_000,
    )


def fingerprint(text: str) -> str:
    """16 hex digits that stand for a query on every server: see `canonical_sql`."""
    return blake2b(canonical_sql(text).encode(), digest_size=8).hexdigest()


class Growth:
    """What each entry counted from one reading to the next.

    An entry that counts less than before began anew in between, so that all it has now is new. One that is seen for the
    first time is new, unless the reading before did not go as far. The first reading of a life of the server counts
    nothing.
    """

    def __init__(self) -> None:
        self._life: object = None
        self._last: dict[Key, tuple[float, ...]] = {}
        self._whole = False

    def since(
        self, entries: Iterable[tuple[Any, ...]], life: object, *, whole: bool
    ) -> list[tuple[Key, Sequence[float]]]:
        """The entries that were called since the last reading, and what they counted.

        Args:
            entries: the key's four parts and the totals, number of calls first.
            life: what tells one life of the server from the next.
            whole: whether these are all entries that there are.
        """
        last, known = self._last, life == self._life
        now: dict[Key, tuple[float, ...]] = {}
        grown: list[tuple[Key, Sequence[float]]] = []
        for entry in entries:
            key, totals = entry[:4], entry[4:]
            now[key] = totals
            before = last.get(key) if known else None
            if before is None:
                if known and self._whole:
                    grown.append((key, totals))
            elif before[0] != totals[0]:
                growth = [new - old for new, old in zip(totals, before, strict=True)]
                grown.append((key, totals if min(growth) < 0 else growth))
        self._last, self._life, self._whole = now, life, whole
        return grown


class Ranking:
    """Which entries are told apart: those that took the most time, of which the older counts less and less.

    It makes who is at the top change slowly, so that few series come and go in a day.

    Args:
        top: how many.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._scores: dict[Key, float] = {}
        self._at = 0.0

    def choose(self, grown: Iterable[tuple[Key, Sequence[float]]], now: float) -> set[Key]:
        """Those at the top, given what the entries counted since the last time.

        Args:
            grown: entries and what they counted.
            now: monotonic seconds.
        """
        faded = 0.5 ** ((now - self._at) / _HALF_LIFE)
        scores = {key: score * faded for key, score in self._scores.items() if score * faded > 1e-3}
        for key, growth in grown:
            scores[key] = scores.get(key, 0.0) + growth[_TIME]
        self._scores, self._at = scores, now
        return set(nlargest(self._top, scores, key=scores.__getitem__))


class Statements:
    """The part that reads pg_stat_statements. The texts of queries are read only when one is new at the top.

    Args:
        config: its options.
    """

    metrics: tuple[Metric, ...] = (*_COUNTED, _DEALLOC)
    everywhere = False

    def __init__(self, config: StatementsConfig) -> None:
        self._config = config
        self._schema = ""
        self._growth = Growth()
        self._ranking = Ranking(config.top)
        self._signatures: dict[int, str] = {}
        self._told: set[str] = set()
        self._names: dict[int, str] = {}

    async def collect(self, visit: Visit) -> None:
        """Read the totals of all queries and emit what came since the last run."""
        if not self._schema and not await self._find(visit):
            return
        rows = await visit.rows(_NAME, _select(self._schema, visit.version), self._config.rows)
        if rows is None:
            self._schema = ""  # it may have moved
            return
        entries, dealloc = rows[0]
        readable = [entry for entry in entries if entry[2] is not None]
        self._note(visit, len(entries), len(readable))
        if dealloc is not None:
            (total,) = visit.memory.totals.levels(_NAME, (dealloc,))
            visit.emit.counter(_DEALLOC.name, total, visit.tags)
        grown = self._growth.since(readable, visit.started, whole=len(entries) < self._config.rows)
        top = self._ranking.choose(grown, monotonic())
        await self._learn(visit, [key for key, _ in grown if key in top])
        self._emit(visit, grown, top)

    async def _find(self, visit: Visit) -> bool:
        rows = await visit.rows("pg_extension", _WHERE)
        if rows:
            self._schema = rows[0][0]
        elif rows is not None:
            hint = "CREATE EXTENSION pg_stat_statements, and preload it: shared_preload_libraries"
            visit.findings.append(Finding("statements: this database has no extension pg_stat_statements", hint))
        return bool(rows)

    def _note(self, visit: Visit, found: int, readable: int) -> None:
        if found > readable:
            user = visit.target.username or "the role"
            text = f"statements: {user} may not see the queries of other users"
            visit.findings.append(Finding(text, f"GRANT pg_monitor TO {user}"))
        if found >= self._config.rows:
            text = f"statements: there are more than {found}; the least of them are not counted"
            visit.findings.append(Finding(text, "raise `statements.rows`"))

    async def _learn(self, visit: Visit, keys: Sequence[Key]) -> None:
        """Find out the texts and names behind keys that are told apart for the first time."""
        unknown = {key[2] for key in keys} - self._signatures.keys()
        if unknown:
            texts = dict(await visit.rows(_NAME, _texts(self._schema), list(unknown)) or ())
            if len(self._signatures) > _MOST_REMEMBERED:
                self._signatures.clear()
            for queryid, text in texts.items():
                self._tell(visit, queryid, mask_sql(text, len(text)))
        if any(one not in self._names for key in keys for one in key[:2]):
            self._names = dict(await visit.rows("pg_roles", _NAMES) or ())

    def _tell(self, visit: Visit, queryid: int, text: str) -> None:
        """Say once what a fingerprint stands for."""
        signature = self._signatures[queryid] = fingerprint(text)
        if signature in self._told:
            return
        if len(self._told) > _MOST_REMEMBERED:
            self._told.clear()
        self._told.add(signature)
        shown = text if len(text) <= _LONGEST_LOG else f"{text[: _LONGEST_LOG - 1]}…"
        visit.emit.log(shown, tags=(*visit.tags, f"query_signature:{signature}"), query_signature=signature)

    def _emit(self, visit: Visit, grown: Iterable[tuple[Key, Sequence[float]]], top: set[Key]) -> None:
        series: dict[tuple[str, ...], list[float]] = {}
        for key, growth in grown:
            tags = self._tags(key) if key in top else (f"query_signature:{OTHER}",)
            sums = series.setdefault(tags, [0] * len(_COUNTED))
            for place, value in enumerate(growth):
                sums[place] += value
        for tags, sums in series.items():
            for metric, value in zip(_COUNTED, sums, strict=True):
                if value:
                    exact = round(value * 1e6) if metric.unit == "nanosecond" else value
                    visit.emit.count(metric.name, exact, (*visit.tags, *tags))

    def _tags(self, key: Key) -> tuple[str, ...]:
        user, database, queryid, _ = key
        signature = self._signatures.get(queryid, f"{queryid & 0xFFFF_FFFF_FFFF_FFFF:016x}")
        names: Mapping[int, str] = self._names
        return (f"query_signature:{signature}", f"db:{names.get(database, database)}", f"user:{names.get(user, user)}")


def _select(schema: str, version: int) -> str:
    """All totals at once, those that took the most time first; NULL in place of a queryid we may not see."""
    prefix = "shared_" if version >= 17 else ""
    top = "toplevel" if version >= 14 else "true"
    blocks = ", ".join(name for name, _ in _BLOCKS)
    times = ", ".join(f"{prefix}{name}" for name, _ in _TIMES)
    dealloc = f"(SELECT dealloc FROM {schema}.pg_stat_statements_info)" if version >= 14 else "NULL::int8"  # noqa: S608
    return f"""
SELECT ARRAY(
    SELECT ROW(userid::int8, dbid::int8, queryid, {top}, calls, total_exec_time, rows, {blocks}, {times})
    FROM {schema}.pg_stat_statements(false) ORDER BY total_exec_time DESC LIMIT $1
), {dealloc}
"""  # noqa: S608


def _texts(schema: str) -> str:
    """The texts of some queries; the server reads its whole file of texts for that."""
    return (
        f"SELECT queryid, min(query) FROM {schema}.pg_stat_statements(true)"  # noqa: S608
        " WHERE queryid = ANY($1::int8[]) GROUP BY queryid"
    )
