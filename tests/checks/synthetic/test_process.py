"""The agent's own process, killed and stopped between a payment and its refund."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from cli.process import Running

from .api import PaymentsApi, payment_flow

pytestmark = pytest.mark.anyio

PATIENCE = 120.0
"""Seconds that a busy machine may take for what a free one does in two."""


def configure(folder: Path, api: PaymentsApi) -> None:
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    (conf / "agent.yaml").write_text(
        "state_directory: ../state\nstop_timeout: 60s\nsinks: [{type: file, path: ../out.jsonl, format: jsonl}]\n"
    )
    options = payment_flow(api, interval="300ms", show=["payment_id"])
    (conf / "synthetic.yaml").write_text(json.dumps({"instances": [options]}))


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / "out.jsonl").read_text().split("\n")[:-1] if (folder / "out.jsonl").exists() else []
    return [row for row in map(json.loads, lines) if row["name"] == name]


async def arrival(api: PaymentsApi, step: str, number: int = 1) -> None:
    """Wait until a step was asked for so many times."""
    async with asyncio.timeout(PATIENCE):
        while api.steps().count(step) < number:
            api.arrived.clear()
            await api.arrived.wait()


async def test_killed_after_the_payment_and_started_again(tmp_path: Path) -> None:
    async with PaymentsApi().running() as api:
        configure(tmp_path, api)
        api.held = {"verify": asyncio.Event()}
        agent = await anyio.to_thread.run_sync(lambda: Running(cwd=tmp_path))
        await arrival(api, "verify")
        assert await anyio.to_thread.run_sync(lambda: agent.end(signal.SIGKILL, PATIENCE)) == -signal.SIGKILL
        (victim,) = api.payments.values()
        assert victim.refunds == 0
        api.held = {}
        api.requests.clear()
        agent = await anyio.to_thread.run_sync(lambda: Running(cwd=tmp_path))
        await arrival(api, "refund", 2)
        assert await anyio.to_thread.run_sync(lambda: agent.end(signal.SIGTERM, PATIENCE)) == 0
    assert (api.requests[0].step, api.requests[0].run) == ("refund", victim.run)
    assert {payment.refunds for payment in api.payments.values()} == {1}
    assert sum(row["value"] for row in rows(tmp_path, "synthetic.cleanup.result")) == len(api.payments)
    assert rows(tmp_path, "synthetic.cleanup.leftovers") == []


async def test_killed_before_the_payments_answer_and_started_again(tmp_path: Path) -> None:
    async with PaymentsApi().running() as api:
        configure(tmp_path, api)
        api.held = {"payment": asyncio.Event()}
        agent = await anyio.to_thread.run_sync(lambda: Running(cwd=tmp_path))
        await arrival(api, "payment")
        await anyio.to_thread.run_sync(lambda: agent.end(signal.SIGKILL, PATIENCE))
        (victim,) = api.payments.values()
        api.held = {}
        agent = await anyio.to_thread.run_sync(lambda: Running(cwd=tmp_path))
        await arrival(api, "refund")
        await anyio.to_thread.run_sync(lambda: agent.end(signal.SIGTERM, PATIENCE))
    (leftover,) = rows(tmp_path, "synthetic.cleanup.leftovers")
    assert (leftover["value"], "reason:unknown" in leftover["tags"]) == (1, True)
    messages = [row["message"] for row in rows(tmp_path, "synthetic.flow")]
    assert messages[0] == f"run {victim.run} may have left something behind: no answer told what"
    assert [payment.refunds for payment in api.payments.values()] == [0] + [1] * (len(api.payments) - 1)


async def test_stopped_between_the_payment_and_the_refund(tmp_path: Path) -> None:
    async with PaymentsApi().running() as api:
        configure(tmp_path, api)
        api.held = {"verify": asyncio.Event()}
        agent = await anyio.to_thread.run_sync(lambda: Running(cwd=tmp_path))
        await arrival(api, "verify")
        assert await anyio.to_thread.run_sync(lambda: agent.end(signal.SIGTERM, PATIENCE)) == 0
    assert api.steps()[-1] == "refund"
    assert {payment.refunds for payment in api.payments.values()} == {1}
    assert not any("Traceback" in line for line in agent.lines)
