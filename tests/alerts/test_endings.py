"""How alerts end though nothing says so any more: rules, groups, instances, series that are gone; and over restarts."""

from __future__ import annotations

import pytest

from alerts.parts import DB, FLOW, ORDERS, QUEUES, Stage
from vedette.metrics import Kind

EACH = "alerts: [{name: down, when: status(*/*) == critical by (instance), notify: [oncall], labels: {team: pay}}]"
OLD = "alerts: [{name: old, when: max(sqs.age) over 1m > 100 by (queue)}]"


def queues(stage: Stage, *names: str, until: float, age: float = 200.0) -> None:
    """Runs of the queues' check, one each interval."""
    while stage.now - stage.start < until:
        stage.values(QUEUES, *[("sqs.age", Kind.GAUGE, age, f"queue:{name}") for name in names])
        stage.at(stage.now - stage.start + 10)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("alerts: [{name: old, when: 'max(sqs.age) over 1m > 100 by (queue, instance)'}]", "is grouped otherwise now"),
        ('alerts: [{name: old, when: "max(sqs.age{queue:mail}) over 1m > 100 by (queue)"}]', "does not look at it any"),
        (OLD.replace("old,", "older,"), "the rule is not in force any more"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True], ids=["reload", "restart"])
def test_what_was_told_of_a_group_that_cannot_come_any_more_is_over(after: str, why: str, restarted: bool) -> None:
    stage = Stage(OLD)
    queues(stage, "pay", until=70)
    assert (stage.told, stage.kept) == (["60 firing old{queue:pay}"], {"old{queue:pay}"})
    if restarted:
        stage = stage.restart(after, kill=True)
    else:
        stage.reload(after)
    assert stage.told[-1] == "70 resolved old{queue:pay}"
    assert why in stage.alerts[-1].summary
    assert "old{queue:pay}" not in stage.kept


def test_a_recovery_of_a_rule_that_is_gone_goes_where_its_alert_went() -> None:
    stage = Stage(EACH)
    stage.status(DB, "critical")
    stage.at(5)
    stage = stage.restart("alerts: []", kill=True)
    (alert,) = stage.alerts
    assert stage.sent == [("resolved", "down{instance:payments-primary}", "oncall")]
    assert (alert.severity, alert.labels) == ("critical", {"team": "pay", "instance": "payments-primary"})
    assert (alert.rule, alert.since) == ("down", stage.start)
    assert stage.kept == set()


def test_a_rule_that_an_error_keeps_out_is_not_over() -> None:
    before = Stage(EACH)
    before.status(DB, "critical")
    stage = Stage("alerts: []", memory=before.memory, now=5, whole=False)
    assert (stage.told, stage.kept) == ([], {"down{instance:payments-primary}"})
    stage.engine.configure(before.rulebook)
    assert stage.states == {"down{instance:payments-primary}": "firing"}
    stage.status(DB, "ok")
    assert stage.told == ["5 resolved down{instance:payments-primary}"]


def test_groups_come_back_after_a_restart_and_an_absence_goes_on() -> None:
    text = """
    alerts:
      - {name: unpaid, when: sum(payments.all) over 10m < 1 by (currency)}
      - {name: silent, when: no data(sqs.age) for 10m by (queue)}
    """
    stage = Stage(text)
    for second in range(0, 1800, 10):
        stage.at(second)
        names = ("EUR", "USD") if second < 900 else ("USD",)
        stage.values(ORDERS, *[("payments.all", Kind.COUNT, 5, f"currency:{name}") for name in names])
        stage.values(QUEUES, *[("sqs.age", Kind.GAUGE, 1.0, f"queue:{name}") for name in names])
        if second == 1200:
            assert stage.told == []
            stage = stage.restart(text)
    assert sorted(stage.told) == ["1490 firing silent{queue:EUR}", "1490 firing unpaid{currency:EUR}"]
    after = stage.restart(text, kill=True).at(stage.now - stage.start + 60)
    assert (after.told, after.states["silent{queue:EUR}"], after.states["unpaid{currency:EUR}"]) == (
        [],
        "firing",
        "firing",
    )
    after.values(QUEUES, ("sqs.age", Kind.GAUGE, 1.0, "queue:EUR"))
    assert [line.partition(" ")[2] for line in after.told] == ["resolved silent{queue:EUR}"]


def test_an_instance_that_ended_for_good_ends_its_alerts() -> None:
    stage = Stage(EACH)
    for place in range(6):
        stage.status("pods/a", "critical")
        stage.status("pods/b", "critical")
        stage.at(10 * (place + 1))
    stage.closed("pods/a")
    stage.closed("pods/b")
    stage.at(75)
    stage.status("pods/b", "critical")  # its tags were changed: it goes on
    stage.at(120)
    assert stage.told[2:] == ["90 resolved down{instance:a}"]
    assert stage.alerts[-1].summary == "down{instance:a}: its instance has ended"
    assert "down{instance:a}" not in stage.states


