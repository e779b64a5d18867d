"""Tables and indexes: `relations:` says which, and the part reads their statistics and sizes."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import Metric
from vedette_checks.postgres.findings import Finding
from vedette_checks.postgres.relation_views import INDEXES, SIZES, STANDBY_TABLES, TABLES
from vedette_checks.postgres.view import PreparedView
from vedette_checks.postgres.visit import Visit, spoken

Sort = Literal["table", "partitioned_table", "materialized_view", "index"]
"""A kind of relation: `relkind` of pg_class in words."""

_RELKINDS: dict[Sort, str] = {"table": "r", "partitioned_table": "p", "materialized_view": "m", "index": "i"}
_SYSTEM = re.compile(r"pg_catalog|information_schema|pg_toast(_temp_\d+)?|pg_temp_\d+")
_AT_A_TIME = 200  # rows: some 2 ms
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

_CHOOSE = """
WITH entry AS (
    SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
        AS entry (number, name, regex, schema, kinds, most)
)
SELECT number, count(*) AS found, array_agg(oid) FILTER (WHERE place <= most AND relkind <> 'i') AS tables,
    array_agg(oid) FILTER (WHERE place <= most AND relkind = 'i') AS indexes
FROM (
    SELECT entry.number, entry.most, r.oid, r.relkind,
        row_number() OVER (PARTITION BY entry.number ORDER BY r.relpages DESC, r.oid) AS place
    FROM pg_class r
    JOIN pg_namespace n ON n.oid = r.relnamespace
    LEFT JOIN pg_index x ON x.indexrelid = r.oid
    LEFT JOIN pg_class t ON t.oid = x.indrelid
    JOIN entry ON strpos(entry.kinds, r.relkind::text) > 0
        AND (entry.schema IS NULL OR n.nspname = entry.schema)
        AND (entry.name IS NULL OR entry.name IN (r.relname, t.relname))
        AND (entry.regex IS NULL OR r.relname ~ entry.regex OR t.relname ~ entry.regex)
    WHERE r.relkind IN ('r', 'p', 'm', 'i') AND r.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
) chosen
GROUP BY number
"""
_REGEX = "SELECT '' ~ $1"
_MEND = "correct its `regex`"


class RelationConfig(BaseModel):
    """One entry of `relations:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(
        None,
        description="Name of a table or index, without its schema. A table's name stands for its indexes too. Default: "
        "all, or those of `regex`.",
        examples=["accounts"],
        min_length=1,
    )
    regex: str | None = Field(
        None,
        description="Regular expression of PostgreSQL that the name of the table or index must match.",
        examples=["^pay_"],
    )
    schema_: str | None = Field(
        None,
        alias="schema",
        description="Schema. Default: all but the system's own.",
        examples=["public"],
        min_length=1,
    )
    kinds: tuple[Sort, ...] = Field(
        ("table", "materialized_view", "index"),
        description="Kinds of relations.",
        examples=[["table", "index"]],
        min_length=1,
    )
    limit: int = Field(100, description="Most relations of this entry, the largest first.", ge=1, le=10_000)

    @field_validator("name", "regex", "schema_")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("must not hold a NUL character")
        return value

    @field_validator("schema_")
    @classmethod
    def _of_users(cls, value: str | None) -> str | None:
        if value is not None and _SYSTEM.fullmatch(value):
            raise ValueError("is one of the system's own schemas, which are not reported on")
        return value

    @field_validator("regex")
    @classmethod
    def _sound(cls, value: str | None) -> str | None:
        if value is not None and (problem := regex_problem(value)):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> RelationConfig:
        if self.name is not None and self.regex is not None:
            raise ValueError("`name` and `regex` exclude each other")
        return self

    def describe(self, number: int) -> str:
        """What findings call it: its place in the list and what it says."""
        said = (("", self.name), ("~ ", self.regex), ("in ", self.schema_))
        return " ".join([f"relations[{number}]", *(f"{sign}{_clean(text)}" for sign, text in said if text is not None)])


def _distinct(entries: tuple[RelationConfig, ...]) -> tuple[RelationConfig, ...]:
    seen: dict[tuple[Any, ...], int] = {}
    for number, one in enumerate(entries):
        first = seen.setdefault((one.name, one.regex, one.schema_, frozenset(one.kinds)), number)
        if first != number:
            raise ValueError(f"entry {number} chooses the same as entry {first}")
    return entries


RelationConfigs = Annotated[tuple[RelationConfig, ...], AfterValidator(_distinct)]
"""The option `relations:`, no two entries of which choose the same."""


def regex_problem(pattern: str) -> str:
    """Why PostgreSQL would refuse a regular expression; empty if it would not, or if that cannot be told from here.

    Its dialect is not Python's (documentation, 9.7.3): a fault counts only if both read the pattern's brackets,
    parentheses and backslashes alike, and the fault is one to both.
    """
    if pattern.startswith("***") or re.match(r"\(\?[a-z]", pattern) or re.search(r"\(\?#|\[[:.=]|\\c", pattern):
        return ""
    if pattern[:1] in ("*", "+", "?"):
        return f"`{pattern[0]}` has nothing to repeat: this is a regular expression, `.*` matches anything"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        faults = ("missing )", "unbalanced parenthesis", "unterminated character set", "bad escape (end")
        return str(error) if error.msg.startswith(faults) else ""
    except (RecursionError, OverflowError):
        return ""
    return ""


class Relations:
    """The part that reads the statistics of chosen relations: four queries, however many relations there are.

    Args:
        chosen: the entries of `relations:`.
        alone: whether the instance has one database only, so that a relation that is not there is nowhere.
    """

    metrics: tuple[Metric, ...] = tuple(metric for view in (TABLES, INDEXES, SIZES) for metric in view.metrics())
    everywhere = True

    def __init__(self, chosen: Sequence[RelationConfig], *, alone: bool = True) -> None:
        self._chosen = {number: (one, one.describe(number)) for number, one in enumerate(chosen)}
        self._alone = alone
        self._proven: set[str] = set()
        self._prepared: dict[tuple[int, bool], tuple[PreparedView, PreparedView, PreparedView]] = {}

    async def collect(self, visit: Visit) -> None:
        """Find the relations, read their statistics and sizes."""
        found = await self._find(visit, await self._entries(visit))
        if found is None:
            return
        tables = sorted({oid for row in found for oid in row["tables"] or ()})
        indexes = sorted({oid for row in found for oid in row["indexes"] or ()})
        of_tables, of_indexes, of_both = self._views(visit)
        for view, oids in ((of_tables, tables), (of_indexes, indexes)):
            if oids:
                rows = await visit.rows(view.name, view.sql, oids) or ()
                await _emit(view, rows, visit)
        if tables or indexes:
            rows = await visit.rows(of_both.name, of_both.sql, [*tables, *indexes]) or ()
            _note_locked(visit, rows)
            await _emit(of_both, rows, visit)

    def _views(self, visit: Visit) -> tuple[PreparedView, PreparedView, PreparedView]:
        key = (visit.version, visit.standby)
        if key not in self._prepared:
            tables = STANDBY_TABLES if visit.standby else TABLES
            self._prepared[key] = (
                tables.prepare(visit.version),
                INDEXES.prepare(visit.version),
                SIZES.prepare(visit.version),
            )
        return self._prepared[key]

    async def _entries(self, visit: Visit) -> list[int]:
        """The entries whose regular expression the server accepts; it is asked once, as long as it does not refuse."""
        sound = []
        for number, (one, label) in self._chosen.items():
            if one.regex is not None and one.regex not in self._proven:
                told = len(visit.findings)
                if await visit.rows(label, _REGEX, one.regex) is None:
                    for place, finding in enumerate(visit.findings[told:], told):
                        visit.findings[place] = finding if finding.hint else replace(finding, hint=_MEND)
                    continue
                self._proven.add(one.regex)
            sound.append(number)
        return sound

    async def _find(self, visit: Visit, sound: Sequence[int]) -> Sequence[Any] | None:
        entries = [self._chosen[number][0] for number in sound]
        found = await visit.rows(
            "relations",
            _CHOOSE,
            sound,
            [one.name for one in entries],
            [one.regex for one in entries],
            [one.schema_ for one in entries],
            ["".join(_RELKINDS[kind] for kind in one.kinds) for one in entries],
            [one.limit for one in entries],
        )
        if found is not None:
            self._note_choice(visit, sound, {row["number"]: row["found"] for row in found})
        return found

    def _note_choice(self, visit: Visit, sound: Sequence[int], found: dict[int, int]) -> None:
        over, missing = [], []
        for number in sound:
            one, label = self._chosen[number]
            if (excess := found.get(number, 0) - one.limit) > 0:
                over.append(f"{excess} of {label}")
            elif self._alone and one.name is not None and number not in found:
                missing.append(label)
        if over:
            visit.findings.append(Finding(f"relations left out, the smallest: {spoken(over)}", "raise `limit`"))
        if missing:
            hint = "`name` goes without the schema; `kinds` and `schema` must fit"
            visit.findings.append(Finding(f"no such relation: {spoken(missing)}", hint))


async def _emit(view: PreparedView, rows: Sequence[Any], visit: Visit) -> None:
    """Emit the rows in helpings, between which the agent's other instances have their turn."""
    for start in range(0, len(rows), _AT_A_TIME):
        view.emit(rows[start : start + _AT_A_TIME], visit.emit, visit.place, visit.memory.totals)
        await asyncio.sleep(0)


def _note_locked(visit: Visit, rows: Sequence[Any]) -> None:
    locked = []
    for schema, table, _, index, *sizes in rows:
        if sizes.count(None) == len(sizes):
            locked.append(_clean(f"{schema}.{index or table}"))
    if locked:
        hint = "see who holds or awaits the lock: postgres.blocking and pg_locks"
        visit.findings.append(Finding(f"sizes not measured: locked exclusively: {spoken(sorted(locked))}", hint))


def _clean(text: str) -> str:
    return _CONTROL.sub("_", text)
