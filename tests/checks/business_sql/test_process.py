"""The agent's own process with windows of a second, killed and started again, and a clock that is set."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cli.process import Running
from servers import until

from .conftest import Ledger

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
"""Where libfaketime is installed, the clock of a process can be set."""

PATIENCE = 120.0
"""Seconds that a busy machine may take for what a free one does in two."""

CONF = """\
instances:
  - name: live
    url: sqlite+aiosqlite:///payments.db
    window: {every: 1s, lag: 500ms}
    catch_up: 1000
    queries:
      - sql: SELECT count(*) AS n, coalesce(sum(amount_minor), 0) AS volume FROM transactions
             WHERE created_at >= :start_time AND created_at < :end_time
        columns:
          n: {metric: live.count}
          volume: {metric: live.volume, scale: 2}
"""


def fill(ledger: Ledger) -> None:
    """A payment of a cent every 10 ms, the next ten minutes' included: none is late, however busy the machine is."""
    begun = time.time() - 60
    ledger.pay(*(("EUR", 1, begun + n / 100) for n in range(66_000)))


def rows(folder: Path) -> list[dict[str, Any]]:
    file = folder / "out.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []  # the last may be half written
    return [row for row in map(json.loads, lines) if row["name"] == "live.volume"]


def test_killed_and_started_again_each_window_is_reported_and_equals_the_ledger(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    ledger = Ledger(conf / "payments.db", "real")
    fill(ledger)
    (conf / "agent.yaml").write_text(
        "state_directory: ../state\nsinks: [{type: file, path: ../out.jsonl, format: jsonl}]\n"
    )
    (conf / "business_sql.yaml").write_text(CONF)
    for kill, windows in ((signal.SIGKILL, 1), (signal.SIGKILL, 3), (signal.SIGTERM, 3)):
        before = len(rows(tmp_path))
        agent = Running(cwd=tmp_path)
        until(lambda: len(rows(tmp_path)) >= before + windows, "some windows", PATIENCE)  # noqa: B023
        agent.end(kill, PATIENCE)
        assert not any("Traceback" in line for line in agent.lines)
    found = rows(tmp_path)
    times = sorted({row["time"] for row in found})
    assert times == list(range(int(times[0]), int(times[-1]) + 1))  # none is missing
    last = {row["time"]: row["value"] for row in found}
    for end, value in last.items():
        ((cents,),) = ledger.sql(
            "SELECT coalesce(sum(amount_minor), 0) FROM transactions WHERE created_at >= ? AND created_at < ?",
            [(end - 1, end)],
        )
        assert round(value * 100) == cents
    assert sum(last.values()) > 0


@pytest.mark.soak
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_a_clock_that_is_set_forward_and_back_makes_no_gap_and_no_window_twice(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    Ledger(conf / "payments.db", "real")
    (conf / "agent.yaml").write_text(
        "state_directory: ../state\nsinks: [{type: file, path: ../out.jsonl, format: jsonl}]\n"
    )
    (conf / "business_sql.yaml").write_text(CONF)
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    agent = Running(
        cwd=tmp_path, LD_PRELOAD=str(FAKETIME), FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_RESET="1",
    )  # fmt: skip
    until(lambda: len(rows(tmp_path)) >= 2, "some windows", PATIENCE)
    before = len(rows(tmp_path))
    clock.write_text("+40s\n")
    until(lambda: len(rows(tmp_path)) >= before + 40, "the windows that were jumped over", PATIENCE)
    clock.write_text("+38s\n")
    last = rows(tmp_path)[-1]["time"]
    until(lambda: rows(tmp_path)[-1]["time"] >= last + 2, "time to come to where it was", PATIENCE)
    assert agent.end(signal.SIGTERM, PATIENCE) == 0
    times = [row["time"] for row in rows(tmp_path)]
    assert times == list(range(int(times[0]), int(times[-1]) + 1))
