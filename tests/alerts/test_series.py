"""What conditions see: the series of a value one by one, statuses that end, counts that do not come, full windows."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from alerts.parts import APP, DB, FLOW, ORDERS, QUEUES, Stage, open_catalogue, read
from vedette.alerts.history import Window
from vedette.alerts.replay import replay
from vedette.metrics import Batch, Kind, Sample, ServiceCheck, Status
from vedette.rules.model import Source

if TYPE_CHECKING:
    from pathlib import Path

PAY, MAIL = "queue:pay", "queue:mail"


def ages(stage: Stage, *values: tuple[float, str], instance: str = QUEUES) -> None:
    stage.values(instance, *[("sqs.age", Kind.GAUGE, value, tag) for value, tag in values])


def checked(stage: Stage, *checks: tuple[str, str], healthy: bool = True, instance: str = DB) -> None:
    """A run of an instance with its service checks: (server, status)."""
    made = [
        ServiceCheck("postgres.can_connect", Status[status.upper()], f"{server} {status}", (f"server:{server}",))
        for server, status in checks
    ]
    health = Sample("health_check.status", Kind.GAUGE, int(healthy), ())
    check = instance.partition("/")[0]
    stage.engine.consume(Batch(instance, check, stage.now, 10.0, samples=(health,), statuses=tuple(made)))


def closed(stage: Stage, instance: str) -> None:
    stage.engine.consume(Batch(instance, instance.partition("/")[0], stage.now, 10.0, closed=True))


def open_stage(text: str) -> Stage:
    """Rules over what an instance emits that takes any name."""
    stage = Stage("alerts: []")
    stage.engine.configure(read(text, among=open_catalogue())[0])
    return stage


# Latest values


def test_the_worst_series_counts_whichever_came_last() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100}, {name: new, when: sqs.age < 2}]")
    for place in range(12):
        stage.at(10 * place)
        ages(stage, (500.0, PAY), (3.0, MAIL))
        stage.at(10 * place + 5)
        ages(stage, (3.0, "queue:other"), instance="sqs/other")
    assert stage.told == ["0 firing old"]
    assert stage.alerts[0].summary == "old: last(sqs.age) (queue:pay) is 500 second, above 100"
    assert {value for _, value in stage.alerts[0].evidence.values} == {500.0}
    stage.at(120)
    ages(stage, (50.0, PAY), (1.0, MAIL))
    assert sorted(stage.told[1:]) == ["120 firing new", "120 resolved old"]


def test_equal_is_any_series_and_arithmetic_is_their_sum() -> None:
    stage = Stage(
        """
        alerts:
          - {name: equal, when: sqs.age == 7}
          - {name: other, when: sqs.age != 7}
          - {name: all, when: sqs.age * 1 > 9}
          - {name: flipped, when: 2 > sqs.age}
        """
    )
    ages(stage, (7.0, PAY), (7.0, MAIL))
    assert stage.states == {"equal": "firing", "other": "ok", "all": "firing", "flipped": "ok"}
    ages(stage, (8.0, PAY), (1.0, MAIL))
    assert stage.states == {"equal": "ok", "other": "firing", "all": "ok", "flipped": "firing"}


def test_a_series_that_ends_counts_no_more() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100}]")
    ages(stage, (500.0, PAY), (3.0, MAIL))
    for place in range(1, 6):
        stage.at(10 * place)
        ages(stage, (3.0, MAIL))
    assert stage.told == ["0 firing old", "40 resolved old"]


def test_a_slope_and_days_left_are_of_each_series() -> None:
    stage = Stage(
        """
        alerts:
          - {name: grows, when: rate(sqs.age) over 1m > 0.5}
          - {name: soon, when: days_left(sqs.age) over 1m < 1}
        """
    )
    for place in range(8):
        stage.at(10 * place)
        ages(stage, (5_000.0 - place, PAY), (1_000.0, MAIL))
    assert stage.told == ["60 firing soon"]
    assert "(queue:pay) is 0.578" in stage.alerts[0].summary
    assert stage.states["grows"] == "ok"


def test_what_a_rate_grew_by_each_second_is_its_average() -> None:
    stage = Stage("alerts: [{name: busy, when: rate(requests) over 1m > 9}]")
    for place in range(8):
        stage.at(10 * place)
        stage.values(ORDERS, ("requests", Kind.RATE, 100 * place))
    assert stage.told == ["60 firing busy"]


def test_series_that_are_gone_leave_nothing_behind() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100}, {name: grows, when: rate(sqs.age) over 1m > 9}]")
    for place in range(300):
        ages(stage, *[(1.0, f"queue:{place}-{one}") for one in range(10)])
        stage.now += 60
    router = stage.engine._book.router
    assert len(router._routes) <= 1_300  # an hour's, of two rules
    assert (
        max(len(store.members) for term in stage.engine._book.terms.values() for store in term.stores.values()) <= 650
    )  # type: ignore[union-attr]


# Statuses


def test_a_service_check_ends_after_three_intervals_and_with_its_instance() -> None:
    stage = Stage("alerts: [{name: db, when: status(postgres.can_connect) == critical}]")
    checked(stage, ("old", "critical"))
    for place in range(1, 6):
        stage.at(10 * place)
        checked(stage, ("new", "ok"))
    assert stage.told == ["0 firing db", "40 resolved db"]
    checked(stage, ("new", "critical"))
    closed(stage, DB)
    assert stage.engine._book.terms["s postgres.can_connect ", ()].stores[()].last(stage.now) is None
    for place in range(3_000):
        stage.now += 10
        checked(stage, (f"s{place}", "ok"))
    assert len(stage.engine._book.terms["s postgres.can_connect ", ()].stores[()].said) <= 4  # type: ignore[union-attr]


def test_a_run_that_fails_is_as_bad_as_what_it_did_not_report() -> None:
    stage = Stage(
        """
        alerts:
          - {name: db, when: status(postgres.can_connect) == critical}
          - {name: twice, when: status(postgres.can_connect) != ok for 2 runs}
        """
    )
    checked(stage, ("a", "ok"))
    for seconds in (10, 30, 70, 150):  # runs that time out come less often
        stage.at(seconds)
        checked(stage, healthy=False)
    assert stage.told == ["10 firing db", "30 firing twice"]
    stage.at(160)
    checked(stage, ("a", "ok"))
    assert sorted(stage.told[2:]) == ["160 resolved db", "160 resolved twice"]


def test_what_a_run_that_found_something_critical_does_not_report_is_unknown() -> None:
    stage = Stage("alerts: [{name: db, when: status(postgres.can_connect) == critical}]")
    checked(stage, ("a", "ok"))
    for place in range(1, 6):
        stage.at(10 * place)
        stage.status(DB, "critical")
    assert (stage.told, stage.states) == ([], {"db": "waiting"})


def test_a_status_that_is_reported_no_more_is_no_verdict() -> None:
    stage = Stage("alerts: [{name: flow, when: status(synthetic/payment-flow) != ok}]")
    stage.status(FLOW, "ok")
    assert stage.states == {"flow": "ok"}
    stage.at(29)
    assert stage.states == {"flow": "ok"}
    stage.at(31)
    assert stage.states == {"flow": "waiting"}


# Runs


def test_runs_are_counted_for_each_instance() -> None:
    stage = Stage('alerts: [{name: any, when: status("*/*") == critical for 3 runs}]')
    for place in range(6):
        stage.at(10 * place)
        stage.status(FLOW, "critical" if place == 2 else "ok")
        for instance in (DB, ORDERS, QUEUES):
            stage.status(instance, "critical" if instance == DB and place >= 3 else "ok")
    assert stage.told == ["50 firing any"]
    closed(stage, DB)
    stage.at(60)
    stage.status(FLOW, "ok")
    assert stage.told[1:] == ["60 resolved any"]


def test_runs_of_a_value_are_those_of_its_instance() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100 for 3 runs}]")
    for place in range(5):
        stage.at(10 * place)
        ages(stage, (500.0 if place != 2 else 1.0, PAY))
        ages(stage, (1.0, MAIL), instance="sqs/other")
    assert stage.told == []
    stage.at(50)
    ages(stage, (500.0, PAY))
    assert stage.told == ["50 firing old"]


# Counts


def test_a_count_without_a_window_is_0_where_a_run_brings_none() -> None:
    stage = Stage(
        """
        alerts:
          - {name: failed, when: payments.failed > 5}
          - {name: idle, when: payments.all < 5 for 3 runs}
        """
    )
    for place in range(6):
        stage.at(10 * place)
        failed = [("payments.failed", Kind.COUNT, 4, f"currency:{one}") for one in ("USD", "EUR") if place == 1]
        stage.values(ORDERS, *failed)
    assert stage.told == ["10 firing failed", "20 resolved failed", "20 firing idle"]
    assert stage.alerts[0].summary == "failed: last(payments.failed) is 8 payment, above 5"
    stage.at(100)  # and unknown where there are no runs
    assert stage.engine.cases[0].verdict(stage.now) is None


def test_what_a_name_counts_is_learned_from_its_samples_and_outlasts_a_restart() -> None:
    rules = """
    alerts:
      - {name: idle, when: sum(payments.all) over 1m < 1}
      - {name: failing, when: rate(payments.failed) over 1m > 0.4}
    """
    stage = open_stage(rules)
    for place in range(20):
        stage.at(10 * place)
        counts = [("payments.all", Kind.COUNT, 9), ("payments.failed", Kind.COUNT, 5.0)] if place < 10 else []
        stage.values(APP, *counts)
    assert stage.told == ["60 firing failing", "110 resolved failing", "150 firing idle"]
    stage.engine.close()
    after = Stage("alerts: []", memory={key: value for key, value in stage.memory.items() if key == "vedette/alerts"})
    after.memory["vedette/alerts"] = {"kinds": stage.memory["vedette/alerts"]["kinds"]}
    after = Stage("alerts: []", memory=after.memory)
    after.engine.configure(read(rules, among=open_catalogue())[0])
    for place in range(8):
        after.at(10 * place)
        after.values(APP, ("other", Kind.GAUGE, 1.0))
    assert after.told == ["60 firing idle"]


def test_a_count_of_an_instance_that_nobody_configured_is_0_too() -> None:
    stage = Stage("alerts: [{name: failed, when: sum(payments.failed) over 1m > 10}]")
    for place in range(20):
        stage.at(10 * place)
        stage.values("pods/a", *([("payments.failed", Kind.COUNT, 6)] if place in (8, 9) else []))
    assert stage.told == ["90 firing failed", "140 resolved failed"]


@pytest.mark.parametrize("who", [ORDERS, "pods/a"])
@pytest.mark.parametrize("before", [False, True])
def test_what_the_first_run_after_a_restart_counts_is_told(who: str, before: bool) -> None:
    """A window that was full and is empty stays full; `pods/a` nobody configured."""
    text = "alerts: [{name: failed, when: sum(payments.failed) over 10m > 4}]"
    told = []
    for restart in (False, True):
        stage, heard = Stage(text), list[str]()
        for minute in range(45):
            stage.at(60 * minute)
            if minute == 30 and restart:
                heard, stage = stage.told, stage.restart(text)
            stage.interval = 60.0
            came = minute == 30 or (minute == 1 and before)
            stage.values(who, *([("payments.failed", Kind.COUNT, 5)] if came else []))
        told.append(heard + stage.told)
    assert told[0][-2:] == ["1800 firing failed", "2400 resolved failed"]
    assert told[1] == told[0]


@pytest.mark.parametrize("by", ["", " by (queue)"])
def test_a_count_of_an_instance_that_nobody_configured_is_0_after_a_restart(by: str) -> None:
    text = f"alerts: [{{name: few, when: sum(payments.all) over 5m < 1{by}}}]"
    stage, heard = Stage(text), list[str]()
    for minute in range(30):
        stage.at(60 * minute)
        if minute == 22:
            heard, stage = stage.told, stage.restart(text)
        stage.interval = 60.0
        stage.values("pods/a", *([("payments.all", Kind.COUNT, 5, PAY)] if minute < 20 else []))
    assert [one.split("{")[0] for one in heard + stage.told] == ["1440 firing few"]


def test_who_ended_while_the_agent_was_down_counts_no_0() -> None:
    """A pod that nobody configured, over two restarts; as if it had ended before the first."""
    text = "alerts: [{name: few, when: sum(payments.all) over 30m < 1 by (queue)}]"
    stage = Stage(text)
    for minute in range(90):
        stage.now += 60
        stage.engine.tick()
        if minute in (45, 46):
            assert stage.told == []
            stage = stage.restart(text)
        stage.interval = 60.0
        if minute < 45:
            stage.values("pods/a", *([("payments.all", Kind.COUNT, 5, PAY)] if minute < 40 else []))
        stage.values("pods/b", ("payments.all", Kind.COUNT, 5, MAIL))
    assert stage.told == []


def test_a_window_that_nothing_came_for_fills_over_a_restart() -> None:
    text = "alerts: [{name: failed, when: sum(payments.failed) over 10m > 4}]"
    stage = Stage(text)
    for minute in range(12):
        stage.at(60 * minute)
        if minute == 7:
            stage = stage.restart(text)
        stage.interval = 60.0
        stage.values(ORDERS, *([("payments.failed", Kind.COUNT, 5)] if minute == 7 else []))
    assert stage.told == ["600 firing failed"]


# Windows


@pytest.mark.parametrize("absurd", [1.8e19, -1e30, 1e308])
def test_one_absurd_sample_leaves_no_trace(absurd: float) -> None:
    stage = Stage("alerts: [{name: low, when: avg(sqs.age) over 1m < 98}]")
    averages = []
    for place in range(30):
        stage.at(10 * place)
        ages(stage, (absurd if place == 10 else 99.0, PAY))
        averages.append(stage.engine.cases[0].compiler.leaves[0].read(stage.now))
    assert averages[-1] == 99.0
    assert [one for one in stage.told if "firing" in one] == (["100 firing low"] if absurd < 0 else [])


def test_a_new_group_has_no_verdict_before_its_window_is_full_unless_it_counted_too_much() -> None:
    stage = Stage(
        """
        alerts:
          - {name: mean, when: avg(sqs.age) over 1m > 100 by (queue)}
          - {name: few, when: sum(payments.all) over 1m < 100 by (currency)}
          - {name: many, when: sum(payments.failed) over 1m > 10 by (currency)}
        """
    )
    for place in range(20):
        stage.at(10 * place)
        old = [("payments.all", Kind.COUNT, 50, "currency:USD")]
        new = [("payments.all", Kind.COUNT, 9, "currency:EUR"), ("payments.failed", Kind.COUNT, 12, "currency:EUR")]
        stage.values(ORDERS, *old, *(new if place >= 10 else []))
        ages(stage, (1.0, MAIL), *([(500.0, PAY)] if place >= 10 else []))
    assert sorted(stage.told) == [
        "100 firing many{currency:EUR}",
        "160 firing few{currency:EUR}",
        "160 firing mean{queue:pay}",
    ]


def test_a_window_that_was_empty_for_all_of_its_length_begins_anew() -> None:
    stage = Stage(
        """
        alerts:
          - {name: mean, when: avg(sqs.age) over 1m > 100}
          - {name: few, when: sum(payments.all) over 1m < 1}
        """
    )
    for seconds in (*range(0, 70, 10), *range(1000, 1080, 10)):
        stage.at(seconds)
        ages(stage, (500.0 if seconds >= 1000 else 1.0, PAY))
        stage.values(ORDERS, *([("payments.all", Kind.COUNT, 9)] if seconds < 1000 else []))
    assert sorted(stage.told) == ["1060 firing few", "1060 firing mean"]


def test_a_window_shorter_than_the_interval_has_its_verdicts() -> None:
    stage = Stage("alerts: [{name: mean, when: avg(sqs.age) over 5s > 100}]")
    for place in range(3):
        stage.at(10 * place)
        ages(stage, (500.0, PAY))
    assert stage.told == ["10 firing mean"]


def test_the_smallest_of_a_rising_series_needs_bounded_room() -> None:
    stage = Stage("alerts: [{name: low, when: min(sqs.age) over 1h < 0}]")
    for place in range(4_000):
        stage.now += 1
        ages(stage, (float(place), PAY))
    (window,) = [store for term in stage.engine._book.terms.values() for store in term.stores.values()]
    assert len(window.values) <= 1_024  # type: ignore[union-attr]
    assert 390 <= window.min(stage.now) <= 400  # type: ignore[union-attr,operator]


def test_the_largest_of_many_samples_leaves_with_them() -> None:
    window = Window(7_200.0, 0.0)
    for place in range(799):  # a point is of two samples now, the last one too
        value = 500.0 if place == 798 else 1.0
        window.put(10.0 * place, value)
    assert window.max(15_160.0) == 500.0
    assert (window.max(15_180.0), window.is_empty(15_180.0)) == (None, True)


def test_one_giant_sample_takes_nothing_of_the_others_along() -> None:
    stage = Stage("alerts: [{name: low, when: avg(sqs.age) over 5m < 97}]")
    for place in range(120):
        stage.at(10 * place)
        ages(stage, (2.0**64 - 1 if place == 10 else 99.0, PAY))
    assert stage.told == []


def test_samples_with_their_own_times_count_once_and_as_they_were_corrected() -> None:
    text = "alerts: [{name: failed, when: sum(payments.failed) over 10m > 990}]"
    stage, sums = Stage(text), []
    for minute in range(30):
        stage.at(60 * minute)
        mine = [(stage.now - 60 * back, 10.0) for back in range(5, 0, -1)]  # its last five minutes, each time
        if minute >= 20:
            mine[0] = (mine[0][0], 12.0)
        stage._run(ORDERS, tuple(Sample("payments.failed", Kind.COUNT, value, (), at) for at, value in mine), (), None)
        sums.append(stage.engine.cases[0].compiler.leaves[0].read(stage.now))
        if minute == 15:
            stage = stage.restart(text)
    assert sums[12:20] == [100.0] * 8
    assert sums[20:26] == [102.0, 104.0, 106.0, 108.0, 110.0, 112.0]


def own(stage: Stage, name: str, value: float, at: float) -> None:
    kind = Kind.GAUGE if name == "sqs.age" else Kind.COUNT
    stage._run(QUEUES, (Sample(name, kind, value, (PAY,), at),), (), None)


@pytest.mark.parametrize("ahead", [30.0, 3_600.0, 1.8e12])
def test_a_sample_of_the_future_silences_no_later_one(ahead: float) -> None:
    text = "alerts: [{name: old, when: sqs.age > 5}]"
    stage = Stage(text)
    own(stage, "sqs.age", 1.0, stage.now + ahead)
    for now in (60, 120):
        stage.at(now)
        own(stage, "sqs.age", 9.0, stage.now - 10)
    assert stage.told == ["60 firing old"]
    stage = stage.restart(text)
    stage.at(180)
    own(stage, "sqs.age", 1.0, stage.now - 10)
    assert stage.told == ["180 resolved old"]


def test_a_latest_value_that_is_sent_again_counts_after_a_restart_for_as_long_as_it_would_have() -> None:
    text = "alerts: [{name: old, when: sqs.age > 5}]"
    stage, seen = Stage(text), []
    taken = stage.now - 10
    for now in range(0, 60, 10):
        stage.at(now)
        own(stage, "sqs.age", 9.0, taken)
        seen.append(stage.engine.cases[0].verdict(stage.now))
        if now == 10:
            stage = stage.restart(text)
    assert seen == [True, True, True, True, None, None]


@pytest.mark.parametrize(
    "when",
    [
        "no data(sqs.age) for 10m",
        "payments.failed > 5",
        "sqs.age > 5 for 2 runs",
        "sqs.age > 5 for 2 of 3 runs",
        "sum(payments.failed) over 10m > 12",
        "max(sqs.age) over 10m > 5",
        "sum(bytes.sent) over 10m > 240",
    ],
)
@pytest.mark.parametrize("at", [3, 11, 17])
def test_a_restart_and_a_reload_change_nothing_where_samples_are_sent_again(when: str, at: int) -> None:
    """The last of them came two minutes after the start, and is sent again in each run, as CloudWatch's are."""
    text = f"alerts: [{{name: it, when: '{when}', expire: 15m}}]"
    told = []
    for act in ("nothing", "restart", "reload"):
        stage, heard = Stage(text), []
        for minute in range(30):
            stage.at(60 * minute)
            now = min(stage.now, stage.start + 120)
            totals = [
                Sample("bytes.sent", Kind.COUNTER, at, (), stage.start + at) for at in _minutes(now - stage.start)
            ]
            failed = Sample("payments.failed", Kind.COUNT, 9.0, (), now)
            stage._run(QUEUES, (Sample("sqs.age", Kind.GAUGE, 9.0, (PAY,), now),), (), None)
            stage._run(ORDERS, (failed, *totals), (), None)
            if minute == at and act == "restart":
                heard, stage = stage.told, stage.restart(text)
            if minute == at and act == "reload":
                for instance in (QUEUES, ORDERS):
                    stage.closed(instance)
        told.append([one.split()[one.count("resolved") :] for one in heard + stage.told])  # an end is seen by and by
    assert told[1] == told[0]
    assert told[2] == told[0]


