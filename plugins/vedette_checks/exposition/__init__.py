"""What the Prometheus world exposes, as samples: shared by the checks `openmetrics` and `exec`.

Sources: Prometheus, "Exposition formats" (text format 0.0.4); OpenMetrics 1.0. Names follow Datadog's openmetrics
check, so that its dashboards fill: `….count` for counters, `….bucket`, `….sum` and `….count` for histograms,
`….quantile` for summaries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, TextIOWrapper
from itertools import count
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.openmetrics.parser import text_fd_to_metric_families as read_openmetrics
from prometheus_client.parser import text_fd_to_metric_families as read_text

from vedette import Kind

if TYPE_CHECKING:
    from threading import Event

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

__all__ = ["Exposed", "Exposition", "exposed"]

_LONGEST = 65_536
"""Characters of a line: the parser's time grows with their square."""
_LARGEST = 1_000
"""Lines of one histogram that still come where the limit falls into it."""
_PART = re.compile(r"[^{\s]*_(bucket|sum|count|gsum|gcount|created)(?=[{\s])")


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


class Exposition(NamedTuple):
    """What is exposed.

    Attributes:
        samples: in their order.
        cut: lines of samples beyond the limit, which were counted and not read.
    """

    samples: list[Exposed]
    cut: int


def exposed(page: bytes, *, openmetrics: bool = False, most: int = 50_000, stop: Event | None = None) -> Exposition:
    """All samples of an exposition.

    Takes some 20 µs a sample: call it in a thread.

    Args:
        page: the exposition, UTF-8.
        openmetrics: whether it is OpenMetrics, which ends with `# EOF`.
        most: lines of samples to read; a histogram is read to its end.
        stop: nobody waits any more once it is set.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    lines = _Lines(page, most, stop)
    families: Iterable[Metric] = (read_openmetrics if openmetrics else read_text)(lines)  # type: ignore[arg-type]
    found: list[Exposed] = []
    names: set[str] = set()
    try:
        for family in families:
            names.add(family.name)
            if family.type == "gauge" and family.name.endswith("_created") and family.name[:-8] in names:
                continue  # when a series began, which clients expose as a family of its own
            found += _of(family)
    except (LookupError, TypeError, AttributeError) as error:  # what the parser says of some garbage
        raise ValueError("it has lines that are no samples") from error
    return Exposition(found, lines.cut)


class _Lines:
    """The lines of a page one by one; of samples so many, the rest is counted."""

    def __init__(self, page: bytes, most: int, stop: Event | None) -> None:
        self.cut = 0
        self._page, self._most, self._stop = page, most, stop

    def __iter__(self) -> Iterator[str]:
        number, last = 0, ""
        for place, line in zip(count(1), TextIOWrapper(BytesIO(self._page), "utf-8", "replace", newline="\n")):
            if self._stop is not None and self._stop.is_set():
                raise ValueError("nobody waits for it any more")
            if len(line) > _LONGEST:
                raise ValueError(f"line {place} is longer than {_LONGEST:,} characters")
            bare = line.lstrip()
            if not bare or bare.startswith("#"):
                if not self.cut or line.startswith("# EOF"):
                    yield line
            elif self.cut or (number >= self._most and self._may_end(number, last, bare)):
                self.cut += 1
            else:
                number, last = number + 1, bare
                yield line

    def _may_end(self, number: int, last: str, line: str) -> bool:
        """Whether this line begins something new: half a histogram would be false, and no OpenMetrics."""
        part, before = (_PART.match(one) for one in (line, last))
        if part is None or number >= self._most + _LARGEST:
            return True
        if part[1] == "bucket":
            return before is None or before[1] != "bucket" or '"+Inf"' in last
        return before is not None and before[1] == part[1]


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


def _info(name: str, sample: Sample) -> _Found:
    """`build_info`, as the text format has it: a series has one name, in whatever format it comes."""
    return sample.name.removeprefix(name), Kind.GAUGE, _tags(sample.labels)


def _counter(_: str, sample: Sample) -> _Found:
    return None if sample.name.endswith("_created") else (".count", Kind.COUNTER, _tags(sample.labels))


def _histogram(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    if part == "_bucket":
        return ".bucket", Kind.COUNTER, (_upper_bound(sample), *_tags(sample.labels, "le"))
    return _sum_or_count(part, sample)


def _summary(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    if not part:
        quantile = f"quantile:{_canonical(sample.labels.get('quantile', ''))}"
        return ".quantile", Kind.GAUGE, (quantile, *_tags(sample.labels, "quantile"))
    return _sum_or_count(part, sample)


def _gauge_histogram(name: str, sample: Sample) -> _Found:
    part = sample.name.removeprefix(name)
    suffix = {"_bucket": ".bucket", "_gsum": ".sum", "_gcount": ".count"}.get(part)
    tags = (*((_upper_bound(sample),) if part == "_bucket" else ()), *_tags(sample.labels, "le"))
    return None if suffix is None else (suffix, Kind.GAUGE, tags)


def _upper_bound(sample: Sample) -> str:
    return f"upper_bound:{_canonical(sample.labels.get('le', ''))}"


def _canonical(number: str) -> str:
    """`1`, `1.0` and `1e0` are one bound: `1.0`, and zero is `0`, as Datadog's check writes them."""
    try:
        return str(float(number) or 0)
    except ValueError:
        return number


def _sum_or_count(part: str, sample: Sample) -> _Found:
    if part not in ("_sum", "_count"):
        return None
    return part.replace("_", "."), Kind.COUNTER, _tags(sample.labels)


_READERS: dict[str, Callable[[str, Sample], _Found]] = {
    "counter": _counter,
    "histogram": _histogram,
    "summary": _summary,
    "gaugehistogram": _gauge_histogram,
    "info": _info,
}
"""By type; all others, `unknown` and `untyped` among them, are levels."""
