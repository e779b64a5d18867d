"""Counters in a real Redis: exact, once, at the right hour, through crashes, and as the redis check reads them."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import redis.asyncio
import redis.asyncio.cluster
import yaml

from checks.redis.driver import Watches
from servers import RedisCluster, RedisServer, redis62, valkey9
from sinks.parts import Port, until
from vedette.instrument import RealtimeCounters, Recorded, TechnicalMetrics, instrument_redis, realtime
from vedette.instrument.realtime import minor_units
from vedette_checks.redis import RedisConfig

from .parts import Line

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
COUNTED, DUPLICATE, FAILED, INVALID = Recorded


@pytest.fixture(scope="module", params=[redis62, valkey9], ids=["redis6.2", "valkey9"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(request.param(), tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.command("FLUSHALL")
    shared.command("SCRIPT", "FLUSH")
    return shared


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stops for longer than an application would wait fails no test; some say a timeout of their own."""
    monkeypatch.setitem(RealtimeCounters.__init__.__kwdefaults__, "timeout", 20.0)


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Any]:
    made = redis.asyncio.Redis(port=server.port)
    yield made
    await made.aclose()


@pytest.fixture
async def watch() -> AsyncIterator[Watches]:
    made = Watches()
    yield made
    await made.end()


def keys(server: RedisServer) -> dict[str, Any]:
    """All keys but those of transactions, with the values of the plain ones."""
    with server.client(decode_responses=True) as plain:
        names = sorted(name for name in plain.keys() if ":transaction:" not in name)  # noqa: SIM118 - the command
        return {name: plain.get(name) if plain.type(name) == "string" else "…" for name in names}


def stamp(at: float, zone: str, form: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).strftime(form)


async def test_one_transaction(client: Any, server: RedisServer) -> None:
    at = datetime(2026, 9, 3, 4, 59, 59, 999_000, UTC).timestamp()
    counters = RealtimeCounters(client)
    done = await counters.record(transaction_id="t-1", amount=Decimal("12.30"), currency="USD", at=at)
    assert done is COUNTED
    assert keys(server) == {
        "{dashboard}:daily_revenue:USD:20260903": "1230",
        "{dashboard}:daily_transactions:20260903": "1",
        "{dashboard}:hourly_revenue:USD:2026090304+0000": "1230",
        "{dashboard}:hourly_transactions:2026090304+0000": "1",
    }
    assert await counters.record(transaction_id="t-2", amount=1, currency="USD", at=at + 0.001) is COUNTED
    assert keys(server)["{dashboard}:hourly_transactions:2026090305+0000"] == "1"
    assert keys(server)["{dashboard}:daily_transactions:20260903"] == "2"


async def test_once_by_its_id(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client)
    first = {"transaction_id": "t-1", "amount": Decimal("12.30"), "currency": "USD", "user_id": "u-1"}
    assert await counters.record(**first) is COUNTED  # type: ignore[arg-type]
    before = keys(server)
    again = await asyncio.gather(*(counters.record(**first) for _ in range(20)))  # type: ignore[arg-type]
    assert again == [DUPLICATE] * 20
    assert await counters.record(transaction_id="t-1", amount=99, currency="EUR", at=time.time() - 7200) is DUPLICATE
    assert keys(server) == before
    long = "t" * 1000
    assert await counters.record(transaction_id=long, amount=1, currency="USD") is COUNTED
    assert await counters.record(transaction_id=long + "x", amount=1, currency="USD") is COUNTED
    assert await counters.record(transaction_id=long, amount=1, currency="USD") is DUPLICATE
    stats = counters.stats()
    assert (stats.counted, stats.duplicate, stats.failed, stats.invalid) == (3, 22, 0, 0)


