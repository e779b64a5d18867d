"""Tables and indexes: `relations:` says which, and the part reads their statistics and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vedette import Metric
from vedette_checks.postgres.visit import Visit

Sort = Literal["table", "partitioned_table", "materialized_view", "index"]
"""A kind of relation: `relkind` of pg_class in words."""


class RelationConfig(BaseModel):
    """One entry of `relations:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(
        None, description="Name of a relation. Default: all, or those of `regex`.", examples=["accounts"]
    )
    regex: str | None = Field(
        None, description="Regular expression of PostgreSQL that names must match.", examples=["^pay_"]
    )
    schema_: str | None = Field(
        None, alias="schema", description="Schema. Default: all but the system's own.", examples=["public"]
    )
    kinds: tuple[Sort, ...] = Field(
        ("table", "materialized_view", "index"), description="Kinds of relations.", examples=[["table", "index"]]
    )
    limit: int = Field(100, description="Most relations of this entry, the largest first.", ge=1, le=10_000)


class Relations:
    """The part that reads the statistics of chosen relations.

    Args:
        chosen: the entries of `relations:`.
    """

    metrics: tuple[Metric, ...] = ()
    everywhere = True

    def __init__(self, chosen: Sequence[RelationConfig]) -> None:
        self._chosen = chosen

    async def collect(self, visit: Visit) -> None:
        """Find the relations, read their statistics and sizes."""
