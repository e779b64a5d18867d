"""Checks that misbehave: each gets one clear line, and harms neither the agent nor the next run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.parts import Recorder, instance
from servers import eventually
from vedette import Status
from vedette.metrics import Batch
from vedette.runner import Runner
from vedette.vitals import State
from vedette_checks.datadog_check import DatadogCheck, process

pytestmark = pytest.mark.anyio
AGENTS = "datadog.agent.check_status"
HEAD = "import os, signal, subprocess, sys, threading, time\nfrom datadog_checks.base import AgentCheck\n"
PACKAGE = Path(__file__).parent / "package"

Make = Callable[..., Awaitable[tuple[Runner, Recorder]]]


def check(body: str, *, before: str = "") -> str:
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    return f"{HEAD}{before}\nclass Mine(AgentCheck):\n    def check(self, instance):\n{lines}\n"


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    runners: list[Runner] = []

    async def made(code: str = "", **options: Any) -> tuple[Runner, Recorder]:
        if code:
            path = tmp_path / "mine.py"
            await asyncio.to_thread(path.write_text, code)
            options["path"] = path
        recorder = Recorder("hunter22")
        runner = Runner(
            instance(DatadogCheck, name="mine", **{"timeout": "60s", "interval": "60s", **options}),
            recorder.surroundings,
        )
        runners.append(runner)
        return runner, recorder

    yield made
    for runner in runners:
        await runner.stop()


def said(batch: Batch) -> tuple[Status, str]:
    (one,) = [one for one in batch.statuses if one.name == AGENTS]
    return one.status, one.message


def processes() -> list[psutil.Process]:
    """The checks' processes and all below them; the servers of other tests are children of this process, too."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(word.endswith("bridge.py") for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


async def test_forks_speak_to_nobody_and_hold_up_nobody(make: Make) -> None:
    fork = """
for _ in range(20):
    child = os.fork()
    if not child:
        self.gauge("child", 1)
        os._exit(0)
    os.waitpid(child, 0)
self.gauge("parent", 1)
"""
    runner, recorder = await make(check(fork))
    await runner.run()
    assert runner.vitals.state is State.OK, runner.vitals.message
    assert (recorder.values("parent"), recorder.values("child")) == ([1], [])


RAISES = [
    ("raise ValueError('no ' + instance['password'])", "ValueError: no ****"),
    ("raise Exception('plain')", "plain"),
    ("{}['url']", "KeyError: 'url'"),
    ("sys.exit(3)", "the check called sys.exit(3)"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("raise RuntimeError('two\\nlines\\n  here')", "RuntimeError: two; lines; here"),
]


async def test_what_it_raises_is_one_line_and_its_process_goes_on(make: Make) -> None:
    table = "\n".join(
        f"if self.runs == {number}:\n    {line}" for number, (line, _) in enumerate(RAISES, 1)
    )  # what was submitted before counts
    body = "self.runs = getattr(self, 'runs', 0) + 1\nself.gauge('pid', os.getpid())\nself.gauge('run', self.runs)\n"
    runner, recorder = await make(check(body + table), instance={"password": "hunter22"})
    for number, (_, message) in enumerate(RAISES, 1):
        batch = await runner.run()
        assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, message)
        assert said(batch) == (Status.CRITICAL, message)
        assert recorder.values("run")[-1] == number
    await runner.run()
    assert runner.vitals.state is State.OK
    assert len(set(recorder.values("pid"))) == 1


ENDS = [
    ("os._exit(7)", "the check ended its process with status 7"),
    pytest.param(
        "os.kill(os.getpid(), signal.SIGSEGV)", "the check's process was killed by SIGSEGV", marks=pytest.mark.soak
    ),
    (
        "import socket\nfor fd in range(3, 64):\n    try: os.write(fd, b'garbage\\n')\n    except OSError: pass",
        "the check's process said something that is no message",
    ),
    pytest.param(
        "os.closerange(3, 64)\ntime.sleep(600)",
        "the check closed its connection to the agent",
        marks=pytest.mark.soak,
    ),
]


@pytest.mark.parametrize(("body", "message"), ENDS)
async def test_a_process_that_ends_is_said_and_begun_anew(
    make: Make, body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        "closerange" not in body
    ):  # that the connection ended must not be all that is known where the machine stands still
        monkeypatch.setattr(process, "_LAST_BREATH", 20.0)
    once = f"if not os.path.exists({str(tmp_path / 'once')!r}):\n    open({str(tmp_path / 'once')!r}, 'w').close()\n"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    runner, recorder = await make(check(f"{once}{lines}\nself.gauge('good', 1)"))
    batch = await runner.run()
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, message)
    assert said(batch) == (Status.CRITICAL, message)
    await runner.run()
    assert runner.vitals.state is State.OK
    assert recorder.values("good") == [1]


LOOPS = """
for number in range(300):
    self.gauge("level", number, tags=[f"n:{number}"])
self.monotonic_count("total", 10, flush_first_value=True)
self.service_check("db.up", self.OK)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(600,)).start()
subprocess.Popen(["sleep", "600"])
subprocess.Popen(["sleep", "600"], start_new_session=True)
open(instance["note"], "w").close()
while True:
    pass
"""


