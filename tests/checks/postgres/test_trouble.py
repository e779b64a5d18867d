"""Servers in trouble, one kind after the other, beside an instance of a healthy one.

Each time: the neighbour is untouched; at no moment there is more than one connection of ours to a database, as an
observer sees it who was connected before; no lock is waited for longer than `lock_timeout`; one clear status says what
is wrong and what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from postgres_servers import PostgresServer
from servers import relay, until
from vedette import Status
from vedette.metrics import Batch

from .conftest import OURS, Watch, psql, undisturbed

pytestmark = pytest.mark.anyio

LOCK_TIMEOUT = 1.0
ROOM = {"interval": 60, "timeout": 60}
"""Options of what is to succeed however busy the machine is."""
_LOOK = """
SELECT a.datname::text, count(DISTINCT a.pid),
       coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8
FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
WHERE a.application_name = 'vedette' AND a.datname IS NOT NULL GROUP BY 1
"""


@dataclass
class Seen:
    """What the observer saw.

    Attributes:
        most: most connections of ours at one moment, by database.
        longest: longest wait for a lock, in seconds.
    """

    most: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


@asynccontextmanager
async def observed(server: PostgresServer) -> AsyncIterator[Seen]:
    """Look at our connections again and again during the body."""
    seen = Seen()
    connection = await asyncpg.connect(server.dsn)
    watching = True

    async def look() -> None:
        while watching:
            for database, connections, waiting in await connection.fetch(_LOOK):
                seen.most[database] = max(seen.most[database], connections)
                seen.longest = max(seen.longest, waiting)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        watching = False  # a query that is cancelled would leave a task of the driver behind
        await looking
        connection.terminate()


async def beside(watch: Watch, neighbour: Watch, runs: int = 2, *, hangs: bool = False) -> list[tuple[Batch, str]]:
    """Run both at the same time and look whether the neighbour is untouched.

    Args:
        watch: the instance in trouble.
        neighbour: the other.
        runs: how many.
        hangs: whether the first is expected to keep its runs waiting; the other must not wait for it.
    """
    results = []
    for _ in range(runs):
        troubled = asyncio.create_task(watch.run())
        healthy = asyncio.create_task(neighbour.run())
        done, _ = await asyncio.wait({troubled, healthy}, return_when=asyncio.FIRST_COMPLETED)
        assert healthy in done or not hangs
        batch, error = await healthy
        assert error == ""
        assert {status.status for status in batch.statuses} == {Status.OK}
        assert [s.value for s in batch.samples if s.name == "postgresql.max_connections"] == [30]
        results.append(await troubled)
    return results


@pytest.fixture
async def neighbour(server: PostgresServer) -> AsyncIterator[Watch]:
    made = Watch(server, **ROOM)
    assert (await made.run())[1] == ""  # so that it is connected and known
    yield made
    await made.check.close()


def message(result: tuple[Batch, str], name: str = "postgres.reads") -> str:
    """What this status of a run says."""
    (status,) = (status for status in result[0].statuses if status.name == name)
    assert status.status is not Status.OK
    return status.message


def value(result: tuple[Batch, str], name: str, tag: str = "") -> list[Any]:
    return [s.value for s in result[0].samples if s.name == f"postgresql.{name}" and (not tag or tag in s.tags)]


@pytest.fixture
async def lone(servers: Callable[..., PostgresServer]) -> PostgresServer:
    """A server for one test alone."""
    return await asyncio.to_thread(servers)


async def test_a_query_that_hangs(lone: PostgresServer, neighbour: Watch) -> None:
    hanging = {"name": "slow", "sql": "SELECT 1 FROM pg_sleep(600)", "columns": [{"name": "x", "type": "gauge"}]}
    watch = Watch(lone, queries=[hanging], statement_timeout="1s", **ROOM)
    async with observed(lone) as seen:
        results = await beside(watch, neighbour, hangs=True)
    assert seen.most == {"postgres": 1}
    for result in results:
        assert message(result) == (
            "query slow: took longer than statement_timeout; the server is busy, or raise `timeout`"
        )
        assert value(result, "max_connections") == [30]
    await watch.check.close()


async def test_a_lock_behind_a_waiting_alter_table(lone: PostgresServer, neighbour: Watch) -> None:
    await asyncio.to_thread(lone.sql, "CREATE TABLE accounts (id int); CREATE TABLE others (id int)")
    counting = {
        "name": "accounts", "sql": "SELECT count(*) FROM accounts", "columns": [{"name": "x", "type": "gauge"}]
    }  # fmt: skip
    watch = Watch(lone, relations=[{}], queries=[counting], lock_timeout=LOCK_TIMEOUT, blocking_warning="1ms", **ROOM)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with (
        psql(lone, "BEGIN; SELECT count(*) FROM accounts"),
        psql(lone, "ALTER TABLE accounts ADD owner text", wait=False),
    ):
        await asyncio.to_thread(until, lambda: lone.scalar(waiting) == "1", "the ALTER TABLE to wait")
        root = await asyncio.to_thread(
            lone.scalar, "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )
        async with observed(lone) as seen:
            results = await beside(watch, neighbour, hangs=True)
    assert seen.most == {"postgres": 1}
    assert 0 < seen.longest < 20  # the query may take 30 s
    for result in results:
        assert message(result).split("; ") == [
            "sizes not measured: locked exclusively: public.accounts",
            "see who holds or awaits the lock: postgres.blocking and pg_locks",
            "query accounts: gave up waiting for a lock",
            "see who holds it: postgres.blocking and pg_locks",
        ]
        assert message(result, "postgres.blocking").startswith(f"pid {root} (postgres, idle in transaction for ")
        assert value(result, "table_size", "table:others") == [0]
        assert value(result, "table_size", "table:accounts") == []
        assert value(result, "seq_scans", "table:accounts") != []
    await watch.check.close()


async def test_a_statistics_view_that_is_locked(lone: PostgresServer, neighbour: Watch) -> None:
    async with psql(lone, "BEGIN; LOCK TABLE pg_stat_slru IN ACCESS EXCLUSIVE MODE"):
        for options, first in (
            ({"lock_timeout": LOCK_TIMEOUT}, "pg_stat_slru: gave up waiting for a lock"),
            ({"lock_timeout": 60, "statement_timeout": 1}, "statistics views: took longer than statement_timeout"),
        ):
            watch = Watch(lone, **ROOM, **options)
            async with observed(lone) as seen:
                results = await beside(watch, neighbour, hangs=True)
            assert seen.most == {"postgres": 1}
            assert seen.longest < 20  # either limit ends it after 1 s; the run may take 60 s
            one, two = (message(result).split("; ")[0] for result in results)
            assert (one, two) == (first, first.replace("statistics views", "pg_stat_slru"))
            assert value(results[1], "max_connections") == [30]
            assert value(results[1], "slru.blks_hit") == []
            await watch.check.close()


async def test_a_frozen_backend(lone: PostgresServer, neighbour: Watch) -> None:
    watch = Watch(lone, timeout=3)
    assert (await undisturbed(watch))[1] == ""
    pid = int(await asyncio.to_thread(lone.scalar, OURS.replace("count(*)", "pid")))
    async with observed(lone) as seen:
        os.kill(pid, signal.SIGSTOP)
        try:
            first, second = await beside(watch, neighbour, hangs=True)
        finally:
            os.kill(pid, signal.SIGCONT)
        (after,) = await beside(watch, neighbour, 1)
    assert seen.most == {"postgres": 1}
    assert message(first, "postgres.can_connect") == (
        f"127.0.0.1:{lone.port} did not answer within 2.7s; it hangs or is busy: see pg_stat_activity"
    )
    assert message(second, "postgres.can_connect").startswith(f"the server process {pid} has not answered for ")
    assert message(second, "postgres.can_connect").endswith("no second connection is made meanwhile")
    assert after[1] == ""
    assert await asyncio.to_thread(lone.scalar, OURS.replace("count(*)", "pid")) == str(pid)
    await watch.check.close()


async def test_a_server_that_is_frozen_as_a_whole(lone: PostgresServer, neighbour: Watch) -> None:
    watch = Watch(lone, timeout=3)
    stopped = [lone.pid, *lone.processes()]
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        results = await beside(watch, neighbour, hangs=True)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # an autovacuum worker that was ending when it was stopped
                os.kill(pid, signal.SIGCONT)
    for result in results:
        said = message(result, "postgres.can_connect")
        assert said.startswith(f"127.0.0.1:{lone.port} took the connection but has not let us in for ")
        assert said.endswith(
            "s; it is frozen, or waits for a lock on its catalogs: see pg_locks; no second connection is made meanwhile"
        )
    await watch.check.close()


async def test_a_failover_behind_one_address(lone: PostgresServer, servers: Any, neighbour: Watch) -> None:
    standby = await asyncio.to_thread(lambda: servers(replica_of=lone))
    active = lone

    async with relay(lambda: active.port) as port:
        watch = Watch(lone)
        await watch.check.close()
        watch = Watch(type("Address", (), {"port": port}))
        async with observed(standby) as seen:
            (before,) = await beside(watch, neighbour, 1)
            await asyncio.to_thread(lone.kill)
            (during,) = await beside(watch, neighbour, 1)
            active = standby
            (recovering,) = await beside(watch, neighbour, 1)
            await asyncio.to_thread(standby.promote)
            (after,) = await beside(watch, neighbour, 1)
        await watch.check.close()
    assert seen.most == {"postgres": 1}
    assert message(during, "postgres.can_connect") == (
        f"127.0.0.1:{port} closed the connection; it is shutting down or restarting, or a proxy is in between"
    )
    assert value(before, "connections", "replication_role:master") == [1]
    assert value(recovering, "connections", "replication_role:standby") == [2]
    assert value(after, "connections", "replication_role:master") == [2]
    assert (recovering[1], after[1]) == ("", "")


async def test_replay_is_paused(lone: PostgresServer, servers: Any, neighbour: Watch) -> None:
    standby = await asyncio.to_thread(lambda: servers(replica_of=lone))
    await asyncio.to_thread(until, lambda: standby.scalar("SELECT pg_is_wal_replay_paused()") == "f", "the standby")
    watch = Watch(lone, replica={"dsn": standby.dsn, "lag_warning": "1ms"})
    await asyncio.to_thread(standby.sql, "SELECT pg_wal_replay_pause()")
    paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
    await asyncio.to_thread(until, lambda: standby.scalar(paused) == "t", "the replay to pause")
    await asyncio.to_thread(lone.sql, "CREATE TABLE more (a int)")
    async with observed(lone) as one, observed(standby) as other:
        results = await beside(watch, neighbour)
    assert (one.most, other.most) == ({"postgres": 1}, {"postgres": 1})
    for result in results:
        assert message(result, "postgres.health").startswith("the replica is ")
        assert value(result, "health.lag_bytes")[0] > 0
    await watch.check.close()


async def test_the_limit_of_connections(servers: Callable[..., PostgresServer], neighbour: Watch) -> None:
    server = await asyncio.to_thread(
        lambda: servers(max_connections=6, superuser_reserved_connections=2, max_wal_senders=0, wal_level="minimal")
    )
    await asyncio.to_thread(server.sql, "CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    watch = Watch(server, username="watcher")
    async with observed(server) as seen:
        async with AsyncExitStack() as crowd:
            for _ in range(3):
                await crowd.enter_async_context(psql(server, "SELECT 1"))
            results = await beside(watch, neighbour)
        for result in results:
            assert message(result, "postgres.can_connect") == (
                f"127.0.0.1:{server.port} has reached its limit of connections; close idle sessions, or keep one for "
                "monitoring: superuser_reserved_connections, reserved_connections"
            )
        free = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'"
        await asyncio.to_thread(until, lambda: server.scalar(free) == "1", "the crowd to go")
        assert (await beside(watch, neighbour, 1))[0][1] == ""
    assert seen.most == {"postgres": 1}
    await watch.check.close()


async def test_a_role_without_rights(lone: PostgresServer, neighbour: Watch) -> None:
    await asyncio.to_thread(lone.sql, "CREATE ROLE nobody_much LOGIN")
    watch = Watch(lone, username="nobody_much")
    async with observed(lone) as seen:
        results = await beside(watch, neighbour)
    assert seen.most == {"postgres": 1}
    for result in results:
        assert message(result) == (
            "nobody_much may not see what other sessions do: their activity and blocking are left out; "
            "GRANT pg_monitor TO nobody_much; pg_ls_waldir: nobody_much may not read it; "
            "GRANT pg_monitor TO nobody_much"
        )
        assert [status.name for status in result[0].statuses if status.name == "postgres.blocking"] == []
        assert value(result, "blocking.waiting") == []
        assert value(result, "max_connections") == [30]
    await watch.check.close()


async def test_statistics_are_reset(lone: PostgresServer, neighbour: Watch) -> None:
    await asyncio.to_thread(
        lone.sql, "CREATE TABLE t AS SELECT generate_series(1, 1000); SELECT pg_stat_force_next_flush()"
    )
    watch = Watch(lone)
    async with observed(lone) as seen:
        (before,) = await beside(watch, neighbour, 1)
        await asyncio.to_thread(
            lone.sql, "SELECT pg_stat_reset(), pg_stat_reset_shared('bgwriter'), pg_stat_reset_slru(NULL)"
        )
        (after,) = await beside(watch, neighbour, 1)
    assert seen.most == {"postgres": 1}
    totals = {(s.name, s.tags): s.value for s in before[0].samples if s.kind in ("counter", "rate")}
    later = {(s.name, s.tags): s.value for s in after[0].samples if s.kind in ("counter", "rate")}
    assert all(later[key] >= totals[key] for key in totals)
    assert value(after, "rows_inserted", "db:postgres") == value(before, "rows_inserted", "db:postgres")
    await watch.check.close()


async def test_a_database_is_dropped_under_us(lone: PostgresServer, neighbour: Watch) -> None:
    await asyncio.to_thread(lone.sql, "CREATE DATABASE home")
    watch = Watch(lone, dbname="home")
    async with observed(lone) as seen:
        assert (await beside(watch, neighbour, 1))[0][1] == ""
        await asyncio.to_thread(lone.sql, "DROP DATABASE home WITH (FORCE)")
        results = await beside(watch, neighbour)
    assert seen.most == {"home": 1}
    for result in results:
        assert message(result, "postgres.can_connect") == (
            f"127.0.0.1:{lone.port} has no database home; check `dbname`"
        )
    await watch.check.close()


async def test_two_thousand_tables(lone: PostgresServer, neighbour: Watch) -> None:
    create = (
        "DO $$ BEGIN FOR n IN {}..{} LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY)', n); END LOOP; END $$"
    )
    for start in range(1, 2000, 500):  # each holds locks on what it makes
        await asyncio.to_thread(lone.sql, create.format(start, start + 499))
    watch = Watch(lone, relations=[{"limit": 10_000}], lock_timeout=20, **ROOM)
    async with observed(lone) as seen:
        results = await beside(watch, neighbour)
    assert seen.most == {"postgres": 1}
    for batch, error in results:
        assert error == ""
        assert {status.status for status in batch.statuses} == {Status.OK}
        assert len(value((batch, error), "table_size")) == 2000
        assert len(value((batch, error), "individual_index_size")) == 2000
    await watch.check.close()


async def test_hostile_names(lone: PostgresServer, neighbour: Watch) -> None:
    hostile = 'Robert\'); DROP TABLE "x",|#:\n\t🐘 $1 %s {}'
    quoted = '"' + hostile.replace('"', '""') + '"'
    for statement in (
        f"CREATE DATABASE {quoted}",
        f"CREATE ROLE {quoted} LOGIN IN ROLE pg_monitor",
    ):
        await asyncio.to_thread(lone.sql, statement)
    for statement in (
        f"CREATE SCHEMA {quoted}",
        f"CREATE TABLE {quoted}.{quoted} ({quoted} int)",
        f'CREATE INDEX {quoted[:-1]}.i" ON {quoted}.{quoted} ({quoted})',
    ):
        await asyncio.to_thread(lone.sql, statement, hostile)
    one = {
        "name": hostile,
        "sql": f"SELECT count(*) FROM {quoted}.{quoted}",
        "columns": [{"name": "x", "type": "gauge"}],
    }
    watch = Watch(lone, dbname=hostile, username=hostile, relations=[{"schema": hostile}], queries=[one])
    async with observed(lone) as seen:
        results = await beside(watch, neighbour)
    assert seen.most == {hostile: 1}
    clean = hostile.replace("\n\t", "_")
    for result in results:
        assert value(result, "table_size", f"table:{clean}") == [0]
        assert value(result, "individual_index_size", f"index:{clean}.i") == [8192]
        assert value(result, "connections", f"db:{clean}") == [1]
        text = message(result)
        assert text.startswith(f"query {hostile}: permission denied for schema")
    await watch.check.close()
