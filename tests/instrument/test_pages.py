"""README and docs/instrument.md, done: the services saved and served, asked as their users ask, and what arrives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import vedette.instrument
from servers import RedisServer, free_port, until, valkey9
from sinks.parts import Port
from vedette.instrument.client import _FIRST_READ
from vedette.instrument.currencies import EXPONENTS

from .parts import Line, instrument_rows

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text().split("\n## Instrument your service\n")[1].split("\n## ")[0]
PAGE = (ROOT / "docs" / "instrument.md").read_text()
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(text) if found == language]


@contextmanager
def serving(code: str, command: str, folder: Path, statsd: int, **variables: str) -> Iterator[httpx.Client]:
    """The page's service, started by the page's command, in a folder of its own; it is ended as a supervisor would."""
    (folder / "service.py").write_text(code)
    web = free_port()
    command = f"exec env {command.strip()} --port {web}".replace(":8125", f":{statsd}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=folder, env={"PATH": path, **variables}, stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{web}", trust_env=False, timeout=20) as client:
            until(lambda: process.poll() is not None or _answers(client), "the service", 60)
            assert process.poll() is None, (folder / "log").read_text()
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client) -> bool:
    try:
        client.get("/nowhere")
    except httpx.TransportError:
        return False
    return True


def arrived(port: Port, wanted: list[str]) -> None:
    until(lambda: set(wanted) <= set(port.lines), f"{wanted} among {port.lines}")


def test_the_readme(port: Port, tmp_path: Path) -> None:
    (code,), (command,), (shown,) = (blocks(README, language) for language in ("python", "sh", "text"))
    with serving(code, command, tmp_path, port.number) as client:
        answer = client.post("/payments/4711", json={"amount": "12.30", "currency": "USD", "user": "u-1"})
        assert answer.status_code == 201
        arrived(port, shown.splitlines())
    assert not any("4711" in line for line in port.lines)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_service_of_the_docs_sends_every_metric_of_the_strategy(port: Port, tmp_path: Path) -> None:
    """Driven by real requests; kinds and tags are those of the strategy's list."""
    code = blocks(PAGE, "python")[0]
    command = next(body for body in blocks(PAGE, "sh") if "uvicorn" in body)
    server = RedisServer(valkey9(), tmp_path / "redis")
    server.start()
    try:
        where = {"REDIS_URL": f"redis://127.0.0.1:{server.port}"}
        with serving(code, command, tmp_path, port.number, **where) as client:
            client.post("/users", json={"user": "u-1"})
            client.post("/login", json={"user": "u-1"})
            for amount in ("12.30", "12.30", "20000"):
                client.post("/payments", json={"user": "u-1", "amount": amount, "id": "p-1"})
            assert [client.get("/payments/p-1").status_code for _ in range(2)] == [200, 200]
            assert client.post("/payments", content=b"no json").status_code == 500
            arrived(port, blocks(PAGE, "text")[0].splitlines())
            names = set(instrument_rows())
            until(lambda: names <= {Line.of(line).name for line in port.lines}, "every metric", 30)
        day = next(key for key in server.command("KEYS", "*daily_revenue*"))
        assert server.command("GET", day) == b"1230"
        assert server.command("ZCARD", "{dashboard}:active_users") == 1
    finally:
        server.kill()
    log = (tmp_path / "log").read_text()
    assert log.count("Traceback") == 1  # of the request without JSON, which is the service's own
    wanted = instrument_rows()
    constant = ("environment", "service", "version")
    for line in map(Line.of, port.lines):
        assert (line.kind, line.keys) == (wanted[line.name][0], (*wanted[line.name][1], *constant)), line
    paid = [json.loads(line) for line in log.splitlines() if line.startswith('{"timestamp"')]
    assert [line["message"] for line in paid] == ["paid", "paid"]
    assert (
        paid[0].items() >= {"status": "info", "service": "payments", "payment": "p-1", "dd.env": "production"}.items()
    )


