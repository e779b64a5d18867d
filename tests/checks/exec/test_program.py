"""Programs that misbehave: nothing of them is left, and nobody waits longer than the deadline and its grace."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.parts import Recorder, instance
from servers import eventually
from vedette import CheckError, Status
from vedette.runner import Runner
from vedette_checks.exec import Exec
from vedette_checks.exec.program import run_program

pytestmark = pytest.mark.anyio
MOST = 1_000_000


def python(code: str, *arguments: Any) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def written(path: Path) -> int:
    await eventually(lambda: path.exists() and path.read_text().endswith("\n"), "the pid")
    return int(await asyncio.to_thread(path.read_text))


async def test_what_it_prints_and_how_it_ends() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    ended = await run_program(python(code), {"PATH": "/usr/bin"}, None, MOST)
    assert (ended.status, ended.output, ended.errors, ended.signal_name) == (7, b"out\n", b"err\n", "")
    ended = await run_program(python("import os; os.kill(os.getpid(), 11)"), {}, None, MOST)
    assert (ended.status, ended.signal_name) == (-11, "SIGSEGV")


async def test_it_gets_its_own_environment_an_empty_input_and_its_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys; own = sorted(set(os.environ) - {'LC_CTYPE', 'VEDETTE_RUN'})\n"
        "print(own, os.getcwd(), repr(sys.stdin.read()), os.getsid(0) == os.getpid())"
    )
    ended = await run_program(python(code), {"ONLY": "this"}, tmp_path, MOST)
    assert ended.output.decode().strip() == f"['ONLY'] {tmp_path} '' True"


async def test_no_shell_reads_the_words() -> None:
    ended = await run_program(["echo", "$HOME; `id` > /tmp/x", "*"], {"PATH": "/usr/bin:/bin"}, None, MOST)
    assert ended.output == b"$HOME; `id` > /tmp/x *\n"


FORKS = """
import os, signal, subprocess, sys, time
ignore, how, path = sys.argv[1:]
if ignore == "ignore":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    if how in ("session", "leaves_session"):
        os.setsid()
    if how == "leaves_group":
        os.setpgid(0, 0)
        os.execve("/bin/sh", ["sh", "-c", f"echo $$ > {path}; exec sleep 600"], {"PATH": os.environ["PATH"]})
    with open(path, "w") as file:
        print(os.getpid(), file=file)
    time.sleep(600)
    sys.exit(0)
if how.startswith("leaves"):
    print("done", flush=True)
    while not (os.path.exists(path) and open(path).read().endswith("\\n")):
        time.sleep(0.01)
    sys.exit(0)
time.sleep(600)
"""


@pytest.mark.parametrize("ignore", ["ignore", "obey"])
@pytest.mark.parametrize("how", ["stays", "session"])
async def test_at_the_deadline_all_that_it_started_is_gone(ignore: str, how: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    running = asyncio.create_task(run_program(python(FORKS, ignore, how, note), dict(os.environ), None, MOST))
    child = await written(note)
    parent = psutil.Process(child).ppid()
    running.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 2 + 20  # the agent's grace, and a busy machine
    await eventually(lambda: gone(child) and gone(parent), "their end")


@pytest.mark.parametrize("how", ["leaves", "leaves_session", "leaves_group"])
async def test_what_it_leaves_behind_holds_up_nobody_and_is_ended(how: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    ended = await run_program(python(FORKS, "obey", how, note), dict(os.environ), None, MOST)
    assert (ended.status, ended.output, ended.left) == (0, b"done\n", 1)
    child = await written(note)
    await eventually(lambda: gone(child), "its end")


async def test_a_daemon_that_forked_twice_is_ended_at_the_deadline(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    words = ["sh", "-c", f"(setsid sh -c 'echo $$ > {note}; exec sleep 600' >/dev/null 2>&1 &) ; sleep 600"]
    running = asyncio.create_task(run_program(words, dict(os.environ), None, MOST))
    daemon = await written(note)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually(lambda: gone(daemon), "its end")


async def test_that_something_was_left_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    words = ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo fine"]
    runner = Runner(instance(Exec, name="x", command=words, timeout="60s"), Recorder().surroundings)
    await runner.run()
    await runner.run()
    await runner.stop()
    assert caplog.text.count("the program left processes running, which were ended: 1 in this run") == 1


async def test_a_hundred_megabytes_are_not_kept() -> None:
    code = "import sys\nfor _ in range(100): sys.stdout.write('x' * 1_000_000)"
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckError, match=r"printed more than 1,000,000 bytes"):
        await run_program(python(code), {}, None, MOST)
    errors = "import sys\nfor _ in range(100): sys.stderr.write('x' * 1_000_000)\nprint('fine')"
    ended = await run_program(python(errors), {}, None, MOST)
    assert (ended.output, len(ended.errors)) == (b"fine\n", 8_192)
    assert psutil.Process().memory_info().rss - before < 30_000_000


async def test_nothing_leaks() -> None:
    await run_program(["true"], {"PATH": "/usr/bin:/bin"}, None, MOST)
    process = psutil.Process()
    before, others = process.num_fds(), process.children()
    for _ in range(20):
        await run_program(["true"], {"PATH": "/usr/bin:/bin"}, None, MOST)
        with pytest.raises(CheckError, match="cannot be started in /: No such file or directory"):
            await run_program(["/nowhere/x"], {}, None, MOST)
    assert process.num_fds() <= before
    assert process.children() == others


async def test_the_deadline_is_a_finding() -> None:
    runner = Runner(instance(Exec, name="slow", command=["sleep", "600"], timeout="200ms"), Recorder().surroundings)
    batch = await runner.run()
    await runner.stop()
    (said,) = batch.statuses
    assert (said.name, said.status, said.message) == (
        "exec.status",
        Status.CRITICAL,
        "the program did not end in time",
    )
