"""`isolate: true`: whatever a check does to its process, the agent says what happened and others keep their ticks."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import os
import pickle
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from cli.process import Running, wait_until
from core.parts import Recorder, instance
from core.rogue import Clocked, Port, Rogue, Unmakable
from vedette import Batch, Kind, Sample, Status
from vedette.config import load
from vedette.isolation import warden
from vedette.isolation.frames import FRAME_LIMIT, FrameError, Handed, Part, Report, Setup, encode, parts, read
from vedette.isolation.isolated import IsolatedRunner, make_runner
from vedette.metrics import ServiceCheck
from vedette.plugins import Registry
from vedette.runner import Runner, State
from vedette.units import parse_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Here(Recorder):
    """Surroundings on a clock that other processes share."""

    @property
    def surroundings(self) -> Any:
        return replace(super().surroundings, clock=time.monotonic)


@asynccontextmanager
async def isolated(how: str, plugin: Any = Rogue, **options: Any) -> AsyncIterator[tuple[IsolatedRunner, Here]]:
    recorder = Here("hunter2secret")
    options = {"timeout": "10s", "secret": "hunter2secret", **options}
    runner = make_runner(instance(plugin, how=how, isolate=True, **options), recorder.surroundings)
    assert isinstance(runner, IsolatedRunner)
    before = descriptors()
    try:
        yield runner, recorder
    finally:
        await runner.stop()
        assert runner.vitals.state is State.STOPPED
        await asyncio.sleep(0)
        assert descriptors() <= before  # of an earlier test's some may have been closed meanwhile
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def eventually(condition: Any) -> None:
    """Give others their turn until it is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def live(main: Any) -> Any:
    """Run on an event loop of this test's own; uvloop has its turn in the agent's tests."""
    return asyncio.run(main())


# What works as without isolation


def test_a_run_in_a_child_process_hands_over_the_same_batch_as_one_here() -> None:
    async def main() -> None:
        async with isolated("many", tags=["role:a"]) as (runner, recorder):
            there = await runner.run(lateness=0.25)
            here = Here()
            options = instance(Rogue, how="many", timeout="10s", secret="hunter2secret", tags=["role:a"])
            near = await Runner(options, here.surroundings).run()
            assert [s[:2] for s in there.samples] == [s[:2] for s in near.samples]
            assert there.samples[1:-1] == near.samples[1:-1]
            assert (there.host, there.interval, there.instance, there.check) == (
                near.host,
                near.interval,
                near.instance,
                near.check,
            )
            pids = [recorder.values("rogue.pid")[0]]
            await runner.run()
            pids.append(recorder.values("rogue.pid")[1])
            assert pids[0] == pids[1] != os.getpid()  # it lives as long as the instance
            vitals = runner.vitals
            assert (vitals.isolated, vitals.state, vitals.runs, vitals.failures) == (True, State.OK, 2, 0)
            assert vitals.samples == sum(len(batch.samples) for batch in recorder.batches)
            assert 0 < vitals.duration < 10

    live(main)


def test_state_is_seen_saved_and_committed() -> None:
    async def main() -> None:
        async with isolated("remembers") as (runner, recorder):
            recorder.states["rogue/rogue"] = {"seen": 5}
            await runner.run()
            assert recorder.states["rogue/rogue"] == {"seen": 6, "saved": 5}
            await runner.run()
            assert recorder.values("rogue.value") == [5, 6]

    live(main)


def test_a_finding_keeps_the_process_and_the_interval_and_is_masked() -> None:
    async def main() -> None:
        async with isolated("finds") as (runner, recorder):
            runner._backs_off = True
            for _ in range(2):
                await runner.run()
            vitals = runner.vitals
            assert (vitals.state, vitals.message, vitals.hint) == (
                State.FAILING,
                "refused by https://u:****@h",
                "start it",
            )
            assert (vitals.failures, vitals.backoff) == (2, 1)
            assert len(set(recorder.values("rogue.pid"))) == 1

    live(main)


def test_dropped_samples_are_counted_over_the_lives_of_processes() -> None:
    async def main() -> None:
        async with isolated("undeclared") as (runner, _):
            await runner.run()
            assert runner._child is not None
            await runner._child.end()
            await runner.run()
            await runner.run()
            assert dict(runner.vitals.dropped or {}) == {"undeclared": 3}

    live(main)


