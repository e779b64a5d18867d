"""A master behind sentinels: real ones, which really fail over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from servers import RedisServer, SentinelServer, eventually, until
from vedette import Kind, Status
from vedette.kit import Deltas
from vedette_checks.redis import RedisConfig

from .driver import Outcome, Servers, Watch, Watches

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2-is-secret"
NAME = "redis_name:mymaster"

Sentinels = Callable[..., SentinelServer]


def started(made: list[RedisServer], server: RedisServer) -> None:
    made.append(server)
    server.start()


@pytest.fixture
def sentinels(binary: Path, tmp_path: Path) -> Iterator[Sentinels]:
    """Starts a sentinel for a master, and waits until it sees that many replicas."""
    made: list[RedisServer] = []

    def make(master: RedisServer, *, replicas: int = 0, ready: bool = True, **options: Any) -> SentinelServer:
        sentinel = SentinelServer(binary, tmp_path / f"sentinel{len(made)}", master, **options)
        started(made, sentinel)
        if ready:
            until(lambda: sentinel.sees(replicas=replicas), "the sentinel to see the replicas")
        return sentinel

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def trio(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """A master, its replica and three sentinels that know each other; shared, so tests do them no harm."""
    folder = tmp_path_factory.mktemp("trio")
    made: list[RedisServer] = []
    try:
        started(made, RedisServer(binary, folder / "master", repl_diskless_sync_delay=0))
        started(made, RedisServer(binary, folder / "replica", replica_of=made[0]))
        until(lambda: made[1].info("replication")["master_link_status"] == "up", "the replica's link")
        for number in range(3):
            started(made, SentinelServer(binary, folder / f"sentinel{number}", made[0], quorum=2))
        three = [server for server in made if isinstance(server, SentinelServer)]
        until(lambda: all(one.sees(replicas=1, sentinels=2) for one in three), "the sentinels to meet")
        for one in three:
            notice_after(one, 60_000)
        yield made
    finally:
        for server in made:
            server.kill()


def notice_after(sentinel: SentinelServer, milliseconds: int) -> None:
    """How long a server must be silent for this sentinel to call it down."""
    sentinel.command("SENTINEL", "SET", "mymaster", "down-after-milliseconds", milliseconds)


def option(*sentinels: RedisServer, **more: Any) -> dict[str, Any]:
    return {"addresses": [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels], "master": "mymaster", **more}


def pair(servers: Servers) -> tuple[RedisServer, RedisServer]:
    master = servers(repl_diskless_sync_delay=0)
    replica = servers(replica_of=master)
    until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica's link")
    return master, replica


def text(outcome: Outcome, name: str) -> tuple[Status, str]:
    found = outcome.status(name)
    assert set(found.tags) == {"instance:test", NAME}
    return found.status, found.message


def rates(deltas: Deltas, outcome: Outcome, time: float) -> list[float]:
    """What a sink makes of the run's totals."""
    steps = [
        deltas.delta("redis/test", (sample.name, sample.tags), sample.value, time)
        for sample in outcome.batch.samples
        if sample.kind is Kind.RATE
    ]
    return [step for step in steps if step is not None]


def ping(server: RedisServer, times: int) -> None:
    with server.client() as client:
        for _ in range(times):
            client.ping()


def clients(server: RedisServer) -> set[str]:
    """Ids of the check's connections."""
    with server.client() as client:
        return {row["id"] for row in client.client_list() if row["name"] == "vedette"}


async def test_master_and_sentinels(trio: list[RedisServer], watch: Watches) -> None:
    master, replica, *three = trio
    master.command("SET", "jobs:done", 7)
    counter = {"metric": "app.done", "key": "jobs:done"}
    outcome = await watch(sentinel=option(*three), counters=[counter]).run()
    place = {"instance:test", "redis_host:127.0.0.1", f"redis_port:{master.port}", "redis_role:master"}
    assert set(outcome.sample("redis.net.slaves").tags) == place
    assert (outcome.value("redis.net.slaves"), outcome.value("app.done")) == (1, 7)
    assert float(str(outcome.value("redis.round_trip.latency_ms"))) > 0
    for name in ("redis.can_connect", "redis.round_trip", "redis.reads", "redis.sentinel.can_connect"):
        assert text(outcome, name) == (Status.OK, "")
    expected = {"known_sentinels": 3, "ok_sentinels": 3, "known_slaves": 1, "ok_slaves": 1}
    expected |= {"sdown_slaves": 0, "odown_slaves": 0}
    for name, value in expected.items():
        sample = outcome.sample(f"redis.sentinel.{name}")
        assert (name, sample.value, set(sample.tags)) == (name, value, {"instance:test", NAME, "master_ip:127.0.0.1"})
    for name in ("quorum", "master_is_down", "master_is_disconnected"):
        assert text(outcome, f"redis.sentinel.{name}") == (Status.OK, "")
    there = {"instance:test", NAME, "slave_ip:127.0.0.1", f"slave_port:{replica.port}"}
    for name in ("slave_is_disconnected", "slave_master_link_down"):
        found = outcome.status(f"redis.sentinel.{name}")
        assert (set(found.tags), found.message) == (there, "")
    assert outcome.status("redis.sentinel.slave_is_disconnected").status is Status.OK