LATE = """
alerts:
  - {name: sum, when: sum(payments.failed) over 10m > 1e9}
  - {name: number, when: count(payments.failed) over 30m > 1e9}
  - {name: mean, when: avg(sqs.age) over 10m > 1e9 by (queue)}
  - {name: low, when: min(sqs.age) over 10m < -1e9}
  - {name: high, when: max(sqs.age) over 10m > 1e9}
  - {name: last, when: last(sqs.age) over 10m > 1e9}
  - {name: more, when: "change(sum(payments.failed) over 10m, 10m) > 1e9"}
  - {name: part, when: sum(payments.failed) / sum(payments.all) over 10m > 1e9}
"""


def seen_of(came: list[list[int]], over: str, restart: int = -1) -> dict[str, tuple[float | None, ...]]:
    """What conditions see after runs that bring the samples of these minutes, each with its value at its own time."""
    text = LATE.replace("10m", over)
    stage = Stage(text)
    for now, minutes in enumerate(came):
        stage.at(60 * now)
        if now == restart:
            stage = stage.restart(text)
        stage.interval = 60.0
        made = [(minute, stage.start + 60.0 * minute - 5) for minute in minutes]
        failed = [Sample("payments.failed", Kind.COUNT, float(minute * 5 % 13), (), at) for minute, at in made]
        every = [Sample("payments.all", Kind.COUNT, 20.0, (), at) for _, at in made]
        old = [Sample("sqs.age", Kind.GAUGE, float(minute * 7 % 11), (PAY,), at) for minute, at in made]
        stage._run(QUEUES, tuple(old), (), None)
        stage._run(ORDERS, (*failed, *every), (), None)
    assert stage.engine.faults == 0
    return {case.key: tuple(leaf.read(stage.now) for leaf in case.compiler.leaves) for case in stage.engine.cases}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("over", ["10m", "35m"])