def test_the_other_python_of_the_page() -> None:
    for body in blocks(PAGE, "python")[1:]:
        namespace: dict[str, Any] = {}
        exec(compile(body, "docs/instrument.md", "exec"), namespace)
        if "business" in namespace:
            assert namespace["business"]._outlet.terms.word("type", "salary") == "salary"


def test_what_the_page_names_exists() -> None:
    for name in re.findall(r"`(track_\w+)", PAGE):
        owners = (vedette.instrument.BusinessMetrics, vedette.instrument.TechnicalMetrics)
        assert any(hasattr(owner, name) for owner in owners), name
    public = {name for name in vedette.instrument.__all__ if name not in PAGE}
    assert public <= {"QueueWorker", "Recorded", "Stats"}
    assert _FIRST_READ == 1.0
    assert {"JPY": 0, "BHD": 3}.items() <= EXPONENTS.items()


CALLS = """
from decimal import Decimal

from vedette.instrument import BusinessMetrics, TechnicalMetrics, Vocabulary

business = BusinessMetrics(vocabulary=Vocabulary().plus(type=["salary"]))
business.track_transaction(
    amount=Decimal("12.30"), currency="USD", type="payment", status="completed", processing_time_ms=120
)
business.track_user_event("user_login", user_id="u-1")
business.track_revenue(amount=Decimal("0.30"), currency="USD", source="fees", fee_amount=Decimal("0.30"))
business.track_fraud(risk_score=0.93, action="block", reason="velocity", is_false_positive=False)
TechnicalMetrics().track_api_performance(endpoint="/pay", method="POST", response_time_ms=31, status_code=201)
business.track_transaction(amount=12.3, currency="USD", type="payment", status="completed")  # wrong
business.track_transaction(amount="12.30", currency="USD", type="payment", status="completed")  # wrong
business.track_user_event("user_login")  # wrong
business.track_revenue(amount=1, currency="USD", sources="fees")  # wrong
Vocabulary().plus(types=["salary"])  # wrong
"""
LIBRARIES = """
from redis.asyncio import Redis, RedisCluster
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from vedette.instrument import MetricsMiddleware, RealtimeCounters, Recorded, instrument_redis, instrument_sqlalchemy

app = Starlette()
app.add_middleware(MetricsMiddleware)
app.add_middleware(MetricsMiddleware, metrics=TechnicalMetrics())


async def pay(redis: Redis, cluster: RedisCluster, engine: AsyncEngine) -> bool:
    client: Redis = instrument_redis(redis)
    same: AsyncEngine = instrument_sqlalchemy(engine)
    assert same is engine and RealtimeCounters(cluster).stats().failed == 0
    done: Recorded = await RealtimeCounters(client).record(
        transaction_id="t-1", amount=Decimal("12.30"), currency="USD", user_id="u-1"
    )
    await RealtimeCounters(client).record(transaction_id="t-1", amount=1.5, currency="USD")  # wrong
    with TechnicalMetrics().queue_worker("jobs", depth=lambda: 3).message():
        return done.done
"""


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["ours", "with-libraries"])
def test_mypy_strict_in_a_users_project(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own modules alone, which takes seconds, or all libraries with them."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed: it comes with the lint group")
    project = CALLS + LIBRARIES if whole else CALLS
    (tmp_path / "service.py").write_text(project)
    monkeypatch.setenv("MYPYPATH", os.pathsep.join((str(tmp_path), str(ROOT / "agent"))))
    follow = ["--follow-imports=silent"] if whole else ["--follow-imports=skip", "-p", "vedette.instrument"]
    out, err, _ = api.run(["--strict", "--config-file=", f"--cache-dir={tmp_path}", *follow, "-m", "service"])
    wrong = {number for number, line in enumerate(project.splitlines(), 1) if line.endswith("# wrong")}
    assert {int(number) for number in re.findall(r"service\.py:(\d+): error", out)} == wrong, out + err
