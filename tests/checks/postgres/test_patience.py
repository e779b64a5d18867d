"""What hangs: one connection at most, in the making or made, and all else is reported in time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from postgres_servers import PgBouncer, PostgresServer, pgbouncer_installed, running
from servers import until
from vedette import Status
from vedette.metrics import Batch

from .conftest import OURS, Watch, psql, undisturbed

pytestmark = pytest.mark.anyio

CATALOGS = "BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE"
OK = (Status.OK, "")


@pytest.fixture
async def lone(servers: Callable[..., PostgresServer]) -> PostgresServer:
    """A server for one test alone."""
    return await asyncio.to_thread(servers)


@pytest.fixture
def unused_address() -> Iterator[tuple[str, int]]:
    """An address whose calls are not taken: a listener whose queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    callers = []
    for _ in range(2):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(listener.getsockname())
        callers.append(caller)
    yield listener.getsockname()
    for one in (*callers, listener):
        one.close()


def hanging(name: str) -> dict[str, Any]:
    """An entry of `queries:` that never ends by itself."""
    return query(name, "SELECT 1 FROM pg_sleep(600)")


def query(name: str, sql: str) -> dict[str, Any]:
    return {"name": name, "sql": sql, "columns": [{"name": f"shop.{name}", "type": "gauge"}]}


def status(batch: Batch, name: str) -> tuple[Status, str]:
    (found,) = (one for one in batch.statuses if one.name == name)
    return found.status, found.message


def values(batch: Batch, name: str) -> list[Any]:
    return [one.value for one in batch.samples if one.name == name]


async def reached(server: PostgresServer, sql: str, value: str, what: str) -> None:
    """Wait until a query returns this."""
    await asyncio.to_thread(until, lambda: server.scalar(sql) == value, what)


async def test_connecting_that_hangs_leaves_one_server_process(lone: PostgresServer) -> None:
    watch = Watch(lone, timeout=2)
    async with psql(lone, CATALOGS):
        before = set(lone.processes())
        for _ in range(3):
            batch, error = await watch.run()
            said = f"127.0.0.1:{lone.port} took the connection but has not let us in for "
            assert error.startswith(said)
            worst, message = status(batch, "postgres.can_connect")
            assert worst is Status.CRITICAL
            assert message.startswith(said)
            assert message.endswith(
                "it is frozen, or waits for a lock on its catalogs: see pg_locks; "
                "no second connection is made meanwhile"
            )
            assert len(set(lone.processes()) - before) == 1
        (ours,) = set(lone.processes()) - before
    for _ in range(20):
        batch, error = await watch.run()
        if not error:
            break
    assert (error, status(batch, "postgres.can_connect")) == ("", OK)
    assert await asyncio.to_thread(lone.scalar, OURS.replace("count(*)", "pid")) == str(ours)
    await watch.check.close()


async def test_a_lock_met_while_connecting_is_said(lone: PostgresServer) -> None:
    watch = Watch(lone, interval=60, timeout=60, lock_timeout=0.5)
    async with psql(lone, "BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE"):
        batch, _ = await watch.run()
    assert status(batch, "postgres.can_connect") == (
        Status.CRITICAL,
        f"a lock on the catalogs of 127.0.0.1:{lone.port} was not free in time; see who holds it: pg_locks",
    )
    await watch.check.close()


async def test_a_call_that_nobody_takes_is_made_anew(unused_address: tuple[str, int]) -> None:
    """Nothing of ours is at the server: waiting for the call of an earlier run would only delay the next."""
    host, port = unused_address
    watch = Watch(type("Address", (), {"port": port}), host=host, timeout=0.5)
    for _ in range(2):
        _, error = await watch.run()
        assert error == f"no answer from {host}:{port} within 0.45s"
        session = watch.check._home._session
        assert session is not None
        assert not session.late
    await watch.check.close()


async def test_queries_that_hang_cost_nothing_else_and_none_starves(lone: PostgresServer) -> None:
    watch = Watch(lone, timeout=3, queries=[hanging("one"), hanging("two"), query("quick", "SELECT 5")])
    quick, said = list[Any](), list[str]()

    def seen() -> bool:
        turns = [any(f"query {name}: took longer" in one for one in said) for name in ("one", "two")]
        return 5 in quick and all(turns) and any("no time for " in one for one in said)

    while len(said) < 4 or (not seen() and len(said) < 12):
        batch, error = await undisturbed(watch)
        assert (error, status(batch, "postgres.can_connect")) == ("", OK)
        assert values(batch, "postgresql.max_connections") == [30]
        worst, message = status(batch, "postgres.reads")
        assert worst is Status.WARNING
        assert "query one" in message
        assert "query two" in message
        quick += values(batch, "shop.quick")
        said.append(message)
    assert 5 in quick
    for name in ("one", "two"):  # each had its turn
        assert any(f"query {name}: took longer than statement_timeout" in message for message in said)
    assert any("no time for " in message for message in said)
    await watch.check.close()