async def test_pings_and_pending_commands(trio: list[RedisServer], watch: Watches) -> None:
    _, replica, *three = trio
    outcome = await watch(sentinel=option(three[0])).run()
    others = {f"sentinel_port:{one.port}" for one in three[1:]}
    pings = outcome.samples("redis.sentinel.last_ok_ping_latency")
    assert {tag for ping in pings for tag in ping.tags if tag.startswith("sentinel_port")} == others
    assert all(0 <= float(str(ping.value)) < 20 for ping in pings)  # seconds: it asks each second
    pending = outcome.samples("redis.sentinel.link_pending_commands")
    kinds = sorted(tag for sample in pending for tag in sample.tags if tag in ("master", "slave", "sentinel"))
    assert kinds == ["master", "sentinel", "sentinel", "slave"]
    assert f"slave_port:{replica.port}" in next(sample for sample in pending if "slave" in sample.tags).tags


async def test_connections_are_kept(trio: list[RedisServer], watch: Watches) -> None:
    master, _, *three = trio
    watching = watch(sentinel=option(*three))
    await watching.run()
    before = [clients(server) for server in (master, *three)]
    assert [len(ids) for ids in before] == [1, 1, 1, 1]
    await watching.run()
    assert [clients(server) for server in (master, *three)] == before


async def test_a_sentinel_that_does_not_answer_is_named(
    trio: list[RedisServer], watch: Watches, closed_port: int
) -> None:
    gone = closed_port
    options = option(*trio[2:4])
    options["addresses"].insert(0, f"127.0.0.1:{gone}")
    outcome = await watch(sentinel=options).run()
    assert outcome.error is None
    assert outcome.value("redis.net.slaves") == 1
    assert text(outcome, "redis.can_connect") == (Status.OK, "")
    assert text(outcome, "redis.sentinel.can_connect") == (
        Status.WARNING,
        f"nothing listens on 127.0.0.1:{gone}; is the server running, and is this its address?",
    )


async def test_unknown_master(trio: list[RedisServer], watch: Watches) -> None:
    outcome = await watch(sentinel={**option(trio[2]), "master": "nobody"}).run()
    assert outcome.refused() == f"the sentinel 127.0.0.1:{trio[2].port} knows no master nobody; check `sentinel.master`"
    assert not outcome.batch.samples
    assert outcome.status("redis.sentinel.can_connect").status is Status.CRITICAL


async def test_no_sentinel_at_all(trio: list[RedisServer], watch: Watches) -> None:
    outcome = await watch(sentinel=option(trio[0])).run()
    assert outcome.refused() == (
        f"127.0.0.1:{trio[0].port} is no sentinel; check `sentinel.addresses`: the usual port is 26379"
    )


async def test_hung_sentinel_does_not_keep_the_master_from_being_watched(
    servers: Servers, sentinels: Sentinels, watch: Watches
) -> None:
    master = servers()
    hung, well = sentinels(master), sentinels(master)
    hung.pause()
    outcome = await watch(sentinel=option(hung, well), timeout="2s").well()
    assert outcome.value("redis.net.slaves") == 0
    status, message = text(outcome, "redis.sentinel.can_connect")
    assert status is Status.WARNING
    assert message.startswith(f"no answer from 127.0.0.1:{hung.port} within 0.45s; ")


