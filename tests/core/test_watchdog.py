"""The watchdog: who holds the event loop is named, isolated at the next start, and cannot hold it for ever."""

from __future__ import annotations

import asyncio
import faulthandler
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cli.process import Running, environ, wait_until
from core.parts import Recorder, instance
from core.rogue import Options, Rogue
from core.test_isolation import conf, rows
from vedette.isolation.isolated import IsolatedRunner, make_runner
from vedette.runner import Runner
from vedette.secrets import Masker
from vedette.state import StateStore
from vedette.watchdog import Limits, Place, Verdicts, Watchdog, at_home, dumped, fault, named_task, owner

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
HELD = ["spins", "sleeps_in_c", "holds_the_lock", "task_spins"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "vedette.watchdog"]


def watch(folder: Path, runners: list[Runner], loop: str, main: Any, limits: Limits | None = None) -> Verdicts:
    """Run `main` on a watched loop."""
    masker = Masker()
    masker.add("hunter2secret")
    state = StateStore(folder / "state")
    verdicts = Verdicts(state, masker)

    async def watched() -> None:
        dog = Watchdog(lambda: runners, verdicts, masker, state.directory, limits or Limits())
        dog.start()
        try:
            await main()
        finally:
            dog.stop()
            for runner in runners:
                await runner.stop()
            await state.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(watched())
    assert not (folder / "state" / "blocked.txt").exists()
    return verdicts


def rogue(how: str, name: str = "rogue", **options: Any) -> Runner:
    options = {"timeout": "10s", **options}
    return make_runner(instance(Rogue, how=how, name=name, **options), Recorder().surroundings)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", HELD)
