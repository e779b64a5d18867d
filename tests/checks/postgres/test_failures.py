"""Servers in trouble: one clear sentence, and never a second connection."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from postgres_servers import PostgresServer
from servers import free_port
from vedette import CheckError, Status
from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette_checks.postgres import Postgres, PostgresConfig
from vedette_checks.postgres.target import parse_dsn

from .conftest import psql, run

pytestmark = pytest.mark.anyio

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vedette'"


class Watch:
    """One instance whose runs the test starts one by one."""

    def __init__(self, server: PostgresServer, **options: Any) -> None:
        config = PostgresConfig(host="127.0.0.1", port=server.port, username="postgres", **options)
        self.check = Postgres(config)
        self._channel = Channel("postgres/x", "postgres", Postgres.declare(config), Postgres.statuses)

    async def run(self) -> tuple[Batch, str]:
        """The batch, and what the check raised."""
        emit = Emit(self._channel, 1_790_000_000.0)
        try:
            await self.check.run(emit)
        except CheckError as error:
            return emit.batch(), str(error)
        return emit.batch(), ""


async def test_nothing_listens() -> None:
    class Nowhere:
        port = free_port()

    outcome = await run(Nowhere)
    assert str(outcome.error).startswith(f"nothing listens on 127.0.0.1:{Nowhere.port}")
    assert outcome.status("postgres.can_connect", port=Nowhere.port, db="postgres") is Status.CRITICAL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dbname": "no_such"}, "{place} has no database no_such"),
        ({"username": "no_such"}, "{place} refused no_such"),
        ({"sslmode": "require"}, "{place} does not speak TLS"),
    ],
)
async def test_refused(server: PostgresServer, options: dict[str, str], message: str) -> None:
    outcome = await run(server, **options)
    assert str(outcome.error).startswith(message.format(place=f"127.0.0.1:{server.port}"))


async def test_the_limit_of_connections(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(
        lambda: servers(max_connections=6, superuser_reserved_connections=2, max_wal_senders=0, wal_level="minimal")
    )
    await asyncio.to_thread(server.sql, "CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    async with AsyncExitStack() as crowd:
        for _ in range(4):
            await crowd.enter_async_context(psql(server, "SELECT 1"))
        outcome = await run(server)
    assert str(outcome.error).startswith(f"127.0.0.1:{server.port} has reached its limit of connections")


async def test_a_frozen_backend_is_waited_for_without_a_second_connection(
    servers: Callable[..., PostgresServer],
) -> None:
    server = await asyncio.to_thread(servers)
    watch = Watch(server, timeout=1)
    assert (await watch.run())[1] == ""
    pid = int(await asyncio.to_thread(server.scalar, OURS.replace("count(*)", "pid")))
    os.kill(pid, signal.SIGSTOP)
    try:
        first = (await watch.run())[1]
        assert first.startswith(f"127.0.0.1:{server.port} did not answer within 0.9s")
        second = (await watch.run())[1]
        assert second.startswith(f"the server process {pid} has not answered for ")
        assert await asyncio.to_thread(server.scalar, OURS) == "1"
    finally:
        os.kill(pid, signal.SIGCONT)
    batch, error = await watch.run()
    assert error == ""
    assert [sample.value for sample in batch.samples if sample.name == "postgresql.max_connections"] == [30]
    assert await asyncio.to_thread(server.scalar, OURS.replace("count(*)", "pid")) == str(pid)
    await watch.check.close()


async def test_a_restart_between_two_runs_keeps_totals_level(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    watch = Watch(server)
    before = {(s.name, s.tags): s.value for s in (await watch.run())[0].samples if s.kind in ("counter", "rate")}
    await asyncio.to_thread(server.kill)
    assert (await watch.run())[1].startswith(f"nothing listens on 127.0.0.1:{server.port}")
    await asyncio.to_thread(server.start)
    batch, error = await watch.run()
    assert error == ""
    after = {(s.name, s.tags): s.value for s in batch.samples if s.kind in ("counter", "rate")}
    assert {key: after[key] for key in before} == before
    await watch.check.close()


async def test_a_restart_between_two_runs_goes_unnoticed(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    watch = Watch(server)
    assert (await watch.run())[1] == ""
    await asyncio.to_thread(server.restart)
    batch, error = await watch.run()
    assert error == ""
    assert [status.status for status in batch.statuses] == [Status.OK] * 3
    await watch.check.close()


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("mysql://db1/x", "must look like postgresql://"),
        ("postgresql://a,b/x", "names several hosts"),
        ("postgresql://db1/x?sslmode=maybe", "sslmode must be one of"),
        ("postgresql://db1/x?target_session_attrs=any", "has the parameter target_session_attrs"),
        ("postgresql://u:p/w@db1:x/y", "is not a URL"),
    ],
)
async def test_a_bad_dsn_says_what_is_wrong(dsn: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_dsn(dsn)
