"""When nobody is told: what a rule depends on, mutes, silences and maintenance; and when people are told after all."""

from __future__ import annotations

import pytest

from alerts.parts import DB, FLOW, ORDERS, QUEUES, Stage, read
from vedette.metrics import Kind

FLOW_ON_DB = """
    alerts: [{name: flow, when: status(synthetic/payment-flow) == critical, depends_on: [postgres/payments-primary]}]
"""


def statuses(stage: Stage, seconds: float, every: float = 10.0, **each: str) -> None:
    """Runs of the flow and the database for so long."""
    names = {"flow": FLOW, "db": DB}
    end = stage.now - stage.start + seconds
    while stage.now - stage.start < end:
        for name, status in each.items():
            stage.status(names[name], status)
        stage.at(stage.now - stage.start + every)


def test_what_stays_silent_after_its_dependency_is_back_is_told() -> None:
    stage = Stage(
        """
        alerts:
          - {name: silent, when: no data(sqs.age) for 5m, depends_on: [postgres/payments-primary]}
          - {name: unpaid, when: sum(payments.all) over 5m < 1, depends_on: [postgres/payments-primary]}
        """
    )
    for place in range(250):
        down = 30 <= place < 120
        stage.status(DB, "critical" if down else "ok")
        stage.values(ORDERS, *[("payments.all", Kind.COUNT, 5)][: place < 30])
        stage.values(QUEUES, *[("sqs.age", Kind.GAUGE, 1.0)][: place < 30])
        stage.at(10 * (place + 1))
    assert stage.told == ["1201 firing silent", "1500 firing unpaid"]  # its window is five minutes


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_what_a_dead_dependency_mutes_is_not_told_by_a_restart(kill: bool) -> None:
    stage = Stage(FLOW_ON_DB)
    statuses(stage, 60, db="critical", flow="critical")
    stage = stage.restart(FLOW_ON_DB, kill=kill)
    stage.status(FLOW, "critical")
    stage.at(69)
    assert stage.told == []
    statuses(stage, 30, db="critical", flow="critical")
    assert stage.told == []
    statuses(stage, 30, db="ok", flow="critical")
    assert len(stage.told) == 1


def test_an_alert_waits_for_one_run_of_what_may_be_the_cause() -> None:
    stage = Stage(FLOW_ON_DB)
    statuses(stage, 30, db="ok", flow="ok")
    stage.status(FLOW, "critical")
    stage.at(31)
    assert [one.quiet for one in stage.engine.vitals.alerts] == [  # type: ignore[union-attr]
        "depends on postgres/payments-primary, which has not run since"
    ]
    stage.status(DB, "critical")
    statuses(stage, 60, db="critical", flow="critical")
    assert stage.told == []
    apart = Stage(FLOW_ON_DB)
    statuses(apart, 30, db="ok", flow="ok")
    statuses(apart, 60, flow="critical")  # the database is not looked at any more
    assert apart.told == ["45 firing flow"]
    unknown = Stage(FLOW_ON_DB)
    statuses(unknown, 90, flow="critical")  # nor ever was: a minute after the start nobody waits for it
    assert unknown.told == ["60 firing flow"]


def test_a_dependency_that_says_nothing_any_more_is_not_down() -> None:
    stage = Stage(FLOW_ON_DB)
    statuses(stage, 20, db="critical", flow="critical")
    statuses(stage, 120, flow="critical")
    assert stage.told == ["50 firing flow"]  # three intervals, and a run of the flow after that


def test_only_what_fires_is_down_and_only_where_the_groups_agree() -> None:
    stage = Stage(
        """
        alerts:
          - {name: full, when: max(sqs.age) over 30s > 500 by (queue)}
          - {name: slow, when: max(sqs.age) over 30s > 100 by (queue), depends_on: [full]}
          - {name: shaky, when: status(postgres/payments-primary) == critical, for: 1h}
          - {name: flow, when: status(synthetic/payment-flow) == critical, depends_on: [shaky]}
        """
    )
    for place in range(12):
        stage.status(DB, "critical")
        stage.status(FLOW, "critical")
        values = {"pay": 900.0, "mail": 200.0}
        stage.values(QUEUES, *[("sqs.age", Kind.GAUGE, value, f"queue:{name}") for name, value in values.items()])
        stage.at(10 * (place + 1))
    assert sorted(line.partition(" ")[2] for line in stage.told) == [
        "firing flow",
        "firing full{queue:pay}",
        "firing slow{queue:mail}",
    ]


