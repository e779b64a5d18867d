"""Servers for the postgres check's tests: each test of `server` runs on PostgreSQL 18 and, where it is there, on 15."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
