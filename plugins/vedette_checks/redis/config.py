"""The options of the redis check."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import CheckConfig, Duration
from vedette_checks.redis.address import ServerOptions
from vedette_checks.redis.names import METRICS
from vedette_checks.redis.options import ScanConfig, SlowlogConfig
from vedette_checks.redis.template import KeyTemplate
from vedette_checks.redis.topology import CLUSTER_METRICS, SENTINEL_METRICS, ClusterConfig

Read = Literal["get", "scard", "llen", "zcard", "zcount", "hget", "hlen", "xlen", "pfcount"]
"""How a counter's value is read: the Redis command of that name."""

_METRIC = re.compile(r"[a-zA-Z][a-zA-Z0-9_.]{0,199}", re.ASCII)
_OWN = frozenset(metric.name for metric in (*METRICS, *SENTINEL_METRICS, *CLUSTER_METRICS))

_EXAMPLE_COUNTERS: list[dict[str, Any]] = [
    {
        "metric": "dashboard.transactions.hourly",
        "key": "{dashboard}:hourly_transactions:{%Y%m%d%H%z}",
        "read": "get",
        "missing": 0,
        "unit": "transaction",
    },
    {
        "metric": "dashboard.transactions.daily",
        "key": "{dashboard}:daily_transactions:{%Y%m%d}",
        "read": "get",
        "missing": 0,
        "unit": "transaction",
    },
    {
        "metric": "dashboard.revenue.hourly",
        "key": "{dashboard}:hourly_revenue:{tag:currency}:{%Y%m%d%H%z}",
        "read": "get",
        "scale": 2,
        "missing": 0,
        "tags": ["currency:USD"],
        "unit": "currency",
    },
    {
        "metric": "dashboard.revenue.daily",
        "key": "{dashboard}:daily_revenue:{tag:currency}:{%Y%m%d}",
        "read": "get",
        "scale": 2,
        "missing": 0,
        "tags": ["currency:USD"],
        "unit": "currency",
    },
    {
        "metric": "dashboard.users.active_5min",
        "key": "{dashboard}:active_users",
        "read": "zcount",
        "window": "5m",
        "missing": 0,
        "unit": "user",
    },
    {
        "metric": "dashboard.users.active_1hour",
        "key": "{dashboard}:active_users",
        "read": "zcount",
        "window": "1h",
        "missing": 0,
        "unit": "user",
    },
]


