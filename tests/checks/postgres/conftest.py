"""Servers for the postgres check's tests: each test of `server` runs on PostgreSQL 18 and, where it is there, on 15."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from postgres_servers import PostgresServer, postgres15, postgres18
from vedette import CheckError
from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette.testing import CheckRun, run_check
from vedette_checks.postgres import Postgres, PostgresConfig

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vedette'"
BINARIES: dict[str, Callable[[], Path | None]] = {"15": postgres15, "18": postgres18}


LONG = {
    "test_failures.py", "test_patience.py", "test_replica.py", "test_sharing.py", "test_tls.py", "test_trouble.py",
    "test_week.py",
}  # fmt: skip
"""Files whose tests take long and ask nothing that differs by version: the older one is left to `make soak`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in LONG and item.path.parent == Path(__file__).parent and "[15" in item.name:
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session", params=sorted(BINARIES))
def binaries(request: pytest.FixtureRequest) -> Path:
    found = BINARIES[request.param]()
    if found is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    return found


@pytest.fixture(scope="session")
def server(binaries: Path) -> Iterator[PostgresServer]:
    """A running server; it is shared, so tests that harm theirs make their own."""
    made = PostgresServer(binaries)
    made.start()
    made.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    made.sql("CREATE ROLE nobody_much LOGIN")
    yield made
    made.stop()


@pytest.fixture
def servers(binaries: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Makes servers of its own for one test."""
    started: list[PostgresServer] = []

    def make(**settings: Any) -> PostgresServer:
        made = PostgresServer(binaries, **settings)
        started.append(made)
        made.start()
        return made

    yield make
    for one in reversed(started):
        one.kill()


async def run(server: Any, runs: int = 1, **options: Any) -> CheckRun:
    """Run the check against a server as the role `watcher`, unless told otherwise."""
    where = {"host": "127.0.0.1", "port": server.port, "username": "watcher", **options}
    return await run_check(Postgres, where, runs=runs)


class Watch:
    """One instance whose runs the test starts one by one."""

    def __init__(self, server: Any, **options: Any) -> None:
        config = PostgresConfig(**{"host": "127.0.0.1", "port": server.port, "username": "postgres", **options})
        self.check = Postgres(config)
        self._channel = Channel("postgres/x", "postgres", Postgres.declare(config), Postgres.statuses)

    async def run(self, time: float = 1_790_000_000.0) -> tuple[Batch, str]:
        """The batch, and what the check raised, if anything.

        Args:
            time: the run's, in Unix seconds.
        """
        emit = Emit(self._channel, time)
        try:
            await self.check.run(emit)
        except CheckError as error:
            return emit.batch(), str(error)
        return emit.batch(), ""


async def undisturbed(watch: Watch) -> tuple[Batch, str]:
    """A run meanwhile which the machine did not stand still for longer than 0.3 s: some timeouts leave no more."""
    loop = asyncio.get_running_loop()
    late = 0.0

    async def look() -> None:
        nonlocal late
        while True:
            before = loop.time()
            await asyncio.sleep(0.05)
            late = max(late, loop.time() - before - 0.05)

    for _ in range(20):
        late, looking = 0.0, asyncio.create_task(look())
        try:
            result = await watch.run()
        finally:
            looking.cancel()
        if late < 0.3:
            break
    return result


@asynccontextmanager
async def psql(server: PostgresServer, sql: str, *, wait: bool = True) -> AsyncIterator[None]:
    """A session of the superuser that runs this and stays open during the body.

    Args:
        server: where.
        sql: what it runs.
        wait: for the end of it; False for what is to wait for others.
    """
    process = await asyncio.create_subprocess_exec(
        str(server.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{sql};\n\\echo done\n".encode())
    try:
        while wait and await process.stdout.readline() not in (b"done\n", b""):
            pass
        yield
    finally:
        if not wait and process.returncode is None:
            process.terminate()  # its statement ends by itself once the others let it
        await process.communicate(b"")  # which closes its input
