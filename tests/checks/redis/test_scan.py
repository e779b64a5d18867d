"""Counting keys with SCAN: exact counts, never more than the budget, never KEYS."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from servers import RedisServer, valkey9
from vedette import Status
from vedette.emit import Channel, Emit
from vedette_checks.redis import Redis, RedisConfig
from vedette_checks.redis.findings import Advisor
from vedette_checks.redis.options import ScanConfig
from vedette_checks.redis.part import Scene
from vedette_checks.redis.scan import Scan, Shares, glob
from vedette_checks.redis.session import Session

from .driver import NOW, Outcome, Servers, Watches

pytestmark = pytest.mark.anyio


def debugging(binary: Path) -> dict[str, Any]:
    """Options that allow DEBUG."""
    return {"enable_debug_command": "yes"} if binary == valkey9() else {}


def tagged(outcome: Outcome, name: str, key: str) -> dict[str, Any]:
    """Values of a metric by the value of a tag."""
    found = {}
    for sample in outcome.samples(name):
        (value,) = (tag.partition(":")[2] for tag in sample.tags if tag.startswith(f"{key}:"))
        found[value] = sample.value
    return found


def calls(server: RedisServer, command: str) -> int:
    stats: dict[str, Any] = server.info("commandstats")
    number: int = stats.get(f"cmdstat_{command}", {}).get("calls", 0)
    return number


async def test_a_million_keys_within_the_budget(binary: Path, servers: Servers, watch: Watches) -> None:
    server = servers(**debugging(binary))
    await asyncio.to_thread(server.command, "DEBUG", "POPULATE", 1_000_000)
    budget, total, runs = 100_000, 0, 0
    watched = watch(
        server,
        timeout="60s",
        interval="60s",
        round_trip=False,
        scan={"patterns": [{"pattern": "key:1*", "name": "ones"}], "by_prefix": ":", "budget": budget},
    )
    while True:
        before = calls(server, "scan")
        outcome = await watched.run()
        runs += 1
        visited = outcome.value("redis.scan.keys", "redis_db:db0")
        assert isinstance(visited, int)
        assert visited <= budget
        assert calls(server, "scan") - before <= 2 * budget / 500
        total += visited
        if outcome.samples("redis.keys.matched"):
            break
        assert visited > budget * 0.99  # but for the end it is used
        assert total < 1_000_000
    assert total == 1_000_000
    assert runs == outcome.value("redis.scan.runs") == 11
    assert tagged(outcome, "redis.keys.matched", "pattern") == {"ones": 111_111, "other": 888_889}
    assert tagged(outcome, "redis.keys.prefix", "prefix") == {"key": 1_000_000}
    assert calls(server, "keys") == 0

    again = await watched.run()  # the last whole pass stays, and says how old it is
    assert tagged(again, "redis.keys.matched", "pattern") == {"ones": 111_111, "other": 888_889}
    age, duration = again.value("redis.scan.age_seconds"), outcome.value("redis.scan.duration_seconds")
    assert isinstance(age, float)
    assert isinstance(duration, float)
    assert age > outcome.value("redis.scan.age_seconds") >= 0  # type: ignore[operator]
    assert duration > 0


async def test_emptied_tables_do_not_make_a_run_long(binary: Path, servers: Servers, watch: Watches) -> None:
    """SCAN of a table that is large and nearly empty returns nothing: the number of calls is limited too."""
    server = servers(activerehashing="no", **debugging(binary))

    def fill() -> None:
        with server.client() as client:
            client.execute_command("DEBUG", "POPULATE", 200_000)
            for first in range(0, 200_000, 1000):
                client.unlink(*(f"key:{n}" for n in range(first, first + 1000)))
            client.set("last:1", 1)

    await asyncio.to_thread(fill)
    watched = watch(server, round_trip=False, scan={"by_prefix": ":", "budget": 1000})
    outcome = None
    while outcome is None or not outcome.samples("redis.keys.prefix"):
        before = calls(server, "scan")
        outcome = await watched.run()
        assert calls(server, "scan") - before <= 4
    assert tagged(outcome, "redis.keys.prefix", "prefix") == {"last": 1}


async def test_the_first_pattern_counts(server: RedisServer, watch: Watches) -> None:
    with server.client(db=3) as client:
        client.mset({"a:1": 1, "a:2": 1, "b:1": 1, "c": 1, ":": 1, "other": 1})
    patterns = [{"pattern": "a:1"}, {"pattern": "?:*", "name": "short"}, {"pattern": "nothing*"}]
    watched = watch(server, db=3, scan={"patterns": patterns, "by_prefix": ":"})
    for _ in range(2):
        outcome = await watched.run()
        matched = {"a:1": 1, "short": 2, "nothing*": 0, "other": 3}
        assert tagged(outcome, "redis.keys.matched", "pattern") == matched
        assert tagged(outcome, "redis.keys.prefix", "prefix") == {"a": 2, "b": 1, "none": 3}
        assert outcome.value("redis.scan.keys", "redis_db:db3") == 6
        assert outcome.value("redis.scan.runs") == 1
        assert outcome.status("redis.reads").status is Status.OK


async def test_hostile_keys_and_many_prefixes(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        for name in ("a\nb:1", "a_b:1", "True:1", "true:1", "\U0001f600:1", '"x":1', "other:1", b"\xff\xfe:1"):
            client.set(name, 1)
        client.mset({f"many{n}:{n}": 1 for n in range(300)})
        client.mset({f"big:{n}": 1 for n in range(10)})
    watched = watch(server, scan={"by_prefix": ":", "prefixes": 4})
    for _ in range(2):
        outcome = await watched.run()
        prefixes = tagged(outcome, "redis.keys.prefix", "prefix")
        assert sum(prefixes.values()) == 318
        assert len(prefixes) in (4, 5)  # four and the rest, unless the prefix "other" is among the four
        assert prefixes["big"] == 10
        assert outcome.value("redis.tags.cut", "of:scan.prefixes") == 303  # two pairs are one each as tags
    plain = await watch(server, scan={"by_prefix": ":", "prefixes": 1000}).run()
    prefixes = tagged(plain, "redis.keys.prefix", "prefix")
    assert sum(prefixes.values()) == 318
    assert {name: prefixes[name] for name in ("a_b", "true", "\U0001f600", '"x"', "other", "\ufffd\ufffd")} == {
        "a_b": 2, "true": 2, "\U0001f600": 1, '"x"': 1, "other": 1, "\ufffd\ufffd": 1
    }  # fmt: skip


async def test_a_restarted_server_begins_a_new_pass(servers: Servers, watch: Watches) -> None:
    server = servers()
    with server.client() as client:
        client.mset({f"old:{n}": 1 for n in range(1500)})
    watched = watch(server, scan={"by_prefix": ":", "budget": 1000})
    assert not (await watched.run()).samples("redis.keys.prefix")
    assert tagged(await watched.run(), "redis.keys.prefix", "prefix") == {"old": 1500}
    await watched.run()
    server.restart()
    with server.client() as client:
        client.mset({f"new:{n}": 1 for n in range(1200)})
    assert not (await watched.run()).samples("redis.keys.prefix")  # nor the old ones: that server is gone
    outcome = await watched.run()
    assert tagged(outcome, "redis.keys.prefix", "prefix") == {"new": 1200}
    assert outcome.value("redis.scan.runs") == 2


async def test_a_cursor_that_is_refused_begins_a_new_pass_and_time_is_kept(server: RedisServer) -> None:
    with server.client() as client:
        client.mset({f"k:{n}": 1 for n in range(1500)})
    config = RedisConfig.model_validate({"name": "test", "host": "127.0.0.1", "port": server.port})
    session = Session(config, config.address)
    scan = Scan(ScanConfig.model_validate({"by_prefix": ":", "budget": 1000}))

    async def run(until: float) -> dict[str, Any]:
        emit = Emit(Channel("redis/test", "redis", Redis.metrics, ()), NOW)
        scene = Scene(emit, Advisor(config.address, 1.0), (), {"run_id": "a"}, NOW)
        await scan.walk(session, scene, until)
        assert not scene.findings
        return {sample.name: sample.value for sample in emit.batch().samples}

    try:
        late = time.monotonic() + 60
        assert await run(time.monotonic() - 1) == {"redis.scan.keys": 0}
        first = await run(late)
        assert 900 < first["redis.scan.keys"] <= 1000
        assert scan._pass is not None
        scan._pass.cursor = b"nonsense"
        assert await run(late) == {"redis.scan.keys": 0}
        assert (await run(late))["redis.scan.keys"] == first["redis.scan.keys"]
        done = await run(late)
        assert done["redis.keys.prefix"] == 1500
        assert done["redis.scan.runs"] == 2
    finally:
        session.close()


async def test_globs_are_the_servers(server: RedisServer) -> None:
    keys = [b"a", b"b", b"ab", b"abc", b"a*c", b"a?c", b"a[c", b"a]c", b"a\\c", b"a-c", b"^", b"a\nc", b"\xff"]
    keys += [
        b"aXbXc",
        b"AbC",
        b"x" * 60,
        b"[",
        b"]",
        b"\\",
        b"a.c",
        b"hello",
        b"hallo",
        b"hllo",
        b"heello",
        b"*",
        b"?",
        b"-",
    ]
    with server.client() as client:
        for key in keys:
            client.set(key, 1)
    patterns = ["*", "a*", "*c", "a?c", "?", "a\\*c", "a\\?c", "a[*]c", "a[^b]c", "a[a-z]c", "a[z-a]c", "[^a]"]
    patterns += ["h[ae]llo", "h*llo", "h?llo", "a*b*c", "**", "*a*", "a[b-]c", "a[\\]]c", "a[\\[]c", "[", "a[", "a\\"]
    patterns += ["\\", "a.c", "a[]c", "*x*x*x*x*x*x*x*x*x*x*x*x*x*x*x*y", "[a-", "a[^]c", "[^", "^", "a[bX]*"]
    patterns += ["h[^e]llo", "\\[", "a[-]c", "[\\", "[a\\"]
    for pattern in patterns:
        with server.client() as client:
            expected = Counter(client.keys(pattern))
        found = Counter(key for key in keys if re.compile(glob(pattern), re.DOTALL).fullmatch(key))
        assert found == expected, pattern


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "counts nothing"),
        ({"patterns": [{"pattern": ""}]}, "at least 1 character"),
        ({"patterns": [{"pattern": "a"}, {"pattern": "b", "name": "a"}]}, "two of the same name"),
        ({"patterns": [{"pattern": "a", "name": "other"}]}, "choose another"),
        ({"by_prefix": ":", "budget": 999}, "greater than or equal to 1000"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        RedisConfig.model_validate({"name": "test", "scan": options})


def test_many_primaries_take_turns_within_the_budget() -> None:
    config = ScanConfig.model_validate({"by_prefix": ":", "budget": 1000})
    scans, copy = [Scan(config) for _ in range(8)], Scan(config)
    shares = Shares(1000)
    turns: Counter[int] = Counter()
    for _ in range(8):
        shares.deal(scans, [copy])
        assert sum(scan.budget for scan in scans) == 1000
        assert copy.budget == 0
        turns.update(place for place, scan in enumerate(scans) if scan.budget)
    assert turns == dict.fromkeys(range(8), 5)
    shares.deal([], [copy])
