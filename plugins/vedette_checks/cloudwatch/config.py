"""The options of the cloudwatch check."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration
from vedette_checks.aws import AwsConfig
from vedette_checks.cloudwatch.names import COUNTS, is_statistic
from vedette_checks.cloudwatch.presets import PRESETS, known

_HIGH_RESOLUTION = (1, 5, 10, 30)
_IDENTIFIER = re.compile(r"[a-z][a-zA-Z0-9_]*")
_METRIC_NAME = re.compile(r"[A-Za-z][\w.]*")


def _period(value: float) -> float:
    if value not in _HIGH_RESOLUTION and (value % 60 or not value):
        raise PydanticCustomError("vedette", "must be 1s, 5s, 10s, 30s or whole minutes")
    return value


def _statistics(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(not is_statistic(one) for one in value):
        raise PydanticCustomError(
            "vedette", "must be statistics of CloudWatch: Average, Sum, Minimum, Maximum, SampleCount, p99, tm90, …"
        )
    return tuple(dict.fromkeys(value))


def _patterns(value: Mapping[str, str]) -> Mapping[str, str]:
    for pattern in value.values():
        try:
            re.compile(pattern)
        except re.error:
            raise PydanticCustomError("vedette", "holds something that is not a regular expression") from None
    return value


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("period", check_fields=False)
    @classmethod
    def _whole(cls, value: float) -> float:
        return _period(value)

    @field_validator("statistics", check_fields=False)
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _statistics(value)

    @field_validator("name", check_fields=False)
    @classmethod
    def _named(cls, value: str) -> str:
        if value and not _METRIC_NAME.fullmatch(value):
            raise PydanticCustomError("vedette", "must be the name of a metric, such as payments.queue.depth")
        return value


class StaticConfig(_Options):
    """One entry of `static:`, a metric that is known by name."""

    namespace: str = Field(description="Namespace of the metric.", examples=["AWS/RDS"], min_length=1)
    metric: str = Field(description="Name of the metric.", examples=["CPUUtilization"], min_length=1)
    dimensions: dict[str, str] = Field(
        default={},
        description="All dimensions of the metric.",
        examples=[{"DBInstanceIdentifier": "payments"}],
        max_length=30,
    )
    statistics: tuple[str, ...] = Field(
        (),
        description="Average, Sum, Minimum, Maximum, SampleCount, p99, … Default: the usual one of the metric.",
        examples=[["Average", "Maximum"]],
    )
    period: Duration = Field(60.0, description="Length of what a datapoint sums up: 1s, 5s, 10s, 30s or whole minutes.")
    name: str = Field(
        "", description="What to call it. Default: by namespace and metric.", examples=["payments.db.cpu"]
    )
    unit: str = Field("", description="Unit, for people.", examples=["percent"])
    nil_to_zero: bool = Field(False, description="A period without a datapoint is 0; only for `Sum` and `SampleCount`.")
    tags: tuple[str, ...] = Field((), description="Tags of this metric.", examples=[["role:primary"]])

    @model_validator(mode="after")
    def _countable(self) -> StaticConfig:
        _check_nil(self.nil_to_zero, self.statistics or (known(self.namespace, self.metric).statistic,))
        return self


class InputConfig(_Options):
    """A metric that an expression is about."""

    namespace: str = Field(description="Namespace of the metric.", examples=["AWS/ElastiCache"], min_length=1)
    metric: str = Field(description="Name of the metric.", examples=["CacheHits"], min_length=1)
    dimensions: dict[str, str] = Field(
        default={}, description="All dimensions of the metric.", examples=[{"CacheClusterId": "sessions-001"}]
    )
    statistic: str = Field("", description="Which one. Default: the usual one of the metric.", examples=["Sum"])

    @field_validator("statistic")
    @classmethod
    def _one(cls, value: str) -> str:
        return _statistics((value,))[0] if value else value


class MathConfig(_Options):
    """One entry of `math:`, a metric that CloudWatch computes of others."""

    name: str = Field(description="What to call the result.", examples=["aws.redis.cache_hit_rate"], min_length=1)
    expression: str = Field(
        description="Metric math over the names in `metrics`. `SEARCH` and Metrics Insights are not for it.",
        examples=["100 * hits / (hits + misses)"],
        min_length=1,
        max_length=2048,
    )
    metrics: dict[str, InputConfig] = Field(
        description="What the names in the expression stand for: small letter first.",
        examples=[
            {
                "hits": {"namespace": "AWS/ElastiCache", "metric": "CacheHits"},
                "misses": {"namespace": "AWS/ElastiCache", "metric": "CacheMisses"},
            }
        ],
        min_length=1,
        max_length=100,
    )
    period: Duration = Field(60.0, description="Length of what a datapoint sums up.")
    unit: str = Field("", description="Unit, for people.", examples=["percent"])
    tags: tuple[str, ...] = Field((), description="Tags of the result.", examples=[["cluster:sessions"]])

    @model_validator(mode="after")
    def _readable(self) -> MathConfig:
        if wrong := next((name for name in self.metrics if not _IDENTIFIER.fullmatch(name)), None):
            raise ValueError(f"metrics: {wrong} must begin with a small letter and hold letters, digits and _ only")
        if re.search(r"\bSEARCH\s*\(|^\s*SELECT\b", self.expression):
            raise ValueError("SEARCH and Metrics Insights give many series, whose names nobody knows: use `discover`")
        return self


class DiscoverConfig(_Options):
    """One entry of `discover:`, the metrics of all resources of a kind."""

    preset: Literal["rds", "elasticache", "sqs"] | None = Field(
        None, description="A kind that is known: `discover: [rds]` is short for `discover: [{preset: rds}]`."
    )
    namespace: str = Field("", description="Any other namespace.", examples=["AWS/ApplicationELB"])
    metrics: tuple[str, ...] = Field(
        (),
        description="Names of the metrics. Default: those of the preset.",
        examples=[["RequestCount", "TargetResponseTime"]],
    )
    statistics: tuple[str, ...] = Field(
        (), description="Of each metric. Default: the usual one.", examples=[["Average", "Maximum"]]
    )
    dimensions: tuple[str, ...] = Field(
        (), description="Only series with just these dimensions. Default: any.", examples=[["LoadBalancer"]]
    )
    match: dict[str, str] = Field(
        default={},
        description="Regular expressions, by dimension: the whole value must match.",
        examples=[{"DBInstanceIdentifier": "payments-.*"}],
    )
    exclude: dict[str, str] = Field(
        default={},
        description="The same, for what to leave out.",
        examples=[{"DBInstanceIdentifier": ".*-test"}],
    )
    match_tags: dict[str, str] = Field(
        default={}, description="The same, by tag of the resource.", examples=[{"env": "prod.*"}]
    )
    resource_types: tuple[str, ...] = Field(
        (),
        description="What the tagging API calls the resources. Default: those of the preset.",
        examples=[["elasticloadbalancing:loadbalancer"]],
    )
    resource_tags: tuple[str, ...] = Field(
        ("*",), description="Which tags of the resources become tags: names, `*` for all, none for none."
    )
    period: Duration = Field(60.0, description="Length of what a datapoint sums up.")
    nil_to_zero: bool = Field(
        False, description="A period without a datapoint is 0; only `Sum` and `SampleCount` are concerned."
    )
    tags: tuple[str, ...] = Field((), description="Tags of these metrics.", examples=[["team:payments"]])

    @field_validator("match", "exclude", "match_tags")
    @classmethod
    def _regular(cls, value: dict[str, str]) -> dict[str, str]:
        _patterns(value)
        return value

    @model_validator(mode="after")
    def _whole_job(self) -> DiscoverConfig:
        if (self.preset is None) == (not self.namespace):
            raise PydanticCustomError("vedette", "give either preset or namespace")
        if self.namespace and not self.metrics:
            raise PydanticCustomError("vedette", "metrics is needed with namespace: which of them to ask, by name")
        if self.match_tags and not self.types:
            raise PydanticCustomError("vedette", "match_tags needs resource_types")
        return self

    @property
    def space(self) -> str:
        """The namespace."""
        return PRESETS[self.preset].namespace if self.preset else self.namespace

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return self.metrics or (tuple(one.metric for one in PRESETS[self.preset].metrics) if self.preset else ())

    @property
    def shapes(self) -> tuple[tuple[str, ...], ...]:
        """Sets of dimension names, the preferred first; none if any will do."""
        if self.dimensions:
            return (tuple(sorted(self.dimensions)),)
        return PRESETS[self.preset].dimensions if self.preset else ()

    @property
    def types(self) -> tuple[str, ...]:
        """What the tagging API calls the resources."""
        return self.resource_types or (PRESETS[self.preset].resource_types if self.preset else ())

    @property
    def tagged(self) -> bool:
        """Whether the tagging API is to be asked."""
        return bool(self.types and (self.resource_tags or self.match_tags))


def _check_nil(nil_to_zero: bool, statistics: Iterable[str]) -> None:
    if nil_to_zero and not COUNTS.intersection(statistics):
        raise PydanticCustomError("vedette", "nil_to_zero goes with statistics that count: Sum or SampleCount")


def _one_job(value: Any) -> Any:
    """`rds` for `{preset: rds}`."""
    return {"preset": value} if isinstance(value, str) else value


Job = Annotated[
    DiscoverConfig,
    BeforeValidator(_one_job, json_schema_input_type=Literal["rds", "elasticache", "sqs"] | DiscoverConfig),
]


class CloudWatchConfig(AwsConfig):
    """One instance: jobs, how late CloudWatch is, and what it may cost."""

    example: ClassVar[tuple[str, ...]] = ("region", "discover")

    interval: Duration = Field(60.0, description="Time between runs.", examples=["60s"])
    discover: tuple[Job, ...] = Field(
        (),
        description="Metrics of all resources of a kind: `rds`, `elasticache`, `sqs`, or any namespace.",
        examples=[["rds", "elasticache", "sqs"]],
    )
    static: tuple[StaticConfig, ...] = Field((), description="Metrics that are known by name.")
    math: tuple[MathConfig, ...] = Field((), description="Metrics that CloudWatch computes of others.")
    discover_every: Duration = Field(600.0, description="Time between two looks at what resources there are.", ge=60)
    delay: Duration = Field(
        120.0, description="How long after its end a period is read: CloudWatch is minutes late.", ge=0, le=3600
    )
    reread: Duration = Field(
        600.0,
        description="How long back to look again: points that come late or were corrected are sent. Free of charge.",
        ge=0,
        le=86400,
    )
    catch_up: Duration = Field(10800.0, description="Most to make up for after a downtime.", ge=60, le=86400 * 14)
    series_limit: int = Field(
        2000, description="Most series to ask for, per region; what is beyond is left out and counted.", ge=1, le=50_000
    )
    state: bool = Field(True, description="With `rds` and `elasticache`: the state of each instance as a status.")
    state_every: Duration = Field(300.0, description="Time between two looks at states.", ge=30)
    price: float = Field(
        0.01, description="US dollars for 1,000 metrics requested of CloudWatch (GetMetricData).", ge=0, le=1000
    )
    max_monthly_usd: float | None = Field(
        None,
        description="What it may cost in a month; more makes `aws.cloudwatch.cost` a warning.",
        examples=[50],
        gt=0,
    )

    @model_validator(mode="after")
    def _something(self) -> CloudWatchConfig:
        if not (self.discover or self.static or self.math):
            raise PydanticCustomError("vedette", "nothing to ask: give discover, static or math")
        return self

    @property
    def cadence(self) -> float:
        """Seconds between two values of a series: the longest period, or the interval if that is longer."""
        jobs: list[DiscoverConfig | StaticConfig | MathConfig] = [*self.discover, *self.static, *self.math]
        return max(super().cadence, *(job.period for job in jobs))

    @property
    def watched(self) -> tuple[str, ...]:
        """The presets whose instances' states are asked for."""
        presets = {job.preset for job in self.discover if job.preset in ("rds", "elasticache")}
        return tuple(sorted(filter(None, presets))) if self.state else ()
