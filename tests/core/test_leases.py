"""Nothing begins, is handed over or is sent without the lease: each gate between a run and the wire, one by one."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from core.parts import Recorder, instance
from sinks.parts import Port, batch, running, sample
from vedette import Check, CheckConfig, CheckError, Kind, Listener, Metric
from vedette.crew import Crew
from vedette.isolation.child import _ChildRunner
from vedette.isolation.frames import Setup
from vedette.isolation.isolated import make_runner
from vedette.lease import Lease, Term, boottime
from vedette.outbox import Outbox, Receipt
from vedette.runner import Runner, State
from vedette.sinks import dogstatsd
from vedette.sinks.dogstatsd import DogstatsdConfig, DogstatsdSink
from vedette.sinks.prometheus.store import Store
from vedette.state import StateStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vedette.config import Instance

pytestmark = pytest.mark.anyio


class Hand:
    """A clock in hand: a process that is stopped or suspended wakes up to a later time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def lease(self, name: str = "probe/probe", token: int = 1, left: float = 10.0) -> Lease:
        term = Term(self)
        term.until = self.now + left
        return Lease(term, name, token)


class Probe(Check[CheckConfig]):
    name = "probe"
    metrics = (Metric("probe.value", Kind.GAUGE),)
    steps: tuple[Any, ...] = ()

    def __init__(self, config: CheckConfig, state: Any = None) -> None:
        super().__init__(config, state)
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")
        for step in self.steps:
            step()

    async def run(self, emit: Any) -> None:
        self.calls.append("run")
        emit.gauge("probe.value", 1)
        emit.commit("mark", len(self.calls))

    async def close(self) -> None:
        self.calls.append("close")


def owned(plugin: Any = Probe, **options: Any) -> Instance:
    return replace(instance(plugin, **options), run_on="hash")


async def test_without_a_lease_it_stands_by_and_its_check_is_not_even_made() -> None:
    recorder = Recorder()
    runner = Runner(owned(), recorder.surroundings)
    assert (runner.vitals.state, runner.stands_by, runner.may_run, runner.check) == (State.STANDBY, True, False, None)
    await runner.stop()
    assert Runner(instance(Probe), recorder.surroundings).may_run


async def test_with_a_lease_it_runs_and_its_batch_bears_it() -> None:
    recorder, lease = Recorder(), Hand().lease()
    runner = Runner(owned(), recorder.surroundings, lease)
    await runner.run()
    assert [one.lease for one in recorder.batches] == [lease]
    assert recorder.batches[0].host == "node-7"  # the option itself decides; see below
    runner = Runner(owned(run_on="leader"), recorder.surroundings, lease)
    await runner.run()
    assert recorder.batches[1].host == ""


async def test_a_schedule_goes_on_from_the_last_run_of_whoever_had_the_lease_before() -> None:
    recorder, lease = Recorder(), Hand().lease()
    hourly = owned(schedule="0 * * * *")
    runner = Runner(hourly, recorder.surroundings, lease)
    await runner.run()
    (kept,) = (value for key, value in recorder.batches[0].commits if key == "vedette.ran")
    assert kept == recorder.batches[0].time
    assert ("mark", 2) in recorder.batches[0].commits
    for ran, late in ((time.time() - 86_400, True), (time.time(), False)):
        around = replace(recorder.surroundings, state=lambda _, ran=ran: {"vedette.ran": ran})
        ticks = Runner(hourly, around, lease)._ticks(1000.0)
        assert (ticks.due == 1000.0) is late
    without = Runner(owned(), recorder.surroundings, lease)
    await without.run()
    assert [key for key, _ in recorder.batches[1].commits] == ["mark"]


async def test_no_tick_begins_a_run_after_the_term() -> None:
    """A process that was stopped wakes up: its timers fire before anybody has told it that its term is over."""
    clock, recorder = Hand(), Recorder()
    runner = Runner(owned(interval="10ms"), recorder.surroundings, clock.lease())
    task = asyncio.create_task(runner.serve())
    async with asyncio.timeout(20):
        while len(recorder.batches) < 2:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
        clock.now += 10.0
        runs, batches = runner.check.calls.count("run"), len(recorder.batches)
        await asyncio.sleep(0.1)  # ten ticks
    assert runner.check.calls.count("run") == runs
    assert len(recorder.batches) == batches
    task.cancel()
    await asyncio.wait({task})
    await runner.stop()


