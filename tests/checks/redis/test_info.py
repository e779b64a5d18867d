"""What a run reports is what the server itself says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from servers import RedisServer, until
from vedette import Emit, Kind, Status
from vedette_checks.redis.info import emit_replication, number, pairs, parse_info

from .driver import Outcome, Servers, Watches

pytestmark = pytest.mark.anyio

GAUGES = {
    "redis.active_defrag.hits": "active_defrag_hits",
    "redis.active_defrag.key_hits": "active_defrag_key_hits",
    "redis.active_defrag.key_misses": "active_defrag_key_misses",
    "redis.active_defrag.misses": "active_defrag_misses",
    "redis.active_defrag.running": "active_defrag_running",
    "redis.aof.rewrite": "aof_rewrite_in_progress",
    "redis.clients.blocked": "blocked_clients",
    "redis.clients.recent_max_input_buffer": "client_recent_max_input_buffer",
    "redis.clients.recent_max_output_buffer": "client_recent_max_output_buffer",
    "redis.keys.evicted": "evicted_keys",
    "redis.keys.expired": "expired_keys",
    "redis.mem.fragmentation_ratio": "mem_fragmentation_ratio",
    "redis.mem.lua": "used_memory_lua",
    "redis.mem.maxmemory": "maxmemory",
    "redis.mem.overhead": "used_memory_overhead",
    "redis.mem.peak": "used_memory_peak",
    "redis.mem.rss": "used_memory_rss",
    "redis.mem.startup": "used_memory_startup",
    "redis.mem.used": "used_memory",
    "redis.net.clients": "connected_clients",
    "redis.net.commands.instantaneous_ops_per_sec": "instantaneous_ops_per_sec",
    "redis.net.instantaneous_input": "instantaneous_input_kbps",
    "redis.net.instantaneous_ops_per_sec": "instantaneous_ops_per_sec",
    "redis.net.instantaneous_output": "instantaneous_output_kbps",
    "redis.net.maxclients": "maxclients",
    "redis.net.rejected": "rejected_connections",
    "redis.net.slaves": "connected_slaves",
    "redis.net.total_connections_received": "total_connections_received",
    "redis.perf.latest_fork_usec": "latest_fork_usec",
    "redis.pubsub.channels": "pubsub_channels",
    "redis.pubsub.patterns": "pubsub_patterns",
    "redis.rdb.bgsave": "rdb_bgsave_in_progress",
    "redis.rdb.changes_since_last": "rdb_changes_since_last_save",
    "redis.replication.backlog_histlen": "repl_backlog_histlen",
    "redis.replication.master_repl_offset": "master_repl_offset",
    "redis.server.io_threads_active": "io_threads_active",
}
RATES = {
    "redis.cpu.sys": "used_cpu_sys",
    "redis.cpu.sys_children": "used_cpu_sys_children",
    "redis.cpu.sys_main_thread": "used_cpu_sys_main_thread",
    "redis.cpu.user": "used_cpu_user",
    "redis.cpu.user_children": "used_cpu_user_children",
    "redis.cpu.user_main_thread": "used_cpu_user_main_thread",
    "redis.net.commands": "total_commands_processed",
    "redis.stats.io_threaded_reads_processed": "io_threaded_reads_processed",
    "redis.stats.io_threaded_writes_processed": "io_threaded_writes_processed",
    "redis.stats.keyspace_hits": "keyspace_hits",
    "redis.stats.keyspace_misses": "keyspace_misses",
}
MOMENTARY = ("instantaneous_ops_per_sec", "instantaneous_input_kbps", "instantaneous_output_kbps")
"""What the server measures anew ten times a second: it may rise and fall between two looks."""
MEASURED = {"redis.info.latency_ms", "redis.ping.latency_ms"}
KEYSPACE = {"redis.keys", "redis.expires", "redis.persist", "redis.expires.percent", "redis.persist.percent"}
ROUGH = ("redis.mem.", "redis.clients.recent_max")
"""Figures that the asking itself moves."""


def place(server: RedisServer) -> set[str]:
    return {"instance:test", "redis_host:127.0.0.1", f"redis_port:{server.port}", "redis_role:master"}


def between(name: str, value: Any, before: Any, after: Any) -> bool:
    low, high = sorted((before, after))
    slack = max(0.1 * high, 200_000) if name.startswith(ROUGH) else 0
    return bool(low - slack <= value <= high + slack)


async def test_every_value_is_the_servers_own(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.set("a", "1")
        client.set("b", "2", ex=1000)
        client.get("a")
        client.get("b")
        client.get("missing")
        watched = watch(server, round_trip=False)
        await watched.run()
        before: dict[str, Any] = client.info()
        outcome = await watched.run()
        after: dict[str, Any] = client.info()
        while any(before[field] != after[field] for field in MOMENTARY):  # it looked at its traffic meanwhile
            before, outcome, after = client.info(), await watched.run(), client.info()
    assert outcome.error is None
    assert outcome.names == {*GAUGES, *RATES, *MEASURED, *KEYSPACE}
    assert len(outcome.names) >= 45
    for kind, table in ((Kind.GAUGE, GAUGES), (Kind.RATE, RATES)):
        for name, field in table.items():
            sample = outcome.sample(name)
            assert sample.kind is kind, name
            assert set(sample.tags) == place(server), name
            assert between(name, sample.value, before[field], after[field]), (name, sample.value, before[field])
    assert outcome.value("redis.stats.keyspace_hits") == 2
    assert outcome.value("redis.stats.keyspace_misses") == 1
    assert outcome.value("redis.net.clients") == 2  # the test's client and the check's
    # since `before` was taken: that INFO, and the check's INFO is not counted before it has ended
    assert outcome.value("redis.net.commands") == before["total_commands_processed"] + 1
    assert outcome.status("redis.can_connect").status is Status.OK
    assert outcome.status("redis.reads").status is Status.OK


async def test_latencies_are_milliseconds_of_this_run(server: RedisServer, watch: Watches) -> None:
    watched = watch(server)
    await watched.run()
    outcome = await watched.run()
    info, ping = outcome.value("redis.info.latency_ms"), outcome.value("redis.ping.latency_ms")
    assert isinstance(info, float)
    assert isinstance(ping, float)
    assert 0 < info <= ping < 5000


async def test_keyspace_of_every_database(server: RedisServer, watch: Watches) -> None:
    for database, plain, expiring in ((0, 3, 1), (7, 0, 4)):
        with server.client(db=database) as client:
            for n in range(plain):
                client.set(f"plain{n}", n)
            for n in range(expiring):
                client.set(f"expiring{n}", n, ex=1000)
    outcome = await watch(server, round_trip=False).run()
    for name, keys, expiring, share in (("db0", 4, 1, 25.0), ("db7", 4, 4, 100.0)):
        tag = f"redis_db:{name}"
        assert outcome.value("redis.keys", tag) == keys
        assert outcome.value("redis.expires", tag) == expiring
        assert outcome.value("redis.persist", tag) == keys - expiring
        assert outcome.value("redis.expires.percent", tag) == share
        assert outcome.value("redis.persist.percent", tag) == 100 - share
        assert set(outcome.sample("redis.keys", tag).tags) == {*place(server), tag}
    assert len(outcome.samples("redis.keys")) == 2


async def test_an_empty_server_has_no_keyspace(server: RedisServer, watch: Watches) -> None:
    outcome = await watch(server, round_trip=False).run()
    assert not KEYSPACE & outcome.names


async def test_what_never_happened_is_absent(server: RedisServer, watch: Watches, servers: Servers) -> None:
    """INFO says -1 for the duration of a snapshot that was never taken."""
    fresh = servers()
    assert fresh.info()["rdb_last_bgsave_time_sec"] == -1
    assert "redis.rdb.last_bgsave_time" not in (await watch(fresh).run()).names


async def test_append_only_file(servers: Servers, watch: Watches) -> None:
    server = servers(appendonly="yes")
    outcome = await watch(server, round_trip=False).run()
    info = server.info()
    assert outcome.value("redis.aof.size") == info["aof_current_size"]
    assert outcome.value("redis.aof.buffer_length") == info["aof_buffer_length"]


async def test_command_stats(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        for _ in range(3):
            client.set("a", 1)
        client.get("a")
        outcome = await watch(server, command_stats=True, round_trip=False).run()
        stats: dict[str, Any] = client.info("commandstats")
    assert outcome.value("redis.command.calls", "command:set") == 3
    assert outcome.value("redis.command.calls", "command:get") == 1
    config = next(name.removeprefix("cmdstat_") for name in stats if "config" in name)  # config|resetstat since 7
    for command in ("set", "get", config):
        assert (
            outcome.value("redis.command.usec_per_call", f"command:{command}")
            == stats[f"cmdstat_{command}"]["usec_per_call"]
        ), command
    assert outcome.sample("redis.command.calls", "command:set").kind is Kind.GAUGE


async def test_no_command_stats_unless_asked_for(server: RedisServer, watch: Watches) -> None:
    assert "redis.command.calls" not in (await watch(server).run()).names


async def test_one_pipeline_a_run(server: RedisServer, watch: Watches) -> None:
    """All there is to read goes out in one write: the server reads it from its socket in one go."""
    with server.client() as client:
        client.rpush("jobs", 1, 2)
        client.set("total", 5)
    watched = watch(
        server,
        command_stats=True,
        round_trip=False,
        keys=["jobs"],
        counters=[{"metric": "app.total", "key": "total"}, {"metric": "app.users", "key": "u", "read": "scard"}],
    )
    await watched.run()  # connects, and learns the key's type

    def reads() -> int:
        with server.client() as client:
            answer: int = client.info("stats")["total_reads_processed"]
            return answer

    idle = -reads() + reads()  # what asking costs
    before = reads()
    outcome = await watched.run()
    assert outcome.value("app.total") == 5
    assert outcome.value("redis.key.length", "key:jobs") == 2
    assert reads() - before - idle == 1


async def test_commands_of_a_run(server: RedisServer, watch: Watches) -> None:
    watched = watch(server)
    await watched.run()
    with server.client() as client:
        client.config_resetstat()
        await watched.run()
        stats: dict[str, Any] = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    assert {name: n for name, n in calls.items() if "config" not in name} == {
        "info": 1,
        "ping": 1,
        "set": 1,
        "get": 1,
        "del": 1,
    }


async def test_reports_what_another_version_leaves_out(server: RedisServer, watch: Watches) -> None:
    """Fields that the server does not have are absent; those it does have that nobody knows are ignored."""
    outcome = await watch(server).run()
    assert "redis.clients.biggest_input_buf" not in outcome.names
    assert "redis.replication.slave_repl_offset" not in outcome.names


async def test_replica_and_primary(servers: Servers, watch: Watches) -> None:
    primary = servers(repl_diskless_sync_delay=0)
    replica = servers(replica_of=primary)
    await asyncio.to_thread(linked, replica, "up")
    outcome = await watch(replica, round_trip=False).run()
    assert outcome.status("redis.replication.master_link_status").status is Status.OK
    assert outcome.value("redis.replication.master_link_down_since_seconds") == 0
    assert outcome.value("redis.replication.sync") == 0
    assert outcome.value("redis.replication.slave_repl_offset", "redis_role:slave") == outcome.value(
        "redis.replication.master_repl_offset"
    )
    primary.command("SET", "a", 1)
    await asyncio.to_thread(until, caught_up(primary), "the replica to catch up")
    seen = await watch(primary, round_trip=False).run()
    sample = seen.sample("redis.replication.delay")
    assert {"slave_ip:127.0.0.1", f"slave_port:{replica.port}", "slave_id:0"} <= set(sample.tags)
    assert sample.value in (0, len("*1\r\n$4\r\nPING\r\n"))  # the primary pings its replicas now and then
    assert seen.value("redis.net.slaves") == 1
    assert not [status for status in seen.batch.statuses if status.name == "redis.replication.master_link_status"]


async def test_replica_that_lost_its_primary(servers: Servers, watch: Watches) -> None:
    primary = servers(repl_diskless_sync_delay=0)
    replica = servers(replica_of=primary)
    await asyncio.to_thread(linked, replica, "up")
    watched = watch(replica, round_trip=False)
    await watched.run()
    primary.kill()
    await asyncio.to_thread(linked, replica, "down")
    outcome = await watched.run()
    status = outcome.status("redis.replication.master_link_status")
    assert (status.status, status.message) == (
        Status.CRITICAL,
        f"the replica has lost its primary 127.0.0.1:{primary.port}",
    )
    down = outcome.value("redis.replication.master_link_down_since_seconds")
    assert 0 <= down <= replica.info()["master_link_down_since_seconds"]  # type: ignore[operator]
    assert outcome.status("redis.can_connect").status is Status.OK


async def test_replica_that_never_had_its_primary(servers: Servers, watch: Watches) -> None:
    """How long the link has been down cannot be said then: the server says -1."""
    gone = servers()
    gone.kill()
    outcome = await watch(servers(replica_of=gone), round_trip=False).run()
    assert outcome.status("redis.replication.master_link_status").status is Status.CRITICAL
    assert "redis.replication.master_link_down_since_seconds" not in outcome.names


@pytest.mark.parametrize(("down", "reported"), [("9", [9]), ("10", [10]), ("1795469684", []), ("-1", []), ("", [])])
async def test_a_link_cannot_be_down_for_longer_than_the_server_is_up(
    watch: Watches, down: str, reported: list[int]
) -> None:
    """Old servers count from 1970 where there never was a link."""
    info = {"role": "slave", "master_link_status": "down", "uptime_in_seconds": "10"}
    emit = Emit(watch(host="127.0.0.1").channel, 0.0)
    emit_replication(emit, info | {"master_link_down_since_seconds": down}, (), ())
    assert [sample.value for sample in emit.batch().samples] == reported
    (status,) = emit.batch().statuses
    assert (status.status, status.message) == (Status.CRITICAL, "the replica has lost its primary ?:?")


def caught_up(primary: RedisServer) -> Callable[[], bool]:
    def check() -> bool:
        info = primary.info()
        return bool(info["slave0"]["offset"] == info["master_repl_offset"] > 0)

    return check


def linked(replica: RedisServer, state: str) -> None:
    until(lambda: replica.info("replication")["master_link_status"] == state, f"the link to be {state}")


async def test_delay_of_a_frozen_replica(servers: Servers, watch: Watches) -> None:
    primary = servers(repl_diskless_sync_delay=0)
    replica = servers(replica_of=primary)
    await asyncio.to_thread(linked, replica, "up")
    replica.pause()
    written = primary.info()["slave0"]["offset"]
    with primary.client() as client:
        client.set("big", "x" * 10_000)
    outcome: Outcome = await watch(primary, round_trip=False).run()
    delay = outcome.value("redis.replication.delay")
    assert delay >= 10_000  # type: ignore[operator]
    assert delay <= primary.info()["master_repl_offset"] - written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("1.50", 1.5),
        ("-1", None),
        ("-0.5", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("ok", None),
        ("1.2.3", None),
        ("99999999999999999999", 99999999999999999999),
    ],
)
def test_number(text: str, value: float | None) -> None:
    assert number(text) == value


def test_parse_info_takes_anything() -> None:
    reply = b"# Server\r\nredis_version:7\r\n\r\nfile:/a:b\r\nnonsense\r\n\xff\xfe:1\r\ndb0:keys=1,expires\r\n"
    assert parse_info(reply) == {
        "redis_version": "7",
        "file": "/a:b",
        "\ufffd\ufffd": "1",
        "db0": "keys=1,expires",
    }
    assert pairs("keys=1,expires") == {"keys": "1", "expires": ""}
    assert parse_info(b"") == {}
