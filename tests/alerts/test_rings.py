"""N of M runs: what counts as a run, of whom, and how long it says something."""

from __future__ import annotations

import pytest

from alerts.parts import DB, ORDERS, QUEUES, Stage, catalogue, read
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
