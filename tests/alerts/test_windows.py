"""Windows against a model that keeps every sample and counts them all, over random series."""

from __future__ import annotations

import json
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest

from vedette.alerts.clock import Steady
from vedette.alerts.history import Past, Window
from vedette.alerts.points import MOST_POINTS
from vedette.alerts.ring import Ring
from vedette.alerts.verdicts import COMPARE, against, among
from vedette.alerts.windowrows import WindowRows

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = float("-inf")
Samples = list[tuple[float, float]]


def series(random: Random, number: int, pace: float) -> Iterator[tuple[float, float]]:
    """Time and value of samples in the order in which they come: some late, some twice, a pause now and then."""
    now = 0.0
    for _ in range(number):
        now += random.choice([0.0, pace, pace, pace, 2 * pace, 40 * pace if random.random() < 0.05 else pace])
        late = random.uniform(0.0, 5 * pace) if random.random() < 0.1 else 0.0
        yield max(0.0, now - late), random.choice([random.uniform(-5.0, 5.0), 1e15 if random.random() < 0.02 else 1.0])


def asked(window: Window, now: float) -> tuple[object, ...]:
    ask = (window.sum, window.number, window.min, window.max, window.avg, window.last)
    return tuple(None if value is None else pytest.approx(value) for value in (one(now) for one in ask))


def counted(samples: Samples) -> tuple[float | None, ...]:
    values = [value for _, value in sorted(samples, key=lambda one: one[0])]
    if not values:
        return (None,) * 6
    return (sum(values), len(values), min(values), max(values), fmean(values), values[-1])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ago", [0.0, 700.0])
def test_a_window_answers_as_its_samples_do(seed: int, ago: float) -> None:
    random, came = Random(seed), Samples()
    window = Past(300.0, NEVER, ago) if ago else Window(300.0, NEVER)
    for time, value in series(random, 600, random.choice([3.0, 10.0, 60.0])):
        if came and random.random() < 0.1:
            place = random.randrange(len(came))
            old, new = came[place], random.uniform(-9.0, 9.0)
            if old[0] > max(one[0] for one in came) - 300.0 - ago and came.count(old) == 1:
                window.correct(*old, new)
                came[place] = (old[0], new)
        window.put(time, value)
        came.append((time, value))
        now = max(one[0] for one in came) + random.choice([0.0, 0.0, 7.0, 299.0])
        assert asked(window, now) == counted([one for one in came if now - ago - 300.0 < one[0] <= now - ago])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("late", [0.0, 15.0])
def test_many_samples_become_few_points_and_none_is_lost(seed: int, late: float) -> None:
    random, came, newest = Random(seed), Samples(), 0.0
    window = Window(3_600.0, NEVER)
    for _ in range(6_000):
        newest += random.uniform(0.0, 2.0)
        now = max(0.0, newest - random.uniform(0.0, late))
        value = random.uniform(-1.0, 1.0)
        if random.random() < 0.01:
            window.put_bundle(now, (2.0, 2 * value, value, value), value)
            came.append((now, value))
        else:
            window.put(now, value)
        came.append((now, value))
    slot = 3_600.0 / MOST_POINTS
    came.sort()
    surely, perhaps = ([one for one in came if one[0] > newest - 3_600.0 + more] for more in (slot, -slot))
    number, low, high = window.number(newest), window.min(newest), window.max(newest)
    assert len(window.times) <= 3 * MOST_POINTS
    assert number is not None
    assert len(surely) <= number <= len(perhaps)
    assert counted(perhaps)[2] <= low <= counted(surely)[2]  # type: ignore[operator]
    assert counted(surely)[3] <= high <= counted(perhaps)[3]  # type: ignore[operator]
    if not late:
        assert window.sum(newest) == pytest.approx(counted(came[-int(number) :])[0])


def test_late_samples_that_come_in_falling_order_are_joined_too() -> None:
    window, number = Window(3_600.0, NEVER), 0
    for minute in range(90):
        for instance in range(100, 0, -1):
            window.put(60.0 * minute + 0.6 * instance, 1.0)
            number += minute >= 30
    assert len(window.times) <= 3 * MOST_POINTS
    assert window.sum(5_399.5) == pytest.approx(number, abs=15)


