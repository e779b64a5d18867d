"""Servers for the postgres check's tests: each test of `server` runs on PostgreSQL 18 and, where it is there, on 15."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from postgres_servers import PostgresServer, postgres15, postgres18, remove_folders
from vedette.testing import CheckRun, run_check
from vedette_checks.postgres import Postgres

BINARIES: dict[str, Callable[[], Path | None]] = {"15": postgres15, "18": postgres18}


@pytest.fixture(scope="session", autouse=True)
def folders() -> Iterator[None]:
    yield
    remove_folders()


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
