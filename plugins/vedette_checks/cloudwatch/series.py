"""What is asked of CloudWatch: metrics, statistics of them, expressions over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from vedette import Kind, Metric
from vedette_checks.cloudwatch.config import CloudWatchConfig, DiscoverConfig, MathConfig, StaticConfig
from vedette_checks.cloudwatch.names import COUNTS, dimension_keys, dimension_tags, metric_name, snake
from vedette_checks.cloudwatch.presets import known

Dimensions = tuple[tuple[str, str], ...]
"""Sorted pairs of name and value."""


@dataclass(frozen=True, slots=True)
class Source:
    """One metric of CloudWatch: what it charges for, by the request.

    Attributes:
        namespace: such as `AWS/RDS`.
        metric: such as `CPUUtilization`.
        dimensions: all of them.
    """

    namespace: str
    metric: str
    dimensions: Dimensions = ()


@dataclass(frozen=True, slots=True)
class Read:
    """A statistic of a metric, with the name that an expression has for it."""

    source: Source
    statistic: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One series that is emitted.

    Attributes:
        region: where it is.
        name: the name to emit.
        tags: its tags.
        period: seconds that a datapoint sums up.
        reads: the statistic, or what the expression is about.
        expression: metric math; empty where the one statistic is the value.
        nil_to_zero: whether a period without a datapoint is 0.
        key: short, and the same after a restart.
        group: what is read in step with it.
    """

    region: str
    name: str
    tags: tuple[str, ...]
    period: int
    reads: tuple[Read, ...]
    expression: str = ""
    nil_to_zero: bool = False
    key: str = ""
    group: str = ""

    @property
    def queries(self) -> int:
        """How many of the 500 queries of a call it takes."""
        return len(self.reads) + bool(self.expression)


def make(
    region: str,
    name: str,
    tags: tuple[str, ...],
    period: float,
    reads: tuple[Read, ...],
    expression: str = "",
    nil_to_zero: bool = False,
) -> Series:
    """A series, its key made of everything that tells it from others."""
    told = repr((region, name, tags, int(period), reads, expression)).encode()
    key = blake2b(told, digest_size=8).hexdigest()
    group = f"{region}/{int(period)}"
    return Series(region, name, tags, int(period), reads, expression, nil_to_zero, key, group)


def of_source(
    job: StaticConfig | DiscoverConfig, region: str, source: Source, tags: tuple[str, ...] = ()
) -> Iterator[Series]:
    """The series of one metric: one for each statistic."""
    usual = known(source.namespace, source.metric).statistic
    made = (f"region:{region}", *dimension_tags(source.dimensions), *job.tags, *tags)
    for statistic in job.statistics or (usual,):
        name = metric_name(source.namespace, source.metric, statistic, usual)
        if isinstance(job, StaticConfig) and job.name:
            name = named(job, statistic)
        nil = job.nil_to_zero and statistic in COUNTS
        yield make(region, name, made, job.period, (Read(source, statistic),), nil_to_zero=nil)


def named(job: StaticConfig, statistic: str) -> str:
    """The name that the configuration gives: the first statistic has it, others their suffix."""
    first = job.statistics[0] if job.statistics else statistic
    return job.name if statistic == first else f"{job.name}.{snake(statistic)}"


def fixed(config: CloudWatchConfig, region: str) -> Iterator[Series]:
    """The series of `static` and `math`."""
    for job in config.static:
        yield from of_source(job, region, Source(job.namespace, job.metric, tuple(sorted(job.dimensions.items()))))
    for one in config.math:
        yield _computed(one, region)


def _computed(job: MathConfig, region: str) -> Series:
    reads = tuple(
        Read(
            Source(one.namespace, one.metric, tuple(sorted(one.dimensions.items()))),
            one.statistic or known(one.namespace, one.metric).statistic,
            name,
        )
        for name, one in job.metrics.items()
    )
    return make(region, job.name, (f"region:{region}", *job.tags), job.period, reads, job.expression)


def declared(config: CloudWatchConfig) -> Iterator[Metric]:
    """What the jobs can emit, by the configuration alone."""
    for job in config.static:
        about, keys = known(job.namespace, job.metric), ("region", *dimension_keys(job.dimensions))
        for statistic in job.statistics or (about.statistic,):
            name = named(job, statistic) if job.name else ""
            name = name or metric_name(job.namespace, job.metric, statistic, about.statistic)
            yield Metric(name, Kind.GAUGE, job.unit or about.unit, about.help, keys, "" if job.unit else about.per)
    for one in config.math:
        yield Metric(one.name, Kind.GAUGE, one.unit, "Computed by CloudWatch.", ("region",))
    for kind in config.discover:
        shapes = kind.shapes[:1] or ((),)
        for metric in kind.asked:
            about, keys = known(kind.space, metric), ("region", *dimension_keys(shapes[0]))
            for statistic in kind.statistics or (about.statistic,):
                name = metric_name(kind.space, metric, statistic, about.statistic)
                yield Metric(name, Kind.GAUGE, about.unit, about.help, keys, about.per)
