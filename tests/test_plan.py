"""`vedette plan`: its figures are what a following run emits; budgets, prices, and what the checks add."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.process import Running, vedette, wait_until
from postgres_servers import PostgresServer, postgres18
from servers import RedisServer, free_port, valkey9
from vedette.config import load
from vedette.metrics import Batch, Kind, Sample
from vedette.plan.figures import billed, figures, integration_names, runs_a_month, series_of, usd_a_month
from vedette.plugins import Registry

ROOT = Path(__file__).parents[1]
HEALTH = ("health_check.status", "health_check.response_time")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = postgres18()
    assert binaries is not None
    server = PostgresServer(binaries)
    server.start()
    server.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    server.sql("CREATE TABLE orders AS SELECT n AS id, 'open' AS status FROM generate_series(1, 1000) n")
    server.sql("GRANT SELECT ON orders TO watcher; ANALYZE orders")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(valkey9(), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


def conf(folder: Path, **files: str) -> Path:
    (folder / "conf.d").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "conf.d" / f"{name}.yaml").write_text(text)
    return folder / "conf.d"


def plan(folder: Path, *more: str, status: int = 0) -> dict[str, Any]:
    done = vedette("plan", "--conf", "conf.d", "--json", *more, cwd=folder)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def by_id(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in (*made["instances"], *made["agent"])}


QUERY = """
    queries:
      - name: open orders
        sql: SELECT status, count(*) FROM orders GROUP BY status
        columns: [{name: status, type: tag}, {name: shop.orders, type: gauge}]
"""


def test_the_figures_are_what_a_following_run_emits(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        conf(
            tmp_path,
            agent=f"hostname: {socket.gethostname()}\ntags: [team:x]\nreport_interval: 1s\nsinks:\n"
            f"  - {{type: dogstatsd, port: {receiver.getsockname()[1]}}}\n  - {{type: file, path: out.jsonl}}\n"
            "  - {type: file, name: some, path: some.jsonl, metrics: {include: [redis.*], exclude: [redis.mem.*]}}\n",
            host="defaults: {interval: 1s}\n"  # without those that are absent while a disk is idle
            "instances: [{metrics: {exclude: [system.io.*await, system.io.avg_rq_sz]}}]",
            postgres="defaults: {interval: 1s}\ninstances:\n  - host: 127.0.0.1\n"
            f"    port: {postgres.port}\n    username: watcher{QUERY}",
            redis=f"defaults: {{interval: 1s}}\ninstances: [{{host: 127.0.0.1, port: {redis.port}, keys: [jobs]}}]",
        )
        made = plan(tmp_path)
        assert not (tmp_path / "state").exists(), "a plan writes no state"
        assert not list((tmp_path / "conf.d").glob("*.jsonl")), "a plan sends nothing"
        with Running("--conf", "conf.d", cwd=tmp_path) as agent:
            out = tmp_path / "conf.d" / "out.jsonl"
            wait_until(lambda: out.exists() and runs_in(out) >= 3, "three runs of each instance")
            agent.end(15)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        lines = received(receiver)
    found: dict[str, set[Any]] = defaultdict(set)
    for row in rows:
        if row["kind"] != "status":
            owner = "health_check" if row["name"] in HEALTH else f"{row['check']}/{row['instance']}"
            found[owner].add((row["name"], tuple(row["tags"])))
    lined = by_id(made)
    assert {name: len(series) for name, series in found.items()} == {
        name: line["figures"]["series"] for name, line in lined.items()
    }
    assert {name: len({one for one, _ in series}) for name, series in found.items()} == {
        name: line["figures"]["metrics"] for name, line in lined.items()
    }
    everything = set.union(*found.values())
    assert made["total"]["series"] == len(everything) == made["sinks"][0]["series"]
    assert {(name, tuple(sorted(tags))) for name, tags in lines} == everything
    histograms = {one for one in everything if one[0] == "health_check.response_time"}
    assert made["sinks"][0]["custom_metrics"] == len(everything) + 4 * len(histograms)
    some = {one for one in everything if one[0].startswith("redis.") and not one[0].startswith("redis.mem.")}
    assert made["sinks"][2] == {
        "name": "some", "series": len(some), "custom_metrics": 0, "usd_per_month": 0.0, "exceeded": [],
    }  # fmt: skip


def runs_in(path: Path) -> int:
    """How many runs every instance has made at least, the agent's own report included."""
    seen: dict[str, set[float]] = defaultdict(set)
    for line in path.read_text().splitlines():
        if line.endswith("}"):
            row = json.loads(line)
            seen[row["check"]].add(row["time"])
    return min((len(times) for times in seen.values()), default=0) if len(seen) == 4 else 0