async def test_a_term_that_ends_while_the_check_opens_begins_no_run() -> None:
    clock, recorder = Hand(), Recorder()
    slow = type("Slow", (Probe,), {"steps": (lambda: setattr(clock, "now", 111.0),)})
    runner = Runner(owned(slow), recorder.surroundings, clock.lease())
    await runner.run()
    assert (runner.check.calls, recorder.batches) == (["open"], [])


@pytest.mark.parametrize("how", ["term", "revoked"])
async def test_a_run_that_was_frozen_past_its_lease_hands_over_nothing(how: str) -> None:
    clock, recorder = Hand(), Recorder()
    lease = clock.lease()

    class Frozen(Probe):
        async def run(self, emit: Any) -> None:
            await super().run(emit)
            if how == "term":
                clock.now += 10.0
            else:
                lease.revoke()

    runner = Runner(owned(Frozen), recorder.surroundings, lease)
    await runner.run()
    assert (recorder.batches, recorder.states.get("probe/probe", {})) == ([], {})
    assert dict(runner.vitals.dropped or {}) == {"fenced": 3}  # its value, and the runner's own two
    assert runner.vitals.samples == 0


async def test_the_event_of_a_failure_goes_under_the_lease_and_not_without_it() -> None:
    clock, recorder = Hand(), Recorder()
    lease = clock.lease()

    class Failing(Probe):
        async def run(self, emit: Any) -> None:
            raise CheckError("the target timed out")

    class Frozen(Failing):
        async def run(self, emit: Any) -> None:
            lease.revoke()
            await super().run(emit)

    around = replace(recorder.surroundings, changes=("events",))
    await Runner(owned(Failing), around, lease).run()
    assert [(one.lease, len(one.events)) for one in recorder.batches] == [(lease, 1), (lease, 0)]
    runner = Runner(owned(Frozen), around, lease)
    await runner.run()
    assert len(recorder.batches) == 2
    assert dict(runner.vitals.dropped or {}) == {"fenced": 3}  # the event, and the runner's own two values
    assert runner.vitals.samples == 0


async def test_a_run_in_a_thread_that_begins_late_does_not_begin() -> None:
    recorder, lease, ran = Recorder(), Hand().lease(), []

    class Threaded(Check[CheckConfig]):
        name = "probe"

        def run(self, emit: Any) -> None:
            ran.append(threading.current_thread().name)

    runner = Runner(owned(Threaded), recorder.surroundings, lease)
    await runner.run()
    assert len(ran) == 1
    assert runner._thread is not None
    busy = threading.Event()
    runner._thread.submit(busy.wait)
    second = asyncio.create_task(runner.run())
    await eventually(lambda: runner._thread is not None and runner._thread._work_queue.qsize() == 1)
    lease.revoke()
    busy.set()
    await second
    assert (len(ran), len(recorder.batches)) == (1, 1)
    await runner.stop()


async def test_a_listener_is_served_under_its_lease_only() -> None:
    recorder, lease = Recorder(), Hand().lease()

    class Ear(Listener[CheckConfig]):
        name = "probe"
        metrics = (Metric("probe.value", Kind.GAUGE),)

        async def serve(self, emit: Any) -> None:
            for number in range(2):
                emit.gauge("probe.value", number)
                await emit.flush()
                lease.revoke()
            raise RuntimeError("it would be started again")

    runner = Runner(owned(Ear), recorder.surroundings, lease)
    task = asyncio.create_task(runner.serve())
    async with asyncio.timeout(20):
        while runner.vitals.failures == 0:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
    assert recorder.values("probe.value") == [0]
    assert dict(runner.vitals.dropped or {}) == {"fenced": 1}
    task.cancel()
    await asyncio.wait({task})


class Asleep(Check[CheckConfig]):
    """Writes a file when it runs."""

    name = "probe"

    def run(self, emit: Any) -> None:
        Path(self.config.tags[0]).touch()


@pytest.mark.parametrize("left", [30.0, -1.0], ids=["lasts", "over"])
async def test_a_child_process_looks_at_the_clock_itself(tmp_path: Path, left: float) -> None:
    """Agent and child may be stopped together, between what the one says and the other hears."""
    recorder, term = Recorder(), Term()
    term.until = time.clock_gettime(time.CLOCK_BOOTTIME) + 30.0
    lease, file = Lease(term, "probe/probe", 1), tmp_path / "ran"
    around = replace(recorder.surroundings, clock=time.monotonic)
    runner: Any = make_runner(owned(Asleep, isolate=True, tags=[str(file)]), around, "", lease)
    child = await runner._alive()
    send = child.send

    def late(message: Any) -> None:
        until = time.clock_gettime(time.CLOCK_BOOTTIME) + left
        send(replace(message, until=until) if hasattr(message, "until") else message)

    child.send = late
    await runner.run()
    assert file.exists() is (left > 0)
    await runner.stop()


