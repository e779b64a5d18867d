"""Floor 1: which metric names pass, and under what name (`metrics:` of an instance or a sink)."""

from __future__ import annotations

import re
from fnmatch import translate

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

_NAME = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)


class MetricFilter(BaseModel):
    """Which metrics to keep. Names may be glob patterns such as `redis.mem.*`; exclusion wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[str, ...] = Field(
        default=(), description="Keep only these metrics (glob patterns); empty keeps all.", examples=[["redis.mem.*"]]
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Drop these metrics (glob patterns).", examples=[["redis.command.*"]]
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="New names, old: new.", examples=[{"redis.mem.used": "cache.memory"}]
    )

    @field_validator("rename")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(map(_NAME.fullmatch, value.values())):
            raise PydanticCustomError("vedette", "must give every metric a name such as cache.memory")
        return value

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude or self.rename)

    def compile(self) -> NameFilter:
        """The filter ready for use."""
        return NameFilter(self)


class NameFilter:
    """A compiled `MetricFilter`; remembers its answers, which are few because metric names are few."""

    def __init__(self, options: MetricFilter) -> None:
        self._include = _union(options.include)
        self._exclude = _union(options.exclude)
        self._rename = options.rename
        self._known: dict[str, str | None] = {}

    def __call__(self, name: str) -> str | None:
        """The name to send this metric under, or None if it is to be dropped."""
        try:
            return self._known[name]
        except KeyError:
            answer = self._known[name] = self._decide(name)
            return answer

    def _decide(self, name: str) -> str | None:
        if self._include is not None and not self._include.match(name):
            return None
        if self._exclude is not None and self._exclude.match(name):
            return None
        return self._rename.get(name, name)


def _union(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns))) if patterns else None