async def test_one_round_trip(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client)
    await counters.record(transaction_id="warm", amount=1, currency="USD", user_id="u")
    server.command("CONFIG", "RESETSTAT")
    for number in range(10):
        await counters.record(transaction_id=f"t-{number}", amount=1, currency="USD", user_id="u")
    calls = {name: row["calls"] for name, row in server.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 10
    assert not {"cmdstat_eval", "cmdstat_multi"} & set(calls)


async def test_every_key_expires(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client)
    await counters.record(transaction_id="t-1", amount=1, currency="USD", user_id="u-1")
    with server.client(decode_responses=True) as plain:
        lives = {re.sub(r":[\d+]+$", "", name): plain.ttl(name) for name in plain.keys()}  # noqa: SIM118
    assert {name: round(life, -2) for name, life in lives.items()} == {
        "{dashboard}:transaction:t-1": 86_400,
        "{dashboard}:hourly_transactions": 86_400,
        "{dashboard}:daily_transactions": 604_800,
        "{dashboard}:hourly_revenue:USD": 86_400,
        "{dashboard}:daily_revenue:USD": 604_800,
        "{dashboard}:active_users": 3_600,
    }


# Money


@pytest.mark.parametrize(
    ("amount", "digits", "units"),
    [
        (Decimal("12.30"), 2, 1230), (Decimal("12.3"), 2, 1230), (Decimal("12.300000"), 2, 1230), (12, 2, 1200),
        (Decimal("1E+3"), 2, 100_000), (Decimal("-0.01"), 2, -1), (Decimal("100"), 0, 100), (Decimal("1.234"), 3, 1234),
        (Decimal("0"), 2, 0), (Decimal("-0.00"), 2, 0), (Decimal("9999999999999.99"), 2, 999_999_999_999_999),
        (Decimal("12.345"), 2, None), (Decimal("0.5"), 0, None), (Decimal("NaN"), 2, None),
        (Decimal("Infinity"), 2, None), (Decimal("-Infinity"), 2, None),
        (Decimal("1E+16"), 2, None), (10**20, 2, None), (Decimal("1E-999999"), 2, None),
        (Decimal("1E+999999"), 2, None),
        (12.3, 2, None), ("12.30", 2, None), (True, 2, None), (None, 2, None),
    ],
)  # fmt: skip
def test_minor_units(amount: Any, digits: int, units: int | None) -> None:
    assert minor_units(amount, digits) == units


async def test_each_currency_has_its_own_total_in_its_own_units(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client, currencies={"BTC": 8})
    at = datetime(2026, 9, 3, 4, tzinfo=UTC).timestamp()
    amounts = {"USD": ["0.10", "0.20"], "JPY": ["100", "1"], "BHD": ["1.234", "-0.001"], "BTC": ["0.00000001"]}
    for currency, values in amounts.items():
        for number, value in enumerate(values):
            await counters.record(transaction_id=f"{currency}{number}", amount=Decimal(value), currency=currency, at=at)
    found = {name.split(":")[2]: value for name, value in keys(server).items() if "daily_revenue" in name}
    assert found == {"USD": "30", "JPY": "101", "BHD": "1233", "BTC": "1"}


async def test_a_currency_and_an_id_in_other_forms(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client, currencies={"BTC": 8})
    number = UUID(int=7)
    for name, currency, done in (
        (number, "usd", COUNTED), (str(number), "USD", DUPLICATE), (7, "Usd", COUNTED), ("7", "USD", DUPLICATE),
        ("b", "btc", COUNTED),
    ):  # fmt: skip
        assert await counters.record(transaction_id=name, amount=1, currency=currency) is done
    found = {name.split(":")[2]: value for name, value in keys(server).items() if "daily_revenue" in name}
    assert found == {"USD": "200", "BTC": "100000000"}


class Rogue:
    def __str__(self) -> str:
        raise RuntimeError


async def test_what_cannot_be_counted_exactly_is_not_counted(
    client: Any, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    counters = RealtimeCounters(client)
    wrong: list[dict[str, Any]] = [
        {"amount": Decimal("12.345"), "currency": "USD"},
        {"amount": Decimal("0.5"), "currency": "JPY"},
        {"amount": 12.3, "currency": "USD"},
        {"amount": 1, "currency": "QQQ"},
        {"amount": 1, "currency": "USD", "transaction_id": ""},
        {"amount": 1, "currency": "USD", "transaction_id": None},
        {"amount": 1, "currency": []},
        {"amount": 1, "currency": "USD", "at": float("nan")},
        {"amount": 1, "currency": "USD", "at": 1e300},
        {"amount": 1, "currency": "USD", "at": time.time() * 1000},
        {"amount": 1, "currency": "USD", "at": time.time() + 600},
        {"amount": 1, "currency": "USD", "at": "now"},
        {"amount": 1, "currency": "USD", "transaction_id": True},
        {"amount": 1, "currency": "USD", "user_id": Rogue()},
        {"amount": 1, "currency": "USD", "transaction_id": "\ud800"},
    ]
    found = [await counters.record(**{"transaction_id": "t", **options}) for options in wrong]
    assert found == [INVALID] * len(wrong)  # never FAILED, which asks for a retry
    assert keys(server) == {}
    assert counters.stats().invalid == len(wrong)
    assert sorted(caplog.messages) == [
        f"real-time counters: {why}; it is not counted, and more of the kind only in stats()"
        for why in (
            "an argument cannot be used", "its time is no Unix time in seconds, or ahead of now",
            "the amount is no exact number of the currency's smallest units", "the currency is not known",
            "the transaction's id is empty", "the transaction's id is neither a text nor a number nor a UUID",
        )
    ]  # fmt: skip


# Hours and days


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("at", "zone", "hour", "day"),
    [
        ("2026-03-01T22:59:59.999+00:00", BERLIN, "2026030123+0100", "20260301"),
        ("2026-03-01T23:00:00.000+00:00", BERLIN, "2026030200+0100", "20260302"),
        ("2026-03-29T00:59:59+00:00", BERLIN, "2026032901+0100", "20260329"),
        ("2026-03-29T01:00:00+00:00", BERLIN, "2026032903+0200", "20260329"),
        ("2026-10-25T00:30:00+00:00", BERLIN, "2026102502+0200", "20261025"),
        ("2026-10-25T01:30:00+00:00", BERLIN, "2026102502+0100", "20261025"),
        ("2025-12-31T18:29:59+00:00", "Asia/Kolkata", "2025123123+0530", "20251231"),
        ("2025-12-31T18:30:00+00:00", "Asia/Kolkata", "2026010100+0530", "20260101"),
    ],
)
async def test_hours_and_days_begin_where_the_zone_says(
    client: Any, server: RedisServer, watch: Watches, at: str, zone: str, hour: str, day: str
) -> None:
    when = datetime.fromisoformat(at).timestamp()
    counters = RealtimeCounters(client, timezone=zone)
    assert await counters.record(transaction_id="t", amount=5, currency="USD", at=when) is COUNTED
    assert list(keys(server)) == [
        f"{{dashboard}}:daily_revenue:USD:{day}", f"{{dashboard}}:daily_transactions:{day}",
        f"{{dashboard}}:hourly_revenue:USD:{hour}", f"{{dashboard}}:hourly_transactions:{hour}",
    ]  # fmt: skip
    watched = watch(server, timezone=zone, counters=example())
    watched.check._now = lambda: when  # type: ignore[method-assign]
    outcome = await watched.run()
    assert outcome.value("dashboard.revenue.hourly") == 5
    assert outcome.value("dashboard.transactions.daily") == 1
    watched.check._now = lambda: when + 3600  # type: ignore[method-assign]
    assert (await watched.run()).value("dashboard.transactions.hourly") == 0  # the hour that follows, by any name


class Clock:
    """The time that the counters see."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


async def test_a_retry_counts_when_the_first_try_was(
    client: Any, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind midnight; another process is to be told the time."""
    midnight = datetime(2026, 9, 4, tzinfo=UTC).timestamp()
    clock = Clock(midnight - 1)
    monkeypatch.setattr(realtime, "time", clock)
    monkeypatch.setattr(realtime, "_MOST_TRIED", 2)
    down = redis.asyncio.Redis(port=1)
    counters = RealtimeCounters(down, timeout=0.02)
    for name in ("forgotten", "failed", "given up"):
        assert await counters.record(transaction_id=name, amount=1, currency="USD") is FAILED
    counters._redis, counters._timeout = client, 20.0
    clock.now = midnight + 1
    for name in ("failed", "forgotten", "failed", "new"):
        assert (await counters.record(transaction_id=name, amount=1, currency="USD")).done
    told = await counters.record(transaction_id="told", amount=1, currency="USD", at=midnight - 1)
    assert told is COUNTED
    assert {name[-10:]: value for name, value in keys(server).items() if "daily_transactions" in name} == {
        "s:20260903": "2", "s:20260904": "2",
    }  # fmt: skip
    assert list(counters._tried) == ["given up"]
    await down.aclose()


def test_a_zone_that_does_not_exist_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="timezone 'Europe/Berln': there is no such time zone"):
        RealtimeCounters(None, timezone="Europe/Berln")  # type: ignore[arg-type]


