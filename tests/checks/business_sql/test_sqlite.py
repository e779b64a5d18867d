"""Windows over a ledger in SQLite: money to the cent, late rows, downtimes, budgets, and the traps of SQLite."""

# ruff: noqa: E501 - tables of SQL and times

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.process import vedette
from vedette import Kind
from vedette_checks.business_sql import BusinessSql
from vedette_checks.business_sql.columns import ColumnConfig, exact

from .conftest import COLUMNS, NOW, SUMMARY, Instance, Ledger, message, values

pytestmark = pytest.mark.anyio

END = 1_795_525_200
"""2026-11-24 13:00:00 UTC, the end of the last closed window at NOW."""
COUNT, VOLUME = "business.hourly.transaction_count", "business.hourly.transaction_volume"


async def test_the_last_closed_window_to_the_cent(ledger: Ledger) -> None:
    ledger.pay(
        ("EUR", 1250, "2026-11-24 12:00:00"), ("EUR", 10, "2026-11-24 12:59:59"), ("USD", 999_999_999_999_999, "2026-11-24 12:30:00"),
        ("EUR", 7, "2026-11-24 11:59:59"), ("EUR", 8, "2026-11-24 13:00:00"),
    )  # fmt: skip
    instance = Instance(ledger.url)
    batch, error = await instance.run()
    again, _ = await instance.run()
    await instance.close()
    assert error == ""
    assert values(batch, COUNT) == {(END, "currency:EUR"): 2, (END, "currency:USD"): 1}
    assert values(batch, VOLUME) == {
        (END, "currency:EUR"): Decimal("12.60"),
        (END, "currency:USD"): Decimal("9999999999999.99"),
    }
    assert all(isinstance(value, Decimal) for value in values(batch, VOLUME).values())
    assert values(batch, "business_sql.windows.reported") == {(None,): 1}
    assert values(batch, "business_sql.windows.behind") == {(None,): 0}
    assert values(again, COUNT) == {}
    assert instance.state == {"watermark": END}
    assert instance.channel.dropped.total() == 0


async def test_windows_missed_are_reported_in_order_and_only_so_many(ledger: Ledger) -> None:
    for hour in range(24):
        ledger.pay(("EUR", 100 + hour, f"2026-11-23 {hour:02}:30:00"))
    ledger.pay(("EUR", 5, "2026-11-24 12:00:00"))
    instance = Instance(ledger.url, catch_up=16)
    instance.state["watermark"] = END - 20 * 3600  # 17:00 the day before
    batch, _ = await instance.run()
    await instance.close()
    times = [sample.time for sample in batch.samples if sample.name == COUNT]
    assert times == [END - n * 3600 for n in (14, 13, 0)] or times == [
        END - 13 * 3600 - n * 3600 for n in (2, 1, 0)
    ] + [END]
    assert values(batch, "business_sql.windows.reported") == {(None,): 16}
    assert values(batch, "business_sql.windows.lost") == {(None,): 4}
    assert message(batch, "windows") == "4 windows are older than `catch_up` allows, and are left out"
    assert instance.state["watermark"] == END


async def test_a_run_that_is_not_delivered_is_repeated_with_the_same_times(ledger: Ledger) -> None:
    ledger.pay(("EUR", 1250, "2026-11-24 12:00:00"))
    instance = Instance(ledger.url)
    first, _ = await instance.run(committed=False)
    await instance.close()
    instance.restart()
    second, _ = await instance.run()
    await instance.close()
    assert values(first, VOLUME) == values(second, VOLUME) == {(END, "currency:EUR"): Decimal("12.50")}


async def test_a_kill_after_the_first_window_is_no_first_start_again(ledger: Ledger) -> None:
    """The sink has the first window, its watermark is not on disk yet; the next start comes two windows later."""
    ledger.pay(*(("EUR", hour, f"2026-11-24 {hour}:30:00") for hour in (11, 12, 13, 14)))
    instance = Instance(ledger.url)
    await instance.run(committed=False)
    await instance.close()
    assert instance.state == {"watermark": END - 3600}
    instance.restart()
    instance.time += 2 * 3600
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, COUNT) == {(END + n * 3600, "currency:EUR"): 1 for n in (0, 1, 2)}
    assert instance.state == {"watermark": END + 2 * 3600}