def test_a_hanging_run_is_cancelled_inside_and_the_process_stays() -> None:
    async def main() -> None:
        async with isolated("hangs", timeout="100ms") as (runner, recorder):
            await runner.run()
            await runner.run()
            assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, "timed out after 100ms")
            assert len(set(recorder.values("rogue.pid"))) == 1

    live(main)


def labels(batch: Batch) -> tuple[str, set[str]]:
    """The host of a batch, and the agent's tags on its samples."""
    return batch.host, {tag for sample in batch.samples for tag in sample.tags if tag.startswith("environment:")}


def test_new_tags_and_host_reach_the_process_that_is_there() -> None:
    async def main() -> None:
        async with isolated("well") as (runner, recorder):
            before = await runner.run()
            around = replace(recorder.surroundings, tags=("environment:new",), host="node-8")
            farewell = runner.relabel(around)
            after = await runner.run()
            assert labels(before) == ("node-7", {"environment:test"})
            assert (farewell.closed, farewell.host) == (True, "node-7")
            assert labels(after) == ("node-8", {"environment:new"})
            assert len(set(recorder.values("rogue.pid"))) == 1
            assert (runner.vitals.runs, runner.vitals.failures, runner.vitals.state) == (2, 0, State.OK)

    live(main)


def test_a_run_that_began_before_new_tags_keeps_to_the_old_ones() -> None:
    async def main() -> None:
        recorder = Here()
        runner = make_runner(instance(Rogue, how="hangs", timeout="100ms"), recorder.surroundings)
        run = asyncio.create_task(runner.run())
        await eventually(lambda: runner.abandoned)
        runner.relabel(replace(recorder.surroundings, tags=("environment:new",), host="node-8"))
        batch = await run
        assert {sample.name for sample in batch.samples} >= {"rogue.pid", "health_check.status"}
        assert labels(batch) == ("node-7", {"environment:test"})
        await runner.stop()

    live(main)


@pytest.mark.parametrize("isolate", [True, False])
def test_new_tags_and_host_reach_a_listener_at_work(isolate: bool) -> None:
    async def main() -> None:
        recorder = Here()
        runner = make_runner(instance(Port, how="goes_on", isolate=isolate), recorder.surroundings)
        task = asyncio.create_task(runner.serve())
        await eventually(lambda: recorder.values("port.pid"))
        around = replace(recorder.surroundings, tags=("environment:new",), host="node-8")
        runner.relabel(around)
        wanted = ("node-8", {"environment:new"})
        await eventually(lambda: labels(recorder.batches[-1]) == wanted)
        assert {labels(batch)[0] for batch in recorder.batches} == {"node-7", "node-8"}
        assert len(set(recorder.values("port.pid"))) == 1
        assert (runner.vitals.failures, runner.vitals.state) == (0, State.OK)
        task.cancel()
        await asyncio.wait({task})
        await runner.stop()

    live(main)


def test_a_check_with_a_clock_of_its_own_is_asked_for_it() -> None:
    async def main() -> None:
        async with isolated("well", Clocked) as (runner, recorder):
            task = asyncio.create_task(runner.serve())
            await eventually(lambda: recorder.values("clocked.value") == [0, 1, 2])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert runner.vitals.skipped == 0

    live(main)