def test_samples_count_in_whatever_order_they_come_and_however_often(seed: int, over: str) -> None:
    """Up to five minutes late, some again afterwards, also over a restart; a series is as late as its newest sample."""
    random = Random(seed)
    came: list[list[int]] = [[] for _ in range(36)]
    for minute in range(10, 36):
        late = random.choice([0, 1, 3, 5]) if minute % 2 == 0 or over == "35m" else 0
        for now in {min(35, minute + late), min(35, minute + late + random.randrange(6))}:
            came[now].append(minute)
    for some in came:
        random.shuffle(some)
    in_order = seen_of([[now] if now >= 10 else [] for now in range(36)], over)
    assert in_order["sum"][0] == sum(minute * 5 % 13 for minute in range(26 if over == "10m" else 10, 36))
    assert seen_of(came, over) == in_order
    assert seen_of(came, over, restart=random.randrange(12, 34)) == in_order


def test_a_late_sample_fires_and_is_in_the_evidence() -> None:
    text = "alerts: [{name: many, when: sum(payments.failed) over 10m > 12}, {name: now, when: payments.failed > 12}]"
    stage = Stage(text)
    for minute in range(30):
        stage.at(60 * minute)
        for back in {20: (), 22: (2, 0)}.get(minute, (0,)):
            own(stage, "payments.failed", 20.0 if minute - back == 20 else 0.0, stage.now - 60 * back)
    assert stage.told == ["1320 firing many"]
    assert stage.alerts[0].evidence.values[-2:] == ((stage.start + 1200, 20.0), (stage.start + 1260, 0.0))


