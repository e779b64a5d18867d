"""What an outage leaves behind: in windows, in N of M runs, in the state directory, in what waits to be told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from alerts.parts import DB, FLOW, QUEUES, Stage, read
from vedette.alerts.service import Alerting
from vedette.metrics import Batch, Kind, Sample, ServiceCheck, Status
from vedette.state import StateStore


class Heard:
    """Stands where the dispatcher does."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def tell(self, alert: Any, _: Any = ()) -> None:
        self.told.append((alert.state, alert.key))

    def resume(self, *_: Any) -> None:
        pass

    def forget(self, _: str) -> None:
        pass


EACH = "alerts: [{name: down, when: status(*/*) == critical by (instance)}]"


@pytest.mark.anyio
@pytest.mark.parametrize("after", ["alerts: []", EACH.replace(" by (instance)", "")], ids=["removed", "regrouped"])
async def test_a_reload_that_ends_a_rule_tells_of_it_once(tmp_path: Path, after: str) -> None:
    state, heard = StateStore(tmp_path), Heard()
    alerting = Alerting(state, state.save, lambda _: None, heard)  # type: ignore[arg-type]
    alerting.configure(read(EACH)[0])
    health = Sample("health_check.status", Kind.GAUGE, 0, ())
    check = ServiceCheck("it.works", Status.CRITICAL, "no", ("instance:payment-flow",))
    alerting.consume(Batch(FLOW, "synthetic", alerting.engine.now(), 10.0, "node-7", (health,), (check,)))
    await asyncio.sleep(0)  # it is not even handed on: the rule's end and its beginning wait for the disk together
    alerting.configure(read(after)[0])
    alerting.configure(read(EACH)[0])
    assert [case.incident.stage for case in alerting.engine.cases if case.group] in ([], ["ok"])
    await alerting.close()
    await state.close()
    assert heard.told == [(one, "down{instance:payment-flow}") for one in ("firing", "resolved")]


OUTAGE = "alerts: [{name: slow, when: avg(sqs.age) over 5m > 100, for: FOR, depends_on: [postgres/payments-primary]}]"


@pytest.mark.parametrize("lasting", ["0s", "2m"])
@pytest.mark.parametrize("rule", [False, True], ids=["instance", "rule"])
def test_what_an_outage_of_the_dependency_leaves_in_a_window_is_not_told(lasting: str, rule: bool) -> None:
    text = OUTAGE.replace("FOR", lasting)
    if rule:
        text = text.replace("[postgres/payments-primary]", "[db]")
        text = f"{text[:-1]}, {{name: db, when: status(postgres/payments-primary) == critical}}]"
    stage = Stage(text)
    for at in range(0, 1000, 10):
        stage.at(at)
        stage.status(DB, "critical" if 400 <= at < 430 else "ok")  # it is over before the window shows it
        stage.at(at + 3)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0 if 400 <= at < 440 else 5.0))
    assert [line for line in stage.told if "slow" in line] == []
    for at in range(1000, 1200, 10):
        stage.at(at)
        stage.status(DB, "ok")
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    fires = 1030 if lasting == "0s" else 1150
    assert [line for line in stage.told if "slow" in line] == [f"{fires} firing slow"]


@pytest.mark.parametrize(
    ("db", "cause"),
    [
        ("status(postgres/payments-primary) == critical, for: 30s", True),
        ("status(postgres/payments-primary) == critical for 4 of 5 runs", True),
        ("status(postgres/payments-primary) == critical, for: 1h", False),
    ],
)
def test_a_dependency_that_has_begun_to_hold_is_waited_for_if_it_fires_soon(db: str, cause: bool) -> None:
    when = "status(synthetic/payment-flow) == critical for 2 of 3 runs"
    stage = Stage(f"alerts: [{{name: flow, when: {when}, depends_on: [db]}}, {{name: db, when: {db}}}]")
    for at in range(0, 300, 10):
        stage.at(at)
        status = "critical" if 100 <= at < 250 else "ok"
        stage.status(FLOW, status)
        stage.at(at + 1)
        stage.status(DB, status)
    if cause:
        assert stage.told == ["131 firing db", "251 resolved db" if "for: 30s" in db else "261 resolved db"]
    else:
        assert stage.told == ["112 firing flow", "260 resolved flow"]


def test_a_dependency_that_only_began_to_hold_is_waited_for_no_longer_than_it_takes() -> None:
    db = "{name: db, when: status(postgres/payments-primary) == critical for 4 of 5 runs}"
    stage = Stage(f"alerts: [{{name: flow, when: status(synthetic/payment-flow) == critical, depends_on: [db]}}, {db}]")
    for at in range(0, 200, 10):
        stage.at(at)
        stage.status(FLOW, "critical" if at >= 100 else "ok")
        stage.at(at + 1)
        stage.status(DB, "critical" if at == 100 else "ok")
    assert stage.told == ["112 firing flow"]
