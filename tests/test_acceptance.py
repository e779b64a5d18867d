"""What the agent promises as a whole: the strategy's metrics, Datadog's names, exact messages, its own metrics."""

from __future__ import annotations

import csv
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.process import Running, vedette, wait_until
from servers import RedisServer, redis62, valkey9
from vedette.cli import main

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
BAD = Path(__file__).parent / "bad_configs"


def rows_of(name: str) -> list[dict[str, str]]:
    with (DATA / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("case", sorted(path.name for path in BAD.iterdir() if path.is_dir()))
def test_validate_prints_exactly_the_expected_lines(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(BAD / case)
    for name in [name for name in os.environ if not name.startswith("PYTEST")]:
        monkeypatch.delenv(name)
    status = main(["validate"])
    said = capsys.readouterr()
    expected = (BAD / case / "expected.txt").read_text()
    assert said.err == expected
    only_warnings = all(": warning: " in line for line in expected.splitlines())
    nothing_runs = case in ("48-instances-empty-list", "93-no-files")
    assert status == (0 if only_warnings and not nothing_runs else 3)
    assert bool(said.out) == (status == 0)


@pytest.mark.parametrize("binary", [redis62, valkey9], ids=["redis6.2", "valkey9"])
def test_check_redis_emits_datadogs_names_with_the_servers_own_values(binary: Any, tmp_path: Path) -> None:
    server = RedisServer(binary(), tmp_path / "redis", maxmemory="64mb")
    server.start()
    try:
        with server.client() as client:
            for number in range(20):
                client.set(f"k{number}", "x", ex=3600 if number < 5 else None)
            client.rpush("jobs", *range(7))
        (tmp_path / "conf.d").mkdir()
        options = {"host": "127.0.0.1", "port": server.port, "keys": ["jobs"], "command_stats": True}
        (tmp_path / "conf.d" / "redis.yaml").write_text(json.dumps({"instances": [options]}))
        done = vedette("check", "redis", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        info = server.info()
    finally:
        server.stop()
    rows = json.loads(done.stdout)
    reference = {row["metric_name"] for row in rows_of("datadog-redisdb-metrics.csv")}
    names = {row["name"] for row in rows} & reference
    assert len(names) >= 45, sorted(names)
    value = {row["name"]: row["value"] for row in rows}
    same = {
        "redis.mem.maxmemory": info["maxmemory"],
        "redis.mem.startup": info["used_memory_startup"],
        "redis.keys": info["db0"]["keys"],
        "redis.expires": info["db0"]["expires"],
        "redis.persist": info["db0"]["keys"] - info["db0"]["expires"],
        "redis.rdb.changes_since_last": 20 + 7,  # counted before the check's own round trip
        "redis.net.maxclients": info["maxclients"],
        "redis.keys.evicted": info["evicted_keys"],
        "redis.replication.master_repl_offset": info["master_repl_offset"],
        "redis.key.length": 7,
    }
    assert {name: value[name] for name in same} == same
    assert value["redis.net.commands"] <= info["total_commands_processed"]
    connect = next(row for row in rows if row["name"] == "redis.can_connect")
    assert (connect["status"], connect["value"], connect["kind"]) == ("ok", 0, "status")
    assert {"redis_host:127.0.0.1", f"redis_port:{server.port}"} <= set(connect["tags"])


def test_every_metric_of_the_strategy_by_core_or_redis_comes_out_of_the_demos_configuration(tmp_path: Path) -> None:
    server = RedisServer(redis62(), tmp_path / "redis", requirepass="pw")
    server.start()
    conf = tmp_path / "conf.d"
    conf.mkdir()
    for name in ("host", "redis"):
        (conf / f"{name}.yaml").write_text((ROOT / "examples" / "demo" / "conf.d" / f"{name}.yaml").read_text())
    (conf / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\n")
    now = datetime.now(UTC)
    try:
        with server.client(password="pw") as client:
            for stamp in (now, datetime.fromtimestamp(now.timestamp() + 60, UTC)):  # the hour may turn under the test
                client.set(f"{{dashboard}}:hourly_transactions:{stamp:%Y%m%d%H%z}", 41)
                client.set(f"{{dashboard}}:daily_transactions:{stamp:%Y%m%d}", 977)
                client.set(f"{{dashboard}}:hourly_revenue:USD:{stamp:%Y%m%d%H%z}", 123456)
                client.set(f"{{dashboard}}:daily_revenue:USD:{stamp:%Y%m%d}", 99999999)
                client.set(f"{{dashboard}}:daily_revenue:EUR:{stamp:%Y%m%d}", 5)
            seen = {"u-1": time.time(), "u-2": time.time() - 200, "u-3": time.time() - 2000, "u-4": time.time() - 9000}
            client.zadd("{dashboard}:active_users", seen)
        done = vedette(
            "run",
            "--once",
            cwd=tmp_path,
            DEMO_REDIS_PORT=str(server.port),
            DEMO_REDIS_PASSWORD="pw",
            ENVIRONMENT="demo",
            DD_SERVICE="paypal-clone",
            APP_VERSION="1.0.0",
        )
        assert done.returncode == 0, done.stderr
    finally:
        server.stop()
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["name"], []).append(row)
    wanted = [row for row in rows_of("strategy-metrics.csv") if row["emitted_by"] in ("core", "redis")]
    assert len(wanted) == 9
    for row in wanted:
        for sample in found[row["metric"]]:
            assert sample["kind"] == row["kind"]
            keys = {tag.partition(":")[0] for tag in sample["tags"]}
            assert {"environment", "service", "version", *filter(None, row["tags"].split(";"))} <= keys
    dashboard = {name: rows for name, rows in found.items() if name.startswith("dashboard.")}
    assert {(name, *_currency(row)): row["value"] for name, rows in dashboard.items() for row in rows} == {
        ("dashboard.transactions.hourly",): 41,
        ("dashboard.transactions.daily",): 977,
        ("dashboard.revenue.hourly", "currency:USD"): 1234.56,
        ("dashboard.revenue.hourly", "currency:EUR"): 0,
        ("dashboard.revenue.daily", "currency:USD"): 999999.99,
        ("dashboard.revenue.daily", "currency:EUR"): 0.05,
        ("dashboard.users.active_5min",): 2,
        ("dashboard.users.active_1hour",): 3,
    }
    assert '"value":1234.56' in (tmp_path / "out.jsonl").read_text()  # exact digits, not a float's
    assert [row["value"] for row in found["health_check.overall"]] == [1]
    assert {row["value"] for row in found["health_check.status"]} == {1}


def _currency(row: dict[str, Any]) -> list[str]:
    return [tag for tag in row["tags"] if tag.startswith("currency:")]


def test_the_agents_own_metrics_are_all_reported(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "agent.yaml").write_text(
        "report_interval: 500ms\nsinks: [{type: file, name: out, path: ../out.jsonl}]\n"
    )
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{interval: 500ms, timeout: 30s}]\n")
    out = tmp_path / "out.jsonl"

    def rows() -> list[dict[str, Any]]:
        text = out.read_text() if out.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    with Running(cwd=tmp_path) as agent:
        wait_until(
            lambda: any(row["name"] == "vedette.sink.sent" and row["value"] > 0 for row in rows()), "a second report"
        )
        agent.end(15)
    kinds = {row["name"]: (row["kind"], sorted(tag.partition(":")[0] for tag in row["tags"])) for row in rows()}
    both, sink = ["check", "instance"], ["sink"]
    assert {name: kinds[name] for name in kinds if name.startswith("vedette.")} == {
        "vedette.agent.up": ("gauge", []),
        "vedette.check.duration": ("gauge", both),
        "vedette.check.lateness": ("gauge", both),
        "vedette.check.skipped": ("counter", both),
        "vedette.check.failures": ("counter", both),
        "vedette.check.samples": ("counter", both),
        "vedette.check.dropped": ("counter", [*both, "reason"]),
        "vedette.sink.sent": ("counter", sink),
        "vedette.sink.dropped": ("counter", sink),
        "vedette.sink.errors": ("counter", sink),
        "vedette.sink.queue": ("gauge", sink),
        "vedette.state.errors": ("counter", []),
        "vedette.config.problems": ("gauge", []),
        "vedette.config.broken_files": ("gauge", []),
        "vedette.config.reloads": ("counter", []),
        "vedette.loop.blocked": ("counter", ["check", "instance"]),
    }
    last = {row["name"]: row["value"] for row in rows()}
    assert last["vedette.check.samples"] == sum(row["instance"] == "host" and row["kind"] != "status" for row in rows())
    assert (last["vedette.check.failures"], last["vedette.sink.dropped"], last["vedette.config.problems"]) == (0, 0, 0)
