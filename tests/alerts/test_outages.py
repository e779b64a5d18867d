"""What an outage leaves behind: in windows, in N of M runs, in the state directory, in what waits to be told."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from alerts.parts import DB, FLOW, QUEUES, Stage, read
from vedette.alerts.service import Alerting
from vedette.lease import Lease, Term
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


def test_an_alert_that_saw_a_hole_once_does_not_end_at_a_later_restart() -> None:
    text = "alerts: [{name: old, when: sqs.age > 100, expire: 10m}]"
    stage = Stage(text)
    for at in range(0, 100, 10):
        stage.at(at)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    stage = stage.restart(text)
    stage.at(103)  # nothing is known at first, and that is kept
    for at in range(110, 1300, 10):
        stage.at(at)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    after = stage.restart(text)
    after.values(QUEUES)
    after.at(1305)
    assert (stage.told, after.told, after.kept) == ([], [], {"old"})


def test_n_of_m_runs_expires_as_everything_does() -> None:
    stage = Stage("alerts: [{name: runs, when: sqs.age > 100 for 3 runs by (queue), expire: 10m}]")
    for at in range(0, 1200, 10):
        stage.at(at)
        gone = [("sqs.age", Kind.GAUGE, 900.0, "queue:a")] if at < 300 else []
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 5.0, "queue:b"), *gone)
    assert stage.told == ["20 firing runs{queue:a}", "981 resolved runs{queue:a}"]


TWO_OF_THREE = "alerts: [{name: old, when: sqs.age > 100 for 2 of 3 runs}]"


@pytest.mark.parametrize(("hole", "told"), [(50, True), (3600, False)])
@pytest.mark.parametrize("kill", [True, False], ids=["kill", "suspended"])
def test_runs_before_a_long_hole_do_not_count(hole: int, told: bool, kill: bool) -> None:
    stage = Stage(TWO_OF_THREE)
    for at, age in ((0, 5.0), (10, 5.0), (20, 900.0)):
        stage.at(at)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, age))
    stage.at(25)
    stage.now += hole
    if kill:
        stage = stage.restart(TWO_OF_THREE, kill=True)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    assert bool(stage.told) is told
    stage.at(stage.now - stage.start + 10)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    assert [line.partition(" ")[2] for line in stage.told] == ["firing old"]


def test_a_series_that_comes_seldom_has_its_runs_counted() -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 100 for 3 runs}]")
    for at in range(5):
        stage.at(300 * at)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0 if at > 1 else 5.0))
        stage.values(QUEUES)
    assert stage.told == ["1200 firing old"]
    for place in range(5, 8):
        stage.at(300 * place)
        stage = stage.restart("alerts: [{name: old, when: sqs.age > 100 for 3 runs}]", kill=place == 6)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0 if place < 7 else 5.0))
    assert stage.told == ["2100 resolved old"]


def test_runs_before_a_long_hole_do_not_count_after_a_restart_in_it() -> None:
    stage = Stage(TWO_OF_THREE)
    for at in (0, 10):
        stage.at(at)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0 if at else 5.0))
    stage = stage.at(200).restart(TWO_OF_THREE, kill=True)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 900.0))
    assert stage.told == []


def boom(_: float) -> bool:
    raise ZeroDivisionError


def test_a_rule_that_faults_is_shown_as_such_and_hides_no_other() -> None:
    stage = Stage("alerts: [{name: a, when: sqs.age > 5}, {name: b, when: sqs.age > 5}, {name: c, when: sqs.age > 5}]")
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0))
    for case in stage.engine.cases:
        if case.rule.name != "c":
            case.verdict = boom
            for leaf in case.compiler.leaves:
                leaf.read = boom  # type: ignore[assignment]
    stage.engine._course.note(stage.engine.cases[0])
    stage.engine.cases[1].incident.reset()
    assert stage.states == {"a": "firing", "b": "fault", "c": "firing"}
    shown = {one.key: one.summary for one in stage.engine.vitals.alerts}  # type: ignore[union-attr]
    assert shown["a"] == "a: cannot be evaluated (ZeroDivisionError)"
    assert shown["c"] == "c: last(sqs.age) is 9 second, above 5"
    explained = stage.engine.explained(stage.engine.cases[1], stage.now)
    assert (explained["state"], explained["evidence"]["condition"]) == ("fault", "last(sqs.age) > 5")


@pytest.mark.parametrize("part", ["_memory.save", "_estate.bury", "_claims.follow", "_book.begin_anew"])
def test_a_fault_in_one_part_stops_no_other(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("alerts: [{name: nd, when: no data(sqs.age) for 1m}, {name: old, when: sqs.age > 5}]", QUEUES)
    owner, name = part.split(".")
    monkeypatch.setattr(getattr(stage.engine, owner), name, lambda *_, **__: boom(0.0))
    term = Term()
    term.until = float("inf")
    lease = Lease(term, QUEUES, 1)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0), lease=lease)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0), lease=lease)
    stage.at(70)
    assert stage.engine.faults > 0
    assert stage.told == ["0 firing old", "60 firing nd"]


@pytest.mark.parametrize("part", ["_memory.keep", "_teller.alert", "tell"])
@pytest.mark.parametrize("at", ["firing", "resolved"])
def test_a_fault_in_telling_once_ends_no_alert(part: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("alerts: [{name: old, when: sqs.age > 5}]")
    owner, _, name = f"engine.{part}".rpartition(".")
    place: Any = attrgetter(owner)(stage)
    act, faults = getattr(place, name), [OSError(28, "No space left on device")]

    def once(*args: Any, **more: Any) -> Any:
        if faults and (stage.now - stage.start >= 100) is (at == "resolved"):
            raise faults.pop()
        return act(*args, **more)

    monkeypatch.setattr(place, name, once)
    for now in range(0, 300, 10):
        stage.at(now)
        stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0 if now < 100 else 1.0))
    assert (faults, stage.engine.faults, stage.states) == ([], 1, {"old": "ok"})
    told = [one.split(maxsplit=1)[1] for one in dict.fromkeys(stage.told)]
    assert list(dict.fromkeys(told)) == ["firing old", "resolved old"]


def test_what_is_kept_of_groups_goes_with_their_rule() -> None:
    def rules(name: str) -> str:
        return f"alerts: [{{name: {name}, when: no data(sqs.age) for 10m by (queue)}}]"

    def kept(stage: Stage) -> list[str]:
        return [key for key in stage.memory["vedette/alerts"] if key.startswith("vedette:seen:")]

    stage = Stage(rules("one"))
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0, "queue:a"))
    stage.at(20)
    assert kept(stage) == ["vedette:seen:one"]
    stage.reload(rules("two"))
    stage.at(40)
    assert kept(stage) == ["vedette:seen:two"]
    stage = stage.restart(rules("three"))  # it may come back: its file may have an error
    stage.at(3600)
    assert kept(stage) == ["vedette:seen:two", "vedette:seen:three"]
    stage.at(3700)
    assert kept(stage) == ["vedette:seen:three"]


def test_a_window_of_which_nothing_came_back_is_not_kept_for_ever() -> None:
    text = "alerts: [{name: slow, when: avg(sqs.age) over 5m > 100}]"
    stage = Stage(text)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0))
    stage = stage.at(10).restart(text)
    assert any("window" in key for key in stage.memory["vedette/alerts"])
    stage.now += 400
    stage = stage.restart(text, kill=True).at(430)
    assert any("window" in key for key in stage.memory["vedette/alerts"])  # since when it fills
    stage = stage.restart("alerts: []").at(1_100)
    assert [key for key in stage.memory["vedette/alerts"] if "window" in key] == []


def test_a_kill_makes_an_absence_late_by_no_more_than_half_a_minute() -> None:
    text = "alerts: [{name: silent, when: no data(sqs.age) for 10m by (queue)}]"
    stage = Stage(text)
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, 9.0, "queue:a"))
    stage = stage.at(119).restart(text, kill=True).at(1000)
    (told,) = stage.told
    assert 600 <= float(told.split()[0]) <= 630
