"""A week with outages, restarts, lost batches, a clock set back, late, corrected and deleted rows.

The last values equal the ledger.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from vedette_checks.business_sql.windows import Grid

from .conftest import Instance, Ledger

pytestmark = pytest.mark.anyio

HOUR = 3_600
START = int(datetime(2026, 10, 21, 22, 0, tzinfo=UTC).timestamp())
"""Midnight in Berlin; the clock is set back on the 25th."""
HOURS = 7 * 24 + 1
VOLUME, COUNT = "business.hourly.transaction_volume", "business.hourly.transaction_count"


CORRECTIONS = (
    *["DELETE FROM transactions WHERE id = ?"] * 6,
    *["UPDATE transactions SET currency = 'CHF' WHERE id = ?"] * 6,
    *["UPDATE transactions SET amount_minor = amount_minor + 1 WHERE id = ?"] * 6,
    "DELETE FROM transactions WHERE currency = (SELECT currency FROM transactions WHERE id = ?) AND created_at >= ?",
)


class Shop:
    """Makes payments as time goes by; some are written down late, as batches of a slow partner are."""

    def __init__(self, ledger: Ledger, seed: int, reach: int) -> None:
        self.ledger = ledger
        self.reach = reach
        self.random = random.Random(seed)
        self.late: list[tuple[int, tuple[str, int, str]]] = []

    def work(self, since: int, now: int) -> None:
        payments = [row for due, row in self.late if due <= now]
        self.late = [(due, row) for due, row in self.late if due > now]
        for _ in range(self.random.randrange(0, 12)):
            at = self.random.randrange(since, now)
            row = (
                self.random.choice(("EUR", "USD", "JPY")),
                self.random.randrange(1, 10**9),
                f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}",
            )
            if self.random.random() < 0.1:
                self.late.append((now + self.random.randrange(60, 2 * HOUR), row))
            else:
                payments.append(row)
        self.ledger.pay(*payments)
        if self.random.random() < 0.2:
            self.correct(now)

    def correct(self, now: int) -> None:
        """A recent payment had another currency or amount, or should not have been; or all of a currency were none."""
        since = f"{datetime.fromtimestamp(now - self.reach, UTC):%Y-%m-%d %H:%M:%S}"
        (found,) = self.ledger.sql("SELECT max(id) FROM transactions WHERE created_at > ?", [(since,)])
        change = self.random.choice(CORRECTIONS)
        number = (found[0] or 0) - self.random.randrange(20)
        self.ledger.sql(change, [(number, since)[: change.count("?")]])


def truth(ledger: Ledger, grid: Grid, start: int, end: int) -> dict[tuple[str, int, str], Decimal]:
    """(metric, window's end, currency) to value, from the ledger by other means."""
    made: dict[tuple[str, int, str], Decimal] = {}
    with closing(sqlite3.connect(ledger.path)) as database:
        for currency, minor, created in database.execute("SELECT currency, amount_minor, created_at FROM transactions"):
            at = int(datetime.fromisoformat(f"{created}+00:00").timestamp())
            if start <= at < end:
                window = grid.at(at)
                for name, value in ((VOLUME, Decimal(minor) / 100), (COUNT, Decimal(1))):
                    key = (name, window.end, currency)
                    made[key] = made.get(key, Decimal(0)) + value
    return made


WEEKS = [(every, seed) for every in ("1h", "6h", "1d") for seed in (1, 2, 3)]
QUICK = {("1h", 1), ("1d", 3)}
"""Those that every run of the tests takes; `make soak` takes all."""


@pytest.mark.parametrize(
    ("every", "seed"), [week if week in QUICK else pytest.param(*week, marks=pytest.mark.soak) for week in WEEKS]
)
async def test_a_week(ledger: Ledger, seed: int, every: str) -> None:
    chance = random.Random(seed * 1000)
    instance = Instance(
        ledger.url,
        window={"every": every, "lag": "5m", "timezone": "Europe/Berlin"},
        restate=10,
        catch_up=200,
        tag_limit=10,
    )
    grid = Grid({"1h": 1, "6h": 6, "1d": 24}[every] * HOUR, ZoneInfo("Europe/Berlin"))
    shop = Shop(ledger, seed, 3 * grid.every)
    instance.state["watermark"] = START
    hidden = ledger.path.with_suffix(".away")
    down_until, before, delivered = 0, START, 0
    for minute in range(0, HOURS * 60, 7):
        now = START + minute * 60 + 400
        instance.time = now
        if hidden.exists() and now >= down_until:
            hidden.rename(ledger.path)
            before = now - 1  # nobody could pay meanwhile
        if not hidden.exists():
            shop.work(before, now)
            before = now
        if not hidden.exists() and chance.random() < 0.01:
            await instance.close()
            ledger.path.rename(hidden)
            down_until = now + chance.randrange(600, 5 * HOUR)
        await instance.run(delivered=chance.random() > 0.03, committed=chance.random() > 0.05)
        if instance.batches and chance.random() < 0.05:  # a SIGKILL: only what was committed is left
            await instance.close()
            instance.restart()
        delivered = len(instance.batches)
    if hidden.exists():
        hidden.rename(ledger.path)
    shop.late = [(0, row) for _, row in shop.late]
    await instance.close()
    instance.restart()
    end = START + HOURS * HOUR + 400
    shop.work(before, end)
    for step in range(12):  # the last windows close, and what came late is seen
        instance.time = end + step * grid.every
        await instance.run()
    await instance.close()

    assert delivered > 1000
    samples = [sample for batch in instance.batches for sample in batch.samples if sample.name in (VOLUME, COUNT)]
    last = {(one.name, one.time, one.tags[0].removeprefix("currency:")): one.value for one in samples}
    reported = {one.time for one in samples}
    window, ends = grid.at(START), set()
    assert window.start == START
    while window.end <= START + HOURS * HOUR:
        ends.add(window.end)
        window = grid.after(window)
    expected = truth(ledger, grid, START, max(ends))
    assert ends >= {time for _, time, _ in expected}
    assert reported >= {time for _, time, _ in expected}
    assert reported <= {float(time) for time in ends} | {grid.at(max(ends) + n * grid.every).end for n in range(14)}
    assert {key: value for key, value in last.items() if value and key[1] in ends} == expected
    assert any(not value for value in last.values())  # what is gone was taken back
    assert len(samples) > len(last)  # some were sent again
    assert instance.channel.dropped.total() == 0
    longest = [(ends_at - starts) for starts, ends_at in zip(sorted(ends), sorted(ends)[1:], strict=False)]
    assert max(longest) == {"1h": HOUR, "6h": 7 * HOUR, "1d": 25 * HOUR}[every]
