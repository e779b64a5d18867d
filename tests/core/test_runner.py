"""One instance at work: whatever a check does, the runner keeps its ticks, says what happened and lets go."""

from __future__ import annotations

import asyncio
import logging
import threading
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from core.clock import run_virtually, virtual_loop
from core.parts import Recorder, instance
from vedette import Check, CheckConfig, CheckError, Kind, Listener, Metric, Sample, Status
from vedette.runner import Runner, State


class Base(Check[CheckConfig]):
    name = "probe"
    metrics = (
        Metric("probe.value", Kind.GAUGE),
        Metric("probe.total", Kind.COUNTER),
        Metric("probe.hits", Kind.COUNT),
        Metric("probe.money", Kind.GAUGE),
    )
    statuses = ("probe.ok",)

    def __init__(self, config: CheckConfig, state: Any = None) -> None:
        super().__init__(config, state)
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")


def run_one(plugin: type[Any], **options: Any) -> tuple[Runner, Recorder, Any]:
    """Run an instance once on the virtual clock."""
    recorder = Recorder("hunter2secret")

    async def main() -> Runner:
        runner = Runner(instance(plugin, **options), recorder.surroundings)
        await runner.run()
        return runner

    runner = run_virtually(main())
    return runner, recorder, runner._check


def serve(runner: Runner, seconds: float) -> None:
    """Let an instance run at its ticks for so many virtual seconds, then stop it."""

    async def main() -> None:
        task = asyncio.create_task(runner.serve())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.stop()

    run_virtually(main())


def test_a_good_run_hands_over_its_samples_with_all_tags_and_its_health() -> None:
    class Good(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 1.5, tags=["b:2", "ok:True", "a:1"])
            emit.gauge("probe.money", Decimal("12.30"))
            emit.status("probe.ok", Status.OK, "fine")

    runner, recorder, check = run_one(Good, tags=["role:primary"])
    (batch,) = recorder.batches
    common = ("environment:test", "instance:probe", "role:primary")
    assert batch.samples[:2] == (
        Sample("probe.value", Kind.GAUGE, 1.5, ("a:1", "b:2", *common[:2], "ok:true", common[2])),
        Sample("probe.money", Kind.GAUGE, Decimal("12.30"), common),
    )
    health, response = batch.samples[2:]
    assert health == Sample("health_check.status", Kind.GAUGE, 1, ("check:probe", *common))
    assert (response.name, response.kind, response.tags) == ("health_check.response_time", Kind.HISTOGRAM, health.tags)
    assert (batch.host, batch.interval, batch.instance) == ("node-7", 15.0, "probe/probe")
    assert runner.vitals.state is State.OK
    assert check.calls == ["open"]


def test_a_finding_fails_the_run_keeps_the_connection_and_shows_without_secrets() -> None:
    class Refused(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 7)
            emit.commit("mark", 7)
            emit.status("probe.ok", Status.CRITICAL, "no answer to hunter2secret")
            raise CheckError("refused with redis://u:pw@h and hunter2secret", hint="start it")

    runner, recorder, check = run_one(Refused)
    (batch,) = recorder.batches
    assert [sample.value for sample in batch.samples[:2]] == [7, 0]
    assert batch.statuses[0].message == "no answer to ****"
    assert batch.commits == (("mark", 7),)
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, "refused with redis://u:****@h and ****")
    assert runner.vitals.hint == "start it"
    assert check.calls == ["open"]


def test_a_critical_status_makes_the_instance_unhealthy_without_a_failure() -> None:
    class Down(Base):
        async def run(self, emit: Any) -> None:
            emit.status("probe.ok", Status.CRITICAL, "limit passed")

    runner, recorder, _ = run_one(Down)
    assert recorder.values("health_check.status") == [0]
    assert (runner.vitals.state, runner.vitals.failures, runner.vitals.message) == (State.CRITICAL, 0, "limit passed")


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), SystemExit(3), asyncio.CancelledError()])
def test_any_other_exception_closes_and_reopens_and_drops_the_commits(error: BaseException) -> None:
    class Buggy(Base):
        async def run(self, emit: Any) -> None:
            emit.commit("mark", 1)
            raise error

    runner, recorder, check = run_one(Buggy)
    assert recorder.batches[0].commits == ()
    assert check.calls == ["open", "close"]
    assert (runner.vitals.state, runner.vitals.failures) == (State.FAILING, 1)
    assert runner.vitals.message.startswith("the check failed: ")


