"""Instances that ask the same database share one connection, one visit at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from postgres_servers import PostgresServer
from servers import until
from vedette import Status
from vedette_checks.postgres.database import Database
from vedette_checks.postgres.session import Limits, Session, Sessions
from vedette_checks.postgres.target import Target

from .conftest import OURS, Watch, undisturbed
from .test_patience import hanging, reached, status, values
from .test_trouble import observed

pytestmark = pytest.mark.anyio

PIDS = OURS.replace("count(*)", "pid")


@pytest.fixture
async def lone(servers: Callable[..., PostgresServer]) -> PostgresServer:
    """A server for one test alone."""
    return await asyncio.to_thread(servers)


async def test_a_replica_that_is_an_instance_of_its_own(
    lone: PostgresServer, servers: Callable[..., PostgresServer]
) -> None:
    standby = await asyncio.to_thread(lambda: servers(replica_of=lone))
    pair, own = Watch(lone, replica={"dsn": standby.dsn}), Watch(standby)
    async with observed(standby) as seen:
        for _ in range(5):
            (one, _), (other, error) = await asyncio.gather(pair.run(), own.run())
            assert status(one, "postgres.health")[0] is Status.OK
            assert len(values(one, "postgresql.health.lag_seconds")) == 1
            assert (error, status(other, "postgres.can_connect")) == ("", (Status.OK, ""))
            assert values(other, "postgresql.max_connections") == [30]
    assert seen.most == {"postgres": 1}
    pid = await asyncio.to_thread(standby.scalar, PIDS)
    await pair.check.close()
    assert (await own.run())[1] == ""
    assert await asyncio.to_thread(standby.scalar, PIDS) == pid  # the other still needs it
    await own.check.close()
    await asyncio.to_thread(until, lambda: standby.scalar(OURS) == "0", "the connection to end")


async def test_each_has_its_own_limits(lone: PostgresServer) -> None:
    sessions, target = Sessions(), Target("127.0.0.1", lone.port, "postgres")
    one = Database(target, Limits(0.25, 5.0), sessions=sessions)
    other = Database(target, Limits(2.0, 7.0), sessions=sessions)

    async def ask(session: Session) -> tuple[str, ...]:
        ((*found,),) = await session.fetch(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return tuple(found)

    for _ in range(2):
        assert await one.talk(ask, 30) == ("250ms", "5s")
        assert await other.talk(ask, 30) == ("2s", "7s")
    assert await asyncio.to_thread(lone.scalar, OURS) == "1"
    one.close()
    other.close()


async def test_one_waits_for_the_other_within_its_own_time_and_says_so(lone: PostgresServer) -> None:
    long = Watch(lone, timeout=60, interval=60, statement_timeout=50, queries=[hanging("slow")])
    short = Watch(lone, timeout=3)
    run = asyncio.create_task(long.run())
    await reached(lone, f"{OURS} AND wait_event = 'PgSleep'", "1", "the query to run")
    batch, error = await short.run()
    said = f"another instance has asked 127.0.0.1:{lone.port} over the shared connection for 2.7s"
    hint = "give that one a shorter `timeout`, or ask it for less"
    assert error == said
    assert status(batch, "postgres.can_connect") == (Status.UNKNOWN, f"{said}; {hint}")
    assert status(batch, "postgres.reads") == (Status.WARNING, f"{said}; {hint}")
    await asyncio.to_thread(lone.sql, f"SELECT pg_cancel_backend(pid) FROM ({PIDS}) ours")
    assert (await run)[1] == ""
    batch, error = await undisturbed(short)
    assert (error, status(batch, "postgres.can_connect")) == ("", (Status.OK, ""))
    assert await asyncio.to_thread(lone.scalar, OURS) == "1"
    await long.check.close()
    await short.check.close()


async def test_other_logins_and_databases_are_apart(lone: PostgresServer) -> None:
    await asyncio.to_thread(lone.sql, "CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    watches = [Watch(lone), Watch(lone), Watch(lone, username="watcher"), Watch(lone, dbname="template1")]
    for watch in watches:
        assert (await watch.run())[1] == ""
    assert await asyncio.to_thread(lone.scalar, OURS) == "3"
    for watch in watches:
        await watch.check.close()
