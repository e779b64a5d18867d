"""A row of values says the same as a call for each, faults included."""

from __future__ import annotations

from decimal import Decimal
from itertools import repeat
from typing import Any

import pytest

from vedette import Kind, Metric
from vedette.emit import Channel, Emit
from vedette.filters import MetricFilter
from vedette.secrets import Masker

METRICS = (
    Metric("probe.level", Kind.GAUGE),
    Metric("probe.total", Kind.COUNTER),
    Metric("probe.speed", Kind.RATE),
    Metric("probe.stranger", Kind.GAUGE),
)
SEND = {Kind.GAUGE: Emit.gauge, Kind.COUNTER: Emit.counter, Kind.RATE: Emit.rate}


def channel(**options: Any) -> Channel:
    return Channel("probe/x", "probe", METRICS[:3], (), ("env:test",), **options)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 2, 3.5, 9), (4, None, 0, 9)],
        [(True, Decimal("0.10"), float("nan"), 1)],
        [("text", float("inf"), -1, 9)],
    ],
)
@pytest.mark.parametrize("options", [{}, {"names": MetricFilter(exclude=("probe.total",)).compile()}])
def test_a_row_is_what_single_calls_are(rows: list[tuple[Any, ...]], options: dict[str, Any]) -> None:
    one, many = channel(**options), channel(**options)
    for _ in range(2):
        single, row = Emit(one, 1.0), Emit(many, 1.0)
        for n, values in enumerate([*rows, rows[-1]]):
            tags = (f"n:{min(n, len(rows) - 1)}",)
            row.row(METRICS, values, tags)
            for metric, value in zip(METRICS, values, strict=True):
                if value is not None:
                    SEND[metric.kind](single, metric.name, value, tags)
        assert row.batch() == single.batch()
    assert many.dropped == one.dropped
    assert one.dropped["duplicate"] > 0


def test_a_row_has_a_value_for_each_metric_and_no_observations() -> None:
    emit = Emit(channel(), 1.0)
    with pytest.raises(ValueError, match="shorter"):
        emit.row(METRICS, (1, 2, 3))
    with pytest.raises(ValueError, match="gauges, counters and rates"):
        emit.row((Metric("probe.hits", Kind.COUNT),), (1,))


def test_a_killed_emit_ignores_rows() -> None:
    emit = Emit(channel(), 1.0)
    emit.kill()
    emit.row(METRICS, (1, 2, 3, None))
    assert emit.batch().samples == ()


def test_names_that_come_from_elsewhere_are_not_all_remembered() -> None:
    bridge = Channel("probe/x", "probe", (), (), open_names=True)
    emit = Emit(bridge, 1.0)
    for number in range(20_100):
        emit.count(f"name.{number}", 1)
    emit.count("name.0", 1)
    assert len(bridge.names) <= 20_000
    assert len(emit.batch().samples) == 20_101


def test_a_source_that_names_its_service_is_not_of_the_agents_too() -> None:
    agents = ("environment:prod", "service:agent", "team:a", "instance:apps")
    bridge, check = (Channel("x/x", "x", (), (), open_names=is_open, tags=agents) for is_open in (True, False))
    own = ("service:shop", "version:2")
    assert bridge.tag_set(own) == ("environment:prod", "instance:apps", "service:shop", "team:a", "version:2")
    assert bridge.tag_set([["service:shop"]])[0] == "['service:shop']"  # unhashable, and no tag of that name
    assert bridge.tag_set("a:1") == ("a:1", "environment:prod", "instance:apps", "service:agent", "team:a")
    assert "service:agent" in check.tag_set(own)  # here it is a tag of the check's own, of Kubernetes' services say
    assert "service:shop" in check.tag_set(own)


def test_what_a_log_line_says_is_masked_at_any_depth() -> None:
    emit = Emit(channel(masker=lambda text: text.replace("hunter2", "****")), 1.0)
    emit.log("by hunter2", level="error", who="hunter2", deep={"list": ["a hunter2", 7], "more": ("hunter2",)}, code=3)
    (log,) = emit.batch().logs
    assert log.message == "by ****"
    assert log.attributes == {"who": "****", "deep": {"list": ["a ****", 7], "more": ["****"]}, "code": 3}


def test_log_lines_in_bulk_are_not_masked_and_single_ones_are_in_every_part() -> None:
    masker = Masker()
    masker.add("hunter2x")
    channel = Channel("t/t", "t", (), (), ("instance:t",), masker=masker)
    emit = Emit(channel, 5.0)
    emit.log("got hunter2x", level="error", deep={"hunter2x": ["hunter2x", 1]})
    emit.logs(["raw password=x"], repeat("info"), [4.0], [{"a": 1}], ("source:x",))
    first, second = emit.batch().logs
    assert first == ("got ****", "error", ("instance:t",), None, {"deep": {"****": ["****", 1]}})
    assert second == ("raw password=x", "info", ("instance:t", "source:x"), 4.0, {"a": 1})
    assert (emit.known("password=hunter2x"), emit.masked("password=y")) == ("password=****", "password=****")
