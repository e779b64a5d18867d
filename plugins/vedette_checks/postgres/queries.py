"""`queries:`, the user's own SQL: what to ask, what each column means, and how often."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from time import monotonic
from typing import Annotated, Any, Literal

from asyncpg import InterfaceError, PostgresError
from asyncpg.exceptions import QueryCanceledError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import Duration, Emit, Kind, Metric
from vedette.kit import cut_tag
from vedette_checks.postgres.findings import Finding, refusal_of_own
from vedette_checks.postgres.masking import bare_sql
from vedette_checks.postgres.visit import Visit

ColumnType = Literal["gauge", "count", "counter", "rate", "tag"]

_METRIC = re.compile(r"[a-zA-Z][a-zA-Z0-9_.]{0,199}", re.ASCII)
_TAG = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-/]{0,199}", re.ASCII)
_TAKEN = ("instance", "server", "port", "db", "replication_role")
_PARAMETER = re.compile(r"(?<![\w$])\$\d")
_LAST = re.compile(r";(?=(?:[\s;]|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*\Z)", re.DOTALL)
_BLANK = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*", re.DOTALL)
_VERB = re.compile(r"(select|with|values|table)\b", re.IGNORECASE)
_LONGEST_TAG = 200
_OPENING = "SELECT * FROM (\n"


class QueryColumn(BaseModel):
    """One entry of `queries[].columns:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Name of the metric, or key of the tag.", examples=["shop.orders.open"])
    type: ColumnType = Field(
        description="What the column is: a `tag`, or a number: `gauge` a level, `count` a delta, `counter` a total "
        "that only grows, `rate` such a total seen as a per-second gauge."
    )
    unit: str = Field("", description="Unit, for people.", examples=["order"])
    help: str = Field("", description="One sentence for people.")

    @model_validator(mode="after")
    def _well_named(self) -> QueryColumn:
        if self.type == "tag":
            if not _TAG.fullmatch(self.name):
                raise ValueError("`name` of a tag must be a letter, then letters, digits and any of _ . - /")
            if self.name in _TAKEN:
                raise ValueError(f"the check itself sets the tag {self.name}: choose another name")
        elif not _METRIC.fullmatch(self.name):
            raise ValueError("`name` of a metric must be a letter, then letters, digits, _ and dots")
        elif self.name.startswith("postgresql."):
            raise ValueError("names that begin with `postgresql.` are the check's own")
        return self


class QueryConfig(BaseModel):
    """One entry of `queries:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What findings call it.", examples=["open orders"], min_length=1, max_length=100)
    sql: str = Field(
        description="One SELECT (or WITH, VALUES, TABLE).",
        examples=["SELECT status, count(*) FROM orders GROUP BY status"],
    )
    columns: tuple[QueryColumn, ...] = Field(
        description="What each column of the result means, in order.",
        examples=[[{"name": "status", "type": "tag"}, {"name": "shop.orders", "type": "gauge"}]],
    )
    interval: Duration | None = Field(
        None, description="Time between two times of asking. Default: every run.", examples=["5m"], gt=0
    )
    limit: int = Field(100, description="Most rows to take.", ge=1, le=10_000)

    @field_validator("sql")
    @classmethod
    def _one_select(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("must not hold a NUL character")
        start = _BLANK.match(value)
        if start is None or not _VERB.match(value, start.end()):
            raise ValueError("must be a SELECT (or WITH, VALUES, TABLE): it only reads")
        bare = bare_sql(value).rstrip().rstrip(";")
        if ";" in bare:
            raise ValueError("must be one statement, without a ; in it")
        if _PARAMETER.search(bare):
            raise ValueError("takes a parameter ($1), and there is nobody to give it: write the value itself")
        return value

    @field_validator("columns")
    @classmethod
    def _distinct(cls, value: tuple[QueryColumn, ...]) -> tuple[QueryColumn, ...]:
        if all(column.type == "tag" for column in value):
            raise ValueError("has no number: give at least one column another type than tag")
        names = [column.name for column in value]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"has {repeated} twice")
        return value


def _fitting(queries: tuple[QueryConfig, ...]) -> tuple[QueryConfig, ...]:
    names = [query.name for query in queries]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two are called {repeated}; give each a name of its own")
    kinds: dict[str, str] = {}
    for query in queries:
        for column in query.columns:
            if column.type != "tag" and kinds.setdefault(column.name, column.type) != column.type:
                raise ValueError(f"{column.name} is a {kinds[column.name]} in one query, a {column.type} in another")
    return queries


QueryConfigs = Annotated[tuple[QueryConfig, ...], AfterValidator(_fitting)]
"""The option `queries:`."""


def sent(query: QueryConfig) -> str:
    """What is sent for a query: its rows, limited."""
    return f"{_OPENING}{_LAST.sub('', query.sql)}\n) q LIMIT {query.limit + 1}"


