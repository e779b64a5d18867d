"""What rules do: each property that people rely on, one test."""

from __future__ import annotations

import pytest

from alerts.parts import DB, FLOW, ORDERS, QUEUES, Stage
from vedette.lease import Lease, Term
from vedette.metrics import Batch, Kind, Sample, ServiceCheck, Status

FLOW_RULE = """
    alerts:
      - name: payments flow down
        when: status(synthetic/payment-flow) == critical for 2 of 3 runs
        runbook: https://runbooks.example.com/payments
        links: {Payments: https://dash.example.com/payments}
        labels: {team: pay}
        notify: [oncall, team]
"""
RATE = "business.hourly.success_rate"
USD = "currency:USD"


def flow(stage: Stage, *results: str, every: float = 10.0) -> None:
    for result in results:
        stage.status(FLOW, result, "step pay: expected 200, got 502" if result == "critical" else "")
        stage.at(stage.now - stage.start + every)


def test_n_of_m_runs() -> None:
    stage = Stage(FLOW_RULE)
    flow(stage, "ok", "critical", "ok", "ok", "critical")
    assert stage.told == []
    flow(stage, "ok", "critical")
    assert stage.told == ["60 firing payments flow down"]
    flow(stage, "critical", "critical", "ok")
    assert stage.told == ["60 firing payments flow down"]
    flow(stage, "ok", "ok")
    assert stage.told == ["60 firing payments flow down", "100 resolved payments flow down"]
    assert stage.sent == [
        ("firing", "payments flow down", "oncall", "team"),
        ("resolved", "payments flow down", "oncall", "team"),
    ]


def test_an_alert_carries_its_evidence() -> None:
    stage = Stage(FLOW_RULE)
    flow(stage, "ok", "critical", "critical")
    (alert,) = stage.alerts
    assert alert.summary == "payments flow down: synthetic/payment-flow is critical: step pay: expected 200, got 502"
    assert (alert.severity, alert.instance, alert.since) == ("critical", FLOW, stage.start + 20)
    assert alert.labels == {"team": "pay"}
    assert alert.runbook == "https://runbooks.example.com/payments"
    assert alert.evidence.condition == "status(synthetic/payment-flow) == critical for 2 of 3 runs"
    assert alert.evidence.step == "step pay: expected 200, got 502"
    assert alert.evidence.links == (("Payments", "https://dash.example.com/payments"),)
    assert [value for _, value in alert.evidence.values] == [0, 3, 3]


def test_the_failing_step_of_a_flow_is_named() -> None:
    stage = Stage("alerts: [{name: flow, when: status(synthetic/payment-flow) == critical}]")
    tags = ("flow:payment-flow", "instance:payment-flow", "result:failed", "step:payment")
    sample = Sample("synthetic.step.result", Kind.COUNT, 1, tags)
    status = ServiceCheck("synthetic.flow", Status.CRITICAL, "payment: expected status 200, got 502 (POST /pay); run 7")
    stage.engine.consume(Batch(FLOW, "synthetic", stage.now, 10.0, samples=(sample,), statuses=(status,)))
    said = "step payment: expected status 200, got 502 (POST /pay); run 7"
    assert stage.alerts[0].evidence.step == said
    assert stage.alerts[0].summary == f"flow: synthetic/payment-flow is critical: {said}"


def test_the_evidence_of_a_value_has_its_unit_threshold_and_at_most_120_points() -> None:
    stage = Stage(f"alerts: [{{name: low, when: 'avg({RATE}{{{USD}}}) over 1h < 97%'}}]")
    for place in range(400):
        stage.values(ORDERS, (RATE, Kind.GAUGE, 96.0, USD))
        stage.at(10 * (place + 1))
    (alert,) = stage.alerts
    assert alert.at - stage.start == pytest.approx(3600, abs=10)
    assert (alert.evidence.unit, alert.evidence.threshold) == ("percent", 97.0)
    assert len(alert.evidence.values) == 120
    assert alert.evidence.values[-1] == (stage.start + 3600, 96.0)
    assert "is 96 percent, below 97" in alert.summary


