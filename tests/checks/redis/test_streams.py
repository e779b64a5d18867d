"""Streams and consumer groups, against what the server itself says."""

from __future__ import annotations

from typing import Any

import pytest

from servers import RedisServer, redis62
from vedette import Status

from .driver import Servers, Watches

pytestmark = pytest.mark.anyio

GROUP = "redis.stream.group."


def server_time(server: RedisServer) -> float:
    seconds, micros = server.command("TIME")
    return float(seconds) + float(micros) / 1e6


async def test_length_groups_pending_and_lag(server: RedisServer, watch: Watches) -> None:
    with server.client(db=2) as client:
        for n in range(10):
            client.xadd("orders", {"n": n})
        client.xgroup_create("orders", "billing", "0")
        client.xgroup_create("orders", "mail", "0")
        client.xgroup_create("orders", "idle", "$")
        client.xreadgroup("billing", "one", {"orders": ">"}, count=4)
        client.xreadgroup("billing", "two", {"orders": ">"}, count=2)
        ((_, entries),) = client.xreadgroup("mail", "one", {"orders": ">"}, count=10)
        client.xack("orders", "mail", *(entry for entry, _ in entries[:7]))
        oldest_billing, oldest_mail = entries[0][0], entries[7][0]
    watched = watch(server, db=2, streams=["orders"])
    before = server_time(server)
    outcome = await watched.run()
    after = server_time(server)
    assert outcome.status("redis.reads").status is Status.OK
    assert outcome.value("redis.stream.length", "stream:orders", "redis_db:db2", "redis_role:master") == 10
    assert outcome.value("redis.stream.groups", "stream:orders") == 3
    expected = {"billing": (6, 2, 4), "mail": (3, 1, 0), "idle": (0, 0, 0)}
    for group, (pending, consumers, lag) in expected.items():
        tags = ("stream:orders", f"group:{group}", "redis_db:db2")
        assert outcome.value(GROUP + "pending", *tags) == pending
        assert outcome.value(GROUP + "consumers", *tags) == consumers
        if server.binary == redis62():
            assert GROUP + "lag" not in outcome.names
        else:
            assert outcome.value(GROUP + "lag", *tags) == lag
    for group, oldest in (("billing", oldest_billing), ("mail", oldest_mail)):
        born = int(oldest.partition(b"-")[0]) / 1000
        age = outcome.value(GROUP + "oldest_pending_seconds", f"group:{group}")
        assert before - born <= age <= after - born  # type: ignore[operator]
    assert len(outcome.samples(GROUP + "oldest_pending_seconds")) == 2
    born = int(entries[-1][0].partition(b"-")[0]) / 1000
    age = outcome.value("redis.stream.last_entry_age_seconds", "stream:orders")
    assert before - born <= age <= after - born  # type: ignore[operator]


async def test_the_lag_is_absent_where_the_server_cannot_tell(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        ids = [client.xadd("s", {"n": n}) for n in range(5)]
        client.xgroup_create("s", "g", ids[1])  # an id in the middle: how many came before is not known
        client.xdel("s", ids[3])
    outcome = await watch(server, streams=["s"]).run()
    assert GROUP + "lag" not in outcome.names
    assert outcome.value(GROUP + "pending") == 0
    assert outcome.value("redis.stream.length") == 4


async def test_ids_that_hold_no_time(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.xadd("s", {"n": 1}, id="7-1")
        client.xgroup_create("s", "g", "0")
        client.xreadgroup("g", "c", {"s": ">"})
    outcome = await watch(server, streams=["s"]).run()
    assert outcome.value(GROUP + "pending") == 1
    assert {"redis.stream.last_entry_age_seconds", GROUP + "oldest_pending_seconds"}.isdisjoint(outcome.names)


async def test_a_stream_that_is_not_there_or_none(server: RedisServer, watch: Watches) -> None:
    server.command("RPUSH", "list", 1)
    server.command("XADD", "empty", "MAXLEN", 0, "*", "a", 1)
    outcome = await watch(server, streams=["nowhere", "list", "empty"]).run()
    assert outcome.value("redis.stream.length", "stream:nowhere") == 0
    assert outcome.value("redis.stream.length", "stream:empty") == 0
    assert outcome.value("redis.stream.groups", "stream:empty") == 0
    status = outcome.status("redis.reads")
    assert (status.status, status.message) == (Status.WARNING, "streams: list: the key is not a stream; leave it out")
    assert len(outcome.samples("redis.stream.length")) == 2


async def test_hostile_names_and_more_groups_than_the_limit(server: RedisServer, watch: Watches) -> None:
    stream, groups = 'it\'s\n"a" \U0001f600', ["a\nb", "True", "\U0001f600", "{x}", "z1", "z2"]
    with server.client() as client:
        client.xadd(stream, {"n": 1})
        client.xadd(stream, {"n": 2})
        for group in groups:
            client.xgroup_create(stream, group, "0")
            client.xreadgroup(group, "c", {stream: ">"}, count=1)
    here = 'stream:it\'s_"a" \U0001f600'
    outcome = await watch(server, streams=[stream]).run()
    for group in ("a_b", "true", "\U0001f600", "{x}", "z1", "z2"):
        assert outcome.value(GROUP + "pending", here, f"group:{group}") == 1
    assert len(outcome.samples(GROUP + "oldest_pending_seconds")) == 6

    outcome = await watch(server, streams=[stream], tag_limit=4).run()
    assert len(outcome.samples(GROUP + "pending")) == 5
    assert outcome.value(GROUP + "pending", here, "group:other") == 2
    assert outcome.value(GROUP + "consumers", here, "group:other") == 2
    if server.binary != redis62():
        assert outcome.value(GROUP + "lag", here, "group:other") == 2
    assert len(outcome.samples(GROUP + "oldest_pending_seconds")) == 4
    assert outcome.value("redis.tags.cut", "of:streams") == 2


async def test_rights_are_named_and_the_rest_goes_on(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        for stream in ("mine", "yours"):
            client.xadd(stream, {"n": 1})
            client.xgroup_create(stream, "g", "0")
            client.xreadgroup("g", "c", {stream: ">"})
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "+info", "+ping", "+xinfo", "~mine")
    options: dict[str, Any] = {"username": "poor", "password": "pw", "round_trip": False}
    outcome = await watch(server, **options, streams=["yours", "mine"]).run()
    assert outcome.value(GROUP + "pending", "stream:mine") == 1
    assert outcome.status("redis.reads").message.split("; ") == [
        "streams: yours: the user poor may not read yours",
        "ACL SETUSER poor ~yours",
        "streams: mine: the user poor may not run XPENDING",
        "ACL SETUSER poor +xpending",
    ]


async def test_restart_between_two_runs(servers: Servers, watch: Watches) -> None:
    server = servers()
    server.command("XADD", "s", "*", "a", 1)
    watched = watch(server, streams=["s"])
    assert (await watched.run()).value("redis.stream.length") == 1
    server.restart()
    assert (await watched.run()).value("redis.stream.length") == 0