# Active users


async def test_active_users_are_those_of_the_last_minutes(client: Any, server: RedisServer, watch: Watches) -> None:
    counters, now = RealtimeCounters(client), time.time()
    for user, age in {"ann": 1, "bob": 290, "cy": 310, "dee": 3_500, "eve": 3_700}.items():
        assert await counters.seen(user, at=now - age)
    assert await counters.seen("ann", at=now - 3_000)  # came late, and is no news
    await counters.record(transaction_id="t", amount=1, currency="USD", user_id="cy", at=now - 2)
    watched = watch(server, counters=example())
    watched.check._now = lambda: now  # type: ignore[method-assign]
    outcome = await watched.run()
    assert outcome.value("dashboard.users.active_5min") == 3
    assert outcome.value("dashboard.users.active_1hour") == 4
    assert server.command("ZCARD", "{dashboard}:active_users") == 4  # who is older than an hour is forgotten


async def test_who_cannot_have_been_there_is_not_active(
    client: Any, server: RedisServer, watch: Watches, caplog: pytest.LogCaptureFixture
) -> None:
    counters, now = RealtimeCounters(client), time.time()
    for user, at in (("", now), (None, now), ("ms", now * 1000), ("inf", float("inf")), ("nan", float("nan"))):
        assert not await counters.seen(user, at=at)  # type: ignore[arg-type]
    assert not await counters.seen("later", at=now + 600)
    assert caplog.messages == [
        f"real-time counters: {why}; it is not counted, and more of the kind only in stats()"
        for why in ("the user has no id", "its time is no Unix time in seconds, or ahead of now")
    ]
    assert await counters.seen("fast clock", at=now + 200)
    _, score = server.command("ZRANGE", "{dashboard}:active_users", 0, -1, "WITHSCORES")
    assert now - 1 <= float(score) <= time.time() + 1  # by the server's clock
    server.command("ZADD", "{dashboard}:active_users", now + 7200, "of another writer")
    watched = watch(server, counters=example())
    watched.check._now = lambda: now  # type: ignore[method-assign]
    assert (await watched.run()).value("dashboard.users.active_5min") == 1


