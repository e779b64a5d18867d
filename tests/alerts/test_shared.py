"""What several rules look at, and what comes later: groups, instances, agents that take over."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from alerts.parts import DB, QUEUES, Emits, Stage, read
from alerts.test_rules import granted
from vedette.alerts import router
from vedette.metrics import Kind
from vedette.rules.catalogue import Catalogue
from vedette.rules.model import Source

if TYPE_CHECKING:
    from vedette.rules import Rulebook

TIERS = """
alerts:
  - {name: warn, when: max(sqs.age) over 1m > 100 by (queue)}
  - {name: crit, when: max(sqs.age) over 1m > 600 by (queue)}
"""


def queues(stage: Stage, until: float, *names: str, age: float = 200.0) -> None:
    """Runs of the queues' check, one each interval."""
    while stage.now - stage.start < until:
        stage.values(QUEUES, *[("sqs.age", Kind.GAUGE, age, f"queue:{name}") for name in names])
        stage.at(stage.now - stage.start + 10)


@pytest.mark.parametrize("kill", [False, True], ids=["restart", "kill"])
def test_after_a_restart_both_tiers_of_a_value_are_told(kill: bool) -> None:
    stage = Stage(TIERS)
    queues(stage, 100, "pay")
    assert stage.told == ["60 firing warn{queue:pay}"]
    stage = stage.restart(TIERS, kill=kill)
    queues(stage, 110, "pay")
    assert stage.states == {"warn{queue:pay}": "firing", "crit{queue:pay}": "ok"}
    queues(stage, 130, "pay", age=900.0)
    assert stage.told == ["110 firing crit{queue:pay}"]


@pytest.mark.parametrize("runs", ["", "for 2 of 3 runs "])
@pytest.mark.parametrize("target", ["*/*", "postgres/*"])
def test_an_absence_beside_a_status_takes_no_group_from_it(target: str, runs: str) -> None:
    stage = Stage(f"""
    alerts:
      - {{name: each, when: "status({target}) == critical {runs}by (instance)"}}
      - {{name: silent, when: "no data({target}) for 5m by (instance)"}}
    """)
    for second in range(0, 40, 10):
        stage.at(second)
        stage.status(DB, "critical" if second else "ok")
    assert stage.told == [f"{20 if runs else 10} firing each{{instance:payments-primary}}"]


def test_a_group_that_one_of_its_rules_let_go_is_new_to_it_when_it_comes_again() -> None:
    stage = Stage(TIERS)
    queues(stage, 100, "pay")
    book = stage.engine._book
    book.drop(book.cases["crit"]["pay",])
    assert stage.states == {"warn{queue:pay}": "firing"}
    queues(stage, 120, "pay", age=900.0)
    assert stage.told[1:] == ["100 firing crit{queue:pay}"]


def absence(*names: str) -> Rulebook:
    """The rule of a check's file, as read with these instances."""
    keep_all = SimpleNamespace(compile=lambda: lambda name: name)
    config = SimpleNamespace(tags=(), metrics=keep_all)
    made = [SimpleNamespace(id=f"redis/{name}", plugin=Emits(()), owned=False, config=config) for name in names]
    book, problems = read(
        "alerts: [{name: silent, when: no data for 5m}]",
        check="redis",
        among=Catalogue(made, (), complete=True),  # type: ignore[arg-type]
    )
    assert problems == []
    return book


def test_an_instance_that_a_reload_adds_is_missed_from_then_on() -> None:
    stage = Stage("alerts: []")
    stage.engine.configure(absence("a", "back"))
    for second in range(0, 900, 60):
        stage.at(second)
        stage.status("redis/a", "ok")
        if second < 240:
            stage.status("redis/back", "ok")
        if second == 240:
            stage.closed("redis/back")
            stage.engine.configure(absence("a"))
    stage.engine.configure(absence("a", "back", "new"))
    for second in range(900, 1300, 60):
        stage.at(second)
        stage.status("redis/a", "ok")
    assert sorted(stage.told) == ["1140 firing silent{instance:back}", "1140 firing silent{instance:new}"]


def test_a_group_is_missed_from_the_time_when_it_was_first_seen() -> None:
    stage = Stage("alerts: [{name: halt, when: no data(payments.all) for 5m and sqs.age > 1 by (queue)}]")
    stage.at(600)
    queues(stage, 950, "pay")
    assert stage.told == ["900 firing halt{queue:pay}"]


def test_after_a_takeover_nothing_is_missed_that_came_meanwhile() -> None:
    text = """
    alerts:
      - {name: each, when: no data(sqs.age) for 10m by (queue)}
      - {name: one, when: "no data(sqs.age{queue:pay}) for 10m"}
      - {name: none, when: no data(sqs/queues) for 10m}
    """
    one, other = Stage(text, QUEUES), Stage(text, QUEUES)
    other.memory[QUEUES] = one.memory.setdefault(QUEUES, {})
    for turn, (stage, start, until) in enumerate([(one, 0, 300), (other, 300, 2_940), (one, 3_000, 3_120)]):
        lease = granted(turn, QUEUES)
        stage.at(start)
        if turn == 2:
            stage.status(QUEUES, "critical", lease=lease)  # its first run fails
        while stage.now - stage.start < until:
            stage.at(stage.now - stage.start + 60)
            stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 1.0, "queue:pay"), lease=lease)
        if turn < 2:
            stage.closed(QUEUES)
    assert (one.told, other.told) == ([], [])
    one.at(3_900)
    assert sorted(one.told) == ["3720 firing each{queue:pay}", "3720 firing none", "3720 firing one"]


