"""Lengths of named keys, the round trip, and a user with few rights."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import vedette_checks.redis
from servers import RedisServer, until
from vedette import Status

from .driver import Servers, Watches

pytestmark = pytest.mark.anyio

README = Path(vedette_checks.redis.__file__).with_name("README.md")


async def test_lengths_by_type(server: RedisServer, watch: Watches) -> None:
    with server.client(db=3) as client:
        client.rpush("a list", 1, 2, 3)
        client.sadd("set", 1, 2)
        client.zadd("zset", {"a": 1})
        client.hset("hash", mapping={"a": "1", "b": "2", "c": "3", "d": "4"})
        client.xadd("stream", {"f": "v"})
        client.set("string", "hello")
    lengths = {"a list": ("list", 3), "set": ("set", 2), "zset": ("zset", 1), "hash": ("hash", 4)}
    lengths |= {"stream": ("stream", 1), "string": ("string", 5)}
    watched = watch(server, db=3, keys=list(lengths), round_trip=False)
    for _ in range(2):  # the first run has to ask for the types before it can ask for the lengths
        outcome = await watched.run()
        for key, (kind, length) in lengths.items():
            sample = outcome.sample("redis.key.length", f"key:{key}", f"key_type:{kind}")
            assert sample.value == length, key
            assert {"redis_db:db3", "redis_role:master", "instance:test"} <= set(sample.tags)
        assert len(outcome.samples("redis.key.length")) == len(lengths)
        assert outcome.status("redis.reads").status is Status.OK


async def test_a_key_that_changes_its_type_or_goes(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, keys=["jobs"])
    never = (await watched.run()).sample("redis.key.length", "key:jobs")
    assert never.value == 0
    assert not [tag for tag in never.tags if tag.startswith("key_type:")]
    server.command("RPUSH", "jobs", 1, 2)
    assert (await watched.run()).value("redis.key.length", "key_type:list") == 2
    server.command("DEL", "jobs")
    assert (await watched.run()).value("redis.key.length", "key_type:list") == 0  # an empty list is no key
    server.command("SADD", "jobs", 1)
    outcome = await watched.run()
    assert outcome.value("redis.key.length", "key_type:set") == 1
    assert len(outcome.samples("redis.key.length")) == 1


async def test_hostile_key_names(server: RedisServer, watch: Watches) -> None:
    names = ["with\nnewline", "*", "[a-z]", "sn\u2603w", "a:b:c", "True"]
    for length, name in enumerate(names, 1):
        server.command("SET", name, "x" * length)
    outcome = await watch(server, keys=names).run()
    assert sorted(sample.value for sample in outcome.samples("redis.key.length")) == [1, 2, 3, 4, 5, 6]  # type: ignore[type-var]
    assert outcome.value("redis.key.length", "key:with_newline") == 1


async def test_round_trip(server: RedisServer, watch: Watches) -> None:
    watched = watch(server)
    await watched.run()
    server.command("CONFIG", "SET", "notify-keyspace-events", "AKE")
    with server.client() as client, client.pubsub() as listening:
        listening.psubscribe("__keyevent@0__:*")
        listening.get_message(timeout=5)
        outcome = await watched.run()
        events = [listening.get_message(timeout=5) for _ in range(3)]
        assert client.dbsize() == 0
    keys = {event["data"] for event in events if event}
    assert [event["channel"].decode().partition(":")[2] for event in events if event] == ["set", "expire", "del"]
    assert len(keys) == 1
    assert keys.pop().startswith(b"vedette:round_trip:")
    assert outcome.status("redis.round_trip").status is Status.OK
    assert 0 < outcome.value("redis.round_trip.latency_ms") < 5000  # type: ignore[operator]


async def test_every_round_trip_has_a_key_of_its_own_with_a_time_to_live(server: RedisServer, watch: Watches) -> None:
    server.command("ACL", "SETUSER", "nodel", "on", ">pw", "~*", "+@all", "-del")
    watched = watch(server, username="nodel", password="pw")
    for runs in (1, 2):
        status = (await watched.run()).status("redis.round_trip")
        assert (status.status, status.message) == (
            Status.WARNING,
            "round trip: the user nodel may not run DEL; ACL SETUSER nodel +del",
        )
        with server.client() as client:
            keys: list[bytes] = client.keys("vedette:round_trip:*")
            assert len(keys) == runs
            assert all(0 < client.ttl(key) <= 60 for key in keys)


async def test_no_round_trip(server: RedisServer, watch: Watches) -> None:
    outcome = await watch(server, round_trip=False).run()
    assert "redis.round_trip.latency_ms" not in outcome.names
    assert "redis.round_trip" not in {status.name for status in outcome.batch.statuses}


async def test_round_trip_on_a_replica_is_a_finding(servers: Servers, watch: Watches) -> None:
    primary = servers(repl_diskless_sync_delay=0)
    replica = servers(replica_of=primary)
    await asyncio.to_thread(until, lambda: replica.info("replication")["master_link_status"] == "up", "the link")
    expected = (Status.WARNING, "round trip: the server is a read-only replica; set `round_trip: false` there")
    outcome = await watch(replica).run()
    status = outcome.status("redis.round_trip")
    assert (status.status, status.message) == expected
    assert outcome.error is None
    assert outcome.status("redis.can_connect").status is Status.OK
    assert "cmdstat_set" not in replica.info("commandstats")  # the server is not asked what it is known to refuse

    replica.command("ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-info")
    status = (await watch(replica, username="blind", password="pw").run()).status("redis.round_trip")
    assert (status.status, status.message) == expected  # now it is asked, since INFO does not tell


async def test_the_rights_in_the_readme_suffice(server: RedisServer, watch: Watches) -> None:
    (line,) = re.findall(r"^ACL SETUSER .*$", README.read_text(), re.MULTILINE)
    with server.client() as client:
        client.rpush("jobs", 1, 2)
        client.set("hourly_transactions:1", 7)
        client.execute_command(*line.replace("PASSWORD", "pw").split())
    counters = [{"metric": "app.total", "key": "hourly_transactions:1"}]
    watched = watch(server, username="vedette", password="pw", command_stats=True, keys=["jobs"], counters=counters)
    for _ in range(2):
        outcome = await watched.run()
        assert outcome.error is None
        assert outcome.value("app.total") == 7
        assert outcome.value("redis.key.length", "key:jobs") == 2
        said = {status.name: (status.status, status.message) for status in outcome.batch.statuses}
        fine = (Status.OK, "")
        assert said == {"redis.can_connect": fine, "redis.reads": fine, "redis.round_trip": fine}


async def test_what_a_user_may_not_do_is_named(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.set("total:1", 7)
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "+get", "~nothing")
    counters = [{"metric": "app.total", "key": "total:{%Y}"}, {"metric": "app.users", "key": "u", "read": "scard"}]
    options: dict[str, Any] = {"username": "poor", "password": "pw", "command_stats": True, "keys": ["jobs"]}
    outcome = await watch(server, **options, counters=counters).run()
    assert outcome.error is None
    assert outcome.status("redis.can_connect").status is Status.OK
    status = outcome.status("redis.reads")
    assert status.status is Status.WARNING
    assert status.message.split("; ") == [
        "the user poor may not run INFO",
        "ACL SETUSER poor +info",
        "the user poor may not run PING",
        "ACL SETUSER poor +ping",
        "keys: jobs: the user poor may not run TYPE",
        "ACL SETUSER poor +type",
        "app.total (get total:{%Y}): the user poor may not read total:*",
        "ACL SETUSER poor ~total:*",
        "app.users (scard u): the user poor may not run SCARD",
        "ACL SETUSER poor +scard",
    ]
    round_trip = outcome.status("redis.round_trip")
    assert (round_trip.status, round_trip.message) == (
        Status.WARNING,
        "round trip: the user poor may not run SET; ACL SETUSER poor +set",
    )
    assert not outcome.batch.samples


async def test_the_hints_help(server: RedisServer, watch: Watches) -> None:
    """Following the hints one by one leads to a run without findings."""
    server.command("ACL", "SETUSER", "poor", "on", ">pw")
    server.command("SET", "total:2026", 7)
    watched = watch(server, username="poor", password="pw", keys=["jobs"], counters=[
        {"metric": "app.total", "key": "total:2026"}
    ])  # fmt: skip
    for _ in range(20):
        outcome = await watched.run()
        messages = [status.message for status in outcome.batch.statuses if status.message]
        hints = [part for message in messages for part in message.split("; ") if part.startswith("ACL")]
        if not hints:
            break
        for hint in hints:
            server.command(*hint.split())
    assert [status.message for status in outcome.batch.statuses] == ["", "", ""]
    assert outcome.value("app.total") == 7


async def test_a_user_of_its_own_and_a_unix_socket(server: RedisServer, watch: Watches) -> None:
    server.command("ACL", "SETUSER", "w\u00e4chter", "on", ">p@ss/w\u00f6rd", "~*", "+@all")
    path = str(server.socket_path)
    for options in (
        {"unix_socket_path": path, "username": "w\u00e4chter", "password": "p@ss/w\u00f6rd", "db": 2},
        {"url": f"unix://w%C3%A4chter:p%40ss%2Fw%C3%B6rd@{path}?db=2"},
    ):
        server.command("CONFIG", "RESETSTAT")
        watched = watch(**options, keys=["k"])
        outcome = await watched.run()
        assert outcome.error is None
        tags = {"instance:test", f"redis_host:{path}", "redis_port:unix_socket", "redis_role:master"}
        assert set(outcome.sample("redis.net.clients").tags) == tags
        assert "redis_db:db2" in outcome.sample("redis.key.length").tags
        with server.client() as client:
            listed: list[dict[str, str]] = client.client_list()
            mine = [row for row in listed if row["name"] == "vedette"]
        assert [row["db"] for row in mine] == ["2"]
        await watched.check.close()
        await asyncio.to_thread(until, lambda: server.info()["connected_clients"] == 1, "the connection to be closed")