class Queries:
    """The part that asks the user's queries.

    Args:
        queries: the entries of `queries:`.
        interval: seconds between two runs; one that is due within half of that is asked.
        clock: monotonic seconds.
    """

    everywhere = False

    def __init__(
        self, queries: Sequence[QueryConfig], interval: float = 0.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self.metrics: tuple[Metric, ...] = tuple(_declared(queries))
        self._asks = [_Ask(query) for query in queries]
        self._slack = interval / 2
        self._clock = clock

    async def collect(self, visit: Visit) -> None:
        """Ask those that are due: first those that found no time in the last runs."""
        turns, first = visit.memory.turns, True
        for ask in sorted(self._asks, key=lambda ask: turns.last(ask.name)):
            if not ask.is_due(self._clock() + self._slack) or not visit.can_ask(ask.name):
                continue
            if await ask.collect(visit) or first:  # the first one had all the time that there was
                turns.note(ask.name)
                ask.done(self._clock())
            first = False


class _Ask:
    """One query, when it is due, and what its rows say."""

    def __init__(self, query: QueryConfig) -> None:
        self.name = f"query {query.name}"
        self._query = query
        self._sql = sent(query)
        self._due: float | None = None

    def is_due(self, now: float) -> bool:
        return self._due is None or now >= self._due

    def done(self, now: float) -> None:
        every = self._query.interval or 0.0
        due = now if self._due is None else self._due
        self._due = due + every if due + every > now else now + every

    async def collect(self, visit: Visit) -> bool:
        """Ask and emit; returns whether it had the time that it may take."""
        within = visit.left
        try:
            rows = await visit.attempt_apart(self._sql, within)
        except (ValueError, ArithmeticError):
            hint = "cast it to float8, or leave out what is infinite"
            visit.findings.append(Finding(f"{self.name}: a value is too large for the driver", hint))
            return True
        if isinstance(rows, QueryCanceledError) and within < visit.statement_timeout:
            text = f"{self.name}: not done in the {within:.2g}s that the run had left"
            visit.findings.append(Finding(text, "the next run begins with it; raise `timeout`, or make it faster"))
            return False
        if isinstance(rows, PostgresError | InterfaceError):
            visit.findings.append(refusal_of_own(rows, self.name, visit.target, len(_OPENING)))
        elif rows:
            self._take(rows, visit)
        return True

    def _take(self, rows: Sequence[Any], visit: Visit) -> None:
        name, query = self.name, self._query
        if len(rows[0]) != len(query.columns):
            text = f"{name}: returns {len(rows[0])} columns, `columns` names {len(query.columns)}"
            visit.findings.append(Finding(text, "name each column in order"))
            return
        if len(rows) > query.limit:
            hint = "raise its `limit`, or ask for fewer"
            visit.findings.append(Finding(f"{name}: more than {query.limit} rows; the rest is left out", hint))
        found = dict.fromkeys(wrong for row in rows[: query.limit] for wrong in self._emit(row, visit))
        visit.findings.extend(Finding(f"{name}: {text}", hint) for text, hint in found)
        self._note_repeated(visit, name, rows[: query.limit])

    def _emit(self, row: Sequence[Any], visit: Visit) -> Iterator[tuple[str, str]]:
        """Emit one row; yields what is wrong with its values, each with a hint."""
        columns = self._query.columns
        tags = (*visit.place, *self._tags(row))
        for column, value in zip(columns, row, strict=True):
            if column.type == "tag" or value is None:
                continue
            if isinstance(value, timedelta):
                value = value.total_seconds()
            if not isinstance(value, int | float | Decimal):
                yield f"{column.name} is {type(value).__name__}, not a number", "cast it to a number, such as ::float8"
            elif not isfinite(value):
                yield f"{column.name} is NaN or infinite, which no metric can be", "leave such rows out"
            else:
                _send(visit.emit, column, value, tags)

    def _tags(self, row: Sequence[Any]) -> Iterator[str]:
        for column, value in zip(self._query.columns, row, strict=True):
            if column.type == "tag" and value is not None:
                yield f"{column.name}:{cut_tag(str(value), _LONGEST_TAG)}"

    def _note_repeated(self, visit: Visit, name: str, rows: Sequence[Any]) -> None:
        if all(column.type in ("tag", "count") for column in self._query.columns):
            return  # they add up
        if len({tuple(self._tags(row)) for row in rows}) < len(rows):
            hint = "make what tells them apart a tag, or GROUP BY the tags"
            visit.findings.append(Finding(f"{name}: several rows have the same tags; the last one counts", hint))


def _send(emit: Emit, column: QueryColumn, value: float | Decimal, tags: tuple[str, ...]) -> None:
    send = {"gauge": emit.gauge, "count": emit.count, "counter": emit.counter, "rate": emit.rate}[column.type]
    send(column.name, value, tags)


def _declared(queries: Sequence[QueryConfig]) -> Iterator[Metric]:
    """Each metric once, with the tags of all queries that emit it."""
    keys: dict[str, dict[str, None]] = {}
    first: dict[str, QueryColumn] = {}
    for query in queries:
        own = [column.name for column in query.columns if column.type == "tag"]
        for column in query.columns:
            if column.type != "tag":
                first.setdefault(column.name, column)
                keys.setdefault(column.name, {"replication_role": None, "db": None}).update(dict.fromkeys(own))
    for name, column in first.items():
        yield Metric(name, Kind(column.type), column.unit, column.help, tuple(keys[name]))
