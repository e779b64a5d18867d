"""What an outage leaves behind: in windows, in N of M runs, in the state directory, in what waits to be told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from alerts.parts import FLOW, Stage, read
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
