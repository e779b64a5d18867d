"""Dashboard counters: exact numbers, keys that follow the clock, and what is wrong with one harms no other."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from servers import RedisServer
from vedette import Kind, Status
from vedette_checks.redis import RedisConfig
from vedette_checks.redis.counters import exact
from vedette_checks.redis.template import KeyTemplate

from .driver import Watch, Watches

pytestmark = pytest.mark.anyio

BERLIN_LAST_SECOND = datetime.datetime(2026, 3, 1, 22, 59, 59, 500_000, tzinfo=datetime.UTC).timestamp()
"""Half a second before midnight in Berlin."""


def at(watched: Watch, seconds: float) -> Watch:
    watched.check._now = lambda: seconds  # type: ignore[method-assign]
    return watched


def counter(read: str = "get", key: str = "k", **options: Any) -> dict[str, Any]:
    return {"metric": "app.value", "key": key, "read": read, **options}


@pytest.mark.parametrize(
    ("setup", "options", "value"),
    [
        (["SET", "k", "42"], counter(), 42),
        (["SET", "k", "-7"], counter(), -7),
        (["SET", "k", "123456789012345678901234567890"], counter(), 123456789012345678901234567890),
        (["SET", "k", "0.1"], counter(), Decimal("0.1")),
        (["INCRBYFLOAT", "k", "12.50"], counter(), Decimal("12.5")),
        (["SET", "k", "1234"], counter(scale=2), Decimal("12.34")),
        (["SET", "k", "5"], counter(scale=2), Decimal("0.05")),
        (["SET", "k", "-1234567890123456789012345678901234567890"], counter(scale=2),
         Decimal("-12345678901234567890123456789012345678.90")),
        (["SET", "k", "12.5"], counter(scale=2), Decimal("0.125")),
        (["SADD", "k", "a", "b", "c"], counter("scard"), 3),
        (["RPUSH", "k", "a", "b"], counter("llen"), 2),
        (["RPUSH", "k", "a", "b"], counter("llen", scale=1), Decimal("0.2")),
        (["ZADD", "k", "1", "a", "2", "b"], counter("zcard"), 2),
        (["HSET", "k", "total", "9.99", "other", "1"], counter("hget", field="total"), Decimal("9.99")),
        (["HSET", "k", "total", "9.99", "other", "1"], counter("hlen"), 2),
        (["XADD", "k", "*", "f", "v"], counter("xlen"), 1),
        (["PFADD", "k", "a", "b", "c", "a"], counter("pfcount"), 3),
    ],
)  # fmt: skip
async def test_reads(
    server: RedisServer, watch: Watches, setup: list[str], options: dict[str, Any], value: int | Decimal
) -> None:
    server.command(*setup)
    outcome = await watch(server, counters=[options]).run()
    sample = outcome.sample("app.value")
    assert sample.value == value
    assert type(sample.value) is type(value)
    assert str(sample.value) == str(value) or isinstance(value, Decimal)
    assert sample.kind is Kind.GAUGE
    assert outcome.status("redis.reads").status is Status.OK


@pytest.mark.parametrize("read", ["get", "scard", "llen", "zcard", "zcount", "hget", "hlen", "xlen", "pfcount"])
async def test_missing_key(server: RedisServer, watch: Watches, read: str) -> None:
    more = {"zcount": {"window": "5m"}, "hget": {"field": "f"}}.get(read, {})
    absent = await watch(server, counters=[counter(read, **more)]).run()
    assert "app.value" not in absent.names
    assert absent.status("redis.reads").status is Status.OK
    zero = await watch(server, counters=[counter(read, missing=0, **more)]).run()
    assert zero.value("app.value") == 0


async def test_missing_field_of_a_hash(server: RedisServer, watch: Watches) -> None:
    server.command("HSET", "k", "other", 1)
    outcome = await watch(
        server,
        counters=[
            counter("hget", field="total"),
            counter("hget", field="total", missing=0) | {"metric": "app.zero"},
        ],
    ).run()
    assert "app.value" not in outcome.names
    assert outcome.value("app.zero") == 0


async def test_an_empty_window_is_zero_though_the_key_exists(server: RedisServer, watch: Watches) -> None:
    server.command("ZADD", "k", 1, "long ago")
    outcome = await watch(server, counters=[counter("zcount", window="5m")]).run()
    assert outcome.value("app.value") == 0


async def test_windows_count_by_age(server: RedisServer, watch: Watches) -> None:
    now = 1_800_000_000.25
    members = {"now": 0.0, "4 minutes": 240.0, "all but": 299.9, "just": 300.0, "an hour": 3599.0, "a day": 86_400.0}
    with server.client() as client:
        client.zadd("active", {name: now - age for name, age in members.items()} | {"fast clock": now + 2})
    windows = {"app.five": "5m", "app.hour": "1h", "app.day": "86401s", "app.tiny": "500ms"}
    watched = watch(
        server,
        counters=[
            {"metric": metric, "key": "active", "read": "zcount", "window": window}
            for metric, window in windows.items()
        ],
    )
    with server.client() as client:  # they would be active for ever, or for hours
        client.zadd("active", {"milliseconds": now * 1000, "infinite": float("inf"), "in an hour": now + 3600.0})
    outcome = await at(watched, now).run()
    counts = {metric: outcome.value(metric) for metric in windows}
    assert counts == {"app.five": 4, "app.hour": 6, "app.day": 7, "app.tiny": 2}
    later = await at(watched, now + 1.0).run()
    assert later.value("app.hour") == 5  # its 3599 seconds have become an hour


async def test_the_key_follows_the_clock(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.set("hourly:2026030123", 11)
        client.set("hourly:2026030200", 12)
        client.set("daily:20260301", 110)
        client.set("daily:20260302", 120)
    watched = watch(
        server,
        timezone="Europe/Berlin",
        counters=[
            {"metric": "app.hourly", "key": "hourly:{%Y%m%d%H}"},
            {"metric": "app.daily", "key": "daily:{%Y%m%d}"},
        ],
    )
    before = await at(watched, BERLIN_LAST_SECOND).run()
    assert (before.value("app.hourly"), before.value("app.daily")) == (11, 110)
    after = await at(watched, BERLIN_LAST_SECOND + 0.5).run()
    assert (after.value("app.hourly"), after.value("app.daily")) == (12, 120)
    much_later = await at(watched, BERLIN_LAST_SECOND + 2 * 86_400).run()
    assert not {"app.hourly", "app.daily"} & much_later.names


async def test_the_key_follows_the_real_clock_by_default(server: RedisServer, watch: Watches) -> None:
    now = datetime.datetime.now(datetime.UTC)
    with server.client() as client:
        for day in (now, now + datetime.timedelta(days=1)):  # midnight may come in between
            client.set(day.strftime("day:%Y-%m-%d"), 5)
    outcome = await watch(server, counters=[counter(key="day:{%Y-%m-%d}")]).run()
    assert outcome.value("app.value") == 5


async def test_tags_in_keys_and_on_samples(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.set("revenue:EUR:eu-1:{user}:x", 1)
        client.set("revenue:USD:eu-1:{user}:x", 2)
    outcome = await watch(
        server,
        tags=["region:eu-1", "currency:none"],
        counters=[
            counter(key="revenue:{tag:currency}:{tag:region}:{user}:x", tags=[f"currency:{currency}"])
            for currency in ("EUR", "USD")
        ],
    ).run()
    for currency, value in (("EUR", 1), ("USD", 2)):
        sample = outcome.sample("app.value", f"currency:{currency}")
        assert sample.value == value
        assert {"instance:test", "region:eu-1", f"redis_port:{server.port}", "redis_role:master"} <= set(sample.tags)


@pytest.mark.parametrize("kind", list(Kind)[:4])
async def test_kinds(server: RedisServer, watch: Watches, kind: Kind) -> None:
    server.command("SET", "k", 3)
    outcome = await watch(server, counters=[counter(kind=kind.value)]).run()
    assert outcome.sample("app.value").kind is kind


async def test_one_broken_counter_harms_no_other(server: RedisServer, watch: Watches) -> None:
    with server.client() as client:
        client.rpush("list", 1)
        client.set("word", "very-secret-value")
        client.set("good", 5)
    outcome = await watch(
        server,
        counters=[
            {"metric": "app.a", "key": "list"},
            {"metric": "app.b", "key": "word"},
            {"metric": "app.c", "key": "good"},
            {"metric": "app.d", "key": "word", "read": "pfcount"},
            {"metric": "app.e", "key": "word", "read": "scard", "missing": 0},
            {"metric": "app.f", "key": "{user}:{tag:env}", "tags": ["env:test"]},
        ],
    ).run()
    assert outcome.error is None
    assert {name for name in outcome.names if name.startswith("app.")} == {"app.c"}
    assert outcome.value("app.c") == 5
    status = outcome.status("redis.reads")
    assert status.status is Status.WARNING
    assert status.message == "; ".join(
        [
            "app.a (get list): the key holds another type of data; check `read`",
            "app.b (get word): the value is not a number; check `key` and `read`",
            "app.d (pfcount word): the key holds another type of data; check `read`",
            "app.e (scard word): the key holds another type of data; check `read`",
        ]
    )
    assert outcome.status("redis.can_connect").status is Status.OK
    assert "redis.mem.used" in outcome.names


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1 ", "1\n", "1_000", "0x10", "nan", "inf", "-inf", "1e400", "1e999999999", "--1", "+", ".", "1,5",
     "\u0661", "\x00", "9" * 41, "1." + "0" * 41, "true"],
)  # fmt: skip
async def test_hostile_values_are_no_numbers(server: RedisServer, watch: Watches, value: str) -> None:
    server.command("SET", "k", value)
    outcome = await watch(server, counters=[counter(missing=0)]).run()
    assert "app.value" not in outcome.names
    assert outcome.status("redis.reads").message == (
        "app.value (get k): the value is not a number; check `key` and `read`"
    )


@pytest.mark.parametrize(
    ("text", "scale", "number"),
    [
        (b"1e2", 0, Decimal("1E+2")),
        (b"1E-2", 2, Decimal("0.0001")),
        (b"+5", 0, 5),
        (b"-0", 0, 0),
        (b".5", 0, Decimal("0.5")),
        (b"5.", 0, Decimal("5")),
        (b"007", 0, 7),
        (b"0", 2, Decimal("0.00")),
        (b"99", 18, Decimal("0.000000000000000099")),
    ],
)
def test_exact(text: bytes, scale: int, number: int | Decimal) -> None:
    value = exact(text, scale)
    assert value == number
    assert type(value) is type(number)


WHEN = datetime.datetime(2026, 9, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "key", "glob"),
    [
        ("plain", "plain", "plain"),
        ("h:{%H%z}", "h:04+0000", "h:*"),
        ("h:{%Y%m%d%H}", "h:2026090304", "h:*"),
        ("{%j}{%M}", "24605", "**"),
        ("{%Y/%m (%d%%)}", "2026/09 (03%)", "*"),
        ("{user:1}:{%d}", "{user:1}:03", "{user:1}:*"),
        ("{}{{%d}}", "{}{03}", "{}{*}"),
        ("{tag:a}-{tag:b}", "1-c:d", "1-c:d"),
        ("100%", "100%", "100%"),
        ("%Y", "%Y", "%Y"),
        ("schlüssel:{%d}:\u2603", "schlüssel:03:\u2603", "schlüssel:*:\u2603"),
    ],
)
def test_template(text: str, key: str, glob: str) -> None:
    template = KeyTemplate(text).with_tags(["a:1", "a:2", "plain", "b:c:d"])
    assert template.render(WHEN) == key
    assert template.glob == glob


def test_declared_with_kind_unit_and_tags() -> None:
    from vedette_checks.redis import Redis

    config = RedisConfig.model_validate({"counters": [counter(kind="counter", unit="user", tags=["plan:free"])]})
    (metric,) = [metric for metric in Redis.declare(config) if metric.name == "app.value"]
    assert (metric.kind, metric.unit) == (Kind.COUNTER, "user")
    assert metric.tags == ("redis_host", "redis_port", "redis_role", "plan")


async def test_the_example_carries_the_dashboard(server: RedisServer, watch: Watches) -> None:
    """The counters of the example file, on keys as `vedette.instrument` writes them."""
    counters = RedisConfig.model_fields["counters"].examples[0]  # type: ignore[index]
    now = datetime.datetime(2026, 9, 3, 4, 59, 59, tzinfo=datetime.UTC).timestamp()
    with server.client() as client:
        client.incrby("{dashboard}:hourly_transactions:2026090304+0000", 17)
        client.incrby("{dashboard}:daily_transactions:20260903", 170)
        client.incrby("{dashboard}:hourly_revenue:USD:2026090304+0000", 123_456)
        client.zadd(
            "{dashboard}:active_users", {"ann": now - 10, "bob": now - 299, "cy": now - 3000, "dee": now - 4000}
        )
    outcome = await at(watch(server, counters=counters), now).run()
    assert {sample.name: (sample.kind, sample.value) for sample in outcome.batch.samples if "dash" in sample.name} == {
        "dashboard.transactions.hourly": (Kind.GAUGE, 17),
        "dashboard.transactions.daily": (Kind.GAUGE, 170),
        "dashboard.revenue.hourly": (Kind.GAUGE, Decimal("1234.56")),
        "dashboard.revenue.daily": (Kind.GAUGE, 0),
        "dashboard.users.active_5min": (Kind.GAUGE, 2),
        "dashboard.users.active_1hour": (Kind.GAUGE, 3),
    }