@pytest.mark.parametrize("again", [1, 3])
@pytest.mark.parametrize("restart", [-1, 30])
def test_what_is_sent_again_keeps_no_window_full(again: int, restart: int) -> None:
    """Nothing new for a quarter of an hour, then one that is above the limit: one is not five minutes."""
    text = "alerts: [{name: old, when: min(sqs.age) over 5m > 5}]"
    stage, told = Stage(text), list[str]()
    mine = [minute for minute in range(60) if not 20 <= minute < 35]
    for now in range(60):
        stage.at(60 * now)
        if now == restart:
            told, stage = stage.told, stage.restart(text)
        stage.interval = 60.0
        some = [minute for minute in mine if minute <= now][-again:]
        made = [
            (9.0 if minute == 35 else 1.0, stage.start + 60 * minute) for minute in some if again > 1 or minute == now
        ]
        stage._run(QUEUES, tuple(Sample("sqs.age", Kind.GAUGE, value, (PAY,), at) for value, at in made), (), None)
    assert told + stage.told == []


@pytest.mark.parametrize("again", [False, True])
def test_a_window_as_long_as_its_samples_are_apart_has_its_verdicts(again: bool) -> None:
    """Every five minutes one, by an instance that runs each minute."""
    stage = Stage("alerts: [{name: old, when: max(sqs.age) over 5m > 5}]")
    for now in range(32):
        stage.at(60 * now)
        stage.interval = 60.0
        made = Sample("sqs.age", Kind.GAUGE, 9.0 if now >= 20 else 1.0, (PAY,), stage.start + 60 * (now - now % 5))
        stage._run(QUEUES, (made,) if again or now % 5 == 0 else (), (), None)
    assert stage.told == ["1200 firing old"]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("high", [60, 80])