@pytest.mark.parametrize("restarted", [False, True])
def test_an_alert_does_not_expire_by_the_runs_of_another_instance(restarted: bool) -> None:
    text = """
    alerts:
      - {name: age, when: "max(sqs.age{instance:queues}) over 1m > 100", expire: 10m}
      - {name: each, when: sqs.age > 100 by (queue), expire: 10m}
    """
    stage = Stage(text)
    stage.rulebook = replace(
        stage.rulebook,
        rules=tuple(
            replace(rule, sources={key: (*some, Source(DB)) for key, some in rule.sources.items()})
            for rule in stage.rulebook.rules
        ),
    )
    stage.engine.configure(stage.rulebook)
    queues(stage, 100, "pay")
    for second in range(100, 1500, 20):
        stage.at(second)
        stage.values(DB, ("sqs.age", Kind.GAUGE, 1.0, "queue:mail"))
        stage.failed(QUEUES)
        if second == 200 and restarted:
            rules, told = stage.rulebook, stage.told
            stage = stage.restart(text, kill=True)
            stage.engine.configure(rules)
            assert told == ["0 firing each{queue:pay}", "60 firing age"]
    assert stage.told == ([] if restarted else ["0 firing each{queue:pay}", "60 firing age"])
    for second in range(1500, 1600, 20):
        stage.at(second)
        stage.values(DB)
        stage.values(QUEUES)  # it looks, and there is nothing
    assert sorted(stage.told[-2:]) == ["1501 resolved age", "1501 resolved each{queue:pay}"]


def test_a_series_with_an_instance_tag_of_its_own_keeps_its_group() -> None:
    text = "alerts: [{name: old, when: sqs.age > 100 by (instance)}]"
    stage = Stage(text)
    for second in (0, 10, 20):
        stage.at(second)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0, "instance:db1:9100"))
        assert stage.reload(text) == []
    assert stage.told == ["0 firing old{instance:db1:9100,queues}"]
    stage = stage.restart(text, kill=True)
    assert (stage.told, stage.states) == ([], {"old{instance:db1:9100,queues}": "firing"})


def test_a_group_that_finds_room_at_a_reload_has_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "MOST_GROUPS", 1)
    text = "alerts: [{name: old, when: sqs.age > 100 by (queue)}]"
    stage = Stage(text)
    queues(stage, 10, "pay", "mail", age=1.0)
    assert stage.states == {"old{queue:pay}": "ok"}
    stage.engine._book.drop(stage.engine._book.cases["old"]["pay",])
    stage.reload(text)
    queues(stage, 20, "mail")
    assert stage.told == ["10 firing old{queue:mail}"]


@pytest.mark.parametrize("end", ["restart", "kill", "stop"])
def test_restarts_of_the_agent_that_goes_on_with_an_instance_begin_nothing_anew(end: str) -> None:
    rules = """
    alerts:
      - {name: old, when: avg(sqs.age) over 10m > 100}
      - {name: none, when: "no data(sqs.age{queue:a}) for 10m"}
    """
    stage, lease, told = Stage(rules, QUEUES), granted(1, QUEUES), list[str]()
    for now in range(0, 1620, 20):
        stage.at(now)
        if now in (1200, 1400, 1500):
            if end == "stop":
                stage.closed(QUEUES)
            told += stage.told
            stage, lease = stage.restart(rules, QUEUES, kill=end == "kill"), granted(2, QUEUES)
            stage.at(now + 2)
            if now == 1400:  # the second start comes before the first run
                stage = stage.restart(rules, QUEUES, kill=end == "kill")
        age = 1.0 if now < 1180 else 300.0
        series = [("sqs.age", Kind.GAUGE, age, "queue:b"), ("sqs.age", Kind.GAUGE, 1.0, "queue:a")]
        stage.values(QUEUES, *series[: 2 if now < 900 else 1], lease=lease)
    late = 0 if end != "kill" else 60  # a kill costs the half minute before it
    (old, none) = sorted((told + stage.told), key=lambda one: one.split()[2])[::-1]
    assert (old.split()[1:], none.split()[1:]) == (["firing", "old"], ["firing", "none"])
    assert 1360 <= int(old.split()[0]) <= 1420, old
    assert 1480 <= int(none.split()[0]) <= 1510 + late, none


def test_an_instance_that_ran_elsewhere_meanwhile_begins_anew_after_a_restart_too() -> None:
    rules = "alerts: [{name: old, when: avg(sqs.age) over 10m > 100}]"
    stage = Stage(rules, QUEUES)
    lease = granted(1, QUEUES)
    for now in range(0, 700, 20):
        stage.at(now).values(QUEUES, ("sqs.age", Kind.GAUGE, 1.0), lease=lease)
    stage.closed(QUEUES)
    stage = stage.at(1000).restart(rules, QUEUES)
    lease = granted(2, QUEUES)
    for now in range(1000, 1640, 20):
        stage.at(now).values(QUEUES, ("sqs.age", Kind.GAUGE, 300.0), lease=lease)
    assert stage.told == ["1600 firing old"]
