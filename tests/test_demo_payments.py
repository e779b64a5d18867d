"""The demo's money path: examples/payments on real servers, its own configuration; the strategy's names, exact values.

All tests share one service, which sends its metrics to a port that keeps them.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import redis

from cli.process import vedette
from instrument.parts import Line, instrument_rows
from servers import free_port, until
from sinks.parts import Port
from test_acceptance import rows_of

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO = EXAMPLES / "demo"
FILES = ("synthetic.yaml", "business_sql.yaml")
MONEY = {
    "business.hourly.transaction_count": "count(*)",
    "business.hourly.transaction_volume": "sum(amount) FILTER (WHERE status = 'completed')",
    "business.hourly.avg_transaction_value": "round(avg(amount) FILTER (WHERE status = 'completed'), 2)",
    "business.hourly.success_rate": "round(100.0 * count(*) FILTER (WHERE status = 'completed') / count(*), 2)",
}
CONSTANT = ("environment:demo", "service:payments", "version:1.0.0")


@dataclass(frozen=True)
class Site:
    """The running service, and what is around it."""

    url: str
    pair: Any
    redis_port: int
    port: Port
    log: Path
    service: Any

    def lines(self, name: str) -> list[Line]:
        """What arrived under a name so far."""
        return [line for line in map(Line.of, self.port.lines) if line.name == name]

    def sql(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""

        async def ask() -> list[tuple[Any, ...]]:
            login = {"host": "127.0.0.1", "port": self.pair.primary, "user": "shop", "password": "pw"}
            connection = await asyncpg.connect(**login, database="shop")
            try:
                return [tuple(row) for row in await connection.fetch(query, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("payments")
    names = ("postgres", "server", "service", "shop")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.syspath_prepend(str(DEMO))
        postgres, server, service, shop = map(importlib.import_module, names)
        pair = stack.enter_context(postgres.postgres_pair("pw"))
        redis_port = stack.enter_context(server.redis_server(folder, "pw"))
        port = stack.enter_context(Port())
        asyncio.run(shop.open_shop(pair.primary, "pw"))
        web = free_port()
        environ = {
            "ENVIRONMENT": "demo",
            "DD_SERVICE": "payments",
            "APP_VERSION": "1.0.0",
            "DD_DOGSTATSD_URL": f"udp://127.0.0.1:{port.number}",
            "DATABASE_URL": f"postgresql://shop:pw@127.0.0.1:{pair.primary}/shop",
            "REDIS_URL": f"redis://:pw@127.0.0.1:{redis_port}",
        }
        running = stack.enter_context(service.payments_service(web, folder, environ))
        until(lambda: _listens(web), "the service", 60)
        yield Site(f"http://127.0.0.1:{web}", pair, redis_port, port, folder / "payments.log", running)
    for name in names:
        sys.modules.pop(name)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{site.url}/api/v1/", trust_env=False, timeout=20) as made:
        yield made


def sign_in(client: httpx.Client, email: str) -> None:
    answer = client.post("auth/login", json={"email": email, "password": "demo-only-login"})
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def pay(client: httpx.Client, amount: str, card: str = "card_ok", **headers: str) -> httpx.Response:
    order = {"amount": amount, "currency": "USD", "card": card}
    return client.post("payments/send", json=order, headers=headers)


def completed(client: httpx.Client, payment: int) -> None:
    until(lambda: client.get(f"payments/{payment}").json()["status"] == "completed", "the settlement")


async def test_the_strategys_metrics_of_money_come_out_of_the_demo(site: Site, tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    for name in FILES:
        (conf / name).write_text((DEMO / "conf.d" / name).read_text())
    (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\n")
    environ = {
        "DEMO_API_URL": site.url,
        "DEMO_API_PASSWORD": "demo-only-login",
        "DEMO_REPLICA_PORT": str(site.pair.replica),
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
    expected = await asyncio.to_thread(_by_other_means, site, found)
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
    await asyncio.to_thread(_what_the_probe_paid_is_no_business, site)


def _currency(row: dict[str, Any]) -> list[str]:
    return [tag.partition(":")[2] for tag in row["tags"] if tag.startswith("currency:")]


def _by_other_means(site: Site, found: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], Decimal]:
    """The same figures by other queries, from the primary."""
    (end,) = {row["time"] for name in MONEY for row in found[name]}
    made = {}
    for name, expression in MONEY.items():
        rows = site.sql(
            f"SELECT currency, {expression} FROM transactions WHERE NOT synthetic "
            "AND extract(epoch FROM made) BETWEEN $1::numeric - 60 AND $1::numeric - 0.000001 GROUP BY currency",
            Decimal(end),
        )
        made.update({(name, currency): Decimal(value) for currency, value in rows})
    return made


def _what_the_probe_paid_is_no_business(site: Site) -> None:
    """The synthetic flow has been measured as a request and as nothing else."""
    assert site.sql("SELECT count(*), min(status) FROM transactions WHERE synthetic") == [(1, "refunded")]
    until(lambda: site.lines("queue.messages_processed"), "its settlement")
    names = {line.name for line in map(Line.of, site.port.lines)}
    assert "api.requests" in names
    assert not names & {"business.transactions.count", "business.revenue.total", "business.fraud.risk_score"}


def test_every_metric_that_the_strategy_wants_of_applications(site: Site, client: httpx.Client) -> None:
    wanted = instrument_rows()
    assert len(wanted) == 27
    new = {"email": "new@shop.example", "password": "demo-only-login", "currency": "USD"}
    assert client.post("users", json=new).status_code == 201
    sign_in(client, "new@shop.example")
    assert client.post("users/verification").json() == {"verified": True}
    assert client.get("wallet/balance").json() == {"balance": "500.00", "currency": "USD"}
    payment = pay(client, "12.30").json()["transaction_id"]
    completed(client, payment)
    assert client.get(f"payments/{payment}").json()["status"] == "completed"  # from the cache
    assert client.get("wallet/statement").json() == {"completed": {"payments": 1, "total": "12.30"}}
    sign_in(client, "user12@shop.example")
    refused = pay(client, "9500.00")
    assert (refused.status_code, refused.json()["status"]) == (403, "blocked")
    path = f"payments/{refused.json()['transaction_id']}/confirmation"
    assert client.post(path, json={"mine": True}).status_code == 200

    until(lambda: set(wanted) <= {line.name for line in map(Line.of, site.port.lines)}, "every metric", 30)
    for line in map(Line.of, site.port.lines):
        kind, keys = wanted[line.name]
        own = tuple(tag for tag in line.tags if not tag.startswith("pool:"))  # it has two pools
        assert line.kind == kind, line
        assert tuple(tag.partition(":")[0] for tag in own) == (*keys, "environment", "service", "version"), line
        assert line.tags[-3:] == CONSTANT, line
    assert {
        tag for line in map(Line.of, site.port.lines) for tag in line.tags if tag.endswith((":other", ":"))
    } == set()
    _check_values(site)


def _check_values(site: Site) -> None:
    def values(name: str, *tags: str) -> list[str]:
        return [line.value for line in site.lines(name) if set(tags) <= set(line.tags)]

    assert values("business.transactions.amount", "type:payment") == ["12.30", "9500.00"]
    assert [line.tags[2] for line in site.lines("business.transactions.count")] == [
        "status:completed",
        "status:blocked",
    ]
    assert values("business.revenue.fees", "currency:USD") == ["0.66"]  # 2.9 % of 12.30 are 0.3567, and 0.30
    assert values("business.fraud.risk_score", "action:block") == ["0.95"]
    assert values("business.fraud.blocked_transactions", "reason:amount") == ["1"]
    assert values("business.fraud.false_positives", "false_positive:true") == ["1"]
    probes = len(site.sql("SELECT 1 FROM transactions WHERE synthetic"))  # each is a login like any other
    assert len(values("business.users.active")) == 2 + probes
    assert len({line.value for line in site.lines("business.users.unique_daily")}) == 2 + min(probes, 1)
    templates = {line.tags[0] for line in site.lines("api.requests")}
    assert {"endpoint:/api/v1/payments/{id:int}", "endpoint:/api/v1/payments/send"} <= templates
    assert values("api.errors", "endpoint:/api/v1/payments/send", "error:true") == ["1"]
    assert values("cache.hit_ratio", "result:hit")
    assert values("cache.hit_ratio", "result:miss")
    assert {line.tags[0] for line in site.lines("database.pool.total_connections")} == {"pool:payments", "pool:reports"}
    assert set(values("queue.messages_processed", "queue:settlement")) == {"1"}


def test_a_payment_that_is_sent_twice_is_made_once(site: Site, client: httpx.Client) -> None:
    sign_in(client, "user15@shop.example")
    answers = [pay(client, "100.00", **{"Idempotency-Key": "k-1"}) for _ in range(3)]
    assert {(answer.status_code, answer.json()["transaction_id"]) for answer in answers} == {
        (201, answers[0].json()["transaction_id"])
    }
    completed(client, answers[0].json()["transaction_id"])
    assert client.get("wallet/balance").json()["balance"] == "9900.00"
    for card, code in (("card_declined", 402), ("card_unreachable", 503)):
        assert pay(client, "50.00", card).status_code == code
    assert client.get("wallet/balance").json()["balance"] == "9900.00"
    refund = f"payments/{answers[0].json()['transaction_id']}/refund"
    assert [client.post(refund).json()["status"] for _ in range(2)] == ["refunded", "refunded"]
    assert client.get("wallet/balance").json()["balance"] == "10000.00"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("payments/send", b"{", 422),
        ("payments/send", b'{"amount": "1.001", "currency": "USD"}', 422),
        ("payments/send", b'{"amount": "NaN", "currency": "USD"}', 422),
        ("payments/send", b'{"amount": "1.00", "currency": "EUR"}', 422),
        ("payments/send", b'{"amount": "20000", "currency": "USD"}', 402),
        ("payments/999999/refund", b"", 404),
        ("users", b'{"email": "user15@shop.example", "password": "x", "currency": "USD"}', 409),
        ("auth/login", b'{"email": "user15@shop.example", "password": "forgotten"}', 401),
        ("auth/login", b'{"email": "nobody@shop.example", "password": "demo-only-login"}', 401),
    ],
)
def test_what_is_refused(site: Site, client: httpx.Client, path: str, body: bytes, code: int) -> None:
    assert client.get("wallet/balance").status_code == 401
    sign_in(client, "user18@shop.example")
    assert client.post(path, content=body).status_code == code
    assert client.get("wallet/balance").json()["balance"] == "10000.00"


async def test_the_dashboard_and_the_metrics_are_the_ledger(site: Site) -> None:
    """After many customers at once, with all that may happen to a payment, to the cent."""
    traffic = importlib.import_module("payments.traffic")
    async with httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=60) as client:
        await asyncio.gather(*(traffic.Customer(client, random.Random(seed)).visit() for seed in range(40)))
    await asyncio.to_thread(_settled, site)
    business = "FROM transactions WHERE channel = 'api' AND NOT synthetic"
    rows = await asyncio.to_thread(site.sql, f"SELECT status, currency, count(*), sum(amount) {business} GROUP BY 1, 2")
    states = Counter[str]()
    money = Counter[str]()
    for status, currency, number, total in rows:
        states[status] += number
        money[currency] += total if status == "completed" else 0  # what was taken back is in no sum
    assert set(states) == {"completed", "refunded", "declined", "blocked", "failed"}
    paid, refunded = states["completed"] + states["refunded"], states["refunded"]
    with redis.Redis(port=site.redis_port, password="pw", decode_responses=True) as store:
        daily = {key: int(store.get(key)) for key in store.keys("{dashboard}:daily_*")}  # type: ignore[arg-type, union-attr]
    assert sum(value for key, value in daily.items() if "transactions" in key) == paid + refunded
    for currency in ("USD", "EUR"):
        assert sum(value for key, value in daily.items() if f"revenue:{currency}" in key) == money[currency] * 100

    wanted = {("payment", state): states[state] for state in ("declined", "blocked", "failed")}
    wanted |= {("payment", "completed"): paid, ("refund", "completed"): refunded}

    def counted() -> Counter[tuple[str, str]]:
        lines = site.lines("business.transactions.count")
        return Counter((line.tags[1].partition(":")[2], line.tags[2].partition(":")[2]) for line in lines)

    await asyncio.to_thread(until, lambda: counted() == wanted, f"{wanted}")


def _settled(site: Site) -> None:
    query = "SELECT count(*) FROM transactions WHERE channel = 'api' AND status IN ('new', 'pending')"
    until(lambda: site.sql(query) == [(0,)], "all settlements")


def test_what_the_queue_forgot_is_found_in_the_ledger(site: Site, client: httpx.Client) -> None:
    """A payment that was authorized and never queued is settled; one that was not authorized is given back."""
    sign_in(client, "user21@shop.example")
    columns = "account, amount, currency, card, status, made"
    late = "now() - interval '31 seconds'"
    ((pending,),) = site.sql(
        f"INSERT INTO transactions ({columns}) VALUES (21, 3, 'USD', 'card_ok', 'pending', {late}) RETURNING id"
    )
    ((new,),) = site.sql(
        f"INSERT INTO transactions ({columns}) VALUES (21, 4, 'USD', 'card_ok', 'new', {late}) RETURNING id"
    )
    completed(client, pending)
    until(lambda: client.get(f"payments/{new}").json()["status"] == "failed", "the end of the other")
    assert client.get("wallet/balance").json()["balance"] == "10004.00"


def test_a_customer_who_goes_away_is_nobodys_error(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])), 10) as connection:
        connection.sendall(
            b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b"100 Continue" in connection.recv(100)  # now it waits for the body
    gone = {"endpoint:/api/v1/auth/login", "status_code:499"}
    until(lambda: any(gone <= set(line.tags) for line in site.lines("api.requests")), "the request")


def test_the_log_is_json_with_the_services_tags_and_without_an_error(site: Site, client: httpx.Client) -> None:
    """Whichever of the tests before this one ran in this process."""
    new = {"email": "logged@shop.example", "password": "demo-only-login", "currency": "USD"}
    assert client.post("users", json=new).status_code == 201
    assert client.post("auth/login", json={**new, "password": "forgotten"}).status_code == 401
    sign_in(client, "user24@shop.example")
    completed(client, pay(client, "1.00").json()["transaction_id"])
    assert [pay(client, "9500.00").status_code, pay(client, "5.00", "card_unreachable").status_code] == [403, 503]
    wanted = {"settled", "refused", "registered", "wrong password", "the card network does not answer"}

    def logged() -> list[dict[str, Any]]:
        text = site.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    until(lambda: wanted <= {line["message"] for line in logged()}, f"{wanted}")
    lines = logged()
    assert {line["status"] for line in lines} == {"info", "warning"}
    assert {(line["environment"], line["service"], line["version"]) for line in lines} == {
        ("demo", "payments", "1.0.0")
    }
    assert "demo-only-login" not in site.log.read_text()


def test_a_day_has_a_night_a_noon_and_an_evening(site: Site) -> None:
    traffic = importlib.import_module("payments.traffic")
    night, noon, afternoon, evening = (traffic.busy(hour) for hour in (4, 12.5, 16.5, 20))
    assert 0 < night < 0.1 < afternoon < 0.3 < noon < 0.8 < evening <= 1
    day = traffic.Day(length=120, begins=11)
    assert [day.hour(elapsed) for elapsed in (0, 45, 65, 120)] == [11, 20, 0, 11]


def test_the_readme_of_the_example_shows_its_code() -> None:
    page = (EXAMPLES / "payments" / "README.md").read_text()
    code = "\n".join(path.read_text() for path in (EXAMPLES / "payments").glob("*.py"))
    have = {line.strip() for line in code.splitlines()}
    shown = [
        line.strip() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) for line in block.splitlines()
    ]
    assert len(shown) > 20
    assert [line for line in shown if line and not line.startswith("#") and line not in have] == []
    for name in re.findall(r"`(\w+\.(?:py|sql))`", page):
        assert (EXAMPLES / "payments" / name).exists(), name
