"""What people see of alerts beside `vedette alerts`: the page, the status, the agent's own metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from alerts.parts import FLOW, Stage
from status.parts import NOW, Actor, vitals
from vedette.alerts import AlertsVitals, AlertVitals
from vedette.cli import tables
from vedette.control import Snapshot
from vedette.control.wire import encode, picture, snapshot_of
from vedette.report import SelfReport
from vedette.secrets import Masker
from vedette.status.board import Board
from vedette.status.pages import parts

FIRING = AlertVitals(
    "flow", "flow{q:<b>}", "firing", "critical", "flow: <i>502</i>", NOW - 60, "silence 1", {"q": "<b>"}
)
PENDING = AlertVitals("slow", "slow", "pending", "warning", "slow: 3 s", NOW - 10)
ALERTS = AlertsVitals(3, 7, (FIRING, PENDING))


class Alerted(Actor):
    """An agent with these alerts."""

    def snapshot(self) -> Snapshot:
        return replace(super().snapshot(), alerts=ALERTS)


def test_the_page_shows_what_fires_and_escapes_what_it_says() -> None:
    html = str(parts(Board(Alerted(vitals("host/host"))))["alerts"])  # type: ignore[arg-type]
    assert "flow{q:&lt;b&gt;}" in html
    assert "&lt;i&gt;502&lt;/i&gt;" in html
    assert "nobody is told: silence 1" in html
    assert ("slow" in html, "pending" in html) == (True, True)
    assert str(parts(Board(Actor(vitals("host/host"))))["alerts"]) == ""  # type: ignore[arg-type]


def test_a_snapshot_travels_with_its_alerts() -> None:
    snapshot = Alerted(vitals("host/host")).snapshot()
    assert snapshot_of(json.loads(encode(picture(snapshot)))).alerts == ALERTS
    assert snapshot_of(json.loads(encode(picture(Actor(vitals("host/host")).snapshot())))).alerts is None


def test_status_shows_them_after_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    monkeypatch.setattr(tables, "terminal", lambda: Console(file=out, width=200))
    tables.print_status(Alerted(vitals("host/host")).snapshot())
    text = out.getvalue()
    assert "▲ flow{q:<b>} firing since " in text
    assert "  <i>502</i>\n  nobody is told: silence 1\n" in text


def test_the_agent_s_own_metrics_count_them() -> None:
    report = SelfReport((), "node-7", 10.0, Masker())
    batch = report.batch((), (), 0, (), alerts=ALERTS)
    values = {(one.name, one.tags): one.value for one in batch.samples if one.name.startswith("vedette.alerts.")}
    assert values["vedette.alerts.firing", ("severity:critical",)] == 1
    assert values["vedette.alerts.firing", ("severity:warning",)] == 0
    assert values["vedette.alerts.pending", ()] == 1
    assert values["vedette.alerts.quiet", ()] == 1
    assert (values["vedette.alerts.rules", ()], values["vedette.alerts.told", ()]) == (3, 7)
    assert [one.name for one in report.batch((), (), 0, ()).samples if one.name.startswith("vedette.alerts.")] == []


def test_the_engine_counts_what_it_tells() -> None:
    stage = Stage("alerts: [{name: flow, when: status(synthetic/payment-flow) == critical}]")
    stage.status(FLOW, "critical", "boom")
    stage.status(FLOW, "ok")
    assert stage.engine.vitals == AlertsVitals(1, 2, ())