class Far:
    """The agent's end of the pipe."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def send(self, *messages: Any) -> None:
        self.heard += messages


def in_the_child(check: Instance, recorder: Recorder, left: float) -> _ChildRunner:
    setup = Setup(replace(check, run_on="every_node"), (), "node-7", {}, frozenset(), boottime() + left)
    return _ChildRunner(setup, recorder.surroundings, Far())  # type: ignore[arg-type]


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_child_asks_for_the_lease_again_once_its_check_is_open(renewed: bool) -> None:
    recorder = Recorder()

    class Slow(Probe):
        async def open(self) -> None:
            await super().open()
            runner.lend(boottime() - 1.0)
            if renewed:
                runner.lend(boottime() + 30.0)

    runner = in_the_child(owned(Slow), recorder, 30.0)
    await runner.run()
    assert runner.check.calls == (["open", "run"] if renewed else ["open"])
    assert [one.lease for one in recorder.batches] == [None]  # the agent alone decides; a lease stays where it is


async def test_a_listener_in_a_child_process_is_served_under_its_lease_only() -> None:
    recorder, lease, served = Recorder(), Hand().lease(), asyncio.Event()

    class Ear(Listener[CheckConfig]):
        name = "probe"

        async def serve(self, emit: Any) -> None:
            served.set()
            await asyncio.Event().wait()

    runner = in_the_child(owned(Ear), recorder, -1.0)
    lease.revoke()
    agents: Any = make_runner(owned(Ear, isolate=True), recorder.surroundings, "", lease)
    tasks = [asyncio.create_task(one.serve()) for one in (runner, agents)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not served.is_set()
    assert agents._started == float("-inf")  # nor was a process
    runner.lend(boottime() + 30.0)
    async with asyncio.timeout(20):
        await served.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# Queues and sinks


async def test_a_queue_gives_nothing_to_its_sink_that_lost_its_lease_but_that_it_ends() -> None:
    clock, done = Hand(), []
    old, new = clock.lease(), clock.lease(token=2)
    outbox, value = Outbox(100), sample("probe.value", Kind.GAUGE, 1)
    for name, lease, closed in (("a", old, False), ("b", new, False), ("c", None, False), ("d", old, True)):
        outbox.put(
            batch(value, instance=f"probe/{name}", lease=lease, closed=closed),
            Receipt(1, lambda name=name: done.append(name)),  # type: ignore[misc]
        )
    old.end()
    outbox.close()
    assert [one.instance async for one in outbox] == ["probe/b", "probe/c", "probe/d"]
    assert done == ["b", "c", "d"]  # what was not sent is not settled either: the next owner collects it
    assert (outbox.fenced, outbox.dropped, outbox.delivered, outbox.queued) == (1, 0, 3, 0)


async def test_packets_that_wait_for_the_sender_are_not_sent_after_the_term(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Hand()
    lease = clock.lease()
    with Port() as port:
        sink = DogstatsdSink(DogstatsdConfig(type="dogstatsd", port=port.number))
        async with running(sink) as outbox:
            outbox.put(batch(sample("mine", Kind.GAUGE, 1), lease=lease))
            assert await port.wait_for(1) == ["mine:1|g"]
            monkeypatch.setattr(dogstatsd, "_FLUSH_AFTER", 60.0)  # only when this test says so
            outbox.put(batch(sample("mine", Kind.GAUGE, 2), lease=lease))
            while sink._client.terms == set():  # noqa: ASYNC110 - it is translated within this loop's next steps
                await asyncio.sleep(0)
            clock.now += 10.0
            sink._flush()
            monkeypatch.undo()
            outbox.put(batch(sample("every", Kind.GAUGE, 3)))
            assert await port.wait_for(2) == ["mine:1|g", "every:3|g"]
    assert (sink.fenced, sink.lost, sink.trouble) == (1, 0, "")


async def test_a_scrape_shows_nothing_of_a_lease_that_ended() -> None:
    clock = Hand()
    lease = clock.lease()
    store = Store((1,), 60.0, {}, lambda _: None)
    store.add(batch(sample("mine", Kind.GAUGE, 1), instance="probe/a", lease=lease))
    store.add(batch(sample("every", Kind.GAUGE, 2), instance="probe/b"))
    assert [line for line in generate_latest(store).decode().splitlines() if line[0] != "#"] == [
        "every 2.0",
        "mine 1.0",
    ]
    clock.now += 10.0
    assert [line for line in generate_latest(store).decode().splitlines() if line[0] != "#"] == ["every 2.0"]


# The crew


@asynccontextmanager
async def crew_of(recorder: Recorder, *instances: Instance) -> AsyncIterator[Crew]:
    crew = Crew(instances, recorder.surroundings)
    crew.start()
    try:
        yield crew
    finally:
        await crew.halt_all(5.0)
        await crew.close_all()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


async def test_each_grant_makes_the_check_anew_with_the_state_as_it_is_then() -> None:
    recorder, clock = Recorder(), Hand()
    name = "probe/probe"
    async with crew_of(recorder, owned(interval="10ms"), instance(Probe, name="every", interval="10ms")) as crew:
        assert crew.owned == {name: "hash"}
        await eventually(lambda: crew.get("probe/every").vitals.runs > 2)  # type: ignore[union-attr]
        assert recorder.states.get(name) is None
        recorder.states[name] = {"mark": 7}
        crew.grant(name, clock.lease())
        first: Any = crew.get(name)
        assert dict(first.check.state) == {"mark": 7}
        await eventually(lambda: first.vitals.runs > 2)
        assert await crew.take_back(name) is first
        assert first.check.calls[-1] == "close"
        standing: Any = crew.get(name)
        assert (standing.vitals.state, standing.check, standing.vitals.runs) == (
            State.STANDBY,
            None,
            first.vitals.runs,
        )
        runs = standing.vitals.runs
        crew.grant(name, clock.lease(token=2))
        again: Any = crew.get(name)
        await eventually(lambda: again.vitals.runs > runs)
        assert again.check is not first.check
    assert {one.lease.token for one in recorder.batches if one.lease is not None} == {1, 2}


async def test_a_grant_while_another_is_taken_back_starts_nobody_else() -> None:
    recorder, clock, closing = Recorder(), Hand(), asyncio.Event()

    class Slow(Probe):
        async def close(self) -> None:
            if self.config.name == "a":
                await closing.wait()

    a, b = owned(Slow, name="a", interval="10ms"), owned(Slow, name="b", interval="10ms")
    async with crew_of(recorder, a, b) as crew:
        first = clock.lease(a.id)
        crew.grant(a.id, first)
        first.revoke()
        ending = asyncio.create_task(crew.take_back(a.id))
        await asyncio.sleep(0.01)
        assert not ending.done()
        crew.grant(b.id, clock.lease(b.id))
        closing.set()
        await ending
        crew.grant(a.id, clock.lease(a.id, token=2))
        for name in (a.id, b.id):
            await eventually(lambda name=name: crew.get(name).vitals.runs > 1)  # type: ignore[misc, union-attr]


async def test_an_edit_goes_on_under_the_lease_and_whoever_is_for_all_agents_now_needs_none() -> None:
    recorder, lease = Recorder(), Hand().lease()
    async with crew_of(recorder, owned(interval="10ms")) as crew:
        crew.grant("probe/probe", lease)
        assert [one.closed for one in await crew.swap([owned(interval="20ms")], ["probe/probe"])] == [True]
        crew.start()
        edited: Any = crew.get("probe/probe")
        assert edited.lease is lease
        await eventually(lambda: edited.vitals.runs > 0)
        await crew.swap([instance(Probe, interval="10ms")], ["probe/probe"])
        crew.start()
        free: Any = crew.get("probe/probe")
        assert (free.lease, crew.lease("probe/probe"), crew.owned) == (None, None, {})
        await eventually(lambda: free.vitals.runs > 0)


async def test_once_leaves_out_what_has_no_lease() -> None:
    recorder = Recorder()
    crew = Crew([owned(), instance(Probe, name="every")], recorder.surroundings)
    await crew.run_each_once(asyncio.Event())
    assert [one.instance for one in recorder.batches] == ["probe/every"]
    assert crew.relabel(replace(recorder.surroundings, host="other"))[0].instance == "probe/every"
    await crew.close_all()


# State


async def test_what_another_agent_committed_replaces_what_is_here(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.apply("probe/probe", [("mark", 1), ("gone", 2)])
    late = store.adopt("probe/probe", [("mark", 3)])
    view = store.view("probe/probe")
    store.restore("probe/probe", {"mark": 9})
    assert dict(view) == {"mark": 9}
    late()
    await store.close()
    again = StateStore(tmp_path)
    assert again.view("probe/probe")["mark"] == 9  # not 3, which is older
    await again.close()