async def test_all_sentinels_gone(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    """A master that is known stays watched; without one there is nothing to watch."""
    master = servers()
    sentinel = sentinels(master)
    watching = watch(sentinel=option(sentinel))
    assert (await watching.run()).error is None
    sentinel.kill()
    outcome = await watching.run()
    assert outcome.error is None
    assert outcome.value("redis.net.slaves") == 0
    assert not [name for name in outcome.names if name.startswith("redis.sentinel")]
    why = f"nothing listens on 127.0.0.1:{sentinel.port}; is the server running, and is this its address?"
    assert text(outcome, "redis.sentinel.can_connect") == (Status.CRITICAL, why)
    assert (await watch(sentinel=option(sentinel)).run()).refused() == why


async def test_password_of_the_sentinels(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    master = servers(requirepass=PASSWORD)
    sentinel = sentinels(master, requirepass="of-the-sentinel", ready=False)
    place = f"127.0.0.1:{sentinel.port}"
    right = option(sentinel, password="of-the-sentinel")
    outcome = await watch(sentinel=right, password=PASSWORD).run()
    assert (outcome.error, outcome.value("redis.net.slaves")) == (None, 0)
    wrong = await watch(sentinel=option(sentinel, password=PASSWORD), password=PASSWORD).run()
    assert wrong.refused() == (
        f"{place} refused the user name or the password; check `sentinel.username` and `sentinel.password`"
    )
    none = await watch(sentinel=option(sentinel), password=PASSWORD).run()
    assert none.refused().startswith(f"{place} wants a password; set `sentinel.password`")
    master_refuses = await watch(sentinel=right).run()
    assert master_refuses.refused().startswith(f"127.0.0.1:{master.port} wants a password")
    assert PASSWORD not in repr((wrong.batch, none.batch, master_refuses.batch))


async def test_rights_on_the_sentinels(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    """What the README asks for is enough, and what is missing is named."""
    sentinel = sentinels(servers())
    sentinel.command("ACL", "SETUSER", "vedette", "on", f">{PASSWORD}", "+sentinel")
    options = option(sentinel, username="vedette", password=PASSWORD)
    outcome = await watch(sentinel=options).run()
    for name in ("can_connect", "quorum"):
        assert text(outcome, f"redis.sentinel.{name}") == (Status.OK, "")
    sentinel.command("ACL", "SETUSER", "vedette", "-@all", "+ping")
    sentinel.command("CLIENT", "KILL", "TYPE", "normal")
    outcome = await watch(sentinel=options).run()
    assert outcome.refused() == "the user vedette may not run SENTINEL; ACL SETUSER vedette +sentinel"


async def test_no_quorum(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    sentinel = sentinels(servers(), quorum=2)
    status, message = text(await watch(sentinel=option(sentinel)).run(), "redis.sentinel.quorum")
    assert status is Status.CRITICAL
    assert message.startswith(f"the sentinel 127.0.0.1:{sentinel.port} says: 1 usable Sentinels. Not enough")
    assert message.endswith("; no failover will happen: start the sentinels that are down")


async def test_replica_that_is_taken_for_the_master(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    master = servers()
    watching = watch(sentinel=option(sentinels(master)))
    other = servers()
    master.command("REPLICAOF", "127.0.0.1", other.port)
    outcome = await watching.run()
    assert outcome.refused() == (
        f"the sentinels name 127.0.0.1:{master.port} as the master mymaster, but it is a replica; "
        "a failover is under way, or the sentinels have lost touch: the next run asks them again"
    )
    assert "redis.net.slaves" not in outcome.names
    master.command("REPLICAOF", "NO", "ONE")
    assert text(await watching.run(), "redis.can_connect") == (Status.OK, "")


async def test_crash_and_failover(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    master, replica = pair(servers)
    sentinel = sentinels(master, replicas=1)
    notice_after(sentinel, 60_000)
    master.command("SET", "jobs:done", 41)
    await asyncio.to_thread(ping, master, 500)
    watching, deltas = watch(sentinel=option(sentinel), counters=[{"metric": "app.done", "key": "jobs:done"}]), Deltas()
    before = await watching.run()
    assert (before.value("app.done"), rates(deltas, before, 0)) == (41, [])
    await eventually(lambda: replica.command("GET", "jobs:done") == b"41", "the replica to follow")
    master.kill()
    meanwhile = await watching.run()
    assert meanwhile.refused() == (
        f"nothing listens on 127.0.0.1:{master.port} (the master mymaster according to its sentinels); "
        "a failover may be under way: the next run asks the sentinels again; "
        "else: is the server running, and is this its address?"
    )
    assert "app.done" not in meanwhile.names
    notice_after(sentinel, 500)
    await eventually(lambda: sentinel.master() == replica.port, "the failover")
    replica.command("INCR", "jobs:done")
    after = await watching.run()
    assert text(after, "redis.can_connect") == (Status.OK, "")
    assert f"redis_port:{replica.port}" in after.sample("redis.net.commands").tags
    assert (after.value("app.done"), after.value("redis.sentinel.failover")) == (42, 1)
    (event,) = after.batch.events
    assert event.title == "Redis failover of mymaster"
    assert event.text == f"mymaster is 127.0.0.1:{replica.port} now; it was 127.0.0.1:{master.port} before"
    assert rates(deltas, after, 15) == []
    asked = replica.info("stats")["total_commands_processed"]
    steps = rates(deltas, again := await watching.run(), 30)
    assert steps
    assert all(0 <= step < 100 for step in steps), (steps, asked)
    assert "redis.sentinel.failover" not in again.names


async def test_old_master_comes_back(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    """What it counted before and after, on the same address, is one series: it must not leap."""
    master, replica = pair(servers)
    sentinel = sentinels(master, replicas=1)
    watching, deltas = watch(sentinel=option(sentinel)), Deltas()
    rates(deltas, await watching.run(), 0)
    appoint(sentinel, replica, master)
    rates(deltas, await watching.run(), 15)
    master.kill()
    master.start()
    await asyncio.to_thread(ping, master, 300)
    appoint(sentinel, master, replica)
    outcome = await watching.run()
    assert f"redis_port:{master.port}" in outcome.sample("redis.net.commands").tags
    steps = rates(deltas, outcome, 30)
    assert steps
    assert all(step == 0 for step in steps)


def appoint(sentinel: SentinelServer, master: RedisServer, replica: RedisServer) -> None:
    """Make another server the master, as an operator does who does not wait for the sentinel."""
    sentinel.command("SENTINEL", "REMOVE", "mymaster")
    master.command("REPLICAOF", "NO", "ONE")
    replica.command("REPLICAOF", "127.0.0.1", master.port)
    sentinel.command("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", master.port, 1)


async def run_until_moved(watching: Watch, sentinel: SentinelServer, port: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while sentinel.master() != port:
        outcomes.append(await watching.run())
    return outcomes


def begins_failover(sentinel: SentinelServer) -> bool:
    """Order a failover; False while the sentinel has not heard enough of the replica yet."""
    try:
        sentinel.command("SENTINEL", "FAILOVER", "mymaster")
    except ResponseError as error:
        if "NOGOODSLAVE" in str(error):
            return False
        raise
    return True


async def test_failover_on_command(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    """Each run, before, during and after, either finds a master or says in one sentence why not."""
    master, replica = pair(servers)
    sentinel = sentinels(master, replicas=1)
    watching = watch(sentinel=option(sentinel))
    assert (await watching.run()).error is None
    await eventually(lambda: begins_failover(sentinel), "a replica that the sentinel thinks fit")
    outcomes = await run_until_moved(watching, sentinel, replica.port)
    await eventually(lambda: replica.info("replication")["role"] == "master", "the promotion")
    last = await watching.run()
    assert last.error is None
    assert f"redis_port:{replica.port}" in last.sample("redis.net.slaves").tags
    for outcome in outcomes:
        assert outcome.status("redis.can_connect").status is (Status.CRITICAL if outcome.error else Status.OK)
    failovers = [sample.value for one in (*outcomes, last) for sample in one.samples("redis.sentinel.failover")]
    assert failovers == [1]


async def test_sentinel_of_yesterday(servers: Servers, sentinels: Sentinels, watch: Watches) -> None:
    """The newest configuration is believed, not the first answer."""
    newer, older = servers(), servers()
    sentinel, stale = sentinels(newer, epoch=2), sentinels(older, epoch=1)
    outcome = await watch(sentinel=option(stale, sentinel)).run()
    assert f"redis_port:{newer.port}" in outcome.sample("redis.net.slaves").tags
    assert text(outcome, "redis.sentinel.can_connect") == (
        Status.WARNING,
        f"the sentinel 127.0.0.1:{stale.port} still names 127.0.0.1:{older.port} as mymaster",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentinel": {"addresses": ["a"], "master": "m"}, "host": "b"}, "leave out host"),
        ({"sentinel": {"addresses": ["a"], "master": "m"}, "url": "redis://b"}, "leave out url"),
        ({"sentinel": {"addresses": ["a", "a:26379"], "master": "m"}}, "lists an address twice"),
        ({"sentinel": {"addresses": ["a:b"], "master": "m"}}, "must look like"),
        ({"sentinel": {"addresses": ["a:0"], "master": "m"}}, "must look like"),
        ({"sentinel": {"addresses": ["a:65536"], "master": "m"}}, "must look like"),
        ({"sentinel": {"addresses": [], "master": "m"}}, "at least 1"),
        ({"sentinel": {"addresses": ["a"], "master": "m", "username": "u"}}, "`username` needs `password`"),
        ({"cluster": {"addresses": ["::1:6379"]}}, "must look like"),
        ({"cluster": {"addresses": ["a"]}, "port": 1}, "leave out port"),
        ({"cluster": {"addresses": ["a"]}, "sentinel": {"addresses": ["a"], "master": "m"}}, "not both"),
        ({"cluster": {"addresses": ["a"]}, "counters": [{"metric": "redis.cluster.size", "key": "k"}]}, "check itself"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisConfig.model_validate({"name": "test", **options})