class CounterConfig(BaseModel):
    """One entry of `counters:`: a number that an application keeps in Redis, reported as a metric."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    metric: str = Field(description="Name of the metric.", examples=["dashboard.transactions.hourly"])
    key: str = Field(
        description="Key to read. `{%Y%m%d%H}` is the time in `timezone` (strftime), `{tag:NAME}` the value of the "
        "counter's or the instance's tag NAME; any other braces are part of the key.",
        examples=["{dashboard}:hourly_transactions:{%Y%m%d%H%z}"],
        min_length=1,
    )
    read: Read = Field("get", description="The Redis command that reads the number.", examples=["zcount"])
    field: str | None = Field(None, description="Field of the hash, for `read: hget`.", examples=["total"])
    window: Duration | None = Field(
        None,
        description="For `read: zcount`: count the members whose score, in epoch seconds, is at most this old.",
        examples=["5m"],
        gt=0,
    )
    scale: int = Field(
        0,
        description="Shift the decimal point this many places to the left, exactly: 1234 with scale 2 is 12.34.",
        examples=[2],
        ge=0,
        le=18,
    )
    kind: Literal["gauge", "count", "counter", "rate"] = Field(
        "gauge",
        description="What the number means: `gauge` a level, `count` a delta, `counter` a total that only grows, "
        "`rate` such a total seen as a per-second gauge.",
    )
    missing: Literal[0] | None = Field(
        None, description="Report 0 where the key does not exist. Default: report nothing.", examples=[0]
    )
    tags: tuple[str, ...] = Field((), description="Tags of this metric.", examples=[["currency:EUR"]])
    unit: str = Field("", description="Unit, for people.", examples=["transaction"])

    @field_validator("metric")
    @classmethod
    def _metric_name(cls, value: str) -> str:
        if not _METRIC.fullmatch(value):
            raise ValueError("must be a dotted name of letters, digits and underscores, such as dashboard.users")
        if value in _OWN:
            raise ValueError("is a metric of the check itself; choose another name")
        return value

    @field_validator("key")
    @classmethod
    def _key_template(cls, value: str) -> str:
        KeyTemplate(value)
        return value

    @model_validator(mode="after")
    def _read_fits(self) -> CounterConfig:
        if (self.read == "hget") != (self.field is not None):
            raise ValueError("`read: hget` needs `field`, and only it may have one")
        if (self.read == "zcount") != (self.window is not None):
            raise ValueError("`read: zcount` needs `window`, and only it may have one")
        return self

    def template(self, instance_tags: tuple[str, ...]) -> KeyTemplate:
        """The key's template with its `{tag:…}` fields filled in.

        Raises:
            ValueError: a `{tag:…}` field names a tag that neither the counter nor the instance has.
        """
        return KeyTemplate(self.key).with_tags((*self.tags, *instance_tags))


class RedisConfig(ServerOptions, CheckConfig):
    """The options of one redis instance."""

    timezone: str = Field(
        "UTC",
        description="Time zone of `schedule` and of the `{%…}` fields of `counters`.",
        examples=["Europe/Berlin"],
    )
    cluster: ClusterConfig | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
        None, description="Watch all nodes of a cluster, instead of a host."
    )
    round_trip: bool = Field(
        True,
        description="Set, get and delete a unique key with a time to live at each run, and report how long that took.",
    )
    command_stats: bool = Field(False, description="Report calls and time per call of every command.")
    latency_percentiles: bool = Field(
        False, description="Report percentiles of the latency of every command (Redis 7 and later, Valkey)."
    )
    latency_events: bool = Field(
        False, description="Report what LATENCY LATEST says held the server up; it needs `latency-monitor-threshold`."
    )
    slowlog: SlowlogConfig | None = Field(
        None,
        description="Report the duration of each new entry of the slow log, by command. `{}` turns it on.",
        examples=[{"limit": 128}],
    )
    clients: bool = Field(False, description="Report connections by the client's name.")
    acl_log: bool = Field(False, description="Report how often the server denied what, by user.")
    streams: tuple[str, ...] = Field(
        (),
        description="Streams (names, not patterns) whose length, consumer groups and lag to report.",
        examples=[["orders", "mail:events"]],
    )
    scan: ScanConfig | None = Field(
        None,
        description="Count keys by pattern or prefix, in a walk with SCAN that goes on from run to run.",
        examples=[{"patterns": [{"pattern": "session:*", "name": "sessions"}], "by_prefix": ":"}],
    )
    tag_limit: int = Field(
        500,
        description="Most names of one kind (commands, databases, clients, groups, users) that become tags; the "
        "others are `other`.",
        ge=1,
    )
    keys: tuple[str, ...] = Field(
        (),
        description="Keys whose length to report (names, not patterns): items of a list, set, sorted set, hash or "
        "stream, bytes of a string.",
        examples=[["jobs", "mail:outbox"]],
    )
    counters: tuple[CounterConfig, ...] = Field(
        (), description="Numbers that an application keeps in Redis, as metrics.", examples=[_EXAMPLE_COUNTERS]
    )

    @field_validator("keys", "streams")
    @classmethod
    def _distinct_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("an empty string is no key")
        if len(set(value)) < len(value):
            raise ValueError("lists a key twice")
        return value

    @model_validator(mode="after")
    def _counters_fit(self) -> RedisConfig:
        kinds: dict[str, str] = {}
        for place, counter in enumerate(self.counters):
            try:
                counter.template(self.tags)
            except ValueError as error:
                raise ValueError(f"counters[{place}].key: {error}") from error
            if kinds.setdefault(counter.metric, counter.kind) != counter.kind:
                raise ValueError(f"counters[{place}].kind: the same metric has another kind further up")
        return self
