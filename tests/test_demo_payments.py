"""The demo's money path: its own API, its own database, its own configuration; the strategy's names, exact values."""

from __future__ import annotations

import asyncio
import importlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.process import vedette
from test_acceptance import rows_of

pytestmark = pytest.mark.anyio

DEMO = Path(__file__).parent.parent / "examples" / "demo"
FILES = ("synthetic.yaml", "business_sql.yaml")
MONEY = {
    "business.hourly.transaction_count": "count(*)",
    "business.hourly.transaction_volume": "sum(cents) FILTER (WHERE status = 'settled') / 100.0",
    "business.hourly.avg_transaction_value": "round(avg(cents) FILTER (WHERE status = 'settled') / 100.0, 2)",
    "business.hourly.success_rate": "round(100.0 * count(*) FILTER (WHERE status = 'settled') / count(*), 2)",
}


async def test_a_customer_who_goes_away_is_no_error_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(DEMO))
    runner = web.AppRunner(importlib.import_module("payments").PaymentsApi(None).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n")
    assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")  # now it waits for the body
    writer.close()
    while next(iter(runner.server.connections), None) is not None:  # type: ignore[union-attr]  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    await runner.cleanup()
    assert [record.getMessage() for record in caplog.records if record.name == "aiohttp.server"] == []


async def test_the_strategys_metrics_of_money_come_out_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DEMO))
    postgres, shop, payments = (importlib.import_module(name) for name in ("postgres", "shop", "payments"))
    conf = tmp_path / "conf.d"
    conf.mkdir()
    for name in FILES:
        (conf / name).write_text((DEMO / "conf.d" / name).read_text())
    (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\n")
    manager = postgres.postgres_pair("pw")
    pair = await asyncio.to_thread(manager.__enter__)
    try:
        await shop.open_shop(pair.primary, "pw")
        async with payments.payments_api(pair.primary, "pw") as url:
            environ = {
                "DEMO_API_URL": url,
                "DEMO_API_PASSWORD": payments.PASSWORD,
                "DEMO_REPLICA_PORT": str(pair.replica),
                "DEMO_POSTGRES_PASSWORD": "pw",
                "ENVIRONMENT": "demo",
                "DD_SERVICE": "paypal-clone",
                "APP_VERSION": "1.0.0",
            }
            done = await asyncio.to_thread(lambda: vedette("run", "--once", cwd=tmp_path, **environ))
        found: dict[str, list[dict[str, Any]]] = {}
        for line in (tmp_path / "out.jsonl").read_text().splitlines():
            row = json.loads(line, parse_float=Decimal)
            found.setdefault(row["name"], []).append(row)
        expected = await _by_other_means(pair.primary, found)
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
    assert done.returncode == 0, done.stderr

    wanted = [row for row in rows_of("strategy-metrics.csv") if row["emitted_by"] in ("synthetic", "business_sql")]
    assert len(wanted) == 11
    for row in wanted:
        for sample in found[row["metric"]]:
            assert sample["kind"] == row["kind"]
            keys = {tag.partition(":")[0] for tag in sample["tags"]}
            assert {"environment", "service", "version", *filter(None, row["tags"].split(";"))} <= keys
            assert ("flow" if row["emitted_by"] == "synthetic" else "currency") in keys
    assert {row["value"] for row in found["synthetic.transaction.failures"]} == {0}
    assert [row["status"] for row in found["synthetic.flow"]] == ["ok"]
    got = {(name, *_currency(row)): row["value"] for name in MONEY for row in found[name]}
    assert got == expected
    assert {currency for _, currency in got} == {"EUR", "USD"}


def _currency(row: dict[str, Any]) -> list[str]:
    return [tag.partition(":")[2] for tag in row["tags"] if tag.startswith("currency:")]


async def _by_other_means(port: int, found: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], Decimal]:
    """The same figures by other queries, from the primary."""
    import asyncpg

    (end,) = {row["time"] for name in MONEY for row in found[name]}
    connection = await asyncpg.connect(host="127.0.0.1", port=port, user="shop", password="pw", database="shop")
    made = {}
    for name, expression in MONEY.items():
        rows = await connection.fetch(
            f"SELECT currency, {expression} FROM transactions WHERE NOT synthetic "
            "AND extract(epoch FROM made) BETWEEN $1::numeric - 60 AND $1::numeric - 0.000001 GROUP BY currency",
            Decimal(end),
        )
        made.update({(name, currency): Decimal(value) for currency, value in rows})
    await connection.close()
    return made