async def test_users_are_hashed_on_demand(client: Any, server: RedisServer) -> None:
    await RealtimeCounters(client, hash_key="k").seen("ann@example.org")
    await RealtimeCounters(client, hash_user_ids=True).seen("ann@example.org")
    await RealtimeCounters(client).seen("u" * 1000)
    members = server.command("ZRANGE", "{dashboard}:active_users", 0, -1)
    assert len(members) == 3
    assert all(re.fullmatch(rb"[0-9a-f]{32}", member) for member in members)


# Both sides


def example() -> list[dict[str, Any]]:
    """The counters of the redis check's example."""
    counters: list[dict[str, Any]] = RedisConfig.model_fields["counters"].examples[0]  # type: ignore[index]
    return counters


def documented() -> list[dict[str, Any]]:
    """The counters of docs/instrument.md."""
    page = (ROOT / "docs" / "instrument.md").read_text()
    (block,) = re.findall(r"```yaml\n# conf\.d/redis\.yaml\n(.*?)```", page, re.DOTALL)
    counters: list[dict[str, Any]] = yaml.safe_load(block)["instances"][0]["counters"]
    return counters


def of_the_demo() -> list[dict[str, Any]]:
    """The counters of the demo, which has two currencies."""
    conf = yaml.safe_load((ROOT / "examples" / "demo" / "conf.d" / "redis.yaml").read_text())
    counters: list[dict[str, Any]] = conf["instances"][1]["counters"]
    return counters