async def test_late_rows_are_restated_and_only_they(ledger: Ledger) -> None:
    ledger.pay(("EUR", 100, "2026-11-24 12:10:00"), ("USD", 100, "2026-11-24 12:10:00"))
    instance = Instance(ledger.url, restate=2)
    await instance.run()
    ledger.pay(("EUR", 50, "2026-11-24 12:50:00"), ("EUR", 1, "2026-11-24 13:50:00"), ("EUR", 9, "2026-11-24 11:50:00"))
    instance.time += 3600
    await instance.close()
    instance.restart()
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, VOLUME) == {
        (END + 3600, "currency:EUR"): Decimal("0.01"),
        (END, "currency:EUR"): Decimal("1.50"),
    }  # not the window before the first one, which was never reported
    assert values(batch, "business_sql.windows.restated") == {(None,): 2}
    assert sorted(instance.state["sent"]) == [str(END), str(END + 3600)]


async def test_a_series_that_is_gone_is_restated_as_nought(ledger: Ledger) -> None:
    ledger.pay(
        ("EUR", 1000, "2026-11-24 12:30:00"), ("USD", 500, "2026-11-24 12:30:00"), ("a\nb", 1, "2026-11-24 12:30:00")
    )
    instance = Instance(ledger.url, restate=3, catch_up=1)
    await instance.run()
    ledger.sql("UPDATE transactions SET currency = 'EUR' WHERE currency <> 'EUR'")
    await instance.close()
    instance.restart()
    instance.time += 3600
    batch, _ = await instance.run()
    gone = {(END, "currency:USD"): 0, (END, "currency:a_b"): 0}
    assert values(batch, COUNT) == {(END, "currency:EUR"): 3, **gone}
    assert values(batch, VOLUME) == {(END, "currency:EUR"): Decimal("15.01"), **gone}
    instance.time += 3600
    batch, _ = await instance.run()
    assert values(batch, VOLUME) == {}  # it is told once
    ledger.pay(("USD", 700, "2026-11-24 12:31:00"))
    instance.time += 3600
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, VOLUME) == {(END, "currency:USD"): Decimal("7.00")}


async def test_what_a_limit_has_cut_is_not_gone(ledger: Ledger) -> None:
    ledger.pay(("EUR", 1000, "2026-11-24 12:30:00"), ("USD", 500, "2026-11-24 12:30:00"))
    queries = [{"name": "q", "sql": f"{SUMMARY} ORDER BY currency", "columns": COLUMNS, "limit": 2}]
    instance = Instance(ledger.url, restate=3, queries=queries)
    await instance.run()
    ledger.pay(("CHF", 1, "2026-11-24 12:30:00"))
    instance.time += 3600
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, VOLUME) == {(END, "currency:CHF"): Decimal("0.01")}


async def test_when_it_runs(ledger: Ledger) -> None:
    instance = Instance(ledger.url)
    check = instance.check
    assert check.next_due(NOW) == NOW  # nothing was reported yet
    await instance.run()
    assert check.next_due(NOW + 1) == END + 3600 + 300
    assert check.next_due(END + 3600 + 300) == END + 3600 + 300 + 30  # it is due, and was not managed
    await instance.close()
    assert instance.config.cadence == 3600
    plain = Instance(ledger.url, window=None, sql="SELECT 1 AS n", columns={"n": {"metric": "a.b"}}, interval="7s")
    assert (plain.check.next_due(NOW), plain.config.cadence) == (None, 7)


