"""Options of the parts that have some; a module of its own, since the parts import what config.py defines."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

OTHER = "other"
"""Tag value of what has no place of its own: names beyond a limit, keys that match no pattern."""


class SlowlogConfig(BaseModel):
    """`slowlog:`, how to read the server's log of slow commands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(
        128, description="Read at most this many entries a run; what was beyond is counted as missed.", ge=1, le=10_000
    )


class ScanPattern(BaseModel):
    """One entry of `scan.patterns:`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str = Field(
        description="Glob pattern as Redis has it: `*`, `?`, `[a-z]`, `[^a]`, `\\`.",
        examples=["session:*"],
        min_length=1,
    )
    name: str = Field(
        "",
        description="Value of the tag `pattern`. Default: the pattern itself.",
        examples=["sessions"],
        max_length=100,
    )

    @field_validator("name")
    @classmethod
    def _free_name(cls, value: str) -> str:
        if value == OTHER:
            raise ValueError("is the name of what matches no pattern; choose another")
        return value

    @property
    def label(self) -> str:
        """Value of the tag `pattern`."""
        return self.name or self.pattern


class ScanConfig(BaseModel):
    """`scan:`, counting keys by pattern in a walk over the database that many runs may share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patterns: tuple[ScanPattern, ...] = Field(
        (),
        description="Patterns to count; a key counts for the first that it matches.",
        examples=[[{"pattern": "session:*", "name": "sessions"}, {"pattern": "cache:*"}]],
    )
    by_prefix: str = Field(
        "", description="Also count keys by what comes before this separator.", examples=[":"], max_length=10
    )
    prefixes: int = Field(
        100,
        description="Most prefixes to report, the frequent ones first; the rest is `prefix:other`.",
        ge=1,
        le=10_000,
    )
    budget: int = Field(10_000, description="Most keys to visit in a run, in a cluster in all.", ge=1000, le=1_000_000)

    @model_validator(mode="after")
    def _something_to_count(self) -> ScanConfig:
        if not self.patterns and not self.by_prefix:
            raise ValueError("counts nothing: give `patterns` or `by_prefix`")
        labels = [pattern.label for pattern in self.patterns]
        if len(set(labels)) < len(labels):
            raise ValueError("`patterns` has two of the same name")
        return self
