"""N of M runs: what counts as a run, of whom, and how long it says something."""

from __future__ import annotations

import pytest

from alerts.parts import DB, FLOW, ORDERS, QUEUES, Stage, catalogue, read
from vedette.metrics import Kind, Metric

FAILED = "alerts: [{name: failed, when: sum(payments.failed) over 5m > 10 for 3 of 3 runs}]"


def failed(stage: Stage, instance: str, number: float) -> None:
    """A run that counts so many."""
    stage.values(instance, ("payments.failed", Kind.COUNT, number))


@pytest.mark.parametrize("look", [False, True], ids=["tick", "vedette alerts"])
def test_the_end_of_another_instance_is_no_run(look: bool) -> None:
    stage = Stage(FAILED)
    stage.interval = 120.0
    for now in range(0, 721, 120):
        stage.at(now)
        failed(stage, ORDERS, 0.0 if now < 720 else 50.0)
        if now < 720:
            failed(stage.at(now + 5), QUEUES, 0.0)
    stage.closed(QUEUES)
    if look:
        assert stage.states == {"failed": "ok"}
    failed(stage.at(840), ORDERS, 50.0)
    assert stage.told == []
    failed(stage.at(960), ORDERS, 50.0)
    assert stage.told == ["960 firing failed"]


def test_the_end_of_another_instance_hides_no_run() -> None:
    stage = Stage("alerts: [{name: few, when: payments.failed < 5 for 2 of 2 runs}]")
    for now in range(0, 60, 10):
        failed(stage.at(now), ORDERS, 50.0)
    failed(stage.at(51), QUEUES, 50.0)
    stage.at(52).closed(QUEUES)
    for now in (60, 70):
        stage.at(now).values(ORDERS)
    assert stage.told == ["70 firing few"]


def test_a_reload_by_which_another_instance_counts_is_no_run() -> None:
    stage, more = Stage(FAILED), catalogue()
    stage.interval = 120.0
    more.add(DB, Metric("payments.failed", Kind.COUNT))
    for now in range(0, 721, 120):
        stage.at(now).status(DB, "ok")
        failed(stage, ORDERS, 0.0 if now < 720 else 50.0)
    stage.engine.configure(read(FAILED, among=more)[0])
    assert stage.at(830).states == {"failed": "ok"}
    failed(stage.at(840), ORDERS, 50.0)
    assert stage.told == []
    failed(stage.at(960), ORDERS, 50.0)
    assert stage.told == ["960 firing failed"]


KEPT = """
alerts:
  - name: kept
    when: status(synthetic/payment-flow) == critical%s
    keep: status(synthetic/payment-flow) != ok for 1 of 3 runs
"""


@pytest.mark.parametrize(
    ("when", "runs", "told"),
    [
        ("", "c o o c o o c o o o o", ["0 firing kept", "90 resolved kept"]),
        (
            " for 2 of 3 runs",
            "c c o o o o o c c o o o",
            ["10 firing kept", "40 resolved kept", "80 firing kept", "110 resolved kept"],
        ),
    ],
)
def test_keep_counts_the_runs_after_which_nobody_asks_for_it(when: str, runs: str, told: list[str]) -> None:
    stage = Stage(KEPT % when)
    for number, one in enumerate(runs.split()):
        stage.at(10 * number).status(FLOW, {"c": "critical", "o": "ok"}[one])
    assert stage.told == told


def test_what_keeps_a_rule_going_does_not_announce_it() -> None:
    keep = "status(synthetic/payment-flow) != ok for 2 of 3 runs"
    stage = Stage(f"""
    alerts:
      - {{name: down, when: status(synthetic/payment-flow) == critical, keep: {keep}}}
      - {{name: old, when: sqs.age > 100, depends_on: [down]}}
    """)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 300.0))
    stage.at(2).status(FLOW, "warning")
    stage.at(9)
    assert stage.told == ["3 firing old"]


FLOWS = "alerts: [{name: down, when: status(synthetic/payment-flow) == critical for 2 of 3 runs}]"


def after(stage: Stage, seconds: float) -> Stage:
    """Let much time pass at once."""
    stage.now = stage.start + seconds
    stage.engine.tick()
    return stage


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("runs", [1, 4])
def test_a_bad_run_before_a_hole_of_days_counts_no_more(runs: int, restart: bool) -> None:
    stage = Stage(FLOWS)
    for number in range(runs):
        stage.at(10 * number).status(FLOW, "critical" if number == runs - 1 else "ok")
    if restart:
        stage = stage.at(40).restart(FLOWS)
    for day in (3, 5):  # nor is what follows a hole as slow
        after(stage, day * 86_400).status(FLOW, "critical")
    assert stage.told == []
    after(stage, 5 * 86_400 + 10).status(FLOW, "critical")
    assert [one.split()[1:] for one in stage.told] == [["firing", "down"]]


def test_what_comes_in_some_runs_only_counts_as_seldom_as_it_comes() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100 for 3 of 3 runs}]")
    for number in range(5):  # an hourly value of a check that runs each ten seconds
        after(stage, 3_600 * number).values(QUEUES, ("sqs.age", Kind.GAUGE, 200.0))
    assert stage.told == ["14400 firing old"]


@pytest.mark.parametrize("down", [0, 120], ids=["quick", "two minutes"])
@pytest.mark.parametrize("by", ["", " by (queue)"])
def test_two_restarts_between_two_runs_lose_none(by: str, down: int) -> None:
    rules = f"alerts: [{{name: old, when: 'sqs.age > 100 for 2 of 3 runs{by}'}}]"
    key = "old{queue:pay}" if by else "old"
    stage = Stage(rules)
    for now in (0, 600, 1_200):
        stage.interval = 600.0
        after(stage, now).values(QUEUES, ("sqs.age", Kind.GAUGE, 500.0 if now else 1.0, "queue:pay"))
        if now == 600:
            stage = stage.at(605).restart(rules).at(610).restart(rules, kill=True)
            stage = after(stage, 620).restart(rules)
            stage.now += down
            stage = Stage(rules, memory=stage.memory, now=stage.now - stage.start)
    assert stage.told == [f"1200 firing {key}"]


def test_runs_of_groups_that_do_not_come_again_are_let_go_in_time() -> None:
    rules = "alerts: [{name: old, when: sqs.age > 100 for 2 of 3 runs by (queue)}]"
    stage = Stage(rules)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 500.0, "queue:pay"))
    stage = stage.at(5).restart(rules).at(6).restart(rules)
    assert list(stage.memory["vedette/alerts"]["vedette:rings"]) == ["old{queue:pay}"]
    stage = after(stage, 100).restart(rules)  # nor do restarts make them younger
    after(stage, 110).values(QUEUES, ("sqs.age", Kind.GAUGE, 500.0, "queue:pay"))
    assert stage.told == []
    stage = after(stage.restart(rules), 2 * 3_600)
    assert stage.memory["vedette/alerts"]["vedette:rings"] == {}