async def test_at_the_deadline_it_is_killed_with_all_that_it_started(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    mine: list[psutil.Process] = []
    while len(mine) != 3:  # a busy machine may need the three seconds for its start
        note.unlink(missing_ok=True)
        runner, recorder = await make(check(LOOPS), instance={"note": str(note)}, timeout="3s")
        running = asyncio.create_task(runner.run())
        await eventually(lambda: note.exists() or running.done(), "its children")  # noqa: B023
        mine = processes()
        batch = await running
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, "timed out after 3s")
    assert said(batch) == (Status.CRITICAL, "the check did not end in time")
    await eventually(lambda: not any(one.is_running() and one.status() != "zombie" for one in mine), "their end")
    assert processes() == []
    assert (recorder.values("level"), recorder.values("total")) == (
        list(range(300)),
        [0, 10],
    )  # what came before counts
    assert [one.status for one in batch.statuses if one.name == "db.up"] == [Status.OK]
    assert recorder.values("datadog_check.submitted") == [302]


async def test_what_it_leaves_running_is_bounded(make: Make) -> None:
    body = """
if instance["many"]:
    subprocess.Popen(["sh", "-c", "for n in $(seq 60); do sleep 612 & done"]).wait()  # orphans
    for _ in range(41):
        subprocess.Popen(["sleep", "612"], start_new_session=True)
self.gauge("good", 1)
"""
    runner, recorder = await make(check(body), instance={"many": True})
    batch = await runner.run()
    message = "the check left 101 processes running"
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, message)
    assert said(batch) == (Status.CRITICAL, message)
    assert recorder.values("good") == [1]
    await eventually(lambda: not sleepers(), "their end")


def sleepers() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "612"]]


