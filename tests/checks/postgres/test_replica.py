"""A primary and its replica side by side: lag, places changed, either of them gone or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from postgres_servers import PostgresServer
from servers import until
from vedette import Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.postgres import Postgres
from vedette_checks.postgres.config import PostgresConfig
from vedette_checks.postgres.database import Database
from vedette_checks.postgres.replica import History, Lag, Pair, Reading

from .conftest import OURS, Watch, run, undisturbed

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Servers:
    """A primary and its standby."""

    primary: PostgresServer
    standby: PostgresServer

    def caught_up(self) -> bool:
        """Whether the standby has replayed all that the primary has written."""
        written = self.primary.scalar("SELECT pg_current_wal_lsn()")
        return self.standby.scalar(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == "t"


@pytest.fixture(scope="module")
def pair(binaries: Path) -> Iterator[Servers]:
    """A pair that the tests leave as they found it."""
    primary = PostgresServer(binaries)
    primary.start()
    primary.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE TABLE t (a int)")
    standby = PostgresServer(binaries, replica_of=primary)
    standby.start()
    primary.sql("INSERT INTO t VALUES (0)")  # the first commit that the standby replays
    yield Servers(primary, standby)
    standby.stop()
    primary.stop()


@asynccontextmanager
async def behind(pair: Servers) -> AsyncIterator[None]:
    """Replay is paused, and the primary has written more."""
    await asyncio.to_thread(until, pair.caught_up, "the standby to catch up")
    await asyncio.to_thread(pair.standby.sql, "SELECT pg_wal_replay_pause()")
    paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
    await asyncio.to_thread(until, lambda: pair.standby.scalar(paused) == "t", "the replay to pause")
    await asyncio.to_thread(pair.primary.sql, "INSERT INTO t SELECT generate_series(1, 1000)")
    try:
        yield
    finally:
        await asyncio.to_thread(pair.standby.sql, "SELECT pg_wal_replay_resume()")


async def look(primary: Any, replica: Any, **options: Any) -> CheckRun:
    """Run with `replica:` at the second server."""
    limits = {name: options.pop(name) for name in list(options) if name.startswith(("lag_", "streaming"))}
    return await run(primary, replica={"dsn": dsn(replica), **limits}, **options)


async def look_at_idle(pair: Servers, **options: Any) -> CheckRun:
    """Run while the primary writes nothing: its own housekeeping, too, is a lag of some milliseconds."""

    def written() -> str:
        return pair.primary.scalar("SELECT pg_current_wal_insert_lsn()")

    for _ in range(20):
        await asyncio.to_thread(until, pair.caught_up, "the standby to catch up")
        before = await asyncio.to_thread(written)
        outcome = await look(pair.primary, pair.standby, **options)
        if await asyncio.to_thread(written) == before:
            return outcome
    raise AssertionError("the primary was never idle")


def dsn(server: Any) -> str:
    return f"postgresql://watcher@127.0.0.1:{server.port}/postgres"


async def test_both_are_timed_and_an_idle_primary_is_no_lagging_replica(pair: Servers) -> None:
    outcome = await look_at_idle(pair, runs=3, lag_warning="1ms")
    assert_declared(outcome)
    assert (outcome.status("postgres.health"), outcome.message("postgres.health")) == (Status.OK, "")
    where = {"server": "127.0.0.1", "port": pair.primary.port, "replica": f"127.0.0.1:{pair.standby.port}"}
    assert outcome.value("postgresql.health.lag_seconds", **where) == 0
    assert outcome.value("postgresql.health.lag_bytes", **where) == 0
    for path in ("primary", "replica"):
        assert 0 < outcome.value("postgresql.health.response_time", path=path, **where) < 5_000  # type: ignore[operator]


async def test_a_replica_that_is_behind_is_judged_by_seconds_and_by_bytes(pair: Servers) -> None:
    async with behind(pair):
        outcome = await look(pair.primary, pair.standby)
        replayed = await asyncio.to_thread(pair.standby.scalar, "SELECT pg_last_wal_replay_lsn()")
        most = int(
            await asyncio.to_thread(
                pair.primary.scalar, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{replayed}')::int8"
            )
        )
        by_seconds = await look(pair.primary, pair.standby, lag_warning="1ms")
        by_bytes = await look(pair.primary, pair.standby, lag_bytes_warning=1, lag_bytes_critical=2)
    size, seconds = outcome.value("postgresql.health.lag_bytes"), outcome.value("postgresql.health.lag_seconds")
    assert 60_000 < size <= most  # type: ignore[operator]
    assert 0.3 < seconds < 30  # type: ignore[operator]
    assert outcome.status("postgres.health") is Status.OK
    assert by_seconds.status("postgres.health") is Status.WARNING
    assert by_bytes.status("postgres.health") is Status.CRITICAL
    assert by_bytes.message("postgres.health").endswith(f"({by_bytes.value('postgresql.health.lag_bytes')} bytes)")


async def test_an_idle_time_before_the_first_run_is_no_lag() -> None:
    """The last transaction is 397 s old, and the replica stands still behind what was written a moment ago."""
    config = PostgresConfig(
        host="db1", replica={"dsn": "postgresql://db2", "lag_warning": "10s", "lag_critical": "60s"}
    )
    assert config.replica is not None
    target = config.target
    pair = Pair(config.replica, target, Database(config.replica.target(target), config.limits))

    def look(at: float, place: int, replayed: float | None, primary_place: int = 900) -> tuple[Lag, list[Any]]:
        primary = Reading(0.001, at, False, primary_place, 5_000.0 + at, None, False, 1)
        seen = Reading(0.001, at + 0.4, True, place, 5_000.0 + at, replayed, True, 1)
        pair._history.note(primary)
        lag = pair._measure(primary, seen, primary_place - place)
        return lag, list(pair._too_far(lag))

    for replayed in (4_703.4, None):
        lag, said = look(100.0, 500, replayed)
        assert (lag.seconds, lag.certain) == (pytest.approx(0.4), False)
        assert said == []
    lag, said = look(145.0, 500, 4_703.4)  # it stays: what was watched grows
    assert (lag.seconds, said[0][0]) == (pytest.approx(45.4), Status.WARNING)
    lag, said = look(160.0, 500, 4_703.4)
    assert said == [(Status.CRITICAL, "the replica is at least 60.4s behind (400 bytes)")]
    lag, said = look(175.0, 900, 5_170.0, 1_000)  # it has what the primary had at 160
    assert (lag.seconds, lag.certain, said) == (pytest.approx(5.4), True, [])


async def test_the_same_server_twice_is_no_pair(pair: Servers) -> None:
    both = await look(pair.primary, pair.primary)
    assert both.status("postgres.health") is Status.CRITICAL
    place = f"127.0.0.1:{pair.primary.port}"
    assert both.message("postgres.health") == f"`replica` is the primary itself: {place}"
    neither = await look(pair.standby, pair.standby)
    assert neither.status("postgres.health") is Status.CRITICAL
    assert neither.message("postgres.health").startswith("no primary: ")
    assert neither.values("postgresql.health.lag_seconds") == []


async def test_places_changed(pair: Servers) -> None:
    outcome = await look(pair.standby, pair.primary)
    assert outcome.status("postgres.health") is Status.WARNING
    primary, standby = f"127.0.0.1:{pair.primary.port}", f"127.0.0.1:{pair.standby.port}"
    assert outcome.message("postgres.health") == (
        f"they changed places: {primary} is the primary, {standby} is in recovery"
    )


async def test_a_server_that_is_no_copy(pair: Servers, servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(lambda: servers(unrelated=True))
    await asyncio.to_thread(server.sql, "CREATE ROLE watcher LOGIN")
    outcome = await look(pair.primary, server)
    assert outcome.status("postgres.health") is Status.CRITICAL
    assert outcome.message("postgres.health") == (
        f"127.0.0.1:{server.port} is no copy of 127.0.0.1:{pair.primary.port}; check the addresses"
    )


async def test_a_replica_that_is_down_costs_the_primary_nothing(pair: Servers, closed_port: int) -> None:
    class Nowhere:
        port = closed_port

    outcome = await look(pair.primary, Nowhere)
    assert outcome.error is None
    assert outcome.status("postgres.can_connect") is Status.OK
    assert outcome.status("postgres.health") is Status.CRITICAL
    assert outcome.message("postgres.health").startswith(f"replica: nothing listens on 127.0.0.1:{Nowhere.port}")
    assert outcome.value("postgresql.max_connections") == 30
    assert outcome.values("postgresql.health.response_time", path="replica") == []
    assert len(outcome.values("postgresql.health.response_time", path="primary")) == 1


async def test_a_primary_that_is_down_leaves_the_replica_measured(pair: Servers, closed_port: int) -> None:
    class Nowhere:
        port = closed_port

    outcome = await look(Nowhere, pair.standby)
    assert str(outcome.error).startswith(f"nothing listens on 127.0.0.1:{Nowhere.port}")
    assert outcome.status("postgres.health") is Status.CRITICAL
    assert outcome.message("postgres.health").startswith(f"primary: nothing listens on 127.0.0.1:{Nowhere.port}")
    assert len(outcome.values("postgresql.health.response_time", path="replica")) == 1
    assert outcome.values("postgresql.health.lag_seconds") == []


async def test_a_frozen_replica_is_waited_for_and_the_primary_is_not_held_up(pair: Servers) -> None:
    watch = Watch(pair.primary, timeout=3, replica={"dsn": dsn(pair.standby)})
    batch, error = await undisturbed(watch)
    assert error == ""
    pid = int(await asyncio.to_thread(pair.standby.scalar, OURS.replace("count(*)", "pid")))
    os.kill(pid, signal.SIGSTOP)
    try:
        messages = []
        for _ in range(2):
            batch, error = await watch.run()
            assert error == ""
            assert [s.value for s in batch.samples if s.name == "postgresql.max_connections"] == [30]
            messages += [s.message for s in batch.statuses if s.name == "postgres.health"]
        assert messages[0].startswith(f"replica: 127.0.0.1:{pair.standby.port} did not answer within 2.7s")
        assert messages[1].startswith(f"replica: the server process {pid} has not answered for ")
        assert await asyncio.to_thread(pair.standby.scalar, OURS) == "1"
    finally:
        os.kill(pid, signal.SIGCONT)
    batch, error = await undisturbed(watch)
    assert [(s.status, s.message) for s in batch.statuses if s.name == "postgres.health"] == [(Status.OK, "")]
    await watch.check.close()


async def silent_while_idle(pair: Servers, watch: Watch) -> float | None:
    """Run while the replica's backend is frozen and the primary idle; returns when the last run began.

    None if the primary did some housekeeping meanwhile.
    """
    where = "SELECT pg_current_wal_insert_lsn()"
    assert (await undisturbed(watch))[1] == ""
    before = await asyncio.to_thread(pair.primary.scalar, where)
    pid = int(await asyncio.to_thread(pair.standby.scalar, OURS.replace("count(*)", "pid")))
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            began = monotonic()
            assert (await watch.run())[1] == ""
    finally:
        os.kill(pid, signal.SIGCONT)
    return began if await asyncio.to_thread(pair.primary.scalar, where) == before else None


async def test_a_replica_that_was_silent_is_behind_no_longer_than_since_the_last_run(pair: Servers) -> None:
    """The primary is idle while the replica is not to be reached; what it writes then is all that the replica lacks."""
    watch = Watch(pair.primary, timeout=3, replica={"dsn": dsn(pair.standby)})
    began = None
    while began is None:
        await asyncio.to_thread(until, pair.caught_up, "the standby to catch up")
        began = await silent_while_idle(pair, watch)
    async with behind(pair):
        batch, error = await watch.run()
        passed = monotonic() - began
    assert error == ""
    (size,) = (s.value for s in batch.samples if s.name == "postgresql.health.lag_bytes")
    (lag,) = (s.value for s in batch.samples if s.name == "postgresql.health.lag_seconds")
    assert size > 0  # type: ignore[operator]
    assert 0 < lag < passed  # type: ignore[operator]
    await watch.check.close()


async def test_a_replica_that_does_not_stream_and_one_that_was_promoted(
    servers: Callable[..., PostgresServer],
) -> None:
    primary = await asyncio.to_thread(servers)
    await asyncio.to_thread(primary.sql, "CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    standby = await asyncio.to_thread(lambda: servers(replica_of=primary))
    await asyncio.to_thread(until, Servers(primary, standby).caught_up, "the standby to catch up")
    await asyncio.to_thread(standby.sql, "ALTER SYSTEM SET primary_conninfo = ''")
    await asyncio.to_thread(standby.sql, "SELECT pg_reload_conf()")
    stopped = "SELECT count(*) FROM pg_stat_wal_receiver"
    await asyncio.to_thread(until, lambda: standby.scalar(stopped) == "0", "the WAL receiver to end")
    silent = await look(primary, standby)
    assert silent.status("postgres.health") is Status.WARNING
    assert silent.message("postgres.health") == f"replica: 127.0.0.1:{standby.port} does not stream from a primary"
    assert (await look(primary, standby, streaming=False)).status("postgres.health") is Status.OK
    await asyncio.to_thread(standby.promote)
    outcome = await look(primary, standby)
    assert outcome.status("postgres.health") is Status.CRITICAL
    assert outcome.message("postgres.health").startswith("two primaries: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dsn": "mysql://x"}, "must look like postgresql://"),
        ({"dsn": "postgresql://db2", "lag_warning": "1m", "lag_critical": "30s"}, "lag_critical must not be shorter"),
        ({"dsn": "postgresql://db2", "lag_bytes_warning": 2, "lag_bytes_critical": 1}, "must not be less than"),
    ],
)
async def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await run_check(Postgres, {"replica": options})


def test_how_old_a_place_is() -> None:
    history = History()
    for at, place in ((100.0, 10), (115.0, 10), (130.0, 500), (145.0, 900)):
        history.note(Reading(0.001, at, False, place, 0.0, None, False, 1))
    assert history.age(9, 150.0) is None
    assert history.age(10, 150.0) == 35.0
    assert history.age(700, 150.0) == 20.0
    assert history.age(900, 150.0) == 5.0
    history.note(Reading(0.001, 160.0, False, 5, 0.0, None, False, 1))
    assert history.age(700, 170.0) == 10.0