@pytest.mark.parametrize(
    ("counters", "currency"),
    [(example(), "USD"), (documented(), "EUR"), (of_the_demo(), "EUR")],
    ids=["example", "docs", "demo"],
)
async def test_what_one_side_writes_the_others_example_reads(
    client: Any, server: RedisServer, watch: Watches, counters: list[dict[str, Any]], currency: str
) -> None:
    now = time.time()
    writer = RealtimeCounters(client, timezone=BERLIN)
    for number in range(3):
        amount = Decimal("1234.56") + number
        await writer.record(transaction_id=f"t{number}", amount=amount, currency=currency, user_id=f"u{number}", at=now)
    watched = watch(server, timezone=BERLIN, counters=counters)
    watched.check._now = lambda: now  # type: ignore[method-assign]
    outcome = await watched.run()
    others = {"currency:USD", "currency:EUR"} - {f"currency:{currency}"}
    found = {
        sample.name: sample.value
        for sample in outcome.batch.samples
        if sample.name.startswith("dashboard.") and not others & set(sample.tags)
    }
    assert found == {
        "dashboard.transactions.hourly": 3,
        "dashboard.transactions.daily": 3,
        "dashboard.revenue.hourly": Decimal("3706.68"),
        "dashboard.revenue.daily": Decimal("3706.68"),
        "dashboard.users.active_5min": 3,
        "dashboard.users.active_1hour": 3,
    }


# Failures


async def test_a_server_that_hangs_costs_the_timeout_and_a_retry_counts_once(client: Any, server: RedisServer) -> None:
    counters, at = RealtimeCounters(client), time.time()
    entry: dict[str, Any] = {"amount": 1, "currency": "USD", "at": at}
    assert await counters.record(transaction_id="t-0", **entry) is COUNTED
    counters._timeout = 0.1
    server.pause()
    try:
        assert await counters.record(transaction_id="t-1", **entry) is FAILED
        assert not await counters.seen("u")
        assert counters.stats().trouble == "TimeoutError"
    finally:
        server.resume()
    counters._timeout = 20.0
    assert (await RealtimeCounters(client).record(transaction_id="t-1", **entry)).done
    assert keys(server)[f"{{dashboard}}:daily_transactions:{stamp(at, 'UTC', '%Y%m%d')}"] == "2"
    assert await counters.record(transaction_id="t-1", **entry) is DUPLICATE
    assert counters.stats().trouble == ""


async def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    client = redis.asyncio.Redis(port=1)
    counters = RealtimeCounters(client, timeout=0.05)
    for number in range(3):
        assert await counters.record(transaction_id=f"t{number}", amount=1, currency="USD") is FAILED
    assert counters.stats().failed == 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("; transactions are not counted, see stats()")
    await client.aclose()


async def test_a_cancelled_request_stays_cancelled(client: Any, server: RedisServer) -> None:
    counters = RealtimeCounters(client, timeout=30)
    await counters.seen("u")
    server.pause()
    try:
        task = asyncio.create_task(counters.record(transaction_id="t", amount=1, currency="USD"))
        for _ in range(20):  # redis-py itself swallows a cancel while it looks whether a connection is still good
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        server.resume()


async def test_a_key_of_another_type(client: Any, server: RedisServer) -> None:
    server.command("RPUSH", "{dashboard}:active_users", "x")
    counters = RealtimeCounters(client)
    assert not await counters.seen("u")
    assert counters.stats().trouble == "ResponseError"