def received(receiver: socket.socket) -> set[tuple[str, tuple[str, ...]]]:
    """Name and tags of every metric among the packets."""
    receiver.setblocking(False)
    found = set()
    try:
        while True:
            for line in receiver.recv(65536).decode().splitlines():
                if match := re.fullmatch(r"([^_:][^:]*):[^|]*\|[gchd](?:\|T\d+)?(?:\|#(.*))?", line):
                    found.add((match[1], tuple(match[2].split(","))))
    except BlockingIOError:
        return found


def test_checks_add_their_own_lines(tmp_path: Path, postgres: PostgresServer, redis: RedisServer) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, amount INT, day TEXT)")
        database.execute("INSERT INTO sales (amount, day) VALUES (5, '2026-01-01')")
        database.execute("CREATE INDEX by_day ON sales (day)")
    database.close()
    conf(
        tmp_path,
        postgres=f"instances:\n  - host: 127.0.0.1\n    port: {postgres.port}\n    username: watcher{QUERY}"
        "      - name: secret\n        sql: SELECT count(*) FROM pg_authid\n"
        "        columns: [{name: shop.roles, type: gauge}]\n",
        redis=f"instances: [{{host: 127.0.0.1, port: {redis.port}, streams: [a, b]}}]",
        business_sql="""
instances:
  - url: sqlite+aiosqlite:///../shop.db
    queries:
      - {name: all, sql: SELECT sum(amount) AS n FROM sales, columns: {n: {metric: shop.amount}}}
      - {name: day, sql: "SELECT count(*) AS n FROM sales WHERE day = '2026-01-01'", columns: {n: {metric: shop.day}}}
""",
        business_pg=f"""
check: business_sql
instances:
  - url: postgresql+asyncpg://watcher@127.0.0.1:{postgres.port}/postgres
    name: hourly
    window: {{every: 1h, lag: 0s}}
    queries:
      - name: volume
        sql: SELECT count(*) AS n FROM orders WHERE now() >= :start_time AND now() < :end_time
        columns: {{n: {{metric: shop.n}}}}
""",
        synthetic=f"instances: [{{url: 'http://127.0.0.1:{free_port()}/', interval: 60s}}]",
    )
    lines = by_id(plan(tmp_path))
    own = {one["what"]: one for one in lines["postgres/postgres"]["estimates"]}
    assert own["statements per run"]["value"] == 9  # three of its own, two in transactions
    cost = own["query open orders: EXPLAIN cost"]
    assert cost["hint"] == "reads orders from end to end"
    expected = json.loads(postgres.scalar("EXPLAIN (FORMAT JSON) SELECT status, count(*) FROM orders GROUP BY status"))
    assert cost["value"] == expected[0]["Plan"]["Total Cost"]
    refused = own["query secret: EXPLAIN cost"]
    assert refused["value"] is None
    assert "permission denied for table pg_authid" in refused["hint"]
    assert lines["redis/redis"]["estimates"] == [
        {"what": "commands per run", "value": 2 + 4 + 3, "unit": "commands", "hint": ""}
    ]
    assert [(one["what"], one["value"], one["hint"]) for one in lines["business_sql/business_sql"]["estimates"]] == [
        ("all: tables read in full", 1, "reads sales from end to end"), ("day: tables read in full", 0, ""),
    ]  # fmt: skip
    (windowed,) = lines["business_sql/hourly"]["estimates"]
    assert windowed["what"] == "volume: EXPLAIN cost"
    assert windowed["value"] > 0


def test_a_flow_that_acts_is_run_only_if_asked_for(tmp_path: Path) -> None:
    conf(
        tmp_path,
        synthetic=f"""
instances:
  - base_url: http://127.0.0.1:{free_port()}
    interval: 60s
    steps: [{{name: pay, request: POST /pay}}, {{name: look, request: GET /look}}]
""",
    )
    (line,) = plan(tmp_path)["instances"]
    assert (line["state"], line["figures"]) == ("not run", None)
    assert (line["message"], line["hint"]) == (
        "its runs change something at the target, so it is not run here", "--acting runs it",
    )  # fmt: skip
    (line,) = plan(tmp_path, "--acting", "--runs", "1", status=0)["instances"]
    assert line["state"] == "critical"  # nobody answers, which is what this check measures
    assert [(one["what"], one["value"]) for one in line["estimates"]] == [
        ("requests per run", 2), ("requests per day", 2880),
    ]  # fmt: skip