def test_for_waits_and_forgets_what_did_not_last() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100, for: 30s}]")
    for value in (200, 200, 5, 200, 200, 200, 200):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, float(value)))
        stage.at(stage.now - stage.start + 10)
    assert stage.told == ["60 firing old"]


def test_hysteresis_by_time() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100, keep: 1m}]")
    for value in (200, 5, 5, 200, *[5] * 8):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, float(value)))
        stage.at(stage.now - stage.start + 10)
    assert stage.told == ["0 firing old", "100 resolved old"]


def test_hysteresis_by_another_condition() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100, keep: sqs.age > 80}]")
    for value in (90, 101, 90, 85, 79, 90):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, float(value)))
        stage.at(stage.now - stage.start + 10)
    assert stage.told == ["10 firing old", "40 resolved old"]


def test_a_reminder_comes_until_somebody_acknowledges() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100, every: 1m}]")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    stage.at(20)
    for _ in range(7):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
        stage.at(stage.now - stage.start + 20)
    assert stage.told == ["0 firing old", "60 reminder old", "120 reminder old"]
    (case,) = stage.engine.cases
    stage.engine.acknowledge(case)
    assert stage.states == {"old": "acknowledged"}
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    stage.at(180)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 1.0))
    assert stage.told[3:] == ["160 acknowledged old", "180 resolved old"]


def test_each_group_has_an_alert_of_its_own_and_the_key_names_no_host() -> None:
    stage = Stage("alerts: [{name: old, when: max(sqs.age) over 1m > 100 by (queue)}]")
    for place in range(8):
        stage.values(
            QUEUES,
            ("sqs.age", Kind.GAUGE, 200.0 if place >= 6 else 1.0, "queue:pay", "host:a"),
            ("sqs.age", Kind.GAUGE, 300.0 if place == 7 else 1.0, "queue:mail", "host:a"),
        )
        stage.at(10 * (place + 1))
    assert stage.told == ["60 firing old{queue:pay}", "70 firing old{queue:mail}"]
    assert stage.alerts[0].labels == {"queue": "pay"}


def test_a_dead_database_mutes_what_hangs_on_it() -> None:
    stage = Stage(FLOW_RULE.replace("notify", "depends_on: [postgres/payments-primary]\n        notify"))
    for flow_is, db_is in [("ok", "ok"), ("ok", "critical"), *[("critical", "critical")] * 4]:
        stage.status(DB, db_is)
        flow(stage, flow_is)
    assert stage.told == []
    assert stage.engine.vitals is not None
    assert [one.quiet for one in stage.engine.vitals.alerts] == ["depends on postgres/payments-primary, which is down"]
    for _ in range(3):
        stage.status(DB, "ok")
        flow(stage, "critical")
    assert stage.told == ["70 firing payments flow down"]  # it still fires, two runs after the database is back


def test_what_recovers_with_what_it_depends_on_is_never_told() -> None:
    stage = Stage(FLOW_RULE.replace("notify", "depends_on: [postgres/payments-primary]\n        notify"))
    for flow_is, db_is in [("ok", "critical"), *[("critical", "critical")] * 4, *[("ok", "ok")] * 4]:
        stage.status(DB, db_is)
        flow(stage, flow_is)
    assert (stage.told, stage.states) == ([], {"payments flow down": "ok"})


def test_a_rule_may_depend_on_another() -> None:
    stage = Stage(
        """
        alerts:
          - {name: db, when: status(postgres/payments-primary) == critical}
          - {name: flow, when: status(synthetic/payment-flow) == critical, depends_on: [db]}
        """
    )
    stage.status(DB, "critical")
    flow(stage, "critical", "critical")
    assert stage.told == ["0 firing db"]


def test_nothing_is_told_in_a_maintenance_window_and_what_goes_on_is_told_at_its_end() -> None:
    stage = Stage(  # the stage's clock begins at 16:00 UTC, 17:00 in Berlin
        """
        alerts: [{name: old, when: sqs.age > 100}]
        maintenance: [{name: deploy, schedule: "0 17 * * *", duration: 2m, timezone: Europe/Berlin, rules: [o*]}]
        """
    )
    for _ in range(15):
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
        stage.at(stage.now - stage.start + 10)
        if stage.now - stage.start == 60:
            assert [one.quiet for one in stage.engine.vitals.alerts] == ["maintenance: deploy"]  # type: ignore[union-attr]
    assert stage.told == ["120 firing old"]


