"""Queries by fingerprint, from pg_stat_statements."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vedette import Metric
from vedette_checks.postgres.visit import Visit


class StatementsConfig(BaseModel):
    """`statements:`, what pg_stat_statements knows of the queries that take the most time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int = Field(50, description="Queries to tell apart; all others are `query_signature:other`.", ge=1, le=1000)


class Statements:
    """The part that reads pg_stat_statements.

    Args:
        config: its options.
    """

    metrics: tuple[Metric, ...] = ()
    everywhere = False

    def __init__(self, config: StatementsConfig) -> None:
        self._config = config

    async def collect(self, visit: Visit) -> None:
        """Read the totals of all queries and emit what came since the last run."""