def test_a_failing_open_is_tried_again_at_the_next_tick() -> None:
    class Late(Base):
        async def open(self) -> None:
            self.calls.append("open")
            if len(self.calls) < 3:
                raise CheckError("not yet")

        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", len(self.calls))

    recorder = Recorder()
    serve(Runner(instance(Late, interval=5), recorder.surroundings), 25)
    assert recorder.values("probe.value")[0] == 3
    assert recorder.values("health_check.status")[:3] == [0, 0, 1]


def test_a_hanging_run_is_cancelled_at_its_timeout_and_the_check_reopened() -> None:
    class Hangs(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 1)
            emit.commit("mark", 1)
            await asyncio.Event().wait()

    runner, recorder, check = run_one(Hangs, timeout="3s")
    assert runner.vitals.duration == pytest.approx(3.0)
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, "timed out after 3s")
    assert check.calls == ["open", "close"]
    assert recorder.values("probe.value") == [1]  # what was measured before stays true
    assert recorder.batches[0].commits == ()


def test_cleaning_up_after_the_deadline_gets_the_grace() -> None:
    class Tidy(Base):
        async def run(self, emit: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1.5)
                emit.gauge("probe.value", 9)

    runner, recorder, _ = run_one(Tidy, timeout="3s")
    assert runner.vitals.duration == pytest.approx(4.5)
    assert recorder.values("probe.value") == [9]
    assert runner.vitals.state is State.FAILING