def test_a_silence_outlasts_a_restart() -> None:
    text = "alerts: [{name: old, when: sqs.age > 100 by (queue)}]"
    before = Stage(text)
    before.engine.silences.add(["old"], ["queue:pay"], before.now, before.now + 60, "we know")
    before.engine.silenced()
    stage = before.restart(text)
    for _ in range(8):
        values = [("sqs.age", Kind.GAUGE, 200.0, f"queue:{queue}") for queue in ("pay", "mail")]
        stage.values(QUEUES, *values)
        stage.at(stage.now - stage.start + 10)
    assert stage.told == ["0 firing old{queue:mail}", "60 firing old{queue:pay}"]


def test_a_muted_instance_alerts_nobody() -> None:
    stage = Stage(FLOW_RULE)
    stage.muted[FLOW] = stage.now + 45
    flow(stage, *["critical"] * 6)
    assert stage.told == ["45 firing payments flow down"]


def test_absence_of_an_instance_and_of_a_series() -> None:
    stage = Stage(
        f"""
        alerts:
          - {{name: silent, when: no data(synthetic/payment-flow) for 1m}}
          - {{name: no rate, when: "no data({RATE}{{{USD}}}) for 2m"}}
        """
    )
    for place in range(20):
        if place < 5 or place >= 17:
            stage.status(FLOW, "ok")
        values = [(RATE, Kind.GAUGE, 99.0, USD)] if place < 2 else []
        stage.values(ORDERS, (RATE, Kind.GAUGE, 99.0, "currency:EUR"), *values)
        stage.at(10 * (place + 1))
    assert stage.told == ["100 firing silent", "130 firing no rate", "170 resolved silent"]


def test_what_never_came_is_absent_one_window_after_the_start() -> None:
    stage = Stage("alerts: [{name: silent, when: no data(synthetic/payment-flow) for 1m}]")
    stage.at(90)
    assert stage.told == ["60 firing silent"]


def test_before_one_full_window_there_is_no_verdict() -> None:
    stage = Stage(f"alerts: [{{name: low, when: 'avg({RATE}) over 1m < 97'}}]")
    for place in range(8):
        assert stage.states == {"low": "waiting" if place < 7 else "firing"}
        stage.at(10 * place)
        stage.values(ORDERS, (RATE, Kind.GAUGE, 50.0, USD))
        if place == 5:
            assert stage.told == []
    assert stage.told == ["60 firing low"]


def test_a_count_that_does_not_come_is_0_if_its_instance_ran_and_unknown_if_not() -> None:
    stage = Stage("alerts: [{name: quiet, when: sum(payments.all) over 1m < 1}]")
    for place in range(7):
        stage.at(10 * place)
        stage.values(ORDERS)
    assert stage.told == ["60 firing quiet"]
    down = Stage("alerts: [{name: quiet, when: sum(payments.all) over 1m < 1}]")
    down.at(200)
    assert (down.told, down.states) == ([], {"quiet": "waiting"})


def test_a_gauge_that_does_not_come_is_unknown() -> None:
    stage = Stage(f"alerts: [{{name: low, when: 'avg({RATE}) over 1m < 1'}}]")
    for place in range(12):
        stage.at(10 * place)
        stage.values(ORDERS)
    assert (stage.told, stage.states) == ([], {"low": "waiting"})


def test_totals_count_as_what_they_grew_by() -> None:
    stage = Stage(
        """
        alerts:
          - {name: sent, when: sum(bytes.sent) over 1m > 590}
          - {name: asked, when: avg(requests) over 1m > 9.5}
          - {name: rate, when: rate(bytes.sent) over 1m >= 10}
        """
    )
    for place in range(9):
        stage.at(10 * place)
        values = ("bytes.sent", Kind.COUNTER, 5_000 + 100 * place), ("requests", Kind.RATE, 7_000 + 100 * place)
        stage.values(ORDERS, *values)
    assert stage.told == ["60 firing sent", "60 firing rate", "60 firing asked"]


