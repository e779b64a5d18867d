"""What the columns of a result mean, and how rows become samples: money exact, NULL absent, all within a budget."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Context, Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vedette import Kind, Metric
from vedette.kit import Budget, cut_tag

METRIC = re.compile(r"[a-zA-Z][a-zA-Z0-9_.]{0,199}", re.ASCII)
_TAG = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-/]{0,199}", re.ASCII)
_LONGEST_TAG = 200
_WIDE = Context(prec=200)  # Python's own rounds to 28 digits


class ColumnConfig(BaseModel):
    """One entry of `queries[].columns`: the column's name to what it means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["gauge", "count", "histogram", "tag"] = Field(
        "gauge",
        description="A `tag`, or a number: a `gauge` is a level, a `count` how many, a `histogram` an observation.",
    )
    metric: str = Field(
        "", description="Name of the metric.", examples=["business.hourly.transaction_volume"], max_length=200
    )
    tag: str = Field(
        "", description="Key of the tag. Default: the column's name.", examples=["currency"], max_length=200
    )
    scale: int = Field(
        0, description="Decimals that the number has without a point: 2 for cents, so that 1234 is 12.34.", ge=0, le=18
    )
    round: int | None = Field(
        None,
        description="Round to so many decimals, half to even: for what a database can only sum as floating point.",
        examples=[2],
        ge=0,
        le=18,
    )
    currency: str = Field(
        "", description="Currency of the amount: adds the tag `currency`.", examples=["EUR"], pattern=r"^([A-Z]{3})?$"
    )
    unit: str = Field("", description="Unit, for people.", examples=["transaction"])
    help: str = Field("", description="One sentence for people.")

    @model_validator(mode="after")
    def _fitting(self) -> ColumnConfig:
        if self.type == "tag":
            if self.metric or self.scale or self.round is not None or self.currency:
                raise ValueError("a tag has no metric, scale, round or currency")
            if self.tag and not _TAG.fullmatch(self.tag):
                raise ValueError("`tag` must be a letter, then letters, digits and any of _ . - /")
        elif not METRIC.fullmatch(self.metric):
            raise ValueError("`metric` is needed: a letter, then letters, digits, _ and dots")
        elif self.metric.startswith("business_sql."):
            raise ValueError("names that begin with `business_sql.` are the check's own")
        elif self.tag:
            raise ValueError("`tag` goes with `type: tag`")
        return self


Columns = Mapping[str, ColumnConfig]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a result.

    Attributes:
        name: the metric.
        kind: gauge, count or histogram.
        value: exact where the database was.
        tags: `key:value`.
    """

    name: str
    kind: Kind
    value: int | float | Decimal
    tags: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """What the rows of one query say.

    Attributes:
        points: the values.
        rows: how many rows there were.
        cut: rows and tag sets that were left out, at least.
        wrong: what is wrong with them, each sentence once.
    """

    points: list[Point] = field(default_factory=list)
    rows: int = 0
    cut: int = 0
    wrong: dict[str, None] = field(default_factory=dict)


def read(
    columns: Columns,
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    limit: int,
    budget: Budget,
    tags: Iterable[str],
) -> Reading:
    """The values of a result.

    Args:
        columns: what they mean.
        names: of the result's columns.
        rows: one more than `limit` if there are more.
        limit: most rows to use.
        budget: of tag sets.
        tags: of the query.
    """
    reading = Reading(rows=min(len(rows), limit))
    missing = [name for name in columns if name not in names]
    if missing:
        reading.wrong[f"the result has no column {missing[0]}; it has {', '.join(names[:20])}"] = None
        return reading
    if len(rows) > limit:
        reading.cut += len(rows) - limit  # at least: where the query itself is limited nobody counts the rest
        reading.wrong[f"more than {limit} rows, the rest is left out; raise `limit`, or group by fewer tags"] = None
    places = [(names.index(name), name, column) for name, column in columns.items()]
    seen: set[tuple[str, ...]] = set()
    for row in rows[:limit]:
        own = (*tags, *_tags(places, row))
        if not budget.admit(own):
            reading.cut += 1
            reading.wrong[f"more than {budget.limit} tag sets, the rest is left out; raise `tag_limit`"] = None
            continue
        if own in seen:
            reading.wrong["several rows have the same tags: make what tells them apart a tag, or GROUP BY the tags"] = (
                None
            )
        seen.add(own)
        reading.points.extend(_points(places, row, own, reading))
    return reading


def _tags(places: Sequence[tuple[int, str, ColumnConfig]], row: Sequence[Any]) -> Iterator[str]:
    for place, name, column in places:
        if column.type == "tag" and row[place] is not None:
            yield f"{column.tag or name}:{cut_tag(str(row[place]), _LONGEST_TAG)}"


def _points(
    places: Sequence[tuple[int, str, ColumnConfig]], row: Sequence[Any], tags: tuple[str, ...], reading: Reading
) -> Iterator[Point]:
    for place, name, column in places:
        value = row[place]
        if column.type == "tag" or value is None:
            continue
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if not isinstance(value, int | float | Decimal):
            reading.wrong[f"{name} is {type(value).__name__}, not a number; cast it"] = None
            continue
        if value != value or value in (float("inf"), float("-inf")):
            reading.wrong[f"{name} is NaN or infinite, which no metric can be"] = None
            continue
        own = (*tags, f"currency:{column.currency}") if column.currency else tags
        yield Point(column.metric, Kind(column.type), exact(value, column), own)


def exact(value: int | float | Decimal, column: ColumnConfig) -> int | float | Decimal:
    """The number with its decimals: minor units made whole units, floating point rounded if asked for."""
    if isinstance(value, bool):
        return int(value)
    if not column.scale and column.round is None:
        return value
    made = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if column.scale:
        made = _WIDE.scaleb(made, -column.scale)
    return made if column.round is None else _WIDE.quantize(made, Decimal(1).scaleb(-column.round))


def declared(queries: Iterable[tuple[Columns, Iterable[str]]]) -> Iterator[Metric]:
    """Each metric once, with the tag keys of all queries that emit it.

    Args:
        queries: the columns and the tags of each.
    """
    keys: dict[str, dict[str, None]] = {}
    first: dict[str, ColumnConfig] = {}
    for columns, tags in queries:
        own = [column.tag or name for name, column in columns.items() if column.type == "tag"]
        own += [tag.partition(":")[0] for tag in tags]
        for column in columns.values():
            if column.type == "tag":
                continue
            first.setdefault(column.metric, column)
            more = ["currency"] if column.currency else []
            keys.setdefault(column.metric, {}).update(dict.fromkeys([*own, *more]))
    for name, column in first.items():
        yield Metric(name, Kind(column.type), column.unit, column.help, tuple(keys[name]))