def test_options_of_every_built_in_check_reach_the_other_process(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for example in sorted((Path(__file__).parents[2] / "conf.d").glob("*.yaml.example")):
        text = example.read_text().replace("${env:", "${env:NOT_SET:-")
        (tmp_path / "conf.d" / example.name.removesuffix(".example")).write_text(text)
    configuration = load(tmp_path / "conf.d", Registry(), secrets="lazy")
    assert {each.check for each in configuration.instances} >= {"host", "postgres", "redis", "synthetic"}
    for each in configuration.instances:
        setup = Setup(each, (), "", {}, frozenset())
        assert pickle.loads(encode(setup)[4:]).instance.config == each.config, each.id


def test_stopping_closes_the_check(tmp_path: Path) -> None:
    async def main() -> None:
        async with isolated("closes_well", file=str(tmp_path / "file")) as (runner, _):
            await runner.run()

    live(main)
    assert (tmp_path / "file").read_text() == "closed"


def test_stopping_in_the_middle_of_a_run_ends_it() -> None:
    async def main() -> None:
        async with isolated("hangs", timeout="60s") as (runner, recorder):
            task = asyncio.create_task(runner.run())
            await eventually(lambda: runner._handed is not None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert recorder.batches == []

    live(main)


# What would end or stall the agent

LOST = {
    "segfaults": "the child process was killed by SIGSEGV",
    "aborts": "the child process was killed by SIGABRT",
    "exits": "the child process ended with status 0",
    "closes_descriptors": "the child process ended with status 1",
    "writes_garbage": "the child process sent something that is no message of vedette's",
    "foreign": "the child process handed over a value of the type core.rogue.Options, which cannot leave its process",
    "huge": "the batch is too large to hand to another process (20MB, at most 16MB)",
    "leaks": "exceeded memory_limit (200MB)",
    "sys_exits": "the check failed: RuntimeError: the check called sys.exit(5)",
    "raises": "the check failed: RuntimeError: token=****",
    "raises_in_close": "the check failed: RuntimeError: run",
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the ends of its pipe and of its process a child on a busy machine takes longer than the agent waits."""
    monkeypatch.setattr(warden, "_LAST_BREATH", 20.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("how", LOST)
def test_a_crash_is_named_and_the_next_run_starts_anew(how: str) -> None:
    async def main() -> None:
        async with isolated(how, memory_limit="200MB") as (runner, recorder):
            runner._backs_off = True
            first = await runner.run()
            vitals = runner.vitals
            assert (vitals.state, vitals.message) == (State.FAILING, LOST[how])
            assert vitals.hint.endswith("runs every 30s until it succeeds")
            assert recorder.values("health_check.status") == [0]
            assert first.interval == 30.0
            await runner.run()
            assert vitals.hint.endswith("runs every 1m until it succeeds")
            assert (vitals.backoff, vitals.failures, vitals.runs) == (4, 2, 2)

    live(main)


HUNG = ["spins", "sleeps_in_c", "holds_the_lock", "swallows", "ignores_signals"]


@pytest.mark.parametrize("how", HUNG)
def test_what_does_not_end_is_killed_at_timeout_and_grace(how: str) -> None:
    async def main() -> None:
        async with isolated(how, timeout="100ms") as (runner, recorder):
            await runner.run()
            vitals = runner.vitals
            assert vitals.message == "timed out after 100ms and did not end: the child process was killed"
            assert vitals.state is State.FAILING
            assert 2.0 <= vitals.duration < 20.0  # 2.1 s and a quarter, on a machine that stops for a while
            assert runner._child is not None
            assert runner._child.lost.done()
            assert recorder.values("health_check.status") == [0]

    live(main)


def test_what_the_check_forked_dies_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with isolated("forks_and_spins", timeout="100ms", file=str(file)) as (runner, _):
            await runner.run()
            grandchild = int(file.read_text())
            await asyncio.to_thread(wait_until, lambda: gone(grandchild), "the end of what it forked")

    live(main)


def test_a_success_takes_the_backoff_back_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with isolated("once_bad", file=str(tmp_path / "file")) as (runner, _):
            runner._backs_off = True
            await runner.run()
            assert (runner.vitals.backoff, runner.vitals.message) == (2, "the child process ended with status 3")
            batch = await runner.run()
            assert (runner.vitals.backoff, runner.vitals.state, batch.interval) == (1, State.OK, 15.0)

    live(main)


def test_a_death_between_two_runs_is_noticed() -> None:
    async def main() -> None:
        async with isolated("dies_later") as (runner, _):
            await runner.run()
            await eventually(lambda: runner.vitals.state is not State.OK)
            assert runner.vitals.message == "the child process was killed by SIGKILL"
            assert "run out of memory" in runner.vitals.hint

    live(main)


def test_a_check_whose_object_cannot_be_made() -> None:
    async def main() -> None:
        async with isolated("well", Unmakable) as (runner, _):
            await runner.run()
            message = "the child process cannot start the check: RuntimeError: no object of this"
            assert runner.vitals.message == message

    live(main)


# What it prints and logs


def test_output_is_logged_at_debug_masked_and_bounded(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    async def main() -> None:
        async with isolated("prints") as (runner, _):
            await runner.run()

    with caplog.at_level(logging.DEBUG, "vedette"):
        live(main)
    lines = [record.getMessage() for record in caplog.records if record.name == "vedette.rogue/rogue"]
    assert lines[:2] == ["output: to descriptor 1", "output: to descriptor 2: ****"]
    assert lines[2].startswith("output: \N{REPLACEMENT CHARACTER}[31mto stdout xxx")
    assert len(lines[2]) <= 1_010
    assert capfd.readouterr().out == ""


def test_a_flood_of_output_slows_only_the_check_down(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with isolated("floods") as (runner, _):
            await runner.run()
            assert runner.vitals.state is State.OK

    with caplog.at_level(logging.DEBUG, "vedette"):
        live(main)
    assert len([record for record in caplog.records if "output: " in record.getMessage()]) <= 100


def test_the_log_of_the_child_is_the_agents(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with isolated("logs") as (runner, _):
            await runner.run()

    with caplog.at_level(logging.INFO):
        live(main)
    found = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "vedette.check.rogue.rogue"]
    assert found == [("WARNING", "a warning with ****"), ("INFO", "an information")]


# Listeners


def test_a_listener_flushes_waits_for_room_and_commits() -> None:
    async def main() -> None:
        async with isolated("waits", Port) as (runner, recorder):
            task = asyncio.create_task(runner.serve())
            await eventually(lambda: recorder.values("port.value") == [0, 1, 2])
            assert recorder.states["port/port"] == {"seen": 2}
            assert (runner.vitals.state, runner.vitals.samples) == (State.OK, 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    live(main)


def test_a_listener_waits_while_there_is_no_room() -> None:
    class Full(Here):
        async def _room(self) -> None:
            if self.batches:  # what commits something waits before it is handed over, too
                await asyncio.Event().wait()

    async def main() -> None:
        recorder = Full()
        runner = make_runner(instance(Port, isolate=True), recorder.surroundings)
        task = asyncio.create_task(runner.serve())
        await eventually(lambda: recorder.batches)
        await asyncio.wait({task}, timeout=0.2)
        assert recorder.values("port.value") == [0]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.stop()

    live(main)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("how", "message"),
    [("dies", "the child process ended with status 4"), ("raises", "Address already in use")],
)
def test_a_listener_that_fails_is_started_again(how: str, message: str) -> None:
    async def main() -> None:
        async with isolated(how, Port) as (runner, recorder):
            seen: set[str] = set()
            task = asyncio.create_task(runner.serve())
            await eventually(lambda: seen.add(runner.vitals.message) or len(recorder.values("port.value")) >= 6)
            assert any(message in text for text in seen)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    live(main)


# The pipe

REPORT = Report(State.OK, "", "", 0.1, 1, 0, False, False, {})


@pytest.mark.parametrize(("samples", "frames"), [(0, 1), (1, 1), (2_000, 1), (2_001, 2), (4_000, 2), (6_001, 4)])
def test_a_batch_crosses_in_parts(samples: int, frames: int) -> None:
    batch = Batch("a/b", "a", 1.0, samples=tuple(Sample("x", Kind.GAUGE, n, ("a:b",)) for n in range(samples)))
    sent = list(parts(Handed(batch, REPORT)))

    async def main() -> list[Any]:
        reader = asyncio.StreamReader()
        for each in sent:
            reader.feed_data(encode(each))
        return [await read(reader) for _ in sent]

    got = asyncio.run(main())
    assert got == sent
    assert len(got) == frames
    crossed = [s for each in got for s in (each.samples if isinstance(each, Part) else each.batch.samples)]
    assert tuple(crossed) == batch.samples


def test_enumerations_cross_by_their_value_whatever_python_says() -> None:
    """Debian 12's Python 3.11.2 pickles them as a call of getattr, which no child may ask for."""
    batch = Batch(
        "a/b",
        "a",
        1.0,
        samples=(Sample("x", Kind.RATE, 1),),
        statuses=(ServiceCheck("y", Status.WARNING, (), "", 1.0),),
    )
    message = Handed(batch, replace(REPORT, state=State.STUCK))
    assert b"getattr" not in encode(message)
    with patch.object(enum.Enum, "__reduce_ex__", lambda self, _: (getattr, (type(self), self._name_))):
        encoded = encode(message)

    async def hear() -> Any:
        reader = asyncio.StreamReader()
        reader.feed_data(encoded)
        return await read(reader)

    assert asyncio.run(hear()) == message


def test_what_a_child_says_cannot_name_other_types_or_be_garbage() -> None:
    async def hear(data: bytes) -> Any:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read(reader)

    for wrong in (os.system, Path("x"), sys.exit, subject := Rogue):
        with pytest.raises(FrameError, match=r"handed over a value of the type|cannot be handed"):
            asyncio.run(hear(encode(wrong)))
    assert subject is Rogue
    for garbage in (b"\0\0\0\x04junk", (FRAME_LIMIT + 1).to_bytes(4, "big"), b"\0\0\0\0"):
        with pytest.raises(FrameError, match="no message of vedette's"):
            asyncio.run(hear(garbage))
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(hear(b"\0\0"))
    with pytest.raises(FrameError, match="too large"):
        encode("x" * (FRAME_LIMIT + 1))
    with pytest.raises(FrameError, match="cannot be handed to another process"):
        encode(lambda: None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 << 20), ("1.5 GiB", 3 << 29), ("900K", 900 << 10), (77, 77), ("12", 12), ("64B", 64)],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", True, 1.5, "5 iB", "5XB"])
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(text)


# The whole agent

_PACKAGE = Path(__file__).with_name("rogue.py")


def conf(folder: Path, rogue: str, agent: str = "") -> str:
    """An agent's folder with the rogue checks installed; returns its PYTHONPATH."""
    info = folder / "site" / "rogue-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "site" / "rogue.py").write_text(_PACKAGE.read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vedette.checks]\nrogue = rogue\n")
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "agent.yaml").write_text(f"sinks: [{{type: file, path: ../out.jsonl}}]\n{agent}")
    (folder / "conf.d" / "rogue.yaml").write_text(rogue)
    return str(folder / "site")


