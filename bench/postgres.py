"""The postgres check against its views asked one by one with bare asyncpg, and against prometheus-postgres-exporter.

Bare is what everybody would write: one `fetch` per default view, rows thrown away. The load on the server is what
pg_stat_statements counts of each one's own role, and the CPU time of the server's process behind its connection.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from common import PASSWORD, report

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "demo"))
from postgres import Pair, postgres_pair  # type: ignore[import-not-found]
from server import free_port  # type: ignore[import-not-found]
from shop import open_shop  # type: ignore[import-not-found]

from vedette.emit import Channel, Emit
from vedette_checks.postgres import Postgres, PostgresConfig
from vedette_checks.postgres.session import Session

ROUNDS, RUNS, SCRAPES = 9, 100, 300
_TICK = os.sysconf("SC_CLK_TCK")
_LOAD = """
SELECT sum(calls)::int8, sum(total_exec_time)::float8, sum(shared_blks_hit + shared_blks_read)::int8
FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = $1
"""


class Vedette:
    """The check, run as the agent does but for the schedule."""

    def __init__(self, port: int) -> None:
        config = PostgresConfig(dsn=f"postgresql://vedette:{PASSWORD}@127.0.0.1:{port}/shop")
        self.check = Postgres(config)
        self._channel = Channel("postgres/bench", "postgres", Postgres.declare(config), Postgres.statuses)

    async def run(self) -> int:
        """One collection; returns how many samples."""
        emit = Emit(self._channel, 1.0)
        await self.check.run(emit)
        return len(emit.batch().samples)

    async def texts(self) -> tuple[list[str], list[str]]:
        """What it asks in a run, and the same with each default view by itself."""
        asked: list[str] = []
        fetch = Session.fetch

        async def spy(session: Session, sql: str, *arguments: Any) -> Any:
            asked.append(sql)
            return await fetch(session, sql, *arguments)

        Session.fetch = spy  # type: ignore[method-assign]
        try:
            await self.run()
        finally:
            Session.fetch = fetch  # type: ignore[method-assign]
        defaults = self.check._home._parts[0]
        ((views),) = defaults._prepared.values()  # type: ignore[attr-defined]
        return asked, [asked[0], *(view.sql for view in views), asked[-1]]


async def measure(pair: Pair) -> dict[str, float]:
    """Medians of µs a run, and of ms on the clock."""
    vedette = Vedette(pair.primary)
    samples = await vedette.run()
    asked, one_by_one = await vedette.texts()
    bare = await asyncpg.connect(f"postgresql://vedette:{PASSWORD}@127.0.0.1:{pair.primary}/shop")

    async def ask(texts: list[str]) -> None:
        for text in texts:
            await bare.fetch(text)

    work: dict[str, Callable[[], Awaitable[Any]]] = {
        "check": vedette.run,
        "bare": lambda: ask(one_by_one),
        "same": lambda: ask(asked),
    }
    cpu: dict[str, list[float]] = {name: [] for name in work}
    wall: dict[str, list[float]] = {name: [] for name in work}
    gc.collect()
    gc.freeze()  # as Agent.run does
    for _ in range(ROUNDS):
        for name, one in work.items():
            used, began = time.process_time(), time.perf_counter()
            for _ in range(RUNS):
                await one()
            cpu[name].append((time.process_time() - used) / RUNS * 1e6)
            wall[name].append((time.perf_counter() - began) / RUNS * 1e3)
    bare.terminate()
    await vedette.check.close()
    found = {name: statistics.median(values) for name, values in cpu.items()}
    found |= {f"{name} ms": statistics.median(values) for name, values in wall.items()}
    return {**found, "samples": samples, "views": len(one_by_one)}


async def load(pair: Pair, role: str, work: Callable[[], Awaitable[Any]], times: int) -> tuple[float, ...]:
    """Per collection: statements, ms of execution, blocks touched, µs of the server's CPU."""
    admin = await asyncpg.connect(f"postgresql://postgres:{pair.superuser}@127.0.0.1:{pair.primary}/shop")
    await work()
    pids = [row[0] for row in await admin.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", role)]
    await admin.execute("SELECT pg_stat_statements_reset()")
    before = sum(map(_used, pids))
    for _ in range(times):
        await work()
    used = sum(map(_used, pids)) - before
    (row,) = await admin.fetch(_LOAD, role)
    admin.terminate()
    return (*(value / times for value in row), used / times * 1e6)


def _used(pid: int) -> float:
    """CPU seconds of a process."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / _TICK


@contextmanager
def exporter(pair: Pair) -> Iterator[tuple[int, str]]:
    """Run the exporter with its defaults as a role of its own; its process id and its page's address."""
    port = free_port()
    login = f"postgresql://exporter:{PASSWORD}@127.0.0.1:{pair.primary}/shop?sslmode=disable"
    process = subprocess.Popen(
        ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{port}"],
        env={**os.environ, "DATA_SOURCE_NAME": login}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        _wait(url)
        yield process.pid, url
    finally:
        process.kill()
        process.wait()


def _wait(url: str) -> None:
    for _ in range(500):
        try:
            urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("the exporter did not start")


async def compare(pair: Pair) -> list[tuple[str, float, str, str]]:
    """The load of each on the server, and the exporter's own CPU."""
    vedette = Vedette(pair.primary)
    ours = await load(pair, "vedette", vedette.run, SCRAPES)
    await vedette.check.close()
    names = ("statements", "ms of execution", "blocks touched", "us of the server's CPU")
    rows = [(f"{name} a collection", value, "", "") for name, value in zip(names, ours, strict=True)]
    if shutil.which("prometheus-postgres-exporter") is None:
        return [*rows, ("prometheus-postgres-exporter is not installed", 0, "", "")]
    with exporter(pair) as (pid, url):
        before = _used(pid)
        theirs = await load(
            pair, "exporter", lambda: asyncio.to_thread(lambda: urllib.request.urlopen(url).read()), SCRAPES
        )
        scrape = (_used(pid) - before) / (SCRAPES + 1) * 1e6
    rows += [(f"the exporter's {name} a scrape", value, "", "") for name, value in zip(names, theirs, strict=True)]
    return [*rows, ("the exporter's CPU a scrape", scrape, "us", "")]


def prepare(pair: Pair) -> None:
    """A shop's tables, the exporter's role and some idle sessions' worth of rights."""
    asyncio.run(open_shop(pair.primary, PASSWORD))

    async def grant() -> None:
        admin = await asyncpg.connect(f"postgresql://postgres:{pair.superuser}@127.0.0.1:{pair.primary}/shop")
        await admin.execute(f"CREATE ROLE exporter LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
        admin.terminate()

    asyncio.run(grant())


def main() -> None:
    """Print the figures; with two cores the servers get the second, this process the first."""
    import uvloop

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    rows: list[tuple[str, float, str, str]] = []
    with postgres_pair(PASSWORD) as pair:
        os.sched_setaffinity(0, cores[:1])
        prepare(pair)
        for name, factory in (("asyncio", None), ("uvloop", uvloop.new_event_loop)):
            with asyncio.Runner(loop_factory=factory) as loop:
                found = loop.run(measure(pair))
            rows += [
                (f"run of the check, {found['samples']:.0f} samples, {name}", found["check"], "us", ""),
                (f"bare asyncpg, {found['views']:.0f} queries one by one, {name}", found["bare"], "us", ""),
                (f"ratio of the two, {name}", found["check"] / found["bare"], "", "<= 1.3"),
                (f"bare asyncpg, the three texts of the check, {name}", found["same"], "us", ""),
                (f"ratio to these, {name}", found["check"] / found["same"], "", ""),
                (f"run on the clock, {name}", found["check ms"], "ms", ""),
                (f"one by one on the clock, {name}", found["bare ms"], "ms", ""),
            ]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            rows += loop.run(compare(pair))
    if rows[-1][2] == "us":
        rows.append(("ratio to the exporter's CPU", found["check"] / rows[-1][1], "", "<= 0.5"))
    report(*rows)


if __name__ == "__main__":
    main()