def test_a_late_sample_is_the_last_of_no_point() -> None:
    window = Window(3_600.0, NEVER)
    for place in range(3_000):
        window.put(float(place), float(place))
    window.put_bundle(2_998.5, (1.0, 7.0, 7.0, 7.0), 7.0, late=True)
    assert window.last(3_000.0) == 2_999.0
    assert window.sum(3_000.0) == sum(range(3_000)) + 7


@pytest.mark.parametrize(
    ("over", "ago", "pace"), [(300.0, 0.0, 10.0), (300.0, 86_400.0, 20.0), (3_600.0, 0.0, 2.0), (3_600.0, 0.0, 12.0)]
)
def test_a_kill_leaves_of_a_window_what_was_kept_last(over: float, ago: float, pace: float) -> None:
    """Whole rows where they are short, else each ten minutes, and what came since."""
    store: dict[str, Any] = {}
    clock = Steady(lambda: 0.0)
    clock.offset = 1_000.0
    rows = WindowRows({}, clock, lambda key, row: store.update({key: json.loads(json.dumps(row))}))

    def made() -> Window:
        window = Past(over, NEVER, ago) if ago else Window(over, NEVER)
        window.name = "a window"
        return window

    before, written = made(), list[int]()
    for place in range(int(1.5 * (over + ago) / pace)):
        now = pace * place
        before.put(now, float(place % 17))
        if place % 7 == 0:
            before.put(max(0.0, now - 40.0), 2.0)
        if place % 11 == 5:
            before.correct(now - 5 * pace, float((place - 5) % 17), 40.0)
        if now > 1.4 * (over + ago):
            old = {**store}
            rows.save([before], now, everything=place % 10 == 0)
            written.append(sum(len(str(row)) for key, row in store.items() if row != old.get(key)))
            if place % 10 == 0:
                after = made()
                WindowRows(
                    {key: row for key, row in store.items() if row is not None}, clock, dict[str, Any]().__setitem__
                ).restore(after, now)
                assert [asked(after, now + later) for later in (0, over / 2)] == [
                    asked(before, now + later) for later in (0, over / 2)
                ]
    if max(written) > 20_000:
        assert sum(written) < 0.3 * len([one for one in written if one]) * max(written)


@pytest.mark.parametrize("row", [{"columns": []}, {"columns": ["AAAA"]}, {"columns": 3}, {"since": 1}, {"saved": "x"}])
def test_a_row_that_makes_no_sense_leaves_an_empty_window(row: dict[str, Any]) -> None:
    clock = Steady(lambda: 0.0)
    store: dict[str, Any] = {}
    rows = WindowRows({}, clock, store.__setitem__)
    window = Window(300.0, NEVER)
    window.put(10.0, 1.0)
    rows.save([window], 10.0, everything=True)
    (key,) = store
    WindowRows({key: {**store[key], **row}}, clock, store.__setitem__).restore(other := Window(300.0, NEVER), 10.0)
    assert other.sum(10.0) == (1.0 if "since" in row else None)


@pytest.mark.parametrize("seed", range(10))
def test_a_limit_beyond_all_samples_is_judged_as_any_other(seed: int) -> None:
    random = Random(seed)
    window = Window(300.0, 200.0)
    limits = [-6.0, -5.0, 0.0, 1.0, 5.0, 6.0, 1e15]
    pairs = [
        (against(read, sign, limit), among(read, sign, limit, window))
        for read in (window.avg, window.min, window.max)
        for sign in COMPARE
        for limit in limits
    ]
    for time, value in series(random, 200, 10.0):
        window.put(time, value)
        for now in (time, time + 299.0, time + 301.0):
            assert [one(now) for one, _ in pairs] == [other(now) for _, other in pairs]


@pytest.mark.parametrize(("number", "of"), [(1, 1), (2, 3), (3, 3), (5, 40)])
def test_n_of_m_runs_are_those_of_the_last_m(number: int, of: int) -> None:
    random, runs = Random(of), list[bool | None]()
    ring = Ring(lambda _: runs[-1], number, of, lambda: len(runs), lambda: "a", lambda _: True, lambda: 10.0)
    for place in range(300):
        runs.append(random.choice([True, True, False, None]))
        last = [one for one in runs if one is not None][-of:]
        held = sum(last)
        expected = True if held >= number else False if len(last) - held > of - number else None
        assert ring.verdict(10.0 * place) is expected
        assert ring.lasting(10.0 * place) == ({"a": last} if last else {})
