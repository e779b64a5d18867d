"""The user's own SQL: `queries:` says what to ask and what each column means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vedette import Duration, Metric
from vedette_checks.postgres.visit import Visit

ColumnType = Literal["gauge", "count", "counter", "rate", "tag"]


class QueryColumn(BaseModel):
    """One entry of `queries[].columns:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Name of the metric, or key of the tag.", examples=["shop.orders.open"], min_length=1)
    type: ColumnType = Field(
        description="What the column is: a `tag`, or a number: `gauge` a level, `count` a delta, `counter` a total that "
        "only grows, `rate` such a total seen as a per-second gauge."
    )
    unit: str = Field("", description="Unit, for people.", examples=["order"])
    help: str = Field("", description="One sentence for people.")


class QueryConfig(BaseModel):
    """One entry of `queries:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What findings call it.", examples=["open orders"], min_length=1, max_length=100)
    sql: str = Field(description="One SELECT.", examples=["SELECT status, count(*) FROM orders GROUP BY status"])
    columns: tuple[QueryColumn, ...] = Field(
        description="What each column of the result means, in order.",
        examples=[[{"name": "status", "type": "tag"}, {"name": "shop.orders", "type": "gauge"}]],
        min_length=1,
    )
    interval: Duration | None = Field(
        None, description="Time between two times of asking. Default: every run.", examples=["5m"]
    )
    limit: int = Field(100, description="Most rows to take.", ge=1, le=10_000)


class Queries:
    """The part that asks the user's queries.

    Args:
        queries: the entries of `queries:`.
    """

    everywhere = False

    def __init__(self, queries: Sequence[QueryConfig]) -> None:
        self._queries = queries
        self.metrics: tuple[Metric, ...] = ()

    async def collect(self, visit: Visit) -> None:
        """Ask those that are due."""