async def test_what_it_prints_and_leaves_behind_harms_nobody(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    body = """
for _ in range(20):
    sys.stdout.write("x" * 1_000_000)
    os.write(2, b"y" * 1_000_000)
print("hunter22")
pid = os.fork()
if pid == 0:
    self.gauge("of.the.fork", 1)
    time.sleep(600)
time.time = lambda: "never"
sys.modules["json"].dumps = None
os.environ.clear()
self.gauge("good", 1)
"""
    before = psutil.Process().memory_info().rss
    caplog.set_level("DEBUG")
    runner, recorder = await make(check(body))
    await runner.run()
    assert runner.vitals.state is State.OK, runner.vitals.message
    assert recorder.values("good") == [1]
    assert recorder.values("of.the.fork") == []
    assert psutil.Process().memory_info().rss - before < 30_000_000
    assert callable(time.time)
    assert os.environ
    assert len(caplog.text) < 1_000_000
    await runner.stop()
    await eventually(lambda: processes() == [], "the end of the fork")


async def test_warnings_logs_and_metrics_of_many(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    body = """
self.warning("careful, %s", "hunter22")
for number in range(300):
    self.log.error("line %d", number)
try:
    1 / 0
except ZeroDivisionError:
    self.log.exception("it went wrong")
for number in range(1_500):
    self.gauge("many", number, tags=[f"n:{number}"])
self.gauge("odd", float("nan"))
self.gauge("text", "abc")
self.gauge("surrogate", 1, tags=["a:\\ud800"])
for kind in ("dbm-samples", "dbm-metrics"):
    self.event_platform_event("{}", kind)
"""
    caplog.set_level("INFO")
    runner, recorder = await make(check(body), max_series=1_000)
    batch = await runner.run()
    status, message = said(batch)
    assert status is Status.WARNING
    assert message == (
        "careful, ****; Metric: 'text' has non float value: 'abc'. Only float values can be submitted as metrics."
    )
    assert runner.vitals.message == message
    assert len(recorder.values("many")) == 1_000
    dropped = {one.tags[-1]: one.value for one in batch.samples if one.name == "datadog_check.dropped"}
    assert dropped == {"reason:series": 502, "reason:platform_event": 2, "reason:log": 103}
    assert "Traceback" not in caplog.text
    mine = [one for one in caplog.records if one.name == "vedette.check.datadog_check.mine"]
    assert [one.levelname for one in mine[:2]] == ["WARNING", "ERROR"]
    assert mine[1].getMessage() == "(mine.py:8) | line 0"
    ours = {one.getMessage().partition(":")[0] for one in mine[-3:]}
    assert ours == {
        "the check submits events of Datadog's event platform, such as database monitoring's samples of queries",
        "the check logs more than 200 lines a run",
        "the check reports more series than max_series",
    }


NOT_MADE = [
    ("import nowhere_at_all\n", "{path} cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    pytest.param(
        "def broken(:\n",
        "{path} cannot be imported: SyntaxError: invalid syntax (mine.py, line 1)",
        marks=pytest.mark.soak,
    ),
    ("import sys\nsys.exit(1)\n", "{path} cannot be imported: SystemExit: 1"),
    ("x = 1\n", "mine has no subclass of AgentCheck"),
    (f"{HEAD}class A(AgentCheck): pass\nclass B(AgentCheck): pass\n", "mine has several checks, A and B"),
    (
        f"{HEAD}class A(AgentCheck):\n    def __init__(self, *a, **k): raise ValueError('never hunter22')\n",
        "A refuses: ValueError: never ****",
    ),
]


@pytest.mark.parametrize(("code", "message"), NOT_MADE)
async def test_a_check_that_cannot_be_made(make: Make, code: str, message: str, tmp_path: Path) -> None:
    runner, _ = await make(code)
    expected = message.format(path=tmp_path / "mine.py")
    batch = await runner.run()
    assert (runner.vitals.state, runner.vitals.message) == (State.FAILING, expected)
    assert said(batch) == (Status.CRITICAL, expected)
    assert processes() == []


async def test_it_is_not_tried_again_at_once(make: Make, tmp_path: Path) -> None:
    runner, recorder = await make("x = 1\n", interval="60s")
    await runner.run()
    (tmp_path / "mine.py").write_text(check("self.gauge('good', 1)"))
    await runner.run()
    assert runner.vitals.message == "mine has no subclass of AgentCheck"
    assert recorder.values("good") == []


async def test_its_own_model_speaks_of_its_options(make: Make) -> None:
    runner, _ = await make(
        module="datadog_checks.figures", instance={"port": "http"}, environment={"PYTHONPATH": str(PACKAGE)}
    )
    await runner.run()
    assert runner.vitals.message == (
        "ConfigurationError: Detected 1 error while loading configuration model `InstanceConfig`:; port; Input should "
        "be a valid integer, unable to parse string as an integer"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": "nowhere"}, "there is no module nowhere nor datadog_checks.nowhere for "),
        pytest.param(
            {"module": "datadog_checks.nowhere"},
            "there is no module datadog_checks.nowhere for ",
            marks=pytest.mark.soak,
        ),
        ({"module": "json:Nothing"}, "json has no subclass of AgentCheck that is called Nothing"),
        ({"module": "x", "python": "/nowhere/python"}, "/nowhere/python cannot be started: No such file or directory"),
        ({"module": "x", "python": "/bin/true"}, "the check ended its process with status 0"),
    ],
)
async def test_what_is_not_there(make: Make, options: dict[str, Any], message: str) -> None:
    runner, _ = await make(**options)
    await runner.run()
    assert runner.vitals.message.startswith(message)


async def test_what_is_huge_is_left_out_and_the_rest_arrives(make: Make) -> None:
    body = """
for number in range(200):
    self.event({"msg_title": f"t{number}", "msg_text": "x" * 90_000})
self.gauge("huge", 1, tags=["t" * 90_000 for _ in range(60)])
self.gauge("good", 1)
"""
    runner, recorder = await make(check(body))
    batch = await runner.run()
    assert runner.vitals.state is State.OK, runner.vitals.message
    assert (len(batch.events), len(batch.events[-1].text)) == (200, 90_000)
    assert (recorder.values("good"), recorder.values("huge")) == ([1], [])
    assert recorder.values("datadog_check.dropped") == [1]


async def test_what_it_submits_between_two_runs_comes_with_the_next(make: Make, tmp_path: Path) -> None:
    body = """
def later():
    while not os.path.exists(instance["wake"]):
        time.sleep(0.005)
    self.gauge("between", 1)
    open(instance["said"], "w").close()
if not hasattr(self, "thread"):
    self.thread = threading.Thread(target=later, daemon=True)
    self.thread.start()
"""
    wake, said = tmp_path / "wake", tmp_path / "said"
    runner, recorder = await make(check(body), instance={"wake": str(wake), "said": str(said)})
    await runner.run()
    assert recorder.values("between") == []
    wake.touch()
    await eventually(said.exists, "what it submits")
    await runner.run()
    assert recorder.values("between") == [1]


async def test_memory_has_a_limit(make: Make) -> None:
    runner, _ = await make(check("kept = bytearray(1 << 30)"), memory_limit="200MB")
    await runner.run()
    assert runner.vitals.message == "the check exceeded memory_limit"
    assert psutil.Process().memory_info().rss < 1 << 30


@pytest.mark.soak
async def test_nothing_leaks_over_restarts(make: Make) -> None:
    runner, _ = await make(check("os._exit(0)"))
    await runner.run()
    before = psutil.Process().num_fds()
    for _ in range(20):
        await runner.run()
    assert psutil.Process().num_fds() <= before
    assert processes() == []


async def test_the_agent_stops_in_the_middle(make: Make, tmp_path: Path) -> None:
    note = tmp_path / "note"
    runner, _ = await make(check(f"open({str(note)!r}, 'w').close()\ntime.sleep(600)"))
    running = asyncio.create_task(runner.run())
    await eventually(note.exists, "the run")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await runner.stop()
    await eventually(lambda: processes() == [], "its end")


async def test_it_says_goodbye(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LAST_BREATH", 20.0)
    note = tmp_path / "note"
    code = check("pass") + f"    def cancel(self):\n        open({str(note)!r}, 'w').close()\n"
    runner, _ = await make(code)
    await runner.run()
    await runner.stop()
    assert note.exists()