async def test_the_database_is_down_over_three_windows(ledger: Ledger) -> None:
    for hour in (12, 13, 14, 15):
        ledger.pay(("EUR", hour, f"2026-11-24 {hour}:30:00"))
    instance = Instance(ledger.url)
    await instance.run()
    hidden = ledger.path.with_suffix(".away")
    await instance.close()
    ledger.path.rename(hidden)
    for hour in (1, 2, 3):
        instance.time = NOW + hour * 3600
        batch, error = await instance.run()
        assert error == f"{ledger.path} cannot be opened; does the file exist, and may the agent read it?"
        assert message(batch, "can_connect") == error
        assert values(batch, COUNT) == {}
        assert values(batch, "business_sql.windows.behind") == {(None,): hour}
        assert not ledger.path.exists()  # a wrong path makes no empty file
        assert instance.check.next_due(instance.time) == instance.time + 30
    hidden.rename(ledger.path)
    batch, error = await instance.run()
    await instance.close()
    assert error == ""
    assert values(batch, VOLUME) == {(END + n * 3600, "currency:EUR"): Decimal(12 + n) / 100 for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (("2026-11-24T11:59:59.9Z", "2026-11-24T12:00:00Z", "2026-11-24T12:59:59.999Z", "2026-11-24T13:00:00Z"), "text"),
        (("2026-11-24T11:59:59", "2026-11-24T12:00:00", "2026-11-24T12:59:59", "2026-11-24T13:00:00"), "text"),
        (("2026-11-24 11:59:59.5", "2026-11-24 12:00:00.000", "2026-11-24 12:59:59.9", "2026-11-24 13:00:00.000"), "text"),
        ((END - 3601, END - 3600, END - 1, END), "integer"),
        ((END - 3600.5, END - 3600.0, END - 0.5, float(END)), "real"),
    ],
)  # fmt: skip
async def test_how_times_are_stored_is_found_out(tmp_path: Path, stored: Any, kind: str) -> None:
    ledger = Ledger(tmp_path / "a.db", kind)
    ledger.pay(*(("EUR", 10**n, one) for n, one in enumerate(stored)))
    instance = Instance(ledger.url)
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, VOLUME) == {(END, "currency:EUR"): Decimal("1.10")}
    assert message(batch, "queries") == ""


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("2026-11-24T13:30:00+01:00", "times are stored with an offset, and compared as text: write datetime(column) >= "),
        ("24.11.2026 12:30", "times are stored in a form that cannot be compared as text"),
        ((END - 60) * 1000, "times are stored as milliseconds: compare with CAST(:start_time AS bigint) * 1000"),
    ],
)  # fmt: skip
async def test_times_that_would_match_nothing_are_told(tmp_path: Path, stored: Any, said: str) -> None:
    ledger = Ledger(tmp_path / "a.db", "integer" if isinstance(stored, int) else "text")
    ledger.pay(("EUR", 10, stored))
    instance = Instance(ledger.url)
    for _ in range(2):  # not only at the first run
        batch, _ = await instance.run()
        assert message(batch, "queries").startswith(f"q: {said}")
        instance.time += 3600
    await instance.close()


