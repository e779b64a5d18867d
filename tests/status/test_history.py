"""What is remembered for sparklines, and that it stays small."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from decimal import Decimal

import pytest

from status.parts import batch, wave
from vedette.kit import Sketch
from vedette.metrics import Kind, Sample
from vedette.status.history import BUDGET, MOST_VALUES, POINTS, History, Line


def plain(values: tuple[float, ...]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def test_the_last_runs_of_a_value_and_of_the_duration() -> None:
    history = History(1)
    for number in range(POINTS + 5):
        history.add(batch("redis/a", float(number), Sample("x", Kind.GAUGE, number, ("a:b",)), took=number * 2.0))
    (line,) = history.lines("redis/a")
    assert line == Line("x", ("a:b",), tuple(float(n) for n in range(5, POINTS + 5)))
    assert history.durations("redis/a") == pytest.approx([n * 0.002 for n in range(5, POINTS + 5)])
    assert history.lines("redis/b") == []
    assert history.durations("redis/b") == ()


def test_a_run_that_did_not_measure_leaves_a_gap() -> None:
    history = History(1)
    samples = Sample("x", Kind.GAUGE, 1), Sample("y", Kind.GAUGE, 2)
    history.add(batch("redis/a", 1.0))  # down from the start: only the core's own samples
    history.add(batch("redis/a", 2.0, *samples))
    history.add(batch("redis/a", 3.0, samples[1]))
    history.add(batch("redis/a", 4.0, *reversed(samples)))
    x, y = history.lines("redis/a")
    assert (plain(x.values), plain(y.values)) == ([None, 1, None, 1], [None, 2, 2, 2])


@pytest.mark.parametrize("kind", [Kind.COUNTER, Kind.RATE])
def test_totals_are_growth_per_second_and_a_fall_is_a_gap(kind: Kind) -> None:
    history = History(1)
    for time, total in ((10.0, 5_000_000_000), (12.0, 5_000_000_010), (13.0, 3), (14.0, 7)):
        history.add(batch("redis/a", time, Sample("x", kind, total)))
    (line,) = history.lines("redis/a")
    assert plain(line.values) == [None, 5, None, 4]
    assert line.per_second


def test_of_each_metric_the_first_series_and_no_more_than_a_few() -> None:
    history = History(1)
    many = [Sample(f"m{number}", Kind.GAUGE, number, (f"of:{tag}",)) for number in range(20) for tag in "ab"]
    history.add(batch("redis/a", 1.0, *many))
    assert [(line.name, line.tags) for line in history.lines("redis/a")] == [
        (f"m{number}", ("of:a",)) for number in range(MOST_VALUES)
    ]


def test_what_is_no_number_is_left_out_or_a_gap() -> None:
    history = History(1)
    sketch = Sketch(((1.0, 1),), 1.0, 1.0, 1.0)
    samples = [
        Sample("set", Kind.SET, "member"),
        Sample("sketch", Kind.DISTRIBUTION, sketch),
        Sample("money", Kind.GAUGE, Decimal("12.50")),
        Sample("huge", Kind.GAUGE, 10**400),
        Sample("large", Kind.GAUGE, 1e300),
    ]
    history.add(batch("business_sql/a", 1.0, *samples))
    shown = {line.name: plain(line.values) for line in history.lines("business_sql/a")}
    assert shown == {"money": [12.5], "huge": [None], "large": [None]}


def test_a_closed_instance_is_forgotten() -> None:
    history = History(1)
    one = batch("redis/a", 1.0, wave("x", 1))
    history.add(one)
    history.add(replace(one, closed=True))
    assert history.lines("redis/a") == []


@pytest.mark.parametrize("instances", [1000, 3000, 10_000])
def test_all_instances_together_stay_within_the_budget(instances: int) -> None:
    names = [f"redis/r{number}" for number in range(instances)]
    samples = [wave(f"metric.{number}", number) for number in range(MOST_VALUES)]
    history = History(instances)
    made = [batch(name, 1.0, *samples) for name in names]
    tracemalloc.start()
    try:
        for one in made:
            history.add(one)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used <= BUDGET * 1.15
    assert len(history.durations(names[0])) == 1
