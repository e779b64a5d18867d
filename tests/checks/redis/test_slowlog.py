"""The slow log: every entry once, no argument ever, whatever happens to the server in between."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from servers import RedisServer
from vedette import Kind, Status
from vedette.emit import Channel, Emit
from vedette_checks.redis import Redis
from vedette_checks.redis.address import Address
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.options import SlowlogConfig
from vedette_checks.redis.part import Scene
from vedette_checks.redis.slowlog import Slowlog

from .driver import NOW, Outcome, Servers, Watches

pytestmark = pytest.mark.anyio


def slow(server: RedisServer, *commands: tuple[str | int, ...]) -> dict[str, list[int]]:
    """Have these commands logged, and nothing else; returns what the server says they took, newest first."""
    with server.client() as client:
        before = client.slowlog_get(10_000)
        client.config_set("slowlog-max-len", 10_000)
        client.config_set("slowlog-log-slower-than", 0)
        for command in commands:
            client.execute_command(*command)
        client.config_set("slowlog-log-slower-than", -1)
        entries = client.slowlog_get(10_000)
    known = max((entry["id"] for entry in before), default=-1)
    took: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if entry["id"] > known:
            took[entry["command"].split()[0].decode().lower()].append(entry["duration"])
    return took


def reported(outcome: Outcome) -> dict[str, list[int]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for sample in outcome.samples("redis.slowlog.micros"):
        assert sample.kind is Kind.HISTOGRAM
        (command,) = (tag.removeprefix("command:") for tag in sample.tags if tag.startswith("command:"))
        found[command].append(sample.value)
    return found


async def test_new_entries_once_and_old_ones_never(server: RedisServer, watch: Watches) -> None:
    assert slow(server, ("SET", "old", 1))["set"]
    watched = watch(server, slowlog={})
    first = await watched.run()
    assert not reported(first)
    took = slow(server, ("SET", "a", 1), ("GET", "a"), ("get", "b"))
    assert {command: len(times) for command, times in took.items()} == {"config": 1, "set": 1, "get": 2}
    second = await watched.run()
    assert reported(second) == took
    assert "redis.slowlog.missed" not in second.names
    tags = {"instance:test", "redis_host:127.0.0.1", f"redis_port:{server.port}", "redis_role:master", "command:set"}
    assert set(second.sample("redis.slowlog.micros", "command:set").tags) == tags
    third = await watched.run()
    assert not reported(third)
    assert not third.batch.commits  # nothing new: nothing to write to disk


async def test_a_restarted_agent_goes_on_where_the_last_one_stopped(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={})
    await watched.run()
    took = slow(server, ("SET", "a", 1))
    again = watch(server, slowlog={}, state=watched.state)
    assert reported(await again.run()) == took


async def test_a_batch_that_was_not_delivered_is_collected_again(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={})
    await watched.run()
    before = dict(watched.state)
    took = slow(server, ("SET", "a", 1))
    assert reported(await watched.run()) == took
    watched.state.clear()
    watched.state.update(before)
    assert reported(await watched.run()) == took


async def test_more_than_a_glance_is_asked_for_when_it_is_new(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={})
    await watched.run()
    took = slow(server, *[("SET", f"k{n}", n) for n in range(50)])
    calls = server.info("commandstats")
    assert reported(await watched.run()) == took
    name = next(name for name in calls if name.startswith("cmdstat_slowlog"))
    assert server.info("commandstats")[name]["calls"] - calls[name]["calls"] == 2


async def test_more_than_the_limit_is_counted_as_missed(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={"limit": 20})
    await watched.run()
    took = slow(server, *[("SET", f"k{n}", n) for n in range(50)])
    outcome = await watched.run()
    assert reported(outcome) == {"set": took["set"][:20]}
    missed = outcome.sample("redis.slowlog.missed")
    assert (missed.value, missed.kind) == (31, Kind.COUNT)  # CONFIG is the other one
    assert not reported(await watched.run())


async def test_slowlog_reset(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={})
    await watched.run()
    slow(server, ("SET", "lost", 1))
    server.command("SLOWLOG", "RESET")
    empty = await watched.run()
    assert not reported(empty)
    took = slow(server, ("SET", "a", 1))
    outcome = await watched.run()
    assert reported(outcome) == took
    assert outcome.value("redis.slowlog.missed") == 2  # SET and CONFIG


async def test_restart_of_the_server(servers: Servers, watch: Watches) -> None:
    server = servers()
    slow(server, *[("SET", f"k{n}", n) for n in range(20)])
    watched = watch(server, slowlog={})
    await watched.run()
    slow(server, ("SET", "lost", 1))
    server.restart()
    took = slow(server, ("SET", "a", 1), ("GET", "a"))
    outcome = await watched.run()
    assert reported(outcome) == took
    assert "redis.slowlog.missed" not in outcome.names
    assert not reported(await watched.run())


async def test_no_argument_leaves_the_check(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={}, acl_log=True, clients=True)
    await watched.run()
    secret = "card-4111111111111111"
    slow(
        server,
        ("SET", secret, secret),
        ("EVAL", f"return '{secret}'", 0),
        ("sEt", "x", f'it\'s\n"{secret}" \U0001f600'),
    )
    outcome = await watched.run()
    assert sorted(reported(outcome)) == ["config", "eval", "set"]
    assert secret not in repr(outcome.batch)


async def test_commands_beyond_the_limit_share_a_tag(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, slowlog={}, tag_limit=2)
    await watched.run()
    took = slow(server, ("SET", "a", 1), ("GET", "a"), ("DEL", "a"))  # newest first: del, get, set, config
    outcome = await watched.run()
    assert reported(outcome) == {"del": took["del"], "get": took["get"], "other": took["set"] + took["config"]}
    assert outcome.value("redis.tags.cut", "of:slowlog") == 2


class Bench:
    """The part by itself, on a server that does not exist."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.part = Slowlog(SlowlogConfig.model_validate({}), 10, state)
        self.state = state

    def run(self, entries: list[list[Any]], **info: str) -> list[Any]:
        channel = Channel("redis/test", "redis", Redis.metrics, ())
        emit = Emit(channel, NOW)
        scene = Scene(emit, Advisor(Address(), 1.0), (), info, NOW)
        list(self.part.commands())
        assert not list(self.part.take(iter([entries]), scene))
        self.part.settle(scene)
        batch = emit.batch()
        self.state.update(batch.commits)
        return [sample.value for sample in batch.samples]