JOINED = "SELECT count(*) AS n FROM transactions t JOIN times AS at_ ON at_.payment = t.id WHERE"
ONE = {"n": {"metric": "a.n"}}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (f"{JOINED} at_.paid_at >= :start_time AND at_.paid_at < :end_time", ""),
        (f"{JOINED} paid_at >= :start_time AND paid_at < :end_time", ""),
        (f"{JOINED} :start_time <= paid_at AND :end_time > at_.\"paid_at\"", ""),
        (f"{JOINED} paid_at BETWEEN :start_time AND :end_time - 1", ""),
        (f"{JOINED} at_.ms >= :start_time * 1000 AND at_.ms < 1000 * :end_time", ""),
        (f"{JOINED} at_.ms >= CAST(:start_time AS bigint) * 1000 AND at_.ms < CAST(:end_time AS bigint) * 1000", ""),
        (f"{JOINED} at_.ms >= :start_time AND at_.ms < :end_time", "times are stored as milliseconds: compare with"),
        (f"{JOINED} :start_time <= at_.ms AND :end_time > at_.ms", "times are stored as milliseconds: compare with"),
        ("SELECT count(*) AS n FROM (SELECT paid_at FROM times WHERE paid_at > 0) AS q WHERE q.paid_at >= :start_time AND "
         "q.paid_at < :end_time", ""),
        ("WITH q AS (SELECT paid_at FROM times WHERE paid_at >= :start_time AND paid_at < :end_time) SELECT count(*) AS n FROM q", ""),
        (f"{JOINED} paid_at IN (:start_time, :end_time - 60)", "it cannot be made out how it compares times"),
        (f"{JOINED} paid_at >= unixepoch(:start_time) AND paid_at < unixepoch(:end_time)", "it cannot be made out how it compares times"),
        (f"{JOINED} datetime(paid_at, 'unixepoch') >= :start_time AND datetime(paid_at, 'unixepoch') < :end_time", ""),
    ],
)  # fmt: skip
async def test_what_is_compared_is_found_wherever_it_stands(ledger: Ledger, sql: str, said: str) -> None:
    """The payments' own times are texts, those of the other table numbers; what is unclear is told until `bind` says it."""
    ledger.pay(("EUR", 10, "2026-11-24 12:59:00"))
    ledger.sql("CREATE TABLE times (payment int, paid_at int, ms int)")
    ledger.sql("INSERT INTO times VALUES (1, ?, ?)", [(END - 60, (END - 60) * 1000)])
    instance = Instance(ledger.url, sql=sql, columns=ONE)
    for hour in range(2):
        instance.time = NOW + hour * 3600
        batch, error = await instance.run()
        assert (error, message(batch, "queries")[:45]) == ("", f"q: {said}"[:45] if said else "")
        if not said:
            assert values(batch, "a.n") == {(END + hour * 3600,): 1 - hour}
    await instance.close()
    if "cannot" in said:
        told = Instance(ledger.url, sql=sql, columns=ONE, bind="iso" if "unixepoch" in sql else "epoch")
        batch, _ = await told.run()
        await told.close()
        assert (message(batch, "queries"), values(batch, "a.n")) == ("", {(END,): 1})


async def test_an_offset_is_no_trouble_with_datetime(ledger: Ledger) -> None:
    ledger.pay(("EUR", 10, "2026-11-24T13:30:00+01:00"), ("EUR", 100, "2026-11-24T12:30:00-05:00"))
    instance = Instance(ledger.url, sql="SELECT currency, count(*) AS n, sum(amount_minor) AS volume FROM transactions WHERE "
                        "datetime(created_at) >= :start_time AND datetime(created_at) < :end_time GROUP BY currency")  # fmt: skip
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, VOLUME) == {(END, "currency:EUR"): Decimal("0.10")}
    assert message(batch, "queries") == ""


async def test_decimals_that_sqlite_sums_as_floats(ledger: Ledger) -> None:
    ledger.sql("CREATE TABLE prices (price decimal(10, 2))")
    ledger.sql("INSERT INTO prices VALUES (?)", [(4.2,), (4.2,), (4.2,)])
    assert ledger.sql("SELECT sum(price) FROM prices") == [(12.600000000000001,)]
    instance = Instance(
        ledger.url,
        window=None,
        sql="SELECT sum(price) AS raw, sum(price) AS exact, 5 AS whole, NULL AS none, 1 = 1 AS yes FROM prices",
        columns={
            "raw": {"metric": "p.raw"},
            "exact": {"metric": "p.exact", "round": 2, "currency": "EUR"},
            "whole": {"metric": "p.whole", "type": "count", "scale": 3},
            "none": {"metric": "p.none"},
            "yes": {"metric": "p.yes", "type": "histogram"},
        },
    )
    batch, _ = await instance.run()
    await instance.close()
    found = {
        sample.name: (sample.kind, sample.value, sample.tags)
        for sample in batch.samples
        if sample.name.startswith("p.")
    }
    assert found == {
        "p.raw": (Kind.GAUGE, 12.600000000000001, ()),
        "p.exact": (Kind.GAUGE, Decimal("12.60"), ("currency:EUR",)),
        "p.whole": (Kind.COUNT, Decimal("0.005"), ()),
        "p.yes": (Kind.HISTOGRAM, 1, ()),
    }
    assert isinstance(found["p.exact"][1], Decimal)


