"""What each command took, what held the server up, who is connected; and what happens where these are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servers import RedisServer, redis62
from vedette import Kind, Status
from vedette.emit import canonical_tags
from vedette_checks.redis.part import Names, tag_value

from .driver import Outcome, Servers, Watches

pytestmark = pytest.mark.anyio

EVERYTHING: dict[str, Any] = {
    "round_trip": False,
    "command_stats": True,
    "latency_percentiles": True,
    "latency_events": True,
    "slowlog": {},
    "clients": True,
    "acl_log": True,
    "streams": ["orders"],
    "scan": {"by_prefix": ":"},
}


def tagged(outcome: Outcome, name: str, key: str) -> dict[str, Any]:
    found = {}
    for sample in outcome.samples(name):
        (value,) = (tag.partition(":")[2] for tag in sample.tags if tag.startswith(f"{key}:"))
        found[value] = sample.value
    return found


async def test_percentiles_are_the_servers(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        for n in range(20):
            client.set(f"k{n}", n)
            client.get(f"k{n}")
    outcome = await watch(server, latency_percentiles=True, round_trip=False).run()
    status = outcome.status("redis.reads")
    if server.binary == redis62():
        assert (status.status, status.message) == (
            Status.WARNING,
            "latency_percentiles: the server has none: they came with Redis 7; leave `latency_percentiles` out there",
        )
        assert not [name for name in outcome.names if name.startswith("redis.command.latency")]
        return
    assert status.status is Status.OK
    truth: dict[str, Any] = server.info("latencystats")
    for command in ("get", "set"):
        values = truth[f"latency_percentiles_usec_{command}"]
        assert set(values) == {"p50", "p99", "p99.9"}
        for metric, percentile in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
            sample = outcome.sample(f"redis.command.latency.{metric}", f"command:{command}", "redis_role:master")
            assert sample.value == values[percentile] > 0
    assert "redis.command.latency.p100" not in outcome.names

    server.command("CONFIG", "SET", "latency-tracking-info-percentiles", "90 100 33.3")
    try:
        outcome = await watch(server, latency_percentiles=True).run()
        assert {name for name in outcome.names if ".latency.p" in name} == {
            "redis.command.latency.p90",
            "redis.command.latency.p100",
        }
        server.command("CONFIG", "SET", "latency-tracking", "no")
        outcome = await watch(server, latency_percentiles=True).run()
        assert outcome.status("redis.reads").message == (
            "latency_percentiles: the server does not track them; CONFIG SET latency-tracking yes"
        )
    finally:
        server.command("CONFIG", "SET", "latency-tracking", "yes")
        server.command("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9")


async def test_commands_beyond_the_limit_are_summed(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        for n in range(5):
            client.set(f"k{n}", n)
            client.get(f"k{n}")
            client.delete(f"k{n}")
    watched = watch(server, command_stats=True, latency_percentiles=True, tag_limit=2, round_trip=False)
    before: dict[str, Any] = server.info("commandstats")
    outcome = await watched.run()
    stats: dict[str, Any] = server.info("commandstats")
    calls, each = (
        tagged(outcome, "redis.command.calls", "command"),
        tagged(outcome, "redis.command.usec_per_call", "command"),
    )
    assert len(calls) == len(each) == 3
    named = set(calls) - {"other"}
    total = sum(values["calls"] for values in stats.values())
    assert sum(calls.values()) <= total <= sum(calls.values()) + 6  # what the run and this test asked since
    least, most = (sum(v["usec"] for n, v in some.items() if n[8:] not in named) for some in (before, stats))
    assert least <= round(each["other"] * calls["other"]) <= most
    assert outcome.value("redis.tags.cut", "of:command_stats") >= 2  # type: ignore[operator]


async def test_databases_beyond_the_limit_are_summed(server: RedisServer, watch: Watches) -> None:
    for database in range(5):
        with server.client(db=database) as client:
            for n in range(database + 1):
                client.set(f"k{n}", n, ex=1000 if n == 0 else None)
    outcome = await watch(server, tag_limit=3).run()
    assert tagged(outcome, "redis.keys", "redis_db") == {"db0": 1, "db1": 2, "db2": 3, "other": 9}
    assert tagged(outcome, "redis.expires", "redis_db") == {"db0": 1, "db1": 1, "db2": 1, "other": 2}
    assert outcome.value("redis.persist", "redis_db:other") == 7
    assert outcome.value("redis.expires.percent", "redis_db:other") == pytest.approx(200 / 9)


async def test_latency_events(binary: Path, servers: Servers, watch: Watches) -> None:
    server = servers(latency_monitor_threshold=1)
    watched = watch(server, latency_events=True)
    assert not (await watched.run()).samples("redis.latency.event.max_ms")
    loop = "local n = 0 for i = 1, %d do n = n + i %% 7 end return n"
    count = 2_000_000
    while not server.command("LATENCY", "LATEST"):  # until this machine is slow enough
        server.command("EVAL", loop % count, 0)
        count *= 4
    server.command("EVAL", loop % 200_000, 0)
    (row,) = (row for row in server.command("LATENCY", "LATEST") if row[0] == b"command")
    before = float(server.command("TIME")[0])
    outcome = await watched.run()
    after = float(server.command("TIME")[0]) + 1
    assert outcome.value("redis.latency.event.latest_ms", "event:command") == row[2] >= 1
    assert outcome.value("redis.latency.event.max_ms", "event:command") == row[3] >= row[2]
    age = outcome.value("redis.latency.event.age_seconds", "event:command")
    assert before - row[1] <= age <= after - row[1]


async def test_connections_by_name(server: RedisServer, watch: Watches) -> None:
    names = ["web", "web", "web", "job:1", "a\"b'{}", "True", "name=x", "", ""]
    clients = []
    try:
        for name in names:
            context = server.client()
            client = context.__enter__()
            clients.append(context)
            client.execute_command("PING")
            if name:
                client.client_setname(name)
        watched = watch(server, clients=True)
        expected = {"web": 3, "job:1": 1, "a\"b'{}": 1, "true": 1, "name=x": 1, "unknown": 2, "vedette": 1}
        outcome = await watched.run()
        found = tagged(outcome, "redis.net.connections", "source")
        assert found == expected
        assert sum(found.values()) == outcome.value("redis.net.clients")
        few = tagged(await watch(server, clients=True, tag_limit=2).run(), "redis.net.connections", "source")
        assert len(few) == 3
        assert sum(few.values()) == len(names) + 2  # both checks are connected now
    finally:
        for context in clients:
            context.__exit__(None, None, None)


async def test_everything_is_off_unless_asked_for(server: RedisServer, watch: Watches) -> None:
    before = server.info("commandstats")
    outcome = await watch(server, round_trip=False).run()
    assert outcome.error is None
    assert not outcome.batch.commits
    sent = {name for name in server.info("commandstats") if name not in before}
    assert sent <= {"cmdstat_ping", "cmdstat_info", "cmdstat_client", "cmdstat_client|setname"}


async def test_all_of_it_with_the_rights_of_the_hints(server: RedisServer, watch: Watches) -> None:
    """A user who may nothing: one line for each right, once; following the hints leads to a run without findings."""
    server.command("XADD", "orders", "*", "a", 1)
    server.command("XGROUP", "CREATE", "orders", "g", 0)
    server.command("XREADGROUP", "GROUP", "g", "c", "STREAMS", "orders", ">")
    server.command("ACL", "SETUSER", "poor", "on", ">pw")
    watched = watch(server, username="poor", password="pw", **EVERYTHING)
    first = (await watched.run()).status("redis.reads")
    assert first.status is Status.WARNING
    lines = [line for line in first.message.split("; ") if not line.startswith("ACL")]
    assert lines == [
        "the user poor may not run INFO",
        "the user poor may not run PING",
        "the user poor may not run LATENCY LATEST",
        "the user poor may not run CLIENT LIST",
        "the user poor may not run SLOWLOG GET",
        "the user poor may not run ACL LOG",
        "streams: orders: the user poor may not run XINFO STREAM",
        "the user poor may not run SCAN",
    ]
    outcome, message, hints = None, "", [first.message]
    while hints:
        outcome = await watched.run()
        message = outcome.status("redis.reads").message
        hints = [part for part in message.split("; ") if part.startswith("ACL")]
        for hint in hints:
            server.command(*hint.split())
    assert outcome is not None
    assert message == ("" if server.binary != redis62() else (
        "latency_percentiles: the server has none: they came with Redis 7; leave `latency_percentiles` out there"
    ))  # fmt: skip
    assert outcome.value("redis.stream.group.pending") == 1
    assert outcome.value("redis.net.connections", "source:unknown") >= 1  # type: ignore[operator]
    assert outcome.samples("redis.scan.runs")


async def test_commands_that_the_server_does_not_have(
    binary: Path, servers: Servers, watch: Watches, tmp_path: Path
) -> None:
    """Managed servers take some away; so does this one."""
    gone = ("SLOWLOG", "LATENCY", "CLIENT", "ACL", "XINFO", "SCAN")
    (tmp_path / "renamed.conf").write_text("".join(f'rename-command {command} ""\n' for command in gone))
    server = servers(include=str(tmp_path / "renamed.conf"))
    outcome = await watch(server, **{**EVERYTHING, "latency_percentiles": False}).run()
    assert outcome.error is None
    assert outcome.samples("redis.command.calls")
    assert outcome.status("redis.reads").message.split("; ") == [
        "the server does not know LATENCY LATEST",
        "leave `latency_events` out there",
        "the server does not know CLIENT LIST",
        "leave `clients` out there",
        "the server does not know SLOWLOG GET",
        "leave `slowlog` out there",
        "the server does not know ACL LOG",
        "leave `acl_log` out there",
        "streams: orders: the server does not know XINFO STREAM",
        "leave `streams` out there",
        "the server does not know SCAN",
        "leave `scan` out there",
    ]


async def test_a_run_is_one_exchange_or_two(server: RedisServer, watch: Watches) -> None:
    watched = watch(server, **EVERYTHING)
    await watched.run()
    outcome = await watched.run()
    assert outcome.error is None
    before: dict[str, Any] = server.info("commandstats")
    await watched.run()
    after: dict[str, Any] = server.info("commandstats")
    sent = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert (
        sum(number for name, number in sent.items() if name != "cmdstat_info") == 8 + 2
    )  # two CLIENT SETINFO are this test's
    assert sent["cmdstat_info"] == 4  # the run's three, and one of this test's two


async def test_totals_stay_level_while_servers_change(servers: Servers, watch: Watches) -> None:
    server = servers()
    for _ in range(200):
        server.command("PING")
    watched = watch(server, round_trip=False)
    await watched.run()
    high = await watched.run()
    commands = high.value("redis.net.commands")
    server.restart()
    low = await watched.run()
    assert server.info()["total_commands_processed"] < 200
    assert low.sample("redis.net.commands").kind is Kind.RATE
    assert low.value("redis.net.commands") == commands
    for name in ("redis.cpu.sys", "redis.cpu.user"):
        assert low.value(name) == pytest.approx(high.value(name), rel=1e-12)
    truth = server.info()["total_commands_processed"]
    after = await watched.run()
    grown = after.value("redis.net.commands") - commands  # type: ignore[operator]
    assert 0 < grown <= truth + 10


def test_tag_values_are_what_the_agent_makes_of_them() -> None:
    for raw in ("True", "a:False", "a\n\x7fb", " x ", "\U0001f600", "a:b:True", "", "TRUE"):
        assert canonical_tags([f"k:{tag_value(raw)}"]) == canonical_tags([f"k:{tag_value(tag_value(raw))}"])
        assert canonical_tags([f"k:{tag_value(raw)}"]) == (f"k:{tag_value(raw)}",)
    assert tag_value(b"\xff") == "\ufffd"
    assert len(tag_value("x" * 5000)) == 100


def test_room_is_made_once_an_hour() -> None:
    names = Names(2, "x")
    for second in range(3600):
        names.begin(1_000_000.0 + second)
        names.tag(f"n{second}")
        assert names.tag("n0") == "n0"
        assert names.tag("n1") == "n1"
    assert names.tag("late") == "other"
    names.begin(1_003_600.0)
    names.begin(1_003_601.0)
    assert names.tag("late") == "other"  # both were asked for in the hour before
    names.begin(1_007_200.0)
    assert names.tag("late") == "late"