def test_what_is_down_is_not_measured_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    conf(tmp_path, redis=f"instances: [{{host: 127.0.0.1, port: {port}}}]", host="instances: [{}]")
    lines = by_id(plan(tmp_path, "--runs", "1", status=2))
    down = lines["redis/redis"]
    assert (down["figures"], down["state"]) == (None, "failing")
    assert down["message"] == f"nothing listens on 127.0.0.1:{port}"
    assert down["hint"] == "is the server running, and is this its address?"
    assert lines["host/host"]["figures"]["series"] > 50
    assert lines["health_check"]["figures"]["series"] == 4
    shown = vedette("plan", "--runs", "1", cwd=tmp_path)
    assert f"redis/redis: not measured: nothing listens on 127.0.0.1:{port}" in shown.stdout


def test_budgets(tmp_path: Path) -> None:
    conf(tmp_path, host="instances: [{name: a}, {name: b}]")
    agent = "sinks: [{type: dogstatsd}]\nplan:\n  usd_per_100_custom_metrics: 10\n  included: 100\n  budget: "
    conf(tmp_path, agent=f"{agent}{{series: 5000, custom_metrics: 5000, usd_per_month: 500}}")
    made = plan(tmp_path, "--runs", "1")
    assert made["exceeded"] is False
    custom = made["sinks"][0]["custom_metrics"]
    assert made["sinks"][0]["usd_per_month"] == round((custom - 100) / 10, 2)
    conf(tmp_path, agent=f"{agent}{{series: 10, instances: {{host/b: 5000}}, custom_metrics: 20, usd_per_month: 1}}")
    made = plan(tmp_path, "--runs", "1", status=1)
    assert [line["exceeded"] for line in made["instances"]] == [True, False]
    custom = made["sinks"][0]["custom_metrics"]
    assert made["sinks"][0]["exceeded"] == [
        f"{custom} custom metrics, the budget is 20",
        f"${(custom - 100) / 10:.2f} a month, the budget is $1.00",
    ]
    shown = vedette("plan", "--runs", "1", cwd=tmp_path).stdout
    assert "host/a: " in shown
    assert " series, the budget is 10\n" in shown
    assert "host/b: " not in shown


def test_a_budget_that_cannot_be_is_named_with_its_line(tmp_path: Path) -> None:
    conf(tmp_path, host="instances: [{}]", agent="plan:\n  budget:\n    serie: 5\n")
    done = vedette("plan", cwd=tmp_path)
    assert done.returncode == 3
    assert "conf.d/agent.yaml:3: plan.budget.serie: unknown option; did you mean 'series'?" in done.stderr


def test_billing_counts_as_datadog_says() -> None:
    samples = (
        Sample("a", Kind.GAUGE, 1, ("x:1",)), Sample("a", Kind.GAUGE, 1, ("x:2",)), Sample("b", Kind.COUNT, 1),
        Sample("c", Kind.HISTOGRAM, 1), Sample("d", Kind.DISTRIBUTION, 1), Sample("e", Kind.SET, "m"),
        Sample("redis.mem.used", Kind.GAUGE, 1), Sample("e", Kind.SET, "n"),
    )  # fmt: skip
    series = series_of([Batch("i", "c", 0.0, host="h", samples=samples), Batch("i", "c", 0.0, samples=samples[:1])])
    assert len(series) == 8  # the same name and tags without a host is another one
    assert billed(series) == 8 + 4 + 4
    found = figures(series, samples, 10)
    assert (found.metrics, found.integration_names, found.points_per_interval, found.points_per_month) == (6, 1, 8, 80)
    assert usd_a_month(1234, 200, 5.0) == 51.7
    assert usd_a_month(100, 200, 5.0) == 0.0


def test_names_of_integrations_are_those_of_their_metadata() -> None:
    listed = {
        line.partition(",")[0]
        for path in (ROOT / "tests" / "data").glob("datadog-*-metrics.csv")
        for line in path.read_text().splitlines()[1:]
    }
    assert integration_names() == listed


def test_months(tmp_path: Path) -> None:
    directory = conf(tmp_path, host="instances: [{name: a, interval: 15s}, {name: b, schedule: '0 * * * *'}]")
    a, b = load(directory, Registry()).instances
    assert runs_a_month(a.config) == 172_800
    assert runs_a_month(b.config) == 720
