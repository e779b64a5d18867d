"""No test payment is left over uncounted: random failures, kills and stops, against the API's own ledger."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette_checks.synthetic import Synthetic, SyntheticConfig

from .api import Cut, PaymentsApi, Reply, Request, payment_flow, reply

pytestmark = pytest.mark.anyio

_FAULTS: tuple[Reply | type[Exception], ...] = (
    reply(500, {"error": "boom"}),
    reply(400, {"error": "no"}),
    reply(200, b"no json"),
    reply(200, {}),
    Cut,
)


class Agent:
    """What the agent is for one instance: state that outlives the check object, and batches that it takes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = SyntheticConfig.model_validate(options)
        self.state: dict[str, Any] = {}
        self.totals: Counter[str] = Counter()
        self.batches: list[Batch] = []
        self.restart()

    def restart(self) -> None:
        """Another process: what was only in memory is gone."""
        self.check = Synthetic(self.config, self.state)
        self.opened = False

    async def save(self, key: str, value: Any) -> bool:
        self.state[key] = value
        return True

    async def run(self) -> Batch:
        channel = Channel("synthetic/x", "synthetic", Synthetic.declare(self.config), Synthetic.statuses)
        emit = Emit(channel, 1_790_000_000.0, save=self.save)
        if not self.opened:
            await self.check.open()
            self.opened = True
        await self.check.run(emit)
        batch = emit.batch()
        assert dict(channel.dropped) == {}
        self.deliver(batch)
        return batch

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.state.update(batch.commits)
        for sample in batch.samples:
            if sample.kind == "count":
                tags = ",".join(tag for tag in sample.tags if not tag.startswith("flow:"))
                self.totals[f"{sample.name.removeprefix('synthetic.')} {tags}".strip()] += sample.value  # type: ignore[assignment]


class Chance:
    """Fails each request with some probability, before or after it is acted on, and remembers what it did."""

    def __init__(self, api: PaymentsApi, seed: int, rate: float) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self.on = True
        self.wrong: set[int] = set()
        api.fault = self.before
        api.after = self.afterwards

    def _draw(self, request: Request) -> Reply | None:
        if not self.on or self._random.random() >= self._rate:
            return None
        self.wrong.add(id(request))
        fault = self._random.choice(_FAULTS)
        if isinstance(fault, type):
            raise fault
        return fault

    def before(self, request: Request) -> Reply | None:
        return self._draw(request)

    def afterwards(self, request: Request) -> Reply | None:
        """What was done is not said to be refused: 400 is a 409 here, which leaves it open."""
        answer = None if id(request) in self.wrong else self._draw(request)
        return reply(409, answer[2]) if answer is not None and answer[0] == 400 else answer


@pytest.mark.parametrize("flows", [250, pytest.param(1000, marks=pytest.mark.soak)])
async def test_flows_with_random_failures_balance_with_the_ledger(flows: int) -> None:
    async with PaymentsApi().running() as api:
        chance = Chance(api, seed=7, rate=0.08)
        options = payment_flow(api, cleanup_attempts=3)
        options["cleanup"][0]["expect"] = {"json": {"status": "refunded"}}
        agent = Agent(options)
        for _ in range(flows):
            await agent.run()
        chance.on = False
        before = len(api.requests)
        closing = await agent.run()  # what is still to be cleaned up is, now that nothing fails any more
        assert len(api.requests) >= before + 5
    totals, payments = agent.totals, list(api.payments.values())
    runs = list(dict.fromkeys(request.run for request in api.requests))
    assert len(runs) == flows + 1

    assert totals["transaction.result success:true"] + totals["transaction.result success:false"] == flows + 1
    assert totals["transaction.failures"] == totals["transaction.result success:false"]
    assert 0.25 * flows < totals["transaction.failures"] < 0.6 * flows

    reached = {
        step: len({one.run for one in api.requests if one.step == step})
        for step in ("login", "balance", "payment", "verify")
    }
    for step, number in reached.items():
        ends = {end: totals[f"step.result result:{end},step:{step}"] for end in ("ok", "failed", "skipped")}
        assert sum(ends.values()) == flows + 1
        assert ends["ok"] + ends["failed"] == number, step
    assert sum(totals[f"step.result result:failed,step:{step}"] for step in reached) == totals["transaction.failures"]

    left = {payment.run for payment in payments if not payment.refunds}
    unknown = totals["cleanup.leftovers reason:unknown"]
    failed = totals["cleanup.leftovers reason:failed"]
    named = {
        run
        for batch in agent.batches
        for status in batch.statuses
        for run in runs
        if f"run {run} may have left something behind" in status.message
        or f"run {run} failed and is given up" in status.message
    }
    assert left <= named
    assert len(named) == unknown + failed
    assert len(left) <= unknown + failed
    assert unknown > 10
    assert sum(payment.refunds > 0 for payment in payments) + len(left) == len(payments)
    assert next(one.value for one in closing.samples if one.name == "synthetic.cleanup.pending") == 0
    assert agent.state["pending"] == []
    assert {payment.refunds for payment in payments} <= {0, 1}  # a repeated refund has the key of the first


