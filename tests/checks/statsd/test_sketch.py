"""Observations: exact while they are few, then within one per cent, bin by bin like Datadog's own library."""

from __future__ import annotations

import random
from collections import Counter
from math import fsum

import pytest
from ddsketch.mapping import LogarithmicMapping

from vedette.kit import Sketch
from vedette_checks.statsd.sketch import ACCURACY, Observations


def observed(values: list[float], weight: int = 1, at_once: int = 50) -> Sketch:
    one = Observations()
    for place in range(0, len(values), at_once):
        one.add(values[place : place + at_once], weight)
    return one.sketch()


def test_few_different_values_are_kept_as_they_are() -> None:
    found = observed([0.1, 0.2, 0.1, -3.0, 0.0] * 1_000, weight=2)
    assert found.bins == ((-3.0, 2_000), (0.0, 2_000), (0.1, 4_000), (0.2, 2_000))
    assert (found.count, found.min, found.max) == (10_000, -3.0, 0.2)
    assert found.sum == pytest.approx(-5_200)


SHAPES = {
    "latencies": lambda source: source.lognormvariate(3, 1),
    "even": lambda source: source.uniform(0, 1_000),
    "heavy": lambda source: source.paretovariate(1),
    "both signs": lambda source: source.gauss(0, 100),
    "tiny": lambda source: source.expovariate(1e6),
    "with zeros": lambda source: float(max(0, source.randint(-500, 500))),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_are_within_one_per_cent(shape: str) -> None:
    source = random.Random(shape)
    values = [SHAPES[shape](source) for _ in range(20_000)]
    found = observed(values)
    assert found.count == len(values)
    assert found.sum == pytest.approx(fsum(values))
    assert (found.min, found.max) == (min(values), max(values))
    values.sort()
    spread = [value for value, times in found.bins for _ in range(times)]
    for share in (0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1):
        place = int(share * (len(values) - 1))
        assert spread[place] == pytest.approx(values[place], rel=ACCURACY * 1.000001), share


def test_its_bins_are_those_of_datadogs_library() -> None:
    mapping = LogarithmicMapping(ACCURACY)
    values = [random.Random(4).lognormvariate(2, 3) for _ in range(3_000)] + [1.0, 1e-300, 1e300]
    source = random.Random(5)
    values += [source.lognormvariate(0, 5) for _ in range(3_000)]
    theirs = Counter(mapping.key(value) for value in values)
    ours = observed(values)
    assert len(ours.bins) == len(theirs)
    for (value, times), (key, number) in zip(ours.bins, sorted(theirs.items()), strict=True):
        assert times == number
        assert value == pytest.approx(mapping.value(key), rel=0.02)  # the outermost are moved to min and max


def test_the_lowest_bins_collapse_where_there_are_too_many() -> None:
    values = [1.05**number for number in range(-6_000, 6_000)]
    found = observed(values)
    assert len(found.bins) <= 2_048
    assert found.count == len(values)
    assert found.bins[-1][0] == max(values)
    high = [value for value, times in found.bins for _ in range(times)]
    assert high[11_500] == pytest.approx(values[11_500], rel=0.011)


def test_what_is_beyond_all_numbers_stays_a_number() -> None:
    found = observed([1.7e308] * 3 + [-1.7e308, 5e-324] + [float(n) for n in range(300)], weight=1_000_000)
    assert found.count == 305_000_000
    assert abs(found.sum) < float("inf")
    assert (found.min, found.max) == (-1.7e308, 1.7e308)