async def test_a_total_that_cannot_be_added_to_leaves_all_as_it_was(client: Any, server: RedisServer) -> None:
    """Of a type or a sum that another writer left; once that is mended, the same id counts."""
    counters, at = RealtimeCounters(client), datetime(2026, 9, 3, 4, tzinfo=UTC).timestamp()
    entry: dict[str, Any] = {"amount": Decimal("-12.30"), "currency": "USD", "user_id": "u", "at": at}
    for place in range(5):
        for command, value in (("RPUSH", "x"), ("SET", "12.5"), ("SET", 2**63 - 1), ("SET", -(2**63))):
            server.command("FLUSHALL")
            await counters.record(transaction_id="t-0", **entry)
            await counters.seen("u")
            whole = keys(server)
            name = sorted({*whole, "{dashboard}:active_users"})[place]
            adds = {"active": None, "daily_revenue": -1, "hourly_revenue": -1}.get(name.split(":")[1], 1)
            if isinstance(value, int) and adds is not None and (value > 0) != (adds > 0):
                continue  # there is room in this direction
            server.command("DEL", name)
            server.command(command, name, value)
            broken = keys(server)
            for _ in range(2):
                assert await counters.record(transaction_id="t-1", **entry) is FAILED, (name, value)
            assert keys(server) == broken, (name, value)
            server.command("DEL", name)
            assert await counters.record(transaction_id="t-1", **entry) is COUNTED, (name, value)


# The ledger


async def ledger_holds(server: RedisServer, watch: Watches, number: int, restarts: int) -> None:
    """Many writers, lost answers, retries and crashes of the server: the totals are those of the ledger."""
    rng, at = random.Random(number), time.time()
    digits = {"USD": 2, "JPY": 0, "BHD": 3}
    ledger = [
        (f"t-{n}", Decimal(rng.randint(-5_000, 1_000_000)).scaleb(-digits[code]), code, f"u-{rng.randint(1, 500)}")
        for n, code in enumerate(rng.choices(list(digits), k=number))
    ]
    client = redis.asyncio.Redis(port=server.port)
    counters = RealtimeCounters(client)
    waiting, done = list(ledger), 0

    async def write(entry: tuple[str, Decimal, str, str]) -> Recorded:
        name, amount, currency, user = entry
        return await counters.record(transaction_id=name, amount=amount, currency=currency, user_id=user, at=at)

    async def writer() -> None:
        nonlocal done
        while waiting:
            entry = waiting.pop()
            if rng.random() < 0.05:  # the application loses patience and never learns whether it was counted
                lost = asyncio.create_task(write(entry))
                await asyncio.sleep(rng.random() * 0.002)
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
            while not (await write(entry)).done:  # noqa: ASYNC110 - a retry, not a wait
                await asyncio.sleep(0.01)
            if rng.random() < 0.1:
                await write(entry)
            done += 1

    async def crash() -> None:
        for turn in range(restarts):
            due = number * (turn + 1) // (restarts + 1)
            await until(lambda due=due: done >= due, f"{due} transactions", timeout=600)  # type: ignore[misc]
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    async with asyncio.TaskGroup() as group:
        group.create_task(crash())
        for _ in range(200):
            group.create_task(writer())
    await client.aclose()
    watched = watch(server, counters=dashboard(digits))
    watched.check._now = lambda: at  # type: ignore[method-assign]
    outcome = await watched.run()
    for currency in digits:
        total = sum((amount for _, amount, code, _ in ledger if code == currency), Decimal())
        for scope in ("hourly", "daily"):
            assert outcome.value(f"dashboard.revenue.{scope}", f"currency:{currency}") == total
    assert outcome.value("dashboard.transactions.hourly") == number
    assert outcome.value("dashboard.transactions.daily") == number
    assert outcome.value("dashboard.users.active_5min") == len({user for *_, user in ledger})
    assert counters.stats().duplicate > 0
    assert counters.stats().failed > 0


def dashboard(digits: dict[str, int]) -> list[dict[str, Any]]:
    """The example's counters, those of revenue for each currency."""
    counters = [counter for counter in example() if "revenue" not in counter["metric"]]
    return counters + [
        counter | {"scale": scale, "tags": [f"currency:{currency}"]}
        for currency, scale in digits.items()
        for counter in example()
        if "revenue" in counter["metric"]
    ]