async def test_budgets_and_what_is_wrong_with_a_result(ledger: Ledger) -> None:
    rows = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 50) SELECT"
    tagged = {"i": {"type": "tag", "tag": "number"}, "n": {"metric": "a.n"}}

    async def ask(sql: str, columns: Any, **options: Any) -> tuple[Any, str]:
        query = {
            "name": "q",
            "sql": sql,
            "columns": columns,
            **({"limit": options.pop("limit")} if "limit" in options else {}),
        }
        instance = Instance(ledger.url, window=None, queries=[query], **options)
        batch, _ = await instance.run()
        await instance.close()
        return batch, message(batch, "queries")

    batch, said = await ask(f"{rows} i, 1 AS n FROM c", tagged, limit=20)
    assert said == "q: more than 20 rows, the rest is left out; raise `limit`, or group by fewer tags"
    assert len(values(batch, "a.n")) == 20
    assert values(batch, "business_sql.rows") == {(None, "query:q"): 20}
    assert values(batch, "business_sql.cut") == {(None, "query:q"): 1}
    (cut,) = [
        one.help
        for one in BusinessSql.declare(Instance(ledger.url, window=None, sql="SELECT 1 AS n", columns=ONE).config)
        if one.name == "business_sql.cut"
    ]
    assert "at least so many" in cut
    batch, said = await ask(f"{rows} i, 1 AS n FROM c", tagged, tag_limit=10)
    assert said == "q: more than 10 tag sets, the rest is left out; raise `tag_limit`"
    assert len(values(batch, "a.n")) == 10
    assert values(batch, "business_sql.cut") == {(None, "query:q"): 40}
    for sql, wrong in (
        ("SELECT 1 AS m, 2 AS i", "the result has no column n; it has m, i"),
        ("SELECT 'x' AS n, 2 AS i", "n is str, not a number; cast it"),
        ("SELECT 9e999 AS n, 2 AS i", "n is NaN or infinite, which no metric can be"),
        ("SELECT 1 AS n, 2 AS i UNION ALL SELECT 3, 2",
         "several rows have the same tags: make what tells them apart a tag, or GROUP BY the tags"),
        ("SELECT n FROM nowhere", "no such table: nowhere; correct its `sql`"),
        ("SELECT 1 AS n,, 2 AS i", 'near ",": syntax error; correct its `sql`'),
    ):  # fmt: skip
        _, said = await ask(sql, tagged)
        assert said == f"q: {wrong}"


async def test_a_file_that_was_put_in_its_place_is_read(ledger: Ledger) -> None:
    instance = Instance(
        ledger.url, window=None, sql="SELECT count(*) AS n FROM transactions", columns={"n": {"metric": "a.n"}}
    )
    assert values((await instance.run())[0], "a.n") == {(None,): 0}
    other = Ledger(ledger.path.with_suffix(".new"))
    other.pay(("EUR", 1, "2026-11-24 12:00:00"))
    other.path.rename(ledger.path)
    assert values((await instance.run())[0], "a.n") == {(None,): 1}
    await instance.close()


async def test_colons_in_texts_and_comments_are_no_bounds(ledger: Ledger) -> None:
    ledger.pay(("a:start_time", 1, "2026-11-24 12:00:00"))
    sql = SUMMARY.replace("GROUP", "AND currency = 'a:start_time' AND ':x' <> ':end_time' /* :y */ GROUP") + " -- :z"
    instance = Instance(ledger.url, sql=sql)
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, COUNT) == {(END, "currency:a:start_time"): 1}


def test_no_digit_is_lost() -> None:
    column = ColumnConfig(metric="a.b", scale=2)
    assert str(exact(12345678901234567890123456789012345678, column)) == "123456789012345678901234567890123456.78"
    rounded = ColumnConfig(metric="a.b", round=1)
    assert (
        str(exact(Decimal("123456789012345678901234567890123456.75"), rounded))
        == "123456789012345678901234567890123456.8"
    )
    assert str(exact(12.600000000000001, rounded)) == "12.6"