def test_no_gap_excuses_a_longer_one(own: bool, high: int) -> None:
    """One each twenty minutes, of which one is above the limit: one is not five minutes."""
    stage = Stage("alerts: [{name: old, when: min(sqs.age) over 5m > 5}]")
    stage.interval = 60.0
    for now in range(90):
        stage.at(60 * now)
        value, at = 9.0 if now == high else 1.0, stage.now - 1 if own else None
        some = (Sample("sqs.age", Kind.GAUGE, value, (PAY,), at),) if now < 20 or now % 20 == 0 else ()
        stage._run(QUEUES, some, (), None)
    assert stage.told == []


def counts(stage: Stage, minute: int, again: int, age: float) -> float | None:
    """A run that brings the counts of the last minutes, each 1; returns what the window sees then."""
    made = [Sample("payments.failed", Kind.COUNT, 1.0, (), stage.start + 60 * one - age) for one in range(minute + 1)]
    stage.interval = 60.0
    stage._run(ORDERS, tuple(made[-again:]), (), None)
    seen: float | None = stage.engine.cases[0].compiler.leaves[0].read(stage.engine.now())
    return seen


@pytest.mark.parametrize("steps", [(-30,), (-2, -90.7, 0.1), (-3_600,), (30,), (400, 370)])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("age", [5.0, 500.0])
def test_what_is_sent_again_counts_once_though_the_clock_is_set(
    steps: tuple[float, ...], restart: bool, age: float
) -> None:
    """The agent's, not that of whoever dates the samples, by another in each run."""
    text = "alerts: [{name: many, when: sum(payments.failed) over 10m > 15}]"
    stage, seen, behind = Stage(text), list[float | None](), 0.0
    for minute in range(36):
        stage.at(60 * minute + behind)
        if minute >= 14 and not behind:
            stage.skew = steps[min(minute - 14, len(steps) - 1)]
        if minute == 18 and restart:
            stage.engine.close()
            behind = stage.skew
            stage = Stage(text, memory=stage.memory, now=60 * minute + behind)
        seen.append(counts(stage, minute, again=8, age=age))
    assert [one for one in seen[12:] if one is not None and one > 10] == []
    if not restart:
        assert seen[12:] == [10.0] * 24