def test_a_series_that_ended_while_its_instance_runs_expires() -> None:
    text = "alerts: [{name: old, when: sqs.age > 100 by (queue), expire: 10m}]"
    stage = Stage(text)
    queues(stage, "pay", "mail", until=20)
    queues(stage, "mail", until=400, age=1.0)
    stage = stage.restart(text, kill=True)
    queues(stage, "mail", until=800, age=1.0)
    assert [line.partition(" ")[2] for line in stage.told] == ["resolved old{queue:pay}"]
    assert 600 <= stage.alerts[0].at - stage.start <= 740
    assert stage.alerts[0].summary == "old{queue:pay}: no data has come for 10m"
    silent = Stage(text)
    queues(silent, "pay", until=20)
    assert silent.at(4000).told == ["0 firing old{queue:pay}"]  # the check itself does not run: nobody knows


def test_somebody_may_end_an_alert() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100}]")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    stage.at(5)
    (case,) = stage.engine.cases
    stage.engine.end(case)
    assert (stage.told, stage.states, stage.kept) == (["0 firing old", "5 resolved old"], {"old": "ok"}, set())


def test_what_ended_is_not_kept() -> None:
    stage = Stage(OLD)
    queues(stage, "pay", "mail", until=70)
    assert len(stage.kept) == 2
    queues(stage, "pay", "mail", until=160, age=1.0)
    assert (len(stage.told), stage.kept) == (4, set())


@pytest.mark.parametrize(
    "rows",
    [
        {"silences": [{"id": 1, "rules": ["*"], "tags": [], "until": 9e9, "author": "x"}, {"id": 2, "until": "x"}]},
        {"silences": {"a": 1}},
        {"vedette:rings": [1], "vedette:beat": 3, "vedette:seen:flow": {"by": [], "groups": 7}},
        {"vedette:rings": {"flow": [7, [None]]}, "vedette:window:w a 1m": {"saved": "x"}},
        {"vedette:alert:flow": {"stage": "firing", "since": "x"}},
        {"vedette:alert:gone": {"stage": "firing", "rule": "gone", "by": 3, "told": 1}},
    ],
)
def test_what_another_version_kept_is_left_out(rows: dict[str, object]) -> None:
    text = "alerts: [{name: flow, when: status(synthetic/payment-flow) == critical for 2 of 3 runs}]"
    stage = Stage(text, memory={"vedette/alerts": rows})
    kept = rows.get("silences", ())
    understood = [1] if isinstance(kept, list) else []
    assert [one.id for one in stage.engine.silences.active(stage.now)] == understood
    for place in range(3):
        stage.status(FLOW, "critical")
        stage.at(10 * (place + 1))
    assert stage.states == {"flow": "firing"}


def test_a_kill_costs_no_verdict() -> None:
    text = """
    alerts:
      - {name: young, when: avg(sqs.age) over 2m > 100}
      - {name: older, when: avg(sqs.age) over 30m > 100}
      - {name: flow, when: status(synthetic/payment-flow) == critical for 2 of 3 runs}
    """
    stage = Stage(text)
    for place in range(200):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 50.0))
        stage.status(FLOW, "critical" if place % 3 == 0 else "ok")
        stage.at(10 * (place + 1))
    for _ in range(7):
        stage = stage.restart(text, kill=True)
        for _ in range(3):
            stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 50.0))
            stage.status(FLOW, "ok")
            assert stage.states == dict.fromkeys(("young", "older", "flow"), "ok")
            stage.at(stage.now - stage.start + 10)
    assert stage.told == []


def test_keep_goes_on_over_a_kill() -> None:
    text = "alerts: [{name: db, when: status(postgres/payments-primary) == critical, keep: 5m}]"
    stage = Stage(text)
    stage.status(DB, "critical")
    stage.at(20)
    for place in range(2, 50):
        if place == 20:
            stage = stage.restart(text, kill=True)
        stage.status(DB, "ok")
        stage.at(10 * (place + 1))
    assert stage.told == ["320 resolved db"]


def test_pending_needs_data() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100, for: 1m}]")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 500.0))
    stage.at(100)
    assert (stage.told, stage.states) == ([], {"old": "waiting"})
    for second in (3600, 3610):
        stage.at(second)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 500.0))
        assert stage.states == {"old": "pending"}
    stage.at(3660)
    assert stage.told == []


def test_one_error_ends_neither_the_batch_nor_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("alerts: [{name: a, when: sqs.age > 100}, {name: b, when: sqs.age > 100}]")
    first, _ = stage.engine.cases

    def fail(_: float) -> bool:
        raise OverflowError

    first.verdict = fail
    for second in (10, 20):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
        stage.at(second)
    monkeypatch.undo()
    assert stage.told == ["0 firing b"]
    assert stage.engine.faults >= 2