async def test_what_writes_is_refused_by_the_database_itself(ledger: Ledger) -> None:
    instance = Instance(ledger.url, window=None, sql="SELECT 1 AS n", columns={"n": {"metric": "a.n"}})
    instance.check._queries.prepare()
    from vedette_checks.business_sql.config import clause

    instance.check._queries._queries[0].clause = clause("DELETE FROM transactions RETURNING 1 AS n")
    instance.opened = True
    ledger.pay(("EUR", 10, "2026-11-24 12:30:00"))
    batch, _ = await instance.run()
    await instance.close()
    assert message(batch, "queries") == "q: attempt to write a readonly database; queries only read"
    assert ledger.sql("SELECT count(*) FROM transactions") == [(1,)]


async def test_a_query_that_takes_for_ever_is_interrupted_and_the_next_run_goes_on(ledger: Ledger) -> None:
    endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) AS n FROM c"
    queries = [{"name": "slow", "sql": endless, "columns": {"n": {"metric": "a.n"}}}]
    instance = Instance(ledger.url, window=None, queries=queries, statement_timeout="1s", timeout="60s")
    for _ in range(2):
        async with asyncio.timeout(120):
            batch, _ = await instance.run()
        assert message(batch, "queries") == "slow: took longer than statement_timeout; add an index, or raise it"
    await instance.close()


async def test_queries_of_a_window_see_the_same_state(ledger: Ledger) -> None:
    """A payment that is made between two queries of a window is in none of them, or in both."""
    ledger.pay(("EUR", 100, "2026-11-24 12:30:00"))
    ledger.sql("PRAGMA journal_mode = WAL")
    queries = [{"name": name, "sql": "SELECT count(*) AS n FROM transactions WHERE created_at >= :start_time AND created_at < "
                ":end_time", "columns": {"n": {"metric": f"a.{name}"}}} for name in ("one", "two")]  # fmt: skip
    instance = Instance(ledger.url, queries=queries)
    instance.check._queries.prepare()
    instance.opened = True
    second = instance.check._queries._queries[1]
    inner = instance.check._queries._fetch

    async def fetch(transaction: Any, query: Any, window: Any) -> Any:
        if query is second:
            await asyncio.to_thread(ledger.pay, ("EUR", 1, "2026-11-24 12:45:00"))
        return await inner(transaction, query, window)

    instance.check._queries._fetch = fetch  # type: ignore[method-assign]
    batch, _ = await instance.run()
    await instance.close()
    assert values(batch, "a.one") == values(batch, "a.two") == {(END,): 1}
    assert ledger.sql("SELECT count(*) FROM transactions") == [(2,)]


def test_the_issues_file_on_the_command_line_keeps_every_digit(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    ledger = Ledger(conf / "payments.db")
    pay = "INSERT INTO transactions (currency, amount_minor, created_at) VALUES ('USD', 999999999999999, datetime('now', ?))"
    ledger.sql(pay, [(f"-{hours} hours",) for hours in range(3)])
    (conf / "business_sql.yaml").write_text(
        """\
instances:
  - name: hourly-summary
    url: sqlite+aiosqlite:///payments.db                 # postgresql+asyncpg://… for real
    window: {every: 1h, lag: 5m, timezone: UTC}
    queries:
      - sql: SELECT currency, count(*) AS n, sum(amount_minor) AS volume FROM transactions
             WHERE created_at >= :start_time AND created_at < :end_time GROUP BY currency
        columns:
          currency: {type: tag}
          n: {type: gauge, metric: business.hourly.transaction_count}
          volume: {type: gauge, metric: business.hourly.transaction_volume, scale: 2}
"""
    )
    done = vedette("validate", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "conf.d: 1 instance, no errors\n", "")
    done = vedette("check", "business_sql", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"value":9999999999999.99' in done.stdout
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == COUNT]
    assert row["time"] % 3600 == 0
    assert row["tags"] == ["currency:USD", "instance:hourly-summary"]
    assert "host" not in row