def test_a_ratio_of_two_metrics() -> None:
    stage = Stage("alerts: [{name: failing, when: sum(payments.failed) / sum(payments.all) over 1m > 5%}]")
    for place in range(14):
        stage.at(10 * place)
        failed = [("payments.failed", Kind.COUNT, 3)] if 8 <= place < 10 else []
        stage.values(ORDERS, ("payments.all", Kind.COUNT, 10), *failed)
    assert stage.told == ["90 firing failing"]  # 3 of 60 are 5 %, 6 of 60 are more
    assert stage.alerts[0].summary.endswith("is 0.1, above 0.05")


def test_a_change_is_measured_against_the_past() -> None:
    stage = Stage(f"alerts: [{{name: fell, when: 'change(avg({RATE}) over 1m, 2m) < -30%'}}]")
    for place in range(30):
        stage.at(10 * place)
        stage.values(ORDERS, (RATE, Kind.GAUGE, 100.0 if place < 20 else 50.0, USD))
    assert stage.told == ["230 firing fell"]


def test_days_left() -> None:
    stage = Stage(f"alerts: [{{name: soon, when: 'days_left({RATE}) over 10m < 1'}}]")
    for place in range(70):
        stage.at(10 * place)
        stage.values(ORDERS, (RATE, Kind.GAUGE, 100.0 - place * 0.05, USD))  # 0 after 20,000 s
    assert stage.told == ["600 firing soon"]
    assert "is 0.2245 day, below 1" in stage.alerts[0].summary


def test_not_and_or_know_what_is_unknown() -> None:
    stage = Stage(
        """
        alerts:
          - {name: both, when: sqs.age > 100 and status(synthetic/payment-flow) == critical}
          - {name: any, when: sqs.age > 100 or status(synthetic/payment-flow) == critical}
          - {name: inverse, when: not sqs.age > 100}
        """
    )
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    assert stage.states == {"both": "waiting", "any": "firing", "inverse": "ok"}
    stage.status(FLOW, "critical")
    assert stage.states == {"both": "firing", "any": "firing", "inverse": "ok"}


# Restarts and takeovers


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_a_restart_in_between_changes_nothing(kill: bool) -> None:
    before = Stage(FLOW_RULE)
    flow(before, "ok", "critical", "critical")
    assert before.told == ["20 firing payments flow down"]
    stage = before.restart(FLOW_RULE, kill=kill)
    flow(stage, "critical", "critical")
    assert stage.told == []
    flow(stage, "ok", "ok")
    assert stage.told == ["60 resolved payments flow down"]
    assert stage.alerts[0].since == stage.start + 20


def test_a_restart_keeps_windows_and_runs() -> None:
    text = f"""
    alerts:
      - {{name: low, when: "avg({RATE}) over 1h < 97"}}
      - {{name: flow, when: status(synthetic/payment-flow) == critical for 2 of 3 runs}}
    """
    before = Stage(text)
    for place in range(359):
        before.at(10 * place)
        before.values(ORDERS, (RATE, Kind.GAUGE, 96.0, USD))
    before.status(FLOW, "critical")
    assert before.told == []
    stage = before.restart(text)
    stage.at(3600)
    stage.status(FLOW, "critical")
    stage.values(ORDERS, (RATE, Kind.GAUGE, 96.0, USD))
    assert stage.told == ["3600 firing flow", "3600 firing low"]


def test_a_window_that_misses_too_much_after_a_downtime_begins_anew() -> None:
    text = f"alerts: [{{name: low, when: 'avg({RATE}) over 1h < 97'}}]"
    before = Stage(text)
    for place in range(300):
        before.at(10 * place)
        before.values(ORDERS, (RATE, Kind.GAUGE, 96.0, USD))
    before.engine.close()
    stage = Stage(text, memory=before.memory, now=5_000)
    stage.values(ORDERS, (RATE, Kind.GAUGE, 96.0, USD))
    assert stage.states == {"low": "waiting"}


def test_pending_goes_on_over_a_restart() -> None:
    text = "alerts: [{name: old, when: sqs.age > 100, for: 1m}]"
    before = Stage(text)
    before.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    before.at(30)
    stage = before.restart(text)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    stage.at(59)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    stage.at(61)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    assert stage.told == ["61 firing old"]