@pytest.mark.parametrize("step", [-30, 30])
def test_a_step_of_the_clock_right_before_the_end_is_heeded(step: float) -> None:
    text = "alerts: [{name: many, when: sum(payments.failed) over 10m > 15}]"
    stage, seen, behind = Stage(text), list[float | None](), 0.0
    for minute in range(36):
        stage.at(60 * minute + behind)
        if minute == 20:
            stage.skew = behind = step
            stage.engine.close()
            stage = Stage(text, memory=stage.memory, now=60 * minute + step)
        seen.append(counts(stage, minute, again=8, age=5.0))
    assert [one for one in seen[12:] if one is not None and one > 10] == []


@pytest.mark.parametrize(
    ("steps", "local"),
    [
        ({20: 30}, False), ({20: -30}, False), ({20: 55}, False), ({20: 90}, False), ({20: 3_600}, False),
        ({20: -90}, False), ({20: 30, 22: 0}, False), ({20: 30}, True), ({20: -30}, True), ({20: 55, 22: 0}, True),
    ],
)  # fmt: skip
def test_a_step_of_the_clock_is_no_growth_of_totals_with_their_own_times(steps: dict[int, float], local: bool) -> None:
    """Ten a second, dated by a clock that is right, or by the one that was set."""
    of_rate = "{name: fast, when: max(requests) over 10m > 11}, {name: slow, when: min(requests) over 10m < 9}"
    stage = Stage(f"alerts: [{of_rate}, {{name: few, when: sum(bytes.sent) over 10m < 5999}}]")
    stage.interval = 60.0
    for minute in range(40):
        stage.at(60 * minute)
        stage.skew = steps.get(minute, stage.skew)
        total, at = 600.0 * minute, stage.now - 5 + (stage.skew if local else 0)
        some = Sample("requests", Kind.RATE, total, (), at), Sample("bytes.sent", Kind.COUNTER, total, (), at)
        stage._run(ORDERS, some, (), None)
    assert stage.told == []
    assert set(stage.states.values()) == {"ok"}


def test_a_run_that_was_under_way_when_the_clock_was_set_back_to_what_it_was_is_of_now() -> None:
    stage = Stage("alerts: [{name: many, when: sum(payments.failed) over 1m > 1.5}]")
    seen = []
    for place in range(45):
        stage.at(10 * place)
        begun, before = stage.now - 2, stage.skew
        stage.skew = 3_600.25 if 20 <= place < 30 else 0.0
        some = (Sample("payments.failed", Kind.COUNT, 0.2, ()),)
        stage.engine.consume(Batch(ORDERS, "business_sql", begun + before, 10.0, samples=some))
        seen.append(stage.engine.cases[0].compiler.leaves[0].read(stage.engine.now()))
    assert None not in seen[10:]
    assert {round(one or 0, 1) for one in seen[10:]} <= {1.0, 1.2}


