"""Statistics views as data: one declaration gives the SQL, the metrics and what to emit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vedette import Emit, Kind, Metric
from vedette.kit import Totals

Role = Literal["any", "primary", "standby"]
"""Which servers have something to say in a view."""

_MOST_CACHED = 50_000  # tag sets of one view
_TOTALS = (Kind.RATE, Kind.COUNTER)


@dataclass(frozen=True, slots=True)
class Column:
    """One metric and the SQL expression that gives its value.

    Attributes:
        metric: dotted name without `postgresql.`.
        kind: what the number means.
        sql: expression; its type must be one that Python has as int or float (cast numeric to int8 or float8). NULL
            emits nothing.
        help: one sentence for people.
        unit: as in Datadog's list.
        per: the second unit of a rate.
        since: first major version that has it.
        until: last major version that has it; 0 is open.
    """

    metric: str
    kind: Kind
    sql: str
    help: str
    unit: str = ""
    per: str = ""
    since: int = 0
    until: int = 0

    def on(self, version: int) -> bool:
        """Whether this major version has it."""
        return self.since <= version and (not self.until or version <= self.until)


@dataclass(frozen=True, slots=True)
class View:
    """One query of the check.

    Attributes:
        name: what findings call it: the view or function that it reads.
        columns: the metrics.
        source: what follows FROM.
        tags: tag key to SQL expression (text); NULL leaves the tag out.
        role: on which servers to ask.
        since: first major version that has it.
        until: last major version that has it; 0 is open.
        when: SQL condition without which the view has nothing to say, cheaper to find out than by asking it.
        local: whether it is about the database of the session, not about the server.
    """

    name: str
    columns: tuple[Column, ...]
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    role: Role = "any"
    since: int = 0
    until: int = 0
    when: str = ""
    local: bool = False

    def on(self, version: int, *, standby: bool) -> bool:
        """Whether to ask a server of this major version and role."""
        fits = self.role == "any" or (self.role == "standby") == standby
        return fits and self.since <= version and (not self.until or version <= self.until)

    def metrics(self) -> list[Metric]:
        """What the view's metrics are declared as."""
        keys = ("replication_role", *(("db",) if self.local else ()), *self.tags)
        return [Metric(f"postgresql.{one.metric}", one.kind, one.unit, one.help, keys, one.per) for one in self.columns]

    def prepare(self, version: int) -> PreparedView:
        """The view for servers of this major version."""
        columns = sorted((one for one in self.columns if one.on(version)), key=lambda one: one.kind in _TOTALS)
        chosen = [*self.tags.values(), *(column.sql for column in columns)]
        declared = {metric.name: metric for metric in self.metrics()}
        sql = f"SELECT {', '.join(chosen)} FROM {self.source}"  # noqa: S608
        rows = f"ARRAY(SELECT ROW(q.*) FROM ({sql}) q)"  # noqa: S608
        return PreparedView(
            self.name,
            sql,
            f"CASE WHEN {self.when} THEN {rows} END" if self.when else rows,
            tuple(self.tags),
            tuple(declared[f"postgresql.{column.metric}"] for column in columns),
            self.local,
        )


class PreparedView:
    """A view's SQL for one version, and the way from its rows to samples.

    Attributes:
        name: what findings call it.
        sql: the query.
        expression: an SQL expression that gives all rows as an array, or NULL, so that one query can read many views.
        local: whether it is about the database of the session.
    """

    __slots__ = ("_keys", "_levels", "_metrics", "_tag_sets", "_totals", "expression", "local", "name", "sql")

    def __init__(
        self,
        name: str,
        sql: str,
        expression: str,
        keys: tuple[str, ...],
        metrics: tuple[Metric, ...],
        local: bool = False,
    ) -> None:
        self.name = name
        self.sql = sql
        self.expression = expression
        self.local = local
        self._keys = keys
        self._levels = tuple(metric for metric in metrics if metric.kind not in _TOTALS)
        self._totals = tuple(metric for metric in metrics if metric.kind in _TOTALS)
        self._tag_sets: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def emit(self, rows: Iterable[Sequence[Any]], emit: Emit, base: tuple[str, ...], totals: Totals) -> None:
        """Emit each row's values, tagged with `base` and the row's own tags."""
        width = len(self._keys)
        middle = width + len(self._levels)
        for row in rows:
            values = tuple(row)
            tags = self._tags(base, values[:width]) if width else base
            if self._levels:
                emit.row(self._levels, values[width:middle], tags)
            if self._totals:
                emit.row(self._totals, totals.levels((self.name, tags), values[middle:]), tags)

    def _tags(self, base: tuple[str, ...], values: tuple[Any, ...]) -> tuple[str, ...]:
        key = (base, values)
        found = self._tag_sets.get(key)
        if found is None:
            if len(self._tag_sets) > _MOST_CACHED:
                self._tag_sets.clear()
            own = (f"{name}:{value}" for name, value in zip(self._keys, values, strict=True) if value is not None)
            found = self._tag_sets[key] = (*base, *own)
        return found