def granted(token: int, instance: str = FLOW) -> Lease:
    term = Term()
    term.until = float("inf")
    return Lease(term, instance, token)


def two_agents(text: str) -> tuple[Stage, Stage]:
    """Each with a memory of its own, but for what follows the instance through the fleet."""
    one, other = Stage(text, FLOW), Stage(text, FLOW)
    one.memory[FLOW] = other.memory[FLOW] = {}
    return one, other


def test_a_takeover_neither_repeats_nor_loses_an_alert() -> None:
    one, other = two_agents(FLOW_RULE)
    first, second = granted(1), granted(2)
    for result in ("ok", "critical", "critical"):
        one.status(FLOW, result, lease=first)
        for stage in (one, other):
            stage.at(stage.now - stage.start + 10)
    assert one.told == ["20 firing payments flow down"]
    one.engine.consume(Batch(FLOW, "synthetic", one.now, closed=True))
    one.at(100)
    for result in ("critical", "critical", "ok", "ok"):
        other.status(FLOW, result, lease=second)
        other.at(other.now - other.start + 10)
    assert other.told == ["60 resolved payments flow down"]
    assert other.alerts[0].since == other.start + 20
    assert one.told == ["20 firing payments flow down"]
    assert one.states == {"payments flow down": "waiting"}


def test_an_agent_whose_lease_has_ended_tells_nothing_more() -> None:
    rule = "alerts: [{name: silent, when: no data(synthetic/payment-flow) for 1m}]"
    one, other = two_agents(rule)
    lease = granted(1)
    one.status(FLOW, "ok", lease=lease)
    lease.revoke()
    one.at(200)
    other.at(200)
    assert (one.told, other.told) == ([], [])  # neither runs it, and neither can tell
    other.status(FLOW, "ok", lease=granted(2))
    other.at(300)
    assert other.told == ["260 firing silent"]


def test_after_a_takeover_a_window_has_no_verdict_until_it_is_full() -> None:
    rule = "alerts: [{name: slow, when: sum(synthetic.pay.response_time) over 5m < 100}]"
    _, other = two_agents(rule)
    other.at(1000)
    second = granted(2)
    states = []
    for _ in range(35):
        other.values(FLOW, ("synthetic.pay.response_time", Kind.HISTOGRAM, 5.0), lease=second)
        states.append(other.states["slow"])
        other.at(other.now - other.start + 10)
    assert states == ["waiting"] * 30 + ["ok"] * 5  # not firing because of what it has not seen


def test_what_was_muted_before_a_takeover_is_told_after_it() -> None:
    one, other = two_agents(FLOW_RULE)
    one.muted[FLOW] = one.now + 1000
    first = granted(1)
    for _ in range(3):
        one.status(FLOW, "critical", lease=first)
        one.at(one.now - one.start + 10)
    other.at(30)
    second = granted(2)
    other.status(FLOW, "critical", lease=second)
    assert (one.told, other.told) == ([], [])  # one run of three says nothing yet
    other.at(40)
    other.status(FLOW, "critical", lease=second)
    assert other.told == ["40 firing payments flow down"]


def test_what_did_not_change_keeps_its_state_over_a_reload_and_what_is_gone_is_told() -> None:
    stage = Stage("alerts: [{name: a, when: sqs.age > 100}, {name: b, when: sqs.age > 100}]")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    other = Stage("alerts: [{name: a, when: sqs.age > 100}, {name: c, when: sqs.age > 300}]")
    stage.at(5)
    stage.engine.configure(other.rulebook)
    assert stage.told == ["0 firing a", "0 firing b", "5 resolved b"]
    assert stage.states == {"a": "firing", "c": "ok"}
    changed = Stage("alerts: [{name: a, when: sqs.age > 150, severity: warning}]")
    stage.engine.configure(changed.rulebook)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 1.0))
    assert stage.told[3:] == ["5 resolved a"]


def test_an_instance_that_ends_takes_its_status_along() -> None:
    stage = Stage("alerts: [{name: any, when: status(synthetic/*) == critical}]")
    stage.status(FLOW, "critical")
    stage.engine.consume(Batch(FLOW, "synthetic", stage.now, closed=True))
    assert stage.states == {"any": "firing"}  # nobody says that it is well again
