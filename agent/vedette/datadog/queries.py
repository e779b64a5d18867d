"""A series in Datadog's query language and in Prometheus'.

Sources: Datadog, "Metrics Advanced Filtering", "Distributions", "Metric Type Modifiers"; Prometheus, "Querying basics".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from vedette.kit import PromNames
from vedette.metrics import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vedette.datadog.series import Series

_SUFFIXES: Final = {"avg": ".avg", "median": ".median", "p95": ".95percentile", "max": ".max", "count": ".count"}
_OF_SUFFIX: Final = {"avg": "avg", "median": "avg", "p95": "max", "max": "max", "count": "sum"}
_OF_POINTS: Final = {"median": "p50"}
_QUANTILES: Final = {"median": "0.5", "p95": "0.95", "max": "1"}
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
_NOT_VARIABLE: Final = re.compile(r"[^A-Za-z0-9_]")
_OBSERVED: Final = (Kind.HISTOGRAM, Kind.DISTRIBUTION)


def datadog_query(series: Series, scope: Iterable[str] = (), *, as_distribution: bool = False) -> str:
    """Such as `sum:redis.net.commands{$instance,env:prod} by {redis_host}`.

    Args:
        series: what is asked for.
        scope: more filters, such as `$instance`.
        as_distribution: whether histograms arrive as distributions.
    """
    name, take = series.metric, series.taken
    if series.kind is Kind.DISTRIBUTION or (series.kind is Kind.HISTOGRAM and as_distribution):
        take = _OF_POINTS.get(take, take)
    elif series.kind is Kind.HISTOGRAM:
        name, take = f"{name}{_SUFFIXES[take]}", _OF_SUFFIX[take]
    filters = [*scope, *(f"{key}:{value}" for key, value in series.where.items())]
    query = f"{take}:{name}{{{','.join(filters) or '*'}}}"
    if series.by:
        query += f" by {{{','.join(series.by)}}}"
    if series.grows:  # `monotonic_diff` leaves restarts out
        return f"per_second({query})" if series.per == "second" else f"monotonic_diff({query})"
    if series.counted:
        query += ".as_rate()" if series.per == "second" else ".as_count()"
    return query


def variable(tag: str) -> str:
    """The name of the variable that chooses among a tag's values: both take letters, digits and `_`."""
    return _NOT_VARIABLE.sub("_", tag)


def label(tag: str, *, honor_labels: bool = False) -> str:
    """The label that a tag has once Prometheus has scraped it.

    Prometheus keeps `instance` for whom it scraped, which is also what stands for the host, and stores ours as
    `exported_instance`, unless the scrape job says `honor_labels: true`.
    """
    if tag == "host":
        return "instance"
    if tag == "instance":
        return "instance" if honor_labels else "exported_instance"
    return PromNames().labels((f"{tag}:x",))[0][0]


def prom_name(metric: str, kind: Kind) -> str:
    """The name of a metric's lines as the `prometheus` sink writes them; of a histogram without its suffixes."""
    name = PromNames.metric(metric)
    if kind in (Kind.COUNT, Kind.COUNTER, Kind.RATE):
        return f"{name.removesuffix('_total') or name}_total"
    return name


def promql(series: Series, variables: Iterable[str] = (), *, window: str, honor_labels: bool = False) -> str:
    """Such as `sum by (redis_host) (rate(redis_net_commands_total{…}[$__rate_interval]))`.

    Args:
        series: what is asked for.
        variables: tags that the dashboard chooses by.
        window: what counts are taken over, such as `$__rate_interval`.
        honor_labels: whether the scrape job says so.
    """
    name = prom_name(series.metric, series.kind)
    chosen = [f'{label(tag, honor_labels=honor_labels)}=~"${variable(tag)}"' for tag in variables]
    wanted = [f"{label(tag, honor_labels=honor_labels)}={_quoted(value)}" for tag, value in series.where.items()]
    selector = f"{{{','.join([*chosen, *wanted])}}}" if chosen or wanted else ""
    by = ", ".join(dict.fromkeys(label(tag, honor_labels=honor_labels) for tag in series.by))
    if series.kind in _OBSERVED:
        return _observed(series, name, selector, by, window)
    grouped = f"{series.taken} by ({by})" if by else series.taken
    if series.counted and series.per == "interval":
        return f"{grouped} (increase({name}{selector}[{window}]))"
    if series.counted or series.kind is Kind.RATE:
        return f"{grouped} (rate({name}{selector}[{window}]))"
    return f"{grouped} ({name}{selector})"


def _observed(series: Series, name: str, selector: str, by: str, window: str) -> str:
    grouped = f"sum by ({by})" if by else "sum"
    if series.taken == "count":
        way = "increase" if series.per == "interval" else "rate"
        return f"{grouped} ({way}({name}_count{selector}[{window}]))"
    if series.taken == "avg":
        part = f"{grouped} (rate({name}_%s{selector}[{window}]))"
        return f"{part % 'sum'} / {part % 'count'}"
    buckets = f"sum by (le{', ' if by else ''}{by})"
    return f"histogram_quantile({_QUANTILES[series.taken]}, {buckets} (rate({name}_bucket{selector}[{window}])))"


def _quoted(value: str) -> str:
    """A value for a matcher; with `*` in it, as Datadog's filters may have, it is a pattern."""
    if "*" not in value:
        return json.dumps(value, ensure_ascii=False)
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    return "~" + json.dumps(pattern, ensure_ascii=False)


def filled(formula: str, queries: Mapping[str, str], wrap: Callable[[str], str] = lambda query: f"({query})") -> str:
    """The formula with each name replaced by its query."""
    return _NAME.sub(lambda found: wrap(queries[found[0]]), formula)