@pytest.mark.parametrize("missing", [50, 55])
@pytest.mark.parametrize("again", [1, 3])
def test_a_datapoint_that_is_missing_withholds_no_later_verdict(missing: int, again: int) -> None:
    stage = Stage("alerts: [{name: old, when: min(sqs.age) over 5m > 5}]")
    mine = [minute for minute in range(0, 90, 5) if minute != missing]
    for now in range(90):
        stage.at(60 * now)
        stage.interval = 60.0
        some = [minute for minute in mine if minute <= now][-again:]
        made = [
            Sample("sqs.age", Kind.GAUGE, 9.0 if minute >= 60 else 1.0, (PAY,), stage.start + 60 * minute - 1)
            for minute in some
            if again > 1 or minute == now
        ]
        stage._run(QUEUES, tuple(made), (), None)
    assert stage.told == ["3600 firing old"]


def test_a_source_whose_clock_is_ahead_counts_once_however_long_it_sends_again() -> None:
    stage = Stage("alerts: [{name: many, when: sum(payments.failed) over 5m > 7}]")
    seen = []
    for minute in range(50):
        stage.at(60 * minute)
        seen.append(counts(stage, minute, again=15, age=-1_800.0))
    assert seen[6:] == [5.0] * 44
    assert len(next(iter(stage.engine._book.router._routes.values())).brought._times) < 40


def test_of_what_comes_once_and_in_order_but_the_newest_is_kept() -> None:
    stage = Stage("alerts: [{name: many, when: sum(payments.failed) over 10m > 15}]")

    def row() -> list[float]:
        stage.engine.close()
        (row,) = stage.memory["vedette/alerts"]["brought"].values()
        return [one - stage.start if one > stage.start else one for one in row]

    for minute in range(20):
        stage.at(60 * minute)
        counts(stage, minute, again=1, age=0.0)
    assert row() == [1_140.0, 1_140.0, 60.0]
    counts(stage, 19, again=2, age=0.0)
    assert row() == [1_140.0, 1_140.0, 660.0, *(60.0 * age for age in range(10, -1, -1))]
    for minute in range(20, 60):
        stage.at(60 * minute)
        counts(stage, minute, again=1, age=0.0)
    assert row()[2:] == [660.0, *(60.0 * age for age in range(10, -1, -1))]


def test_samples_of_the_future_that_are_sent_again_count_once_over_a_restart() -> None:
    text = "alerts: [{name: failed, when: sum(payments.failed) over 10m > 30}]"
    stage, sums = Stage(text), []
    for minute in range(24):
        stage.at(60 * minute)
        if minute in (15, 17):
            stage = stage.restart(text)
        made = [Sample("payments.failed", Kind.COUNT, 9.0, (), stage.start + 86_400.0 + one) for one in range(3)]
        stage._run(ORDERS, tuple(made) if minute >= 12 else (), (), None)
        sums.append(stage.engine.cases[0].compiler.leaves[0].read(stage.now))
    assert sums[11:] == [0.0, *[27.0] * 10, 0.0, 0.0]


def test_many_samples_of_the_future_silence_no_later_one_after_a_restart() -> None:
    text = "alerts: [{name: old, when: max(sqs.age) over 1m > 5}]"
    stage = Stage(text)
    for now in range(0, 600, 10):
        stage.at(now)
        own(stage, "sqs.age", 1.0, stage.now + 3_600)
    stage = stage.restart(text)
    stage.at(610)
    own(stage, "sqs.age", 9.0, stage.now - 5)
    assert stage.told == ["610 firing old"]


def test_groups_beyond_the_most_of_samples_with_their_own_times_cost_no_other() -> None:
    stage = Stage("alerts: [{name: old, when: max(sqs.age) over 1m > 5 by (queue)}]")
    for _ in range(12):
        stage.now += 10
        made = [Sample("sqs.age", Kind.GAUGE, 9.0, (f"queue:{one}",), stage.now - 5.0) for one in range(1_001)]
        stage._run(QUEUES, tuple(made), (), None)
    assert stage.engine.faults == 0
    assert len(stage.told) == 1_000


def test_an_instance_ends_whose_rule_was_taken_out_before() -> None:
    rules = "alerts: [{name: old, when: sqs.age > 5}, {name: few, when: payments.all > 1}]"
    stage = Stage(rules)
    ages(stage, (9.0, PAY))
    stage.reload(rules.replace("sqs.age", "sqs.other").replace("payments.all", "sqs.age"))
    stage.reload("alerts: [{name: few, when: payments.all > 1}]")
    stage.closed(QUEUES)
    assert list(stage.engine._estate.ended) == [QUEUES]


def test_what_stopped_days_ago_and_is_sent_again_stays_missing_over_a_restart() -> None:
    text = "alerts: [{name: gone, when: no data(sqs.age) for 30m, every: 30d}]"
    stage, told = Stage(text), []
    taken = stage.now
    for hour in range(30):
        stage.now = stage.start + 3_600.0 * hour
        stage.engine.tick()
        own(stage, "sqs.age", 9.0, taken)
        if hour in (26, 28):
            told += stage.told
            stage = stage.restart(text)
    told += stage.told
    assert [one.split(maxsplit=1)[1] for one in told] == ["firing gone"]