def entry(number: int, age: int, micros: int, command: bytes = b"GET") -> list[Any]:
    return [number, int(NOW) - age, micros, [command, b"key"], b"127.0.0.1:1", b""]


def test_another_server_takes_over() -> None:
    """Its numbers say nothing: what is older than the last run is old, on a server that ran all the time."""
    bench = Bench({"slowlog": {"server": "a", "number": 5, "time": NOW - 60}})
    assert bench.run([entry(9, 10, 3), entry(8, 61, 2)], run_id="b", uptime_in_seconds="5000") == [3]
    assert bench.run([entry(9, 10, 3), entry(8, 61, 2)], run_id="b", uptime_in_seconds="5000") == []
    assert bench.run([entry(10, 0, 4), entry(9, 10, 3)], run_id="b", uptime_in_seconds="5000") == [4]


def test_names_that_no_server_would_give_a_command() -> None:
    bench = Bench({"slowlog": {"server": "a", "number": 5, "time": NOW - 60}})
    channel = Channel("redis/test", "redis", Redis.metrics, ())
    emit = Emit(channel, NOW)
    scene = Scene(emit, Advisor(Address(), 1.0), (), {"run_id": "a"}, NOW)
    names = [b"a b", b"\xff\xfe", b"x\ny", "\U0001f600".encode(), b'"', b"x" * 65, b"", b"json.set"]
    bench.part.take(iter([[entry(6 + n, 0, n, name) for n, name in enumerate(names)][::-1]]), scene)
    bench.part.settle(scene)
    tags = [(sample.value, sample.tags) for sample in emit.batch().samples]
    assert sorted(tags) == [*((n, ("command:other",)) for n in range(7)), (7, ("command:json.set",))]


@pytest.mark.parametrize("stored", [None, 5, "x", [], {}, {"server": "a"}, {"server": "a", "number": "x", "time": 0}])
def test_a_state_that_is_none_begins_anew(stored: Any) -> None:
    bench = Bench({"slowlog": stored})
    assert bench.run([entry(9, 10, 3)], run_id="a") == []
    assert bench.run([entry(10, 0, 4), entry(9, 10, 3)], run_id="a") == [4]


async def test_status_is_fine(server: RedisServer, watch: Watches) -> None:
    outcome = await watch(server, slowlog={}).run()
    assert outcome.status("redis.reads").status is Status.OK