def test_who_holds_the_loop_is_named_with_the_line(
    tmp_path: Path, how: str, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = 2.0 if how == "holds_the_lock" else 1.5  # a busy machine gives a spinning thread less than that
    runners = [rogue("well", "good"), rogue(how, seconds=seconds)]

    async def main() -> None:
        await runners[0].run()
        for _ in range(9):  # another thread may be given the lock before the watchdog, or the machine stops meanwhile
            await asyncio.create_task(runners[1].run())
            if runners[1].vitals.blocked:
                break
        await runners[0].run()

    watch(tmp_path, runners, loop, main)
    (line,) = warnings(caplog)
    where = "inner" if how == "task_spins" else f"_{how}"
    assert line.startswith("rogue/rogue holds the event loop for more than 200ms, and all others wait: ")
    assert re.search(rf": core/rogue.py:\d+ {where}\b", line)
    assert "asyncio" not in line
    assert [runner.vitals.blocked for runner in runners] == [0, 1]
    assert runners[1].vitals.failures == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_only_waits_or_works_in_short_steps_is_left_alone(
    tmp_path: Path, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[float] = []

    async def main() -> None:
        for _ in range(20):
            begun = time.monotonic()
            time.sleep(0.02)  # noqa: ASYNC251
            await asyncio.sleep(0.03)
            steps.append(time.monotonic() - begun)

    for attempt in range(9):
        steps.clear()
        caplog.clear()
        watch(tmp_path / str(attempt), [rogue("well")], loop, main)
        if max(steps) < Limits().blocked:  # else the machine stopped, and made a long step of a short one
            break
    assert warnings(caplog) == []


def test_repeats_convict_until_the_options_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = rogue("spins", seconds=1.5)

    async def main() -> None:
        for _ in range(9):  # a machine that stops hides one
            await asyncio.create_task(runner.run())
            if runner.vitals.blocked == 3:
                break
        await asyncio.sleep(0)

    watch(tmp_path, [runner], "asyncio", main)
    assert runner.vitals.blocked == 3
    first, last = warnings(caplog)  # the second and the third time are not news within a minute
    assert first.startswith("rogue/rogue holds")
    assert last == "rogue/rogue held the event loop 3 times: from its next start on it runs in a child process"

    verdicts = Verdicts(StateStore(tmp_path / "state", writable=False), Masker())
    reason = verdicts.reason(runner.instance)
    assert re.fullmatch(r"held the event loop 3 times on \d{4}-\d\d-\d\d \d\d:\d\d", reason)
    made = make_runner(runner.instance, Recorder().surroundings, reason)
    assert isinstance(made, IsolatedRunner)
    assert (made.vitals.isolated, made.vitals.isolated_because) == (True, reason)

    options = {"how": "spins", "timeout": "10s", "seconds": 1.5}
    assert verdicts.reason(instance(Rogue, **options)) == reason
    assert verdicts.reason(instance(Rogue, **{**options, "seconds": 0.1})) == ""
    assert verdicts.reason(instance(Rogue, **options, isolate=False)) == ""
    assert verdicts.reason(instance(Rogue, **options, name="other")) == ""
    off = Verdicts(StateStore(tmp_path / "state", writable=False), Masker(), enabled=False)
    assert off.reason(instance(Rogue, **options)) == ""


def test_a_fingerprint_of_the_options_holds_no_secret(tmp_path: Path) -> None:
    def fingerprint(secret: str) -> str:
        masker = Masker()
        masker.add(secret)
        return Verdicts(StateStore(tmp_path, writable=False), masker)._fingerprint(instance(Rogue, secret=secret))

    assert fingerprint("hunter2secret") == fingerprint("other-secret")


def hold(caplog: pytest.LogCaptureFixture) -> None:
    """Hold the loop until that is told."""
    end = time.monotonic() + 20
    while not warnings(caplog) and time.monotonic() < end:
        time.sleep(0.5)


def test_a_block_by_no_instance_convicts_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hold(caplog)

    watch(tmp_path, [], "asyncio", main)
    (line,) = warnings(caplog)
    assert line.startswith("something that is no instance holds the event loop")
    assert "test_watchdog.py" in line


def test_secrets_in_a_stack_are_masked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scope: dict[str, Any] = {"hold": hold, "caplog": caplog}
    exec("def hunter2secret():\n hold(caplog)", scope)

    async def main() -> None:
        scope["hunter2secret"]()

    watch(tmp_path, [], "asyncio", main)
    (line,) = warnings(caplog)
    assert "****" in line
    assert "hunter2secret" not in line


def test_tasks_that_an_instance_starts_are_its_own() -> None:
    async def main() -> list[str | None]:
        asyncio.get_running_loop().set_task_factory(named_task)
        runner = rogue("well")
        found: list[str | None] = []

        async def leaf() -> None:
            task = asyncio.current_task()
            assert task is not None
            found.append(owner(task))

        async def branch() -> None:
            await asyncio.gather(leaf(), leaf())

        class Probe(Rogue):
            async def run(self, emit: Any) -> None:
                await asyncio.create_task(branch())

        runner._check = Probe(Options())
        await runner.run()
        await runner.stop()
        return found

    assert asyncio.run(main()) == ["rogue/rogue"] * 2


def test_what_faulthandler_wrote_leads_to_the_check() -> None:
    text = """loop 0x7f01
Timeout (0:00:36)!
Thread 0x00007f02 (most recent call first):
  File "/somewhere/else.py", line 1 in other
Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3/ctypes.py", line 3 in call
  File "HOME", line 67 in _spins
  File "/x/vedette/runner.py", line 4 in _collect
"""
    file = sys.modules[Rogue.__module__].__file__
    assert file is not None
    places = dumped(text.replace("HOME", file))
    assert places[:2] == [Place("/usr/lib/python3/ctypes.py", 3, "call"), Place(file, 67, "_spins")]
    one, two = instance(Rogue, name="a"), instance(Rogue, name="b")
    assert at_home([one, two], places) == [one, two]
    assert at_home([one, two], places[:1]) == []
    assert dumped("loop 0x7f01\n") == []
    assert dumped("") == []
    assert dumped("\0garbage\nThread 0x01\n") == []


@pytest.mark.parametrize("head", ["Stack (most", "Current thread 0x00007f03 (most"])
def test_of_a_crash_only_the_stack_of_the_thread_that_crashed_counts(head: str) -> None:
    text = f"""loop 0x7f01
Fatal Python error: Segmentation fault

{head} recent call first):
  File "/x/check.py", line 7 in run
  File "/x/more.py", line 8 in call

Thread 0x00007f01 (most recent call first):
  File "/x/idle.py", line 1 in wait

Current thread's C stack trace (most recent call first):
  Binary file "/x/python", at _Py_DumpStack+0x0 [0x5]
"""
    assert dumped(text) == [Place("/x/check.py", 7, "run"), Place("/x/more.py", 8, "call")]
    assert fault(text) == "SIGSEGV"
    assert fault("loop 0x7f01\nTimeout (0:00:36)!\n") == ""
    assert fault("loop 0x7f01\nFatal Python error: Something new\n") == "Something new"
    nameless = "loop 0x7f01\nFatal Python error: Aborted\n\n"
    assert (dumped(nameless), fault(nameless)) == ([], "SIGABRT")


@pytest.mark.parametrize("enabled", [True, False])
def test_what_python_was_told_about_faults_holds_again_afterwards(
    tmp_path: Path, enabled: bool, request: pytest.FixtureRequest
) -> None:
    if faulthandler.is_enabled():  # by pytest
        request.addfinalizer(lambda: faulthandler.enable(2))
    else:
        request.addfinalizer(faulthandler.disable)
    faulthandler.disable()
    if enabled:
        faulthandler.enable(2)
    during: list[bool] = []

    async def main() -> None:
        during.append(faulthandler.is_enabled())

    watch(tmp_path, [], "asyncio", main)
    assert (during, faulthandler.is_enabled()) == ([True], enabled)


# The whole agent

_SCRIPT = """
import os, sys
from pathlib import Path
from vedette.agent import Agent
from vedette.cli.common import run_loop
from vedette.config import load
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.state import StateStore, state_directory
from vedette.watchdog import Limits
configuration = load(Path("conf.d"), Registry())
set_up(configuration.agent.log, configuration.masker)
state = StateStore(state_directory("", os.environ))
agent = Agent(configuration, state, limits=Limits(fatal=float(sys.argv[1])))
run_loop(agent.run(duration=float(sys.argv[2])))
os._exit(0)
"""


def run_agent(folder: Path, path: str, fatal: float, duration: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(fatal), str(duration)],
        cwd=folder,
        env=environ(folder / "state", PYTHONPATH=path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def follow(folder: Path, path: str, isolates: str) -> str:
    """What the next agent tells, until the culprit was killed in its child process and others have run on."""
    with Running(cwd=folder, PYTHONPATH=path) as agent:
        agent.wait_for(isolates)
        agent.wait_for("rogue/bad: failing: ")
        before = len(rows(folder, "health_check.status", "host"))
        wait_until(lambda: len(rows(folder, "health_check.status", "host")) > before + 5, "others' runs")
        assert agent.end(signal.SIGTERM) == 0
    told = "\n".join(agent.lines)
    assert "the child process was killed" in told
    return told


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        pytest.param("spins", 70, "held the event loop for 2s", marks=pytest.mark.soak),
        pytest.param("sleeps_in_c", 70, "held the event loop for 2s", marks=pytest.mark.soak),
        ("holds_the_lock", 1, "held the event loop and the interpreter's lock"),
    ],
)
def test_an_agent_that_is_held_for_ever_ends_and_the_next_isolates_the_culprit(
    tmp_path: Path, how: str, status: int, reason: str
) -> None:
    options = "interval: 1s, timeout: 300ms"
    instances = f"  - {{name: good, interval: 200ms}}\n  - {{name: bad, how: {how}, {options}}}\n"
    path = conf(tmp_path, f"instances:\n{instances}")
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{interval: 200ms}]\n")
    held = run_agent(tmp_path, path, 2.0, 60)
    assert held.returncode == status, held.stderr
    if status == 70:
        assert "rogue/bad holds the event loop for more than 200ms" in held.stderr
        assert re.search(rf"rogue.py:\d+ _{how}\b", held.stderr)
        assert "ends with status 70, and isolates it at its next start" in held.stderr
    told = follow(tmp_path, path, f"rogue/bad runs in a child process, since it {reason} on ")
    assert not re.search(r"rogue/\w+ holds the event loop", told)
    if how == "holds_the_lock":  # its dump names code, so every instance of that check is isolated
        assert "rogue/good runs in a child process" in told
        assert "the last agent ended because its event loop was held by rogue/good, rogue/bad: rogue.py" in re.sub(
            r"\S+/(rogue\.py)", r"\1", told
        )


