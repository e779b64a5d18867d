"""What the Prometheus world exposes, as samples: shared by the checks `openmetrics` and `exec`.

Sources: Prometheus, "Exposition formats" (text format 0.0.4); OpenMetrics 1.0. Names follow Datadog's openmetrics
check, so that its dashboards fill: `….count` for counters, `….bucket`, `….sum` and `….count` for histograms,
`….quantile` for summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from vedette import Kind

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

__all__ = ["Exposed", "exposed"]


class Exposed(NamedTuple):
    """One sample.

    Attributes:
        family: the name of its family as it is exposed, without `_total`.
        name: the name here.
        kind: counters stay totals.
        value: as exposed; never NaN, which says that there is none.
        tags: `label:value`, `upper_bound:` for `le`.
        time: Unix seconds, or None where none is exposed.
    """

    family: str
    name: str
    kind: Kind
    value: float
    tags: tuple[str, ...]
    time: float | None


def exposed(text: str, *, openmetrics: bool = False, wanted: Callable[[str], bool] | None = None) -> list[Exposed]:
    """All samples of an exposition, in its order.

    Takes some 20 µs a sample: call it in a thread.

    Args:
        text: the exposition.
        openmetrics: whether it is OpenMetrics, which ends with `# EOF`.
        wanted: says of a family's name whether it is looked at; None is yes.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    families: Iterable[Metric] = (read_openmetrics if openmetrics else read_text)(text)
    found: list[Exposed] = []
    names: set[str] = set()
    for family in families:
        names.add(family.name)
        if family.type == "gauge" and family.name.endswith("_created") and family.name[:-8] in names:
            continue  # when a series began, which clients expose as a family of its own
        if wanted is None or wanted(family.name):
            found += _of(family)
    return found


def _of(family: Metric) -> Iterator[Exposed]:
    read = _READERS.get(family.type, _gauge)
    for sample in family.samples:
        if isnan(sample.value):
            continue
        found = read(family.name, sample)
        if found is not None:
            suffix, kind, tags = found
            time = None if sample.timestamp is None else float(sample.timestamp)
            yield Exposed(family.name, family.name + suffix, kind, sample.value, tags, time)


_Found = tuple[str, Kind, tuple[str, ...]] | None
"""What the name ends with, the kind and the tags."""


def _tags(labels: dict[str, str], without: str = "") -> tuple[str, ...]:
    return tuple(f"{name}:{value}" for name, value in labels.items() if name != without)


def _gauge(_: str, sample: Sample) -> _Found:
    return "", Kind.GAUGE, _tags(sample.labels)


def _counter(_: str, sample: Sample) -> _Found:
    return None if sample.name.endswith("_created") else (".count", Kind.COUNTER, _tags(sample.labels))


def _histogram(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    if part == "_bucket":
        bound = sample.labels.get("le", "").replace("+Inf", "inf")
        return ".bucket", Kind.COUNTER, (f"upper_bound:{bound}", *_tags(sample.labels, "le"))
    return _sum_or_count(part, sample)


def _summary(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    if not part:
        return ".quantile", Kind.GAUGE, _tags(sample.labels)
    return _sum_or_count(part, sample)


def _gauge_histogram(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    suffix = {"_bucket": ".bucket", "_gsum": ".sum", "_gcount": ".count"}.get(part)
    bound = sample.labels.get("le", "").replace("+Inf", "inf")
    tags = (*((f"upper_bound:{bound}",) if part == "_bucket" else ()), *_tags(sample.labels, "le"))
    return None if suffix is None else (suffix, Kind.GAUGE, tags)


def _sum_or_count(part: str, sample: Sample) -> _Found:
    if part not in ("_sum", "_count"):
        return None
    return part.replace("_", "."), Kind.COUNTER, _tags(sample.labels)


_READERS: dict[str, Callable[[str, Sample], _Found]] = {
    "counter": _counter,
    "histogram": _histogram,
    "summary": _summary,
    "gaugehistogram": _gauge_histogram,
}
"""By type; all others, `unknown` and `untyped` among them, are levels."""
