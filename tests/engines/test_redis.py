"""The engine over Redis: replicas, sentinels, clusters, rights, and what the doctor says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from servers import Certificates, RedisCluster, RedisServer, SentinelServer, eventually, redis62, relay, until, valkey9
from vedette import Diagnosis, EngineConflict, EngineUnavailable
from vedette.advice import Grade
from vedette_checks.redis.engine import RedisEngine, RedisEngineConfig
from vedette_checks.redis.scripts import WRITE

from .conftest import answered

pytestmark = pytest.mark.anyio

SECRET = "hunter2-is-secret"
RIGHTS = "resetchannels ~vedette:fleet:{default}:* &vedette:fleet:{default}:* +eval +evalsha +hget +hgetall +hset "
RIGHTS += "+hdel +info +publish +subscribe +select +client|setname +ping"
"""What docs/engines.md tells to give; `test_the_documented_rights_are_those` holds it to that."""

Opening = Callable[..., Awaitable[RedisEngine]]


def config(**options: Any) -> RedisEngineConfig:
    return RedisEngineConfig.model_validate({"backend": "redis", "ttl": 30, **options})


@pytest.fixture
async def opened() -> AsyncIterator[Opening]:
    made: list[RedisEngine] = []

    async def open_(server: RedisServer | None = None, **options: Any) -> RedisEngine:
        if server is not None:
            options = {"host": "127.0.0.1", "port": server.port, **options}
        made.append(RedisEngine(config(**options)))
        await made[-1].open()
        return made[-1]

    yield open_
    for engine in made:
        await engine.close()
    await asyncio.sleep(0)


Starting = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starting]:
    made: list[RedisServer] = []

    def start_(kind: type[RedisServer] = RedisServer, *arguments: Any, **options: Any) -> Any:
        binary = options.pop("binary", valkey9)
        made.append(kind(binary(), tmp_path / f"server{len(made)}", *arguments, **options))
        made[-1].start()
        return made[-1]

    yield start_
    for server in made:
        server.kill()


@pytest.fixture(scope="module", params=[redis62, valkey9], ids=["redis6.2", "valkey9"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(request.param(), tmp_path_factory.mktemp("fleet"))
    server.start()
    yield server
    server.kill()


def pair(start: Starting) -> tuple[RedisServer, RedisServer]:
    master = start(repl_diskless_sync_delay=0)
    replica = start(replica_of=master)
    until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica's link")
    return master, replica


async def test_a_replica_answers_nothing_and_counts_where_asked_for(start: Starting, opened: Opening) -> None:
    master, replica = pair(start)
    lagging, engine = await opened(replica), await opened(master, replicas=1, ttl=2)
    known = await engine.write("members/a", "{}", None)
    for request in (
        lagging.read("members/"),
        lagging.get("members/a"),
        lagging.write("members/a", "{}", known),
        lagging.write("members/a", "{}", "stale"),
        lagging.remove("members/a", "stale"),
    ):
        with pytest.raises(EngineUnavailable, match="is a replica, which keeps no records; give its primary"):
            await request
    replica.pause()  # so is a master that was cut off: it has nobody who confirms
    try:
        with pytest.raises(EngineUnavailable, match=r"0 of 1 replicas have what was written|did not answer"):
            await engine.write("members/a", "{}", known)
    finally:
        replica.resume()


async def test_sentinels_lead_to_the_new_master(start: Starting, opened: Opening) -> None:
    master, replica = pair(start)
    sentinel: Any = start(SentinelServer, master)
    until(lambda: sentinel.sees(replicas=1), "the sentinel to see the replica")
    place = {"addresses": [f"127.0.0.1:{sentinel.port}"], "master": "mymaster"}
    engine = await opened(sentinel=place, replicas=1)
    known = await engine.write("members/a", "{}", None)
    master.kill()
    await eventually(lambda: sentinel.master() == replica.port, "the failover")
    await eventually(lambda: replica.info("replication")["role"] == "master", "the new master")
    alone = await opened(sentinel=place)
    record = await alone.get("members/a")
    assert record is not None
    assert record.revision.partition("@")[0] == known.partition("@")[0]
    assert record.memory != known.partition("@")[2]  # it may lack what the old one had acknowledged
    with pytest.raises(EngineConflict):
        await alone.write("members/a", "{}", known)
    with pytest.raises(EngineUnavailable, match=f"nothing listens on 127.0.0.1:{master.port}"):
        await engine.get("members/a")
    assert await answered(lambda: engine.get("members/a")) == record  # the failure made it ask again

    master.options["replicaof"] = f"127.0.0.1 {replica.port}"
    master.start()  # as the sentinel would make it
    await eventually(lambda: master.info("replication")["role"] == "slave", "the old master to follow")
    with pytest.raises(EngineUnavailable, match="is a replica"):
        await (await opened(master)).get("members/a")
    wrong = await opened(sentinel={**place, "master": "other"})
    with pytest.raises(EngineUnavailable, match=r"knows no master other; check `sentinel.master`"):
        await wrong.get("members/a")


async def test_in_a_cluster_a_fleet_lives_on_one_node(tmp_path: Path, opened: Opening) -> None:
    cluster = RedisCluster(valkey9(), tmp_path, 3)
    await asyncio.to_thread(cluster.start)
    try:
        homes = set()
        for name in ("default", "a", "b"):
            options = {"name": name, "cluster": {"addresses": [f"127.0.0.1:{cluster.nodes[0].port}"]}}
            engine = await opened(**options)
            member = await engine.write("members/a", "{}", None)
            guard = await engine.get("members/a")
            assert guard is not None
            assert guard.revision == member
            await engine.write("claims/x", "{}", None, guard)
            (home,) = [node for node in cluster.nodes if node.command("DBSIZE")]
            homes.add(home.port)
            # the slot moves elsewhere, as when a cluster grows
            slot = home.cluster("KEYSLOT", f"vedette:fleet:{{{name}}}:members")
            other = next(node for node in cluster.nodes if node is not home)
            other.cluster("SETSLOT", slot, "IMPORTING", home.id)
            home.cluster("SETSLOT", slot, "MIGRATING", other.id)
            keys = home.cluster("GETKEYSINSLOT", slot, 10)
            home.command("MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", *keys)
            moved = await engine.get("members/a")  # by ASK
            assert moved is not None
            assert (moved.key, moved.value) == (guard.key, guard.value)
            for node in (other, home):
                node.cluster("SETSLOT", slot, "NODE", other.id)
            assert await engine.get("members/a") == moved  # by MOVED
            with pytest.raises(EngineConflict):  # another server's memory
                await engine.write("claims/y", "{}", None, guard)
            assert await engine.write("claims/y", "{}", None, moved)
            other.command("FLUSHALL")
        assert len(homes) > 1
    finally:
        cluster.stop()


async def test_a_write_that_is_sent_twice_is_made_once(shared: RedisServer, opened: Opening) -> None:
    engine = await opened(shared, name="twice")
    first = await engine.write("members/a", "{}", None)
    key, made = "vedette:fleet:{twice}:members", "f" * 24
    with shared.client() as client:
        sent = (WRITE.text, 2, key, key, "a", first, made, "0" * 8, "{}", "channel", "", "")
        memory = f"@{first.partition('@')[2]}"
        assert [client.eval(*sent) for _ in range(2)] == [[1, memory.encode()]] * 2
        record = await engine.get("members/a")
        assert record is not None
        assert record.revision == made + memory
        stale = (*sent[:5], f"{first.partition('@')[0]}@0123456789abcdef", *sent[6:])
        assert client.eval(*stale) == [0]  # the second time to a server that took over: it may lack other writes
        await engine.remove("members/a", made + memory)
        assert client.eval(*sent) == [0]  # late: it brings nothing back
        client.script_flush()
    assert await engine.get("members/a") is None
    assert await engine.write("members/a", "{}", None)


async def test_over_tls_and_with_a_password(
    shared: RedisServer, opened: Opening, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificates = Certificates.make(tmp_path_factory.mktemp("tls"))
    login = {"username": "fleet", "password": SECRET}
    shared.command("ACL", "SETUSER", "fleet", "reset", "on", f">{SECRET}", *RIGHTS.split())
    async with relay(shared.port, tls=certificates.server_side()) as port:
        engine = await opened(host="127.0.0.1", port=port, tls=True, ca_file=certificates.ca, **login)
        revision = await engine.write("members/tls", "{}", None)
        await engine.remove("members/tls", revision)
        strange = await opened(host="127.0.0.1", port=port, tls=True, **login)
        with pytest.raises(EngineUnavailable, match=r"the certificate of 127.0.0.1:\d+ is not valid"):
            await strange.get("members/tls")
    wrong = await opened(shared, username="fleet", password=f"not-{SECRET}")
    with pytest.raises(EngineUnavailable, match="refused the user name or the password") as caught:
        await wrong.get("members/a")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(wrong.config)


async def doctor(engine: RedisEngine) -> dict[str, tuple[Grade, str, str, str]]:
    diagnosis = Diagnosis()
    await engine.diagnose(diagnosis)
    return {one.what: (one.grade, one.seen, one.hint, one.snippet) for one in diagnosis.symptoms}


async def every_request(engine: RedisEngine) -> None:
    revision = await engine.write("members/r", "{}", None)
    await engine.get("members/r")
    await engine.read("members/")
    await engine.remove("members/r", revision)


async def test_the_documented_rights_are_those(shared: RedisServer, opened: Opening) -> None:
    """Each is needed, the doctor says which is missing, and what it says mends it."""
    shared.command("ACL", "SETUSER", "fleet", "reset", "on", f">{SECRET}", *RIGHTS.split())
    login = {"username": "fleet", "password": SECRET}
    assert (await doctor(await opened(shared, **login)))["rights"][0] is Grade.OK
    for right in ("+eval", "+evalsha", "+hget", "+hgetall", "+hset", "+hdel", "+info", "~vedette:fleet:{default}:*"):
        rules = [rule for rule in RIGHTS.split() if rule != right]
        shared.command("ACL", "SETUSER", "fleet", "reset", "on", f">{SECRET}", *rules)
        engine = await opened(shared, **login)
        shared.command("SCRIPT", "FLUSH")
        with pytest.raises(EngineUnavailable, match=r"the user fleet (may not|lacks rights)[^\n]*$"):
            await every_request(engine)
        found = await doctor(engine)
        assert found["rights"][0] is Grade.FAILED, right
        assert found["rights"][3] == f"ACL SETUSER fleet {right}"
        shared.command(*found["rights"][3].split())
        assert (await doctor(await opened(shared, **login)))["rights"][0] is Grade.OK, right
        shared.command("DEL", "vedette:fleet:{default}:members")


async def test_without_the_right_to_publish_hints_are_all_that_is_missing(shared: RedisServer, opened: Opening) -> None:
    rules = [rule for rule in RIGHTS.split() if rule not in ("+publish", "&vedette:fleet:{default}:*")]
    shared.command("ACL", "SETUSER", "mute", "reset", "on", f">{SECRET}", "resetchannels", *rules)
    engine = await opened(shared, username="mute", password=SECRET)
    revision = await engine.write("members/m", "{}", None)
    await engine.remove("members/m", revision)
    with pytest.raises(EngineConflict):
        await engine.write("members/m", "{}", revision)
    grade, seen, _, snippet = (await doctor(engine))["rights"]
    assert (grade, seen) == (Grade.WARNING, "the user mute may not publish: others hear of changes late")
    shared.command(*snippet.split())
    snippet = (await doctor(await opened(shared, username="mute", password=SECRET)))["rights"][3]
    if snippet:  # the command first, then the channel
        shared.command(*snippet.split())
    assert (await doctor(await opened(shared, username="mute", password=SECRET)))["rights"][0] is Grade.OK


async def test_the_doctor_looks_at_what_keeps_the_records(start: Starting, opened: Opening) -> None:
    server = start(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    found = await doctor(await opened(server))
    assert found["TCP"][0] is Grade.OK
    assert found["login"] == (Grade.OK, f"127.0.0.1:{server.port} as the user default", "", "")
    grade, seen, _, snippet = found["persistence"]
    assert (grade, snippet) == (Grade.WARNING, "CONFIG SET appendonly yes")
    assert seen == "none: a restart forgets all of who runs what and how far it came"
    grade, seen, _, snippet = found["eviction"]
    assert (grade, snippet) == (Grade.FAILED, "CONFIG SET maxmemory-policy noeviction")
    assert seen.startswith("allkeys-lru: ")
    for line in (found["persistence"][3], snippet):
        server.command(*line.split())
    found = await doctor(await opened(server))
    assert found["persistence"][:2] == (Grade.OK, "appendonly")
    assert found["eviction"][:2] == (Grade.OK, "noeviction")
    assert "replicas" not in found
    assert server.command("DBSIZE") == 0
    found = await doctor(await opened(server, replicas=1))
    assert found["replicas"][:2] == (Grade.FAILED, "0 are connected, and `replicas` asks for 1")
    server.kill()
    found = await doctor(await opened(server))
    assert (found["TCP"][0], found["login"][0], found["rights"][0]) == (
        Grade.FAILED,
        Grade.NOT_REACHED,
        Grade.NOT_REACHED,
    )


async def test_the_doctor_tells_a_replica_and_a_pair_that_forgets(start: Starting, opened: Opening) -> None:
    master, replica = pair(start)
    found = await doctor(await opened(replica))
    assert found["login"][:2] == (Grade.FAILED, f"127.0.0.1:{replica.port} is a replica, which keeps no records")
    grade, seen, _, snippet = (await doctor(await opened(master)))["replicas"]
    assert (grade, snippet) == (Grade.WARNING, "replicas: 1")
    assert seen == "1 connected, and no write waits for them: a failover may forget the newest"
    assert (await doctor(await opened(master, replicas=1)))["replicas"][0] is Grade.OK


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"url": "redis://:hunter2@cache"}, ""),
        ({"url": "redis://:hunter2@cache", "host": "other"}, "`url` says it all: leave out host"),
        ({"url": "http://:hunter2@cache"}, "must look like redis://host:6379/0"),
        ({"username": "fleet"}, "`username` needs `password`"),
        ({"cluster": {"addresses": ["a"]}, "sentinel": {"addresses": ["a"], "master": "m"}}, "not both"),
        ({"replicas": -1}, "greater than or equal to 0"),
        ({"hots": "cache"}, "Extra inputs are not permitted"),
    ],
)
def test_options_are_the_checks_own(options: dict[str, Any], wrong: str) -> None:
    if not wrong:
        assert config(**options).address.host == "cache"
        return
    with pytest.raises(ValidationError, match=re.escape(wrong)):
        config(**options)