async def test_what_was_found_is_reported_though_the_server_freezes_in_the_middle(lone: PostgresServer) -> None:
    watch = Watch(lone, timeout=6, statement_timeout=5.9, queries=[hanging("slow"), query("quick", "SELECT 5")])
    run = asyncio.create_task(watch.run())
    await reached(lone, f"{OURS} AND wait_event = 'PgSleep'", "1", "the query to run")
    pid = int(await asyncio.to_thread(lone.scalar, OURS.replace("count(*)", "pid")))
    os.kill(pid, signal.SIGSTOP)
    try:
        batch, error = await run
        assert (error, status(batch, "postgres.can_connect")) == ("", OK)
        assert values(batch, "postgresql.max_connections") == [30]
        assert status(batch, "postgres.reads") == (
            Status.WARNING,
            "query slow: no answer when the run ended after 5.4s; nothing else is asked before it has answered: see "
            "pg_stat_activity, and postgres.blocking",
        )
        batch, error = await watch.run()
        assert status(batch, "postgres.can_connect")[0] is Status.CRITICAL
        assert error.startswith(f"the server process {pid} has not answered for ")
    finally:
        os.kill(pid, signal.SIGCONT)
    await watch.check.close()


LOCKED = ("pg_stat_slru", "pg_stat_archiver", "pg_stat_wal")


async def test_many_locked_views_leave_time_for_the_rest(lone: PostgresServer) -> None:
    locked = "; ".join(f"LOCK TABLE {view} IN ACCESS EXCLUSIVE MODE" for view in (*LOCKED, "pg_stat_bgwriter"))
    watch = Watch(lone, timeout=3, lock_timeout=0.7, statement_timeout=2.5)
    refused: set[str] = set()
    uptimes: list[float] = []
    async with psql(lone, f"BEGIN; {locked}"):
        for _ in range(12):
            batch, error = await undisturbed(watch)
            assert (error, status(batch, "postgres.can_connect")) == ("", OK)
            assert len(values(batch, "postgresql.blocking.waiting")) == 1
            message = status(batch, "postgres.reads")[1]
            assert "no time for " in message
            refused |= {view for view in LOCKED if f"{view}: gave up waiting for a lock" in message}
            uptimes += values(batch, "postgresql.uptime")
            if len(refused) == len(LOCKED):
                break
    assert refused == set(LOCKED)
    assert uptimes != []
    await watch.check.close()


async def test_databases_that_hang_are_waited_for_one_at_a_time(lone: PostgresServer) -> None:
    names = ("shop_a", "shop_b", "shop_c")
    for name in names:
        await asyncio.to_thread(lone.sql, f"CREATE DATABASE {name}")
    watch = Watch(lone, timeout=3, lock_timeout=2, statement_timeout=2.9, databases={"include": ["shop_*"]})
    lock = "\\c {}\nBEGIN; LOCK TABLE pg_stat_user_tables IN ACCESS EXCLUSIVE MODE"
    async with psql(lone, lock.format("shop_a")), psql(lone, lock.format("shop_b")), psql(lone, lock.format("shop_c")):
        before = set(lone.processes())
        waited: set[str] = set()
        for _ in range(20):
            batch, error = await undisturbed(watch)
            assert (error, status(batch, "postgres.can_connect")) == ("", OK)
            assert len(set(lone.processes()) - before) <= 2
            message = status(batch, "postgres.reads")[1]
            assert "no time for " in message
            waited |= {name for name in names if f"{name}: " in message}
            if waited == set(names):
                break
        assert waited == set(names)
    for _ in range(20):
        batch, _ = await watch.run()
        if status(batch, "postgres.reads") == OK:
            break
    assert status(batch, "postgres.reads") == OK
    await reached(lone, OURS, "1", "the visited databases to be left")
    await watch.check.close()


@pytest.mark.skipif(not pgbouncer_installed(), reason="PgBouncer is not installed")
async def test_the_pool_of_pgbouncer_is_exhausted(lone: PostgresServer) -> None:
    bouncer = PgBouncer(lone, default_pool_size=1)
    with running(bouncer):
        watch = Watch(bouncer, timeout=3)
        assert (await undisturbed(watch))[1] == ""
        hog = await asyncio.create_subprocess_exec(
            str(lone.binaries / "psql"), "-X", "-q", "-h", "127.0.0.1", "-p", str(bouncer.port), "-U", "postgres",
            "-c", "SELECT pg_sleep(600)",
        )  # fmt: skip
        try:
            await reached(
                lone, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1", "the hog to sleep"
            )
            said = [status((await watch.run())[0], "postgres.can_connect")[1] for _ in range(2)]
        finally:
            hog.terminate()
            await hog.wait()
    assert said[0] == (
        f"127.0.0.1:{bouncer.port} did not answer within 2.7s; PgBouncer's pool is exhausted, or the server behind it "
        "hangs: see SHOW POOLS"
    )
    assert said[1].startswith(f"PgBouncer at 127.0.0.1:{bouncer.port} has not answered for ")
    assert said[1].endswith(
        "its pool is exhausted, or the server behind it hangs: see SHOW POOLS; no second connection is made meanwhile"
    )
    await watch.check.close()
