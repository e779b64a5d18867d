"""What programs print besides perfdata, as samples: JSON, Prometheus text, InfluxDB lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from vedette import Kind
from vedette.kit import cut_text
from vedette_checks.exposition import exposed

if TYPE_CHECKING:
    from threading import Event

_KINDS = {
    kind.value: kind for kind in (Kind.GAUGE, Kind.COUNT, Kind.COUNTER, Kind.RATE, Kind.HISTOGRAM, Kind.DISTRIBUTION)
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")
_DEEPEST = 16


class Printed(NamedTuple):
    """One sample, before the check's prefix is put before its name."""

    name: str
    kind: Kind
    value: float
    tags: tuple[str, ...] = ()
    time: float | None = None


class Samples(NamedTuple):
    """What an output holds; `cut` is how many samples more than were asked for."""

    items: list[Printed]
    cut: int = 0


def read(form: str, output: bytes, most: int = 50_000, stop: Event | None = None) -> Samples:
    """The samples of an output in `json`, `prometheus` or `influx`.

    Args:
        form: its format.
        output: UTF-8; what is none is replaced.
        most: samples to read; the others are counted.
        stop: nobody waits any more once it is set.

    Raises:
        ValueError: it is not that; the text says what is wrong, and where.
    """
    if form == "prometheus":
        return _prometheus(output, most, stop)
    text = output.decode("utf-8", "replace")
    found = _json(text) if form == "json" else _influx(text)
    return Samples(list(islice(found, most)), sum(1 for _ in found))


def metric_name(text: str) -> str:
    """A name of letters, digits, underscores and dots; `/` is `root`."""
    made = _NOT_IN_NAMES.sub("_", text).strip("_.")
    return made or ("root" if text == "/" else "unnamed")


def _json(text: str) -> Iterator[Printed]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield _listed(one, f"[{number}]")
    elif isinstance(value, dict):
        yield from _flat(value, (), 0)
    else:
        raise ValueError("neither a JSON object nor a list of metrics")


def _flat(value: Any, path: tuple[str, ...], depth: int) -> Iterator[Printed]:
    """Numbers of an object under their path with dots; true is 1, texts and lists are none."""
    if isinstance(value, dict) and depth < _DEEPEST:
        for key, inner in value.items():
            yield from _flat(inner, (*path, metric_name(str(key))), depth + 1)
    elif isinstance(value, int | float):
        yield Printed(".".join(path), Kind.GAUGE, value + 0)


def _listed(value: Any, where: str) -> Printed:
    """`{"name": …, "value": …, "kind": "gauge", "tags": {…} or ["key:value"], "time": Unix seconds}`."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(f'{where}: not {{"name": "…", "value": …}}')
    number, kind, tags, time = (value.get(key) for key in ("value", "kind", "tags", "time"))
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"{where}: its value is not a number")
    if kind is not None and kind not in _KINDS:
        raise ValueError(f"{where}: kind is one of {', '.join(_KINDS)}")
    if time is not None and (isinstance(time, bool) or not isinstance(time, int | float)):
        raise ValueError(f"{where}: time is not Unix seconds")
    if isinstance(tags, dict):
        tags = [f"{key}:{one}" for key, one in tags.items()]
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise ValueError(f"{where}: tags are an object, or a list of texts")
    return Printed(metric_name(value["name"]), _KINDS[kind or "gauge"], number, tuple(tags or ()), time)


def _prometheus(output: bytes, most: int, stop: Event | None) -> Samples:
    """Text format, or OpenMetrics where the last line says so."""
    try:
        found = exposed(output, openmetrics=output.rstrip().endswith(b"# EOF"), most=most, stop=stop)
    except ValueError as error:
        raise ValueError(f"not a Prometheus exposition: {error}") from None
    items = [Printed(one.name.replace(":", "_"), one.kind, one.value, one.tags, one.time) for one in found.samples]
    return Samples(items, found.cut)


_ESCAPED = re.compile(r"\\([,= ])")
_LINE = re.compile(
    r"(?P<series>(?:\\.|[^ \\])+)[ ]+(?P<fields>(?:[^ \"\\]|\\.|\"(?:\\.|[^\"\\])*\")+)(?:[ ]+(?P<time>-?\d+))?"
)
_FIELD = re.compile(r"(?P<key>(?:\\.|[^,= \\])+)=(?P<value>\"(?:\\.|[^\"\\])*\"|[^,\"]+)(?:,|$)")
_TAG = re.compile(r"((?:\\.|[^=\\])+)=(.+)")
_PARTS = re.compile(r"(?:\\.|[^,\\])+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[iu]?")
_TRUTH = {"t": 1, "T": 1, "true": 1, "True": 1, "TRUE": 1, "f": 0, "F": 0, "false": 0, "False": 0, "FALSE": 0}


def _influx(text: str) -> Iterator[Printed]:
    """InfluxDB, "Line protocol reference": `measurement,tag=value field=1i,other=2.5 nanoseconds`; no texts."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"line {number} is not InfluxDB line protocol")
        measurement, *labels = _PARTS.findall(found["series"])
        tags = tuple(_tag(one, number) for one in labels)
        time = None if found["time"] is None else int(found["time"]) / 1e9
        for key, value in _fields(found["fields"], number):
            yield Printed(metric_name(f"{_bare(measurement)}.{key}"), Kind.GAUGE, value, tags, time)


def _tag(text: str, number: int) -> str:
    found = _TAG.fullmatch(text)
    if found is None:
        raise ValueError(f"line {number}: '{text}' is not a tag")
    return f"{_bare(found[1])}:{_bare(found[2])}"


def _fields(text: str, number: int) -> Iterator[tuple[str, float]]:
    at = 0
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError(f"line {number}: '{cut_text(text[at:], 40)}' is not a field")
        at, value = found.end(), found["value"]
        if value in _TRUTH:
            yield _bare(found["key"]), _TRUTH[value]
        elif _NUMBER.fullmatch(value):
            bare = value.rstrip("iu")
            yield _bare(found["key"]), float(bare) if bare == value else int(bare)
        elif not value.startswith('"'):
            raise ValueError(f"line {number}: '{cut_text(value, 40)}' is not a value")


def _bare(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