def test_rules_that_depend_on_each_other_are_an_error_and_mute_nobody() -> None:
    text = """\
        alerts:
          - {name: a, when: status(postgres/payments-primary) == critical, depends_on: [c]}
          - {name: b, when: status(synthetic/payment-flow) == critical, depends_on: [a, sqs/queues]}
          - {name: c, when: status(synthetic/payment-flow) == critical, depends_on: b}
          - {name: d, when: status(synthetic/payment-flow) == critical, depends_on: [d]}
          - {name: e, when: status(synthetic/payment-flow) == critical, depends_on: [d]}
        """
    book, problems = read(text)
    assert problems == [
        "alerts.yaml:2: alerts[0].depends_on: a rule cannot depend on itself: "
        "a depends on c, which depends on b, which depends on a",
        "alerts.yaml:3: alerts[1].depends_on: a rule cannot depend on itself: "
        "b depends on a, which depends on c, which depends on b",
        "alerts.yaml:4: alerts[2].depends_on: a rule cannot depend on itself: "
        "c depends on b, which depends on a, which depends on c",
        "alerts.yaml:5: alerts[3].depends_on: a rule cannot depend on itself",
    ]
    assert [rule.config.depends_on for rule in book.rules] == [(), ("sqs/queues",), (), (), ("d",)]


def test_a_dependency_that_one_agent_of_the_fleet_runs_and_a_pattern_that_fits_nothing_are_warnings() -> None:
    text = f"""\
        {FLOW_ON_DB.strip()}
        maintenance:
          - {{schedule: "0 2 * * *", duration: 1h, rules: [flwo, "f*"]}}
        """
    _, problems = read(text, DB)
    assert problems == [
        "alerts.yaml:1: alerts[0].depends_on: warning: postgres/payments-primary may run on another agent "
        "of the fleet, and how it is is not known here; depend on what runs on every node",
        "alerts.yaml:3: maintenance[0].rules: warning: no rule is called flwo; did you mean 'flow'?",
    ]


def test_a_mute_is_about_the_instances_of_which_the_condition_holds() -> None:
    stage = Stage('alerts: [{name: any, when: status("*/*") == critical}]')
    stage.muted[DB] = stage.now + 1000
    stage.status(DB, "critical")
    stage.at(10)
    assert stage.told == []
    stage.status(FLOW, "critical")
    assert stage.told == ["10 firing any"]


def test_who_acknowledges_before_anybody_was_told_is_not_woken() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100}]")
    stage.engine.silences.add(["old"], [], stage.now, stage.now + 60, "")
    for place in range(12):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0 if place < 10 else 1.0))
        if place == 1:
            stage.engine.acknowledge(stage.engine.cases[0])
        stage.at(10 * (place + 1))
    assert (stage.told, stage.states) == ([], {"old": "ok"})


@pytest.mark.parametrize("wanted", ["[prod] old", "*old"])
def test_a_rule_is_silenced_by_its_name_or_by_a_pattern(wanted: str) -> None:
    stage = Stage('alerts: [{name: "[prod] old", when: sqs.age > 100}]')
    stage.engine.silences.add([wanted], [], stage.now, stage.now + 60, "")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    assert stage.told == []


# A clock that somebody sets


@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_step_of_the_clock_makes_nothing_older_or_younger(step: float) -> None:
    text = """
    alerts:
      - {name: silent, when: no data(synthetic/payment-flow) for 10m}
      - {name: high, when: avg(sqs.age) over 5m > 100}
      - {name: long, when: sqs.age > 100, for: 30m}
      - {name: again, when: status(postgres/payments-primary) == critical, every: 20m}
    """
    stage = Stage(text)
    for place in range(260):
        if place == 50:
            stage.skew = step
        if place < 60:
            stage.status(FLOW, "ok")
        stage.status(DB, "critical")
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0 if place >= 45 else 1.0))
        if place == 100:
            rows = stage.memory["vedette/alerts"]
            assert rows["vedette:alert:again"]["told"] == stage.start + step  # by the clock as it is now
        stage.at(10 * (place + 1))
    assert stage.told == [
        f"{-step:g} firing again",
        "590 firing high",
        "1190 firing silent",
        "1200 reminder again",
        "2250 firing long",
        "2400 reminder again",
    ]
    assert stage.alerts[-1].at == stage.start + 2400 + step


def test_after_a_step_a_run_that_began_before_it_and_samples_with_their_own_time_stand_where_they_belong() -> None:
    stage = Stage("alerts: [{name: high, when: avg(sqs.age) over 5m > 100}]")
    for place in range(40):
        if place == 20:
            stage.engine.tick()
            stage.skew = 7200.0
            stage.engine.tick()
            stage.skew = 0.0  # set right again
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
        stage.at(10 * (place + 1))
    assert stage.told == ["300 firing high"]