async def test_what_a_kill_leaves_behind_is_taken_back_or_counted_by_the_next_start() -> None:
    """The process dies before the payment's answer, after it, and after the refund."""
    async with PaymentsApi().running() as api:
        agent = Agent(payment_flow(api))
        for held, refunds, pending in (("payment", 0, 1), ("verify", 1, 1), ("refund", 1, 1)):
            api.held = {held: asyncio.Event()}
            api.requests.clear()
            task = asyncio.ensure_future(agent.run())
            while held not in api.steps():
                api.arrived.clear()
                await api.arrived.wait()
            state = dict(agent.state)  # what is on disk at this moment
            api.held[held].set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            api.held = {}
            assert len(state["pending"]) == pending
            for payment in api.payments.values():  # the kill left no time for a cleanup
                payment.refunds = 0
            api.by_key = {key: value for key, value in api.by_key.items() if b"refunded" not in value[2]}
            agent.state.clear()
            agent.state.update(state)
            agent.restart()
            victim = api.requests[0].run
            api.requests.clear()
            before = Counter(agent.totals)
            batch = await agent.run()
            news = agent.totals - before
            message = next(status.message for status in batch.statuses)
            paid = [payment for payment in api.payments.values() if payment.run == victim]
            assert [payment.refunds for payment in paid] == [refunds], held
            if held == "payment":
                assert news["cleanup.leftovers reason:unknown"] == 1
                assert message == f"run {victim} may have left something behind: no answer told what"
            else:
                assert api.requests[0].step == "refund"
                assert api.requests[0].run == victim
                assert news["cleanup.result success:true"] == 2
                assert message == ""
            assert agent.state["pending"] == []


async def test_a_stop_between_payment_and_cleanup_takes_back_first() -> None:
    async with PaymentsApi().running() as api:
        api.held = {"verify": asyncio.Event()}
        agent = Agent(payment_flow(api))
        task = asyncio.ensure_future(agent.run())
        while "verify" not in api.steps():
            api.arrived.clear()
            await api.arrived.wait()
        task.cancel()
        task.cancel()  # an impatient agent
        batch = await task
        assert {sample.name: sample.value for sample in batch.samples} == {
            "synthetic.cleanup.result": 1,
            "synthetic.cleanup.pending": 0,
        }
        assert batch.statuses == ()
    assert api.steps()[-1] == "refund"
    assert [payment.refunds for payment in api.payments.values()] == [1]
    assert agent.state["pending"] == []


async def test_a_stop_while_a_payment_is_on_its_way_leaves_it_to_the_next_start_to_count() -> None:
    async with PaymentsApi().running() as api:
        api.held = {"payment": asyncio.Event()}
        agent = Agent(payment_flow(api))
        task = asyncio.ensure_future(agent.run())
        while "payment" not in api.steps():
            api.arrived.clear()
            await api.arrived.wait()
        task.cancel()
        await task
        assert [one["open"] for one in agent.state["pending"]] == [["payment"]]
        api.held["payment"].set()
        agent.restart()
        await agent.run()
    assert agent.totals["cleanup.leftovers reason:unknown"] == 1
    assert agent.state["pending"] == []


