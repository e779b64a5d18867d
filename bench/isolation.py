"""Checks that misbehave in child processes, beside 50 good instances: how late these run, what isolation costs."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report, write_conf

from vedette.agent import Agent
from vedette.cli.common import run_loop
from vedette.config import load
from vedette.plugins import Registry
from vedette.secrets import Masker
from vedette.state import StateStore
from vedette.watchdog import Limits, Verdicts, Watchdog

GOOD, SECONDS, SETTLE, IDLE = 50, 40.0, 5.0, 20.0
BAD = [
    "spins",
    "sleeps_in_c",
    "holds_the_lock",
    "leaks",
    "forks",
    "segfaults",
    "prints",
    "floods",
    "ignores_signals",
    "raises_in_close",
    "exits",
    "closes_descriptors",
    "writes_garbage",
]


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        folder = Path(name)
        late, memory, skipped = beside_rogues(folder)
        alone = run_loop(idle(folder, watched=False))
        watched = run_loop(idle(folder, watched=True))
    late.sort()
    report(
        (f"runs of {GOOD} good instances beside {len(BAD)} bad ones", len(late), "runs", ""),
        ("lateness of the good ones, median", late[len(late) // 2] * 1000, "ms", ""),
        ("lateness of the good ones, p99", late[int(len(late) * 0.99)] * 1000, "ms", "<= 50"),
        ("skipped ticks of the good ones", skipped, "", "0"),
        ("resident memory of a child process, median", memory, "MB", ""),
        ("the watchdog over an idle loop", (watched - alone) * 100, "% of core", "<= 0.15"),
    )


def beside_rogues(folder: Path) -> tuple[list[float], float, int]:
    """Lateness of the good instances' runs, memory of a child, skipped ticks."""
    install(folder)
    one = {"isolate": True, "memory_limit": "200MB", "interval": "1s", "timeout": "500ms"}
    good = [{"name": f"good{n}", "interval": "200ms"} for n in range(GOOD)]
    bad: list[dict[str, Any]] = [{"name": how, "how": how, **one} for how in BAD]
    well = {"name": "well", "isolate": True, "interval": "1s"}
    sinks = [{"type": "file", "path": "../out.jsonl"}]
    conf = write_conf(
        folder, agent={"sinks": sinks, "log": {"level": "error"}}, rogue={"instances": [*good, well, *bad]}
    )
    agent = Agent(load(conf, Registry()), StateStore(folder / "state"), {}, limits=Limits())
    runners = {runner.instance.id: runner for runner in agent._runners if "/good" in runner.instance.id}
    late: list[float] = []
    sizes: list[float] = []
    started = time.monotonic()

    def note(batch: Any) -> None:
        runner = runners.get(batch.instance)
        if runner is not None and time.monotonic() - started > SETTLE:
            late.append(runner.vitals.lateness)
        if batch.instance == "rogue/well":
            sizes.append(resident(int(batch.samples[0].value)))

    agent._on_batch = note
    run_loop(agent.run(duration=SECONDS))
    sizes.sort()
    return late, sizes[len(sizes) // 2], sum(runner.vitals.skipped for runner in runners.values())


def install(folder: Path) -> None:
    """The tests' rogue checks, as pip would leave them, for this process and its children."""
    info = folder / "site" / "rogue-1.0.dist-info"
    info.mkdir(parents=True)
    rogue = Path(__file__).parents[1] / "tests" / "core" / "rogue.py"
    (folder / "site" / "rogue.py").write_text(rogue.read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vedette.checks]\nrogue = rogue\n")
    sys.path.append(str(folder / "site"))


def resident(pid: int) -> float:
    """A process's resident memory, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def idle(folder: Path, *, watched: bool) -> float:
    """The share of a core that a loop costs that does nothing."""
    state = StateStore(folder / "idle")
    dog = Watchdog(list, Verdicts(state, Masker()), Masker(), state.directory, Limits())
    if watched:
        dog.start()
    before = time.process_time()
    await asyncio.sleep(IDLE)
    used = time.process_time() - before
    if watched:
        dog.stop()
    await state.close()
    return used / IDLE


if __name__ == "__main__":
    main()