@pytest.mark.parametrize(
    ("how", "number", "innermost"),
    [
        ("segfaults", signal.SIGSEGV, "__init__.py:\\d+ string_at < "),
        pytest.param("segfaults_in_a_thread", signal.SIGSEGV, "__init__.py:\\d+ string_at < ", marks=pytest.mark.soak),
        pytest.param("aborts", signal.SIGABRT, "", marks=pytest.mark.soak),
    ],
)
def test_who_crashes_the_agent_is_named_and_isolated_at_the_next_start(
    tmp_path: Path, how: str, number: signal.Signals, innermost: str
) -> None:
    bad = f"  - {{name: bad, how: {how}, interval: 1s}}\n"
    path = conf(tmp_path, f"instances:\n  - {{name: good, interval: 200ms, isolate: true}}\n{bad}")
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{interval: 200ms}]\n")
    crashed = run_agent(tmp_path, path, 20.0, 60)
    assert crashed.returncode == -number, crashed.stderr
    told = follow(tmp_path, path, "rogue/bad runs in a child process, since it crashed the agent on ")
    where = rf"(?:ctypes/)?{innermost}\S+/rogue.py:\d+ (?:_{how}|_read_at_zero)\b"
    crash = rf"rogue/bad crashed the agent \({number.name}\) in {where}"  # the good one was in another process
    assert re.search(crash, told), told
    assert "one of" not in told
    assert re.search(r"rogue/bad runs in a child process, since it crashed the agent on \d{4}-", told)
    assert f"rogue/bad: failing: the child process was killed by {number.name}" in told
    assert not (tmp_path / "state" / "blocked.txt").exists()


def test_the_crash_of_a_process_that_a_check_forked_is_not_the_agents(tmp_path: Path) -> None:
    path = conf(tmp_path, "instances: [{name: bad, how: fork_segfaults, interval: 300ms}]\n")
    with Running(cwd=tmp_path, PYTHONPATH=path) as agent:
        wait_until(lambda: len(rows(tmp_path, "rogue.value", "bad")) > 1, "two crashes")
        agent.end(signal.SIGKILL)
    assert set(rows(tmp_path, "rogue.value", "bad")) == {-signal.SIGSEGV}
    assert (tmp_path / "state" / "blocked.txt").read_text().startswith("loop 0x")
    following = run_agent(tmp_path, path, 20.0, 1)
    assert "crashed the agent" not in following.stderr
    assert "child process" not in following.stderr