async def test_what_was_counted_but_never_handed_over_is_counted_again() -> None:
    async with PaymentsApi(after=lambda one: reply(500, {}) if one.step == "payment" else None).running() as api:
        agent = Agent(payment_flow(api))
        delivered, agent.deliver = agent.deliver, lambda batch: None  # type: ignore[method-assign]
        await agent.run()
        assert [one["lost"] for one in agent.state["pending"]] in ([""], ["unknown"])
        agent.deliver = delivered  # type: ignore[method-assign]
        agent.restart()
        api.after = lambda _: None
        await agent.run()
    assert agent.totals["cleanup.leftovers reason:unknown"] == 1
    assert agent.state["pending"] == []


async def test_a_cleanup_that_fails_is_tried_again_by_the_next_runs_and_given_up_in_the_end() -> None:
    broken = {"on": True}

    def fault(request: Request) -> Reply | None:
        return reply(503, {"error": "later"}) if request.step == "refund" and broken["on"] else None

    async with PaymentsApi(fault=fault).running() as api:
        agent = Agent(payment_flow(api, cleanup_attempts=3))
        first = await agent.run()
        run = api.requests[0].run
        assert next(status.message for status in first.statuses).startswith(
            f"the cleanup of run {run} failed and will be tried again: refund: expected status below 400, got 503: "
            '{"error":"later"}'
        )
        for _ in range(3):
            await agent.run()
        assert agent.totals["cleanup.leftovers reason:failed"] == 2
        assert agent.totals["cleanup.result success:false"] == 3 + 3 + 2 + 1
        broken["on"] = False
        await agent.run()
    assert agent.totals["cleanup.result success:true"] == 3
    assert sum(payment.refunds for payment in api.payments.values()) == 3
    refunds = [one for one in api.requests if one.step == "refund" and one.run == run]
    assert len({one.headers["idempotency-key"] for one in refunds}) == 1


async def test_what_is_given_up_takes_nothing_else_with_it() -> None:
    """An old payment is counted as left over in the run whose own refund fails: the new one stays on disk."""
    async with PaymentsApi(fault=lambda one: reply(503, {}) if one.step == "refund" else None).running() as api:
        agent = Agent(payment_flow(api))
        old = {"run_id": "0e9b4a4e-3a53-4bd4-93d5-0b2f3b0f8c11", "attempt": 1, "open": ["payment"]}
        agent.state["pending"] = [old]
        await agent.run()
        assert agent.totals["cleanup.leftovers reason:unknown"] == 1
        (kept,) = agent.state["pending"]
        assert kept["run_id"] == api.requests[0].run
        assert kept["variables"] == {"payment_id": next(iter(api.payments))}
        api.fault = lambda _: None
        agent.restart()
        await agent.run()
    assert {payment.refunds for payment in api.payments.values()} == {1}
    assert agent.totals["cleanup.leftovers reason:unknown"] == 1


async def test_a_cleanup_by_the_runs_id_needs_no_answer() -> None:
    wiped: list[str] = []

    def wipe(request: Request) -> Reply:
        wiped.append(request.path)
        return reply(200, {})

    async with PaymentsApi(after=lambda one: reply(500, {}) if one.step == "payment" else None).running() as api:
        options = payment_flow(
            api, cleanup=[{"name": "wipe", "request": "DELETE /runs/{{ run_id }}", "auth": {"bearer": "x-y"}}]
        )
        api.fault = lambda one: wipe(one) if one.path.startswith("/runs/") else None
        agent = Agent(options)
        await agent.run()
    assert wiped == [f"/runs/{api.requests[0].run}"]
    assert agent.totals["cleanup.result success:true"] == 1
    assert not [name for name in agent.totals if "leftovers" in name]


async def test_check_beside_a_running_agent_does_not_take_back_what_the_agent_is_about_to() -> None:
    async with PaymentsApi().running() as api:
        stored = {
            "run_id": "0e9b4a4e-3a53-4bd4-93d5-0b2f3b0f8c11",
            "attempt": 1,
            "variables": {"payment_id": "p-1"},
            "touched": True,
        }
        agent = Agent(payment_flow(api))
        agent.state["pending"] = [stored]

        async def refuse(key: str, value: Any) -> bool:
            return False

        agent.save = refuse  # type: ignore[method-assign]
        await agent.run()
    assert [one.path.split("/")[4] for one in api.requests if one.step == "refund"] == list(api.payments)