def rows(folder: Path, name: str, which: str) -> list[Any]:
    file = folder / "out.jsonl"
    text = file.read_text() if file.exists() else ""
    found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [row["value"] for row in found if row["name"] == name and row["instance"] == which]


@pytest.mark.soak
def test_all_at_once_beside_a_good_instance_that_misses_no_tick(tmp_path: Path) -> None:
    bad = "spins holds_the_lock leaks forks segfaults prints ignores_signals raises_in_close exits closes_descriptors"
    instances = "".join(
        f"  - {{name: {how}, how: {how}, isolate: true, memory_limit: 200MB, interval: 1s, "
        f"timeout: {'300ms' if how in HUNG else '10s'}}}\n"
        for how in bad.split()
    )
    good = "  - {name: good, interval: 200ms}\n"
    path = conf(tmp_path, f"instances:\n{good}{instances}", "report_interval: 1s\n")
    with Running(cwd=tmp_path, PYTHONPATH=path) as agent:

        def all_have_run() -> bool:
            return all(rows(tmp_path, "health_check.status", how) for how in bad.split())

        wait_until(all_have_run, "every bad instance", 60)
        before = len(rows(tmp_path, "rogue.value", "good"))
        wait_until(lambda: len(rows(tmp_path, "rogue.value", "good")) > before + 20, "some more good runs")
        children = descendants(agent.process.pid)
        assert len(children) >= 3
        assert agent.end(signal.SIGTERM) == 0
    wait_until(lambda: all(gone(pid) for pid in children), "the end of the children")
    told = "\n".join(agent.lines)
    assert "rogue/spins: failing: timed out after 300ms and did not end: the child process was killed" in told
    assert "rogue/holds_the_lock: failing: timed out after 300ms and did not end: the child process was killed" in told
    assert "rogue/segfaults: failing: the child process was killed by SIGSEGV" in told
    assert "rogue/leaks: failing: exceeded memory_limit (200MB)" in told
    assert "to descriptor" not in told
    assert "rogue/good" not in told
    assert rows(tmp_path, "vedette.check.skipped", "good") == [0] * len(rows(tmp_path, "vedette.check.skipped", "good"))
    assert set(rows(tmp_path, "health_check.status", "good")) == {1}


def test_an_agent_that_is_killed_takes_children_and_what_they_started_with_it(tmp_path: Path) -> None:
    instances = "".join(
        f"  - {{name: {how}, how: {how}, isolate: true, interval: 300ms, timeout: 60s}}\n"
        for how in ("forks", "spins", "ignores_signals", "holds_the_lock")
    )
    path = conf(tmp_path, f"instances:\n{instances}")
    with Running(cwd=tmp_path, PYTHONPATH=path) as agent:
        wait_until(lambda: len(descendants(agent.process.pid)) >= 6, "four children and some grandchildren", 60)
        wait_until(lambda: len(rows(tmp_path, "rogue.value", "forks")) > 1, "forks")
        children = descendants(agent.process.pid)
        for pid in children:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert b"how" not in line
        agent.end(signal.SIGKILL)
        wait_until(lambda: all(gone(pid) for pid in children), "their end")


def descendants(pid: int) -> list[int]:
    """The processes below one, all generations."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *descendants(child))]