def _minutes(until: float) -> list[float]:
    return [max(0.0, until - 60.0 * back) for back in (2, 1, 0)]


def test_a_late_sample_makes_no_later_one_forgotten() -> None:
    window = Window(300.0, 0.0)
    for time, value in ((100.0, 5.0), (200.0, 3.0), (300.0, 2.0), (150.0, 4.0)):
        window.put(time, value)
    assert [window.max(now) for now in (390.0, 440.0, 490.0, 590.0, 600.0)] == [5.0, 4.0, 3.0, 2.0, None]


# Groups and reloads


def test_a_group_that_had_no_room_is_told_of_once_there_is_some() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100 by (queue)}]")
    ages(stage, *[(1.0, f"queue:{place}") for place in range(1_000)])
    for _ in range(11):
        stage.now += 10
        ages(stage, (500.0, "queue:late"))
    assert stage.told == ["70 firing old{queue:late}"]
    assert sum(term.left_out for term in stage.engine._book.terms.values()) == 1


def test_a_group_that_sends_nothing_for_a_day_is_gone() -> None:
    stage = Stage("alerts: [{name: silent, when: no data(sqs.age) for 2h by (queue)}]")
    ages(stage, (1.0, PAY))
    for _ in range(25):
        stage.now += 3_590
        ages(stage, (1.0, MAIL))
        stage.engine.tick()
    assert [one.split(" ", 1)[1] for one in stage.told] == ["firing silent{queue:pay}", "resolved silent{queue:pay}"]
    assert stage.alerts[1].at - stage.start >= 86_400
    assert "taken to be gone" in stage.alerts[1].summary


def test_a_configured_instance_that_never_ran_is_missed() -> None:
    book, problems = read("alerts: [{name: silent, when: no data for 10m}]", check="sqs")
    assert problems == []
    stage = Stage("alerts: []")
    stage.engine.configure(book)
    stage.at(700)
    assert stage.told == ["600 firing silent{instance:queues}"]


def test_a_reload_that_adds_an_instance_or_a_runbook_forgets_nothing() -> None:
    text = """
    alerts:
      - {name: mean, when: avg(sqs.age) over 1m > 100%s}
      - {name: runs, when: sqs.age > 100 for 3 runs%s}
      - {name: down, when: status(sqs/*) == critical by (instance)}
    """
    stage = Stage(text % ("", ""))
    for place in range(6):
        stage.at(10 * place)
        ages(stage, (500.0 if place >= 4 else 1.0, PAY))
    more = read(text % (", runbook: 'https://example.com'", ", severity: warning"))[0]
    sources = [{key: (*some, Source("sqs/new")) for key, some in rule.sources.items()} for rule in more.rules]
    rules = [
        rule.__class__(rule.config, rule.when, None, "", own, rule.kinds)
        for rule, own in zip(more.rules, sources, strict=True)
    ]
    stage.engine.configure(more.__class__(tuple(rules)))
    stage.at(60)
    ages(stage, (500.0, PAY))
    assert stage.told == ["60 firing mean", "60 firing runs"]
    assert [(one.severity, one.runbook) for one in stage.alerts] == [
        ("critical", "https://example.com"),
        ("warning", ""),
    ]


# Files


def test_keep_is_checked_as_when_is() -> None:
    rule = "alerts: [{name: x, when: sqs.age > 1, keep: '%s'}]"
    said = "say it: no data(metric) for 10m, or no data(check/instance) for 10m"
    assert read(rule % "no data for 10m")[1] == [f"alerts.yaml:1: alerts[0].keep: no data of what?; {said}"]
    assert read(rule % "sqs.age > 0 by (queue)")[1] == [
        "alerts.yaml:1: alerts[0].keep: takes no `by`; it is grouped as `when` is"
    ]


def test_an_undeclared_tag_is_an_error_where_all_tags_are_declared() -> None:
    rule = "alerts: [{name: x, when: 'max(sqs.age) over 5m > 1 by (quue)'}]"
    said = "alerts.yaml:1: alerts[0].when: %sno configured instance declares the tag quue; did you mean 'queue'?"
    book, problems = read(rule)
    assert (len(book.rules), problems) == (0, [said % ""])
    book, problems = read(rule.replace("sqs.age", "any.name"), among=open_catalogue())
    assert (len(book.rules), "warning: no configured instance declares the tag quue" in problems[1]) == (1, True)


@pytest.mark.parametrize("interval", ["300ms", "1100ms", "7s"])
def test_values_come_at_any_interval(tmp_path: Path, interval: str) -> None:
    (tmp_path / "suite.yaml").write_text(
        f"""
        alerts: [{{name: old, when: sqs.age > 5 for 30 runs}}]
        interval: {interval}
        series: [{{metric: sqs.age, values: 9x40}}]
        expect: [{{at: 300s, firing: [old]}}]
        """
    )
    assert replay(tmp_path / "suite.yaml", lambda _: None).failures == ()


def test_what_is_told_once_is_not_told_twice(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        """
        alerts: [{name: old, when: sqs.age > 5}]
        series: [{metric: sqs.age, values: 9 1 9 1}]
        told: [0s firing old, 1m resolved old, 1m resolved old, 3m resolved old]
        """
    )
    assert replay(tmp_path / "suite.yaml", lambda _: None).failures == (
        "is not told: 1m resolved old",
        "is told and should not be: 2m firing old",
    )