@pytest.fixture(params=[pytest.param(redis62, marks=pytest.mark.soak), valkey9], ids=["redis6.2", "valkey9"])
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that has on disk what it has acknowledged."""
    made = RedisServer(request.param(), tmp_path, appendonly="yes", appendfsync="always")
    made.start()
    yield made
    made.kill()


async def test_totals_are_those_of_the_ledger(durable: RedisServer, watch: Watches) -> None:
    await ledger_holds(durable, watch, 1_500, restarts=1)


@pytest.mark.soak
async def test_totals_are_those_of_a_long_ledger(durable: RedisServer, watch: Watches) -> None:
    await ledger_holds(durable, watch, 100_000, restarts=5)


async def test_the_rights_that_the_page_asks_for(server: RedisServer) -> None:
    """With them all is well; where one lacks nothing is counted, and given later all is counted by the retry."""
    (rights,) = re.findall(r"^ACL SETUSER (payments .*)$", (ROOT / "docs" / "instrument.md").read_text(), re.MULTILINE)
    client = redis.asyncio.Redis(port=server.port, username="payments", password="secret")
    counters = RealtimeCounters(client)
    server.command("ACL", "SETUSER", *rights.split())
    assert await counters.seen("u")  # the scripts are loaded
    commands = [word for word in rights.split() if word.startswith("+") and word != "+eval"]
    assert len(commands) == 9
    for lacking in ("", *commands):
        server.command("FLUSHALL")
        server.command("ACL", "SETUSER", *rights.split(), *(["-" + lacking[1:]] if lacking else []))
        if lacking:
            for _ in range(2):
                assert await counters.record(transaction_id="t", amount=5, currency="USD", user_id="u") is FAILED
            with server.client(decode_responses=True) as plain:
                left = {name: plain.ttl(name) for name in plain.keys()}  # noqa: SIM118
            assert all(life > 0 for life in left.values()), (lacking, left)
            assert not [name for name in left if ":transaction:" in name]
            assert set(keys(server).values()) <= {"0", "…"}, lacking  # the user was there
            server.command("ACL", "SETUSER", "payments", lacking)
        for done in (COUNTED, DUPLICATE):
            assert await counters.record(transaction_id="t", amount=5, currency="USD", user_id="u") is done
    await client.aclose()
    server.command("ACL", "DELUSER", "payments")


# Cluster


async def test_a_cluster(tmp_path: Path, watch: Watches, port: Port, technical: TechnicalMetrics) -> None:
    cluster = RedisCluster(valkey9(), tmp_path, primaries=3, cluster_node_timeout=20_000)
    cluster.start()
    try:
        client = redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
        instrument_redis(client, metrics=technical)
        now = time.time()
        for prefix in ("{dashboard}", "{a}", "{b}", "{c}"):  # whose slots are on different nodes
            counters = RealtimeCounters(client, prefix=prefix)
            for name in ("t-1", "t-2", "t-1"):
                await counters.record(transaction_id=name, amount=Decimal("0.10"), currency="USD", user_id="u", at=now)
            assert (counters.stats().counted, counters.stats().duplicate, counters.stats().failed) == (2, 1, 0)
        assert await client.get("nothing") is None
        async with client.pipeline() as pipeline:
            assert await pipeline.set("{x}", 1).get("{x}").execute() == [True, b"1"]
        await client.aclose()
        watched = watch(cluster={"addresses": [f"127.0.0.1:{cluster.nodes[0].port}"]}, counters=example())
        watched.check._now = lambda: now  # type: ignore[method-assign]
        outcome = await watched.run()
        assert outcome.value("dashboard.revenue.hourly", "currency:USD") == Decimal("0.20")
        assert outcome.value("dashboard.users.active_5min") == 1
        assert await asyncio.to_thread(technical.flush, 10.0)
        await port.wait_for(technical.stats().sent)
        found = Counter(",".join(Line.of(line).tags) for line in port.lines if line.startswith("cache.operations"))
        assert found.pop("operation:eval,hit:none") >= 1
        assert found == {
            "operation:evalsha,hit:none": 12, "operation:get,hit:false": 1, "operation:pipeline,hit:none": 1,
            "operation:get,hit:true": 1,
        }  # fmt: skip
    finally:
        cluster.stop()