def test_a_run_that_swallows_its_cancellation_is_stuck_until_it_ends_then_starts_again() -> None:
    class Stubborn(Base):
        begun = 0

        async def run(self, emit: Any) -> None:
            type(self).begun += 1
            emit.gauge("probe.value", self.begun)
            if self.begun > 1:
                return
            until = asyncio.get_running_loop().time() + 41
            while (left := until - asyncio.get_running_loop().time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    continue
            emit.gauge("probe.value", -1)  # dead by now: nobody may hear it

    recorder = Recorder()
    runner = Runner(instance(Stubborn, interval="5s", timeout="2s"), recorder.surroundings)
    seen: list[State] = []
    recorder_deliver = recorder.deliver
    recorder.deliver = lambda batch: (seen.append(runner.vitals.state), recorder_deliver(batch))[1]  # type: ignore[func-returns-value]
    runner = Runner(instance(Stubborn, interval="5s", timeout="2s"), recorder.surroundings)
    serve(runner, 70)
    assert seen.count(State.STUCK) == 9  # once as it gets stuck, then at each of eight ticks
    assert runner.vitals.skipped == 8
    assert recorder.values("probe.value")[:2] == [1, 2]
    assert -1 not in recorder.values("probe.value")
    assert recorder.values("health_check.status")[-1] == 1
    assert runner._check.calls[:3] == ["open", "close", "open"]


def test_a_close_that_hangs_holds_up_nothing_for_longer_than_two_seconds() -> None:
    class Sticky(Base):
        async def run(self, emit: Any) -> None:
            raise ValueError("x")

        async def close(self) -> None:
            await asyncio.Event().wait()

    async def main() -> float:
        runner = Runner(instance(Sticky), Recorder().surroundings)
        before = virtual_loop().time()
        await runner.run()
        return virtual_loop().time() - before

    assert run_virtually(main()) == pytest.approx(2.0)


def test_garbage_is_dropped_counted_by_reason_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    class Garbage(Base):
        def __init__(self, config: CheckConfig, state: Any = None) -> None:
            super().__init__(config, state)

        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", float("nan"))
            emit.gauge("probe.value", Decimal("Infinity"))
            emit.gauge("probe.value", 10**400)
            emit.gauge("probe.value", -(Decimal(10) ** 400))
            emit.gauge("probe.value", "seven")
            emit.gauge("probe.value", None)
            emit.gauge("probe.undeclared", 1)
            emit.count("probe.value", 1)
            emit.gauge(["no", "name"], 1)
            emit.status("probe.other", Status.OK)
            emit.gauge("probe.value", 1, tags=[("a", "b"), 7, "x:\ny", ""])
            emit.gauge("probe.value", 2, tags=("x:1",))
            emit.gauge("probe.value", 3, tags=["x:1"])
            emit.count("probe.hits", 1)
            emit.count("probe.hits", True)

    recorder = Recorder()
    runner = Runner(instance(Garbage, interval="5s"), recorder.surroundings)
    with caplog.at_level(logging.WARNING):
        serve(runner, 12)
    runs = runner.vitals.runs
    assert runs >= 2
    assert {reason: n / runs for reason, n in runner.vitals.dropped.items()} == {  # type: ignore[union-attr]
        "not_finite": 4,
        "bad_value": 2,
        "undeclared": 2,
        "wrong_kind": 1,
        "bad_name": 1,
        "duplicate": 1,
    }
    first = [sample for sample in recorder.batches[0].samples if sample.name.startswith("probe.")]
    assert [(sample.value, sample.tags) for sample in first] == [
        (1, ("('a', 'b')", "7", "environment:test", "instance:probe", "x:_y")),
        (3, ("environment:test", "instance:probe", "x:1")),
        (1, ("environment:test", "instance:probe")),
        (1, ("environment:test", "instance:probe")),
    ]
    warnings = [record.getMessage() for record in caplog.records if "declare" in record.getMessage()]
    assert warnings == [
        "dropped because the check does not declare them (with this kind): probe.other, probe.undeclared, probe.value"
    ]


class Flaps(Base):
    async def run(self, emit: Any) -> None:
        self.calls.append("run")
        if self.calls.count("run") in (2, 3):
            raise CheckError("login with hunter2secret refused", hint="see the password")


@pytest.mark.parametrize("ways", [("events", "logs"), ("events",), ("logs",), ()])
def test_failures_and_recoveries_are_told_to_the_sinks_if_asked_for(ways: tuple[str, ...]) -> None:
    recorder = Recorder("hunter2secret", changes=ways)
    serve(Runner(instance(Flaps, interval="10s"), recorder.surroundings), 60)
    told = [batch for batch in recorder.batches if batch.events or batch.logs]
    assert len(told) == (2 if ways else 0)
    events = [event for batch in told for event in batch.events]
    logs = [log for batch in told for log in batch.logs]
    tags = ("check:probe", "environment:test", "instance:probe")
    refused = "login with **** refused (see the password)"
    assert [(one.title, one.alert_type, one.aggregation_key, one.tags) for one in events] == [
        ("probe/probe is failing", "error", "probe/probe", tags),
        ("probe/probe recovered", "success", "probe/probe", tags),
    ][: 2 if "events" in ways else 0]
    assert [(one.level, one.tags) for one in logs] == [("error", tags), ("info", tags)][: 2 if "logs" in ways else 0]
    if events:
        assert (events[0].text, events[1].text[-17:]) == (refused, " of being failing")
    if logs:
        assert logs[0].message == f"probe/probe is failing: {refused}"
        assert logs[0].attributes == {
            "instance": "probe/probe", "check": "probe", "state": "failing", "previous": "ok",
            "lasted_seconds": logs[0].attributes["lasted_seconds"], "error": "login with **** refused",
            "hint": "see the password",
        }  # fmt: skip
        assert logs[1].message.endswith(" of being failing")
        assert (logs[1].attributes["state"], logs[1].attributes["previous"]) == ("ok", "failing")


def test_a_muted_instance_tells_nothing() -> None:
    recorder = Recorder(changes=("events", "logs"))
    runner = Runner(instance(Flaps, interval="10s"), recorder.surroundings)
    runner.vitals.muted_until = float("inf")
    serve(runner, 60)
    assert not any(batch.events or batch.logs for batch in recorder.batches)


def test_the_log_speaks_when_the_state_changes_and_not_on_every_run(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky(Base):
        number = 0

        async def run(self, emit: Any) -> None:
            type(self).number += 1
            if 3 <= self.number <= 5:
                raise CheckError(f"refused {self.number}", hint="start it")

    with caplog.at_level(logging.INFO):
        serve(Runner(instance(Flaky, interval="1s"), Recorder().surroundings), 10)
    lines = [record.getMessage() for record in caplog.records if record.name == "vedette.probe/probe"]
    assert len(lines) == 2
    assert lines[0] == "failing: refused 3 (start it)"
    assert lines[1].startswith("recovered after ")


def test_ticks_keep_their_grid_however_long_runs_take() -> None:
    class Slow(Base):
        starts: list[float]

        async def run(self, emit: Any) -> None:
            virtual_loop().stall(0.3)  # blocks the loop, as bad checks do
            emit.gauge("probe.value", asyncio.get_running_loop().time())
            await asyncio.sleep(0.4)

    recorder = Recorder()
    runner = Runner(instance(Slow, interval="1s"), recorder.surroundings)
    serve(runner, 1000.5)
    starts = [value - 0.3 for value in recorder.values("probe.value")]
    assert len(starts) in (999, 1000, 1001)  # the phase decides how many end in time
    assert runner.vitals.skipped == 0
    assert max(abs((start - starts[0]) - n) for n, start in enumerate(starts)) < 1e-3


def test_a_plain_function_runs_in_a_thread_and_a_blocked_one_sticks_only_itself() -> None:
    release = threading.Event()

    class Threaded(Base):
        threads: list[str] = []

        def run(self, emit: Any) -> None:
            self.threads.append(threading.current_thread().name)
            emit.gauge("probe.value", len(self.threads))
            release.wait(30)

    async def main() -> None:
        recorder = Recorder()
        runner = Runner(instance(Threaded, timeout="50ms"), recorder.surroundings)
        other = Runner(instance(Base2, name="other"), recorder.surroundings)
        import vedette.runner as module

        running = asyncio.create_task(runner.run())
        await other.run()
        await running
        assert runner.vitals.state is State.STUCK
        assert runner.abandoned
        assert module.GRACE == 2.0
        release.set()
        assert runner._current is not None
        await asyncio.wait({runner._current})
        assert not runner.abandoned
        assert other.vitals.state is State.OK
        await runner.stop()
        await other.stop()

    class Base2(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 1)

    asyncio.run(main())
    assert Threaded.threads == ["vedette-probe/probe_0"]


def test_stopping_cancels_the_run_lets_it_clean_up_and_closes() -> None:
    class Long(Base):
        async def run(self, emit: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1)
                self.calls.append("cleaned")

    recorder = Recorder()
    runner = Runner(instance(Long, interval="1s", timeout="60s"), recorder.surroundings)
    serve(runner, 5)
    assert runner._check.calls == ["open", "cleaned", "close"]
    assert runner.vitals.state is State.STOPPED


def test_a_run_that_ends_well_although_the_agent_stops_is_handed_over() -> None:
    class Finisher(Base):
        async def run(self, emit: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            emit.gauge("probe.value", 5)
            emit.commit("done", 1)

    class Quitter(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 6)
            await asyncio.Event().wait()

    recorder = Recorder()
    serve(Runner(instance(Finisher, interval="1s", timeout="60s"), recorder.surroundings), 5)
    assert recorder.values("probe.value") == [5]
    assert list(recorder.states.values()) == [{"done": 1}]
    serve(Runner(instance(Quitter, interval="1s", timeout="60s"), recorder.surroundings), 5)
    assert recorder.values("probe.value") == [5]


class Patient(CheckConfig):
    @property
    def grace(self) -> float:
        return 30.0


def test_a_longer_grace_is_the_models_own_word() -> None:
    class Careful(Check[Patient]):
        name = "careful"
        metrics = (Metric("careful.refunds", Kind.GAUGE),)

        async def run(self, emit: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(20)
                emit.gauge("careful.refunds", 1)

    runner, recorder, _ = run_one(Careful, timeout="3s")
    assert runner.vitals.duration == pytest.approx(23)
    assert recorder.values("careful.refunds") == [1]


def test_a_check_saves_in_the_middle_of_a_run_and_sees_it_in_the_next() -> None:
    seen = []

    class Saver(Base):
        async def run(self, emit: Any) -> None:
            seen.append(dict(self.state))
            assert await emit.save("due", len(seen)) is True
            seen.append(dict(self.state))
            raise RuntimeError("a saved value outlives a failed run")

    recorder = Recorder()
    runner = Runner(instance(Saver, interval="1s"), recorder.surroundings)
    serve(runner, 4.5)
    assert seen[:4] == [{}, {"due": 1}, {"due": 1}, {"due": 3}]


def test_a_check_with_a_clock_of_its_own_runs_by_it() -> None:
    class Own(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", asyncio.get_running_loop().time())

        def next_due(self, after: float) -> float | None:
            return after + 7

    recorder = Recorder()
    runner = Runner(instance(Own, interval="1s"), recorder.surroundings)
    serve(runner, 30)
    starts = recorder.values("probe.value")
    assert [b - a for a, b in pairwise(starts)] == pytest.approx([7, 7, 7], abs=0.1)
    assert runner.vitals.skipped == 0


def test_instances_of_cloud_checks_send_no_host_and_filters_rename() -> None:
    class Cloud(Base):
        host_bound = False

        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 1)
            emit.counter("probe.total", 5)

    options = {"exclude": ["probe.t*"], "rename": {"probe.value": "cloud.value"}}
    runner, recorder, _ = run_one(Cloud, metrics=options)
    (batch,) = recorder.batches
    assert batch.host == ""
    assert [sample.name for sample in batch.samples] == [
        "cloud.value",
        "health_check.status",
        "health_check.response_time",
    ]
    assert not runner.vitals.dropped  # what the user filtered is not counted as lost


def test_a_listener_serves_flushes_and_is_started_again_when_it_fails() -> None:
    class Port(Listener[CheckConfig]):
        name = "port"
        open_names = True
        serves = 0

        async def serve(self, emit: Any) -> None:
            type(self).serves += 1
            for number in range(3):
                emit.count("any.name", number)
                emit.commit("seen", number)
                await emit.flush()
            await emit.flush()  # nothing to say: no batch
            if self.serves < 3:
                raise OSError(98, "Address already in use")
            await asyncio.Event().wait()

    recorder = Recorder()
    runner = Runner(instance(Port), recorder.surroundings)
    serve(runner, 30)
    assert recorder.values("any.name") == [0, 1, 2] * 3
    assert recorder.states["port/port"] == {"seen": 2}
    assert runner.vitals.failures == 2
    assert runner.vitals.samples == 9


def test_a_listener_that_is_run_once_serves_for_most_of_its_deadline() -> None:
    class Port(Listener[CheckConfig]):
        name = "port"
        open_names = True

        async def serve(self, emit: Any) -> None:
            try:
                for number in range(3):
                    emit.count("any.name", number)
                    await emit.flush()
                await asyncio.Event().wait()
            finally:
                emit.count("last.words", 1)
                await emit.flush()

    recorder = Recorder()
    runner = Runner(instance(Port, timeout=0.2), recorder.surroundings)
    batch = run_virtually(runner.run())
    assert [(sample.name, sample.value) for sample in batch.samples[:4]] == [
        ("any.name", 0), ("any.name", 1), ("any.name", 2), ("last.words", 1)
    ]  # fmt: skip
    assert runner.vitals.state is State.OK


def test_a_listener_that_is_run_once_and_fails_says_why() -> None:
    class Port(Listener[CheckConfig]):
        name = "port"

        async def serve(self, emit: Any) -> None:
            raise CheckError("nothing to hear")

    runner = Runner(instance(Port), Recorder().surroundings)
    asyncio.run(runner.run())
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, "nothing to hear")


def test_a_check_cannot_flush() -> None:
    class Eager(Base):
        async def run(self, emit: Any) -> None:
            await emit.flush()

    runner, _, _ = run_one(Eager)
    assert "only a Listener flushes" in runner.vitals.message


def test_a_hundred_instances_on_the_loop_leave_no_task_behind() -> None:
    class Good(Base):
        async def run(self, emit: Any) -> None:
            emit.gauge("probe.value", 1)

    async def main() -> int:
        recorder = Recorder()
        runners = [Runner(instance(Good, name=f"n{n}", interval="1s"), recorder.surroundings) for n in range(100)]
        tasks = [asyncio.create_task(runner.serve()) for runner in runners]
        await asyncio.sleep(5.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for runner in runners:
            await runner.stop()
        assert len(recorder.batches) in range(500, 601)
        return len(asyncio.all_tasks())

    assert run_virtually(main()) == 1


def test_the_farewell_closes_the_series() -> None:
    runner, _, _ = run_one(type("Good", (Base,), {"run": _nothing}))
    batch = runner.farewell()
    assert (batch.closed, batch.instance, batch.samples) == (True, "probe/probe", ())


async def _nothing(self: Any, emit: Any) -> None:
    return None


class Counted(Base):
    """Notes when each run begins, and does as `outcomes` says: r(aise), h(ang), f(ind) or anything else for well."""

    outcomes = ""
    starts: list[float]

    async def run(self, emit: Any) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        outcome = self.outcomes[len(self.starts) - 1 : len(self.starts)]
        if outcome == "r":
            raise RuntimeError("a bug")
        if outcome == "h":
            await asyncio.Event().wait()
        if outcome == "f":
            raise CheckError("refused")


@pytest.mark.parametrize(
    ("outcomes", "gaps"),
    [
        ("rrrrw", [2, 4, 4, 4, 1, 1]),
        ("hhw", [2, 4, 1, 1]),
        ("rfr", [2, 1, 2, 1]),
        ("ffff", [1, 1, 1, 1]),
        ("wrw", [1, 2, 1]),
    ],
)
def test_only_what_overruns_or_crashes_runs_less_often_until_it_does_not(outcomes: str, gaps: list[int]) -> None:
    plugin: Any = type("Counted", (Counted,), {"outcomes": outcomes, "starts": []})
    recorder = Recorder()
    runner = Runner(instance(plugin, interval="1s", timeout="300ms"), recorder.surroundings)
    serve(runner, sum(gaps) + 2.5)
    assert [round(b - a, 2) for a, b in pairwise(plugin.starts)][: len(gaps)] == gaps
    assert runner.vitals.skipped == 0
    assert runner.vitals.backoff == 1
    intervals = [batch.interval for batch in recorder.batches]
    assert intervals[: len(gaps)] == gaps  # sinks learn for how long to keep the series


def test_the_message_tells_the_pace() -> None:
    plugin: Any = type("Counted", (Counted,), {"outcomes": "h" * 9, "starts": []})
    recorder = Recorder()
    told: list[tuple[str, str, int]] = []
    recorder.deliver = lambda _: told.append((runner.vitals.message, runner.vitals.hint, runner.vitals.backoff))  # type: ignore[method-assign]
    runner = Runner(instance(plugin, interval="15s", timeout="1s"), recorder.surroundings)
    serve(runner, 120)
    assert told[:3] == [
        ("timed out after 1s", f"raise timeout, or see why the target is slow; runs every {pace} until it succeeds", n)
        for pace, n in (("30s", 2), ("1m", 4), ("1m", 4))
    ]


def test_cron_keeps_its_times_whatever_happens() -> None:
    class Buggy(Base):
        async def run(self, emit: Any) -> None:
            raise RuntimeError("a bug")

    runner = Runner(instance(Buggy, schedule="* * * * *"), Recorder().surroundings)
    serve(runner, 61)
    assert runner.vitals.failures == 1
    assert runner.vitals.backoff == 1
    assert "until it succeeds" not in runner.vitals.hint
