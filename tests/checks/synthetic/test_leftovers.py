"""Flows of other shapes than the strategy's: no payment is left over uncounted, and none is made twice by `retry`."""

# ruff: noqa: E501 - tables of flows and findings

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.testing import run_check
from vedette_checks.synthetic import Synthetic, SyntheticConfig
from vedette_checks.synthetic.check import _plan

from .api import Cut, PaymentsApi, Reply, Request, reply
from .test_ledger import Agent
from .test_options import problems

pytestmark = pytest.mark.anyio

REFUND = {"name": "refund", "request": "POST /refund/{{ payment_id }}"}
PAY = {"name": "pay", "request": "POST /pay", "extract": {"payment_id": "json.id"}}
LATER = [
    {"name": "pay", "request": "POST /pay"},
    {"name": "find", "request": "GET /latest", "extract": {"payment_id": "json.id"}},
]
"""The payment is accepted without an id; only the next answer tells it."""


class Shop:
    """Payments by number, true to what was asked of it; `spoilt` takes the place of answers once it was acted upon.

    Attributes:
        open: payments that were made and not taken back.
        made: how many were made.
    """

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.made = 0
        self.tokens = 0
        self.spoilt: Callable[[str], Reply | None] = lambda _: None
        self.api = PaymentsApi(fault=self.answer)

    def answer(self, request: Request) -> Reply:
        what, _, which = request.path.strip("/").partition("/")
        if what == "pay":
            self.made += 1
            self.open.add(self.made)
        elif what == "login":
            self.tokens += 1
        refused = what == "refund" and self.tokens and request.headers.get("authorization") != f"Bearer t-{self.tokens}"
        if refused:
            return reply(401, {})
        spoilt = self.spoilt(what)
        if what == "refund" and spoilt is None:
            self.open.discard(int(which))
        told = {"login": {"token": f"t-{self.tokens}"}, "pay": {"id": self.made}, "latest": {"id": self.made}}
        return spoilt or reply(200, told.get(what, {}))

    def asked(self) -> list[str]:
        return [request.path.strip("/").partition("/")[0] for request in self.api.requests]


def flow(shop: Shop, steps: Any, cleanup: Any = (REFUND,), **more: Any) -> dict[str, Any]:
    return {"name": "x", "base_url": shop.api.url, "timeout": "60s", "cleanup_timeout": "60s", "steps": steps,
            "cleanup": list(cleanup), **more}  # fmt: skip


def first(*, of: str, answer: Reply) -> Callable[[str], Reply | None]:
    """Spoil the first answer of this kind."""
    left = [answer]
    return lambda what: left.pop() if what == of and left else None


ADMIN = {"name": "admin", "request": "POST /login", "extract": {"admin_token": "json.token"}}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_token_that_the_cleanup_fetches_is_fetched_again_by_its_next_try(restart: bool) -> None:
    shop = Shop()
    async with shop.api.running():
        agent = Agent(flow(shop, [PAY], [ADMIN, {**REFUND, "headers": {"Authorization": "Bearer {{ admin_token }}"}}]))
        shop.spoilt = first(of="refund", answer=reply(500, {}))
        batch = await agent.run()
        assert batch.statuses[0].message.startswith("the cleanup of run ")
        assert shop.open == {1}
        assert [one["variables"] for one in agent.state["pending"]] == [{"payment_id": 1}]  # a token stays off the disk
        if restart:
            agent.restart()
        await agent.run()
    assert shop.asked() == ["pay", "login", "refund", "login", "refund", "pay", "login", "refund"]
    assert shop.open == set()
    assert agent.state["pending"] == []
    assert agent.totals["cleanup.result success:true"] == 2


async def test_a_cleanup_whose_own_helper_gives_nothing_is_no_success() -> None:
    """The helper's `when` does not hold at the second try: the refund is not quietly left out."""
    shop = Shop()
    async with shop.api.running():
        helper = {**ADMIN, "when": "tries == `0`"}
        agent = Agent(
            flow(shop, [PAY], [helper, {**REFUND, "headers": {"Authorization": "Bearer {{ admin_token }}"}}],
                 cleanup_attempts=2, variables={"tries": 0})
        )  # fmt: skip
        shop.spoilt = lambda what: reply(500, {}) if what == "refund" else None
        await agent.run()
        agent.state["pending"][0]["variables"]["tries"] = 1
        agent.restart()
        batch = await agent.run()
    assert "refund: admin_token was never set" in batch.statuses[0].message
    assert agent.totals["cleanup.leftovers reason:failed"] == 1
    assert shop.open == {1, 2}


async def test_a_helper_is_not_performed_for_nothing() -> None:
    shop = Shop()
    async with shop.api.running():
        steps = [{"name": "login", "request": "POST /login", "extract": {"token": "json.token"}},
                 {"name": "look", "request": "GET /look"}, PAY]  # fmt: skip
        shop.spoilt = lambda what: reply(500, {}) if what == "look" else None
        bearer = {"headers": {"Authorization": "Bearer {{ admin_token }}"}}
        run = await run_check(Synthetic, flow(shop, steps, [ADMIN, {**REFUND, **bearer}]))
    assert shop.asked() == ["login", "look"]
    assert run.values("synthetic.cleanup.leftovers") == []
    assert run.value("synthetic.cleanup.pending") == 0


async def test_a_payment_whose_id_a_later_step_tells_is_counted_if_that_fails() -> None:
    shop = Shop()
    async with shop.api.running():
        shop.spoilt = lambda what: reply(500, {}) if what == "latest" else None
        agent = Agent(flow(shop, LATER))
        batch = await agent.run()
        run = shop.api.requests[0].run
        assert f"run {run} may have left something behind: no answer told what" in batch.statuses[0].message
        assert agent.totals["cleanup.leftovers reason:unknown"] == 1
        shop.spoilt = lambda _: None
        await agent.run()
    assert shop.open == {1}
    assert agent.totals["cleanup.leftovers reason:unknown"] == 1
    assert agent.state["pending"] == []


async def test_a_kill_while_the_id_is_looked_for_is_counted_and_one_after_it_taken_back() -> None:
    shop = Shop()
    async with shop.api.running():
        steps = [*LATER, {"name": "verify", "request": "GET /verify/{{ payment_id }}"}]
        for held, left, leftovers in (("/latest", {1}, 1), ("/verify/2", {1}, 0)):
            agent = Agent(flow(shop, steps))
            shop.api.requests.clear()
            shop.api.held = {held: asyncio.Event()}
            task = asyncio.ensure_future(agent.run())
            async with asyncio.timeout(60):
                while held not in shop.api.steps():
                    shop.api.arrived.clear()
                    await shop.api.arrived.wait()
            disk = dict(agent.state)
            shop.spoilt = lambda what: reply(500, {}) if what == "refund" else None  # a killed process refunds nothing
            shop.api.held.pop(held).set()
            await task
            shop.spoilt = lambda _: None
            agent.state.clear()
            agent.state.update(disk)
            agent.totals.clear()
            agent.restart()
            await agent.run()
            assert agent.totals["cleanup.leftovers reason:unknown"] == leftovers
            assert shop.open == left
            shop.made = 1


async def test_a_payment_that_was_refused_or_never_left_is_not_counted() -> None:
    shop = Shop()
    async with shop.api.running():
        shop.api.fault = lambda _: reply(422, {})
        run = await run_check(Synthetic, flow(shop, LATER))
        assert run.values("synthetic.cleanup.leftovers") == []
        assert run.value("synthetic.cleanup.pending") == 0


async def test_what_takes_two_ids_to_take_back_is_counted_when_the_second_is_never_told() -> None:
    shop = Shop()
    async with shop.api.running():
        steps = [PAY, {"name": "order", "request": "POST /order", "extract": {"order_id": "json.id"}}]
        shop.spoilt = lambda what: reply(422, {}) if what == "order" else None
        both = {"name": "refund", "request": "POST /refund/{{ payment_id }}", "json": {"order": "{{ order_id }}"}}
        run = await run_check(Synthetic, flow(shop, steps, [both]))
    assert shop.open == {1}
    assert run.value("synthetic.cleanup.leftovers", reason="unknown") == 1


async def test_an_open_payment_of_a_step_that_is_no_longer_there_is_counted() -> None:
    shop = Shop()
    async with shop.api.running():
        agent = Agent(flow(shop, [PAY]))
        agent.state["pending"] = [{"run_id": "0e9b4a4e-3a53-4bd4-93d5-0b2f3b0f8c11", "attempt": 1, "open": ["gone"]}]
        await agent.run()
    assert agent.totals["cleanup.leftovers reason:unknown"] == 1


@pytest.mark.parametrize(
    ("steps", "cleanup", "more", "attempts"),
    [
        ([PAY], [], {}, 1),
        ([{**PAY, "safe": True}], [], {}, 3),  # the user's word
        ([PAY], [REFUND], {}, 1),  # the answer is lost: nobody knows what to refund
        (LATER, [REFUND], {}, 1),
        ([PAY], [{"name": "wipe", "request": "DELETE /runs/{{ run_id }}"}], {}, 3),
        ([PAY], [{"name": "wipe", "request": "DELETE /runs/{{ run_id }}", "when": "nothing"}],
         {"variables": {"nothing": ""}}, 1),
    ],
)  # fmt: skip
async def test_a_flow_is_repeated_only_if_nothing_was_done_or_it_was_taken_back(
    steps: Any, cleanup: Any, more: Any, attempts: int
) -> None:
    """The server makes the payment, then the connection breaks."""
    shop = Shop()

    def cut(what: str) -> Reply | None:
        if what == "pay":
            raise Cut
        return None

    shop.spoilt = cut
    async with shop.api.running():
        await run_check(Synthetic, flow(shop, steps, cleanup, retry=2, **more))
    assert shop.made == attempts


FLOW = """\
instances:
  - name: pay
    base_url: https://pay.example.com
    retry: {retry}
    steps:
      - {{name: login, request: POST /login, extract: {{token: json.token}}, safe: {safe}}}
      - {{name: pay, request: POST /pay{extract}}}
      - {{name: find, request: {find}}}
    cleanup: [{cleanup}]
"""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"retry": 0, "safe": "false"}, []),
        ({"safe": "false"}, ["`retry` will not repeat the flow once step login has reached the server, as no cleanup step "
                             "takes it back; if it changes nothing, say `safe: true`"]),
        ({"cleanup": ""}, ["`retry` will not repeat the flow once step pay has reached the server, as no cleanup step takes "
                           "it back; if it changes nothing, say `safe: true`"]),
        ({"extract": "", "find": "GET /latest, extract: {payment_id: json.id}"}, []),
        ({"extract": "", "find": "POST /search, extract: {payment_id: json.id}"},
         ["a run that ends between the steps pay and find counts as left over, as pay extracts nothing; if it changes "
          "nothing, say `safe: true`"]),
    ],
)  # fmt: skip
def test_validate_warns_of_what_stays_behind(tmp_path: Path, fields: dict[str, Any], said: list[str]) -> None:
    defaults = {"retry": 2, "safe": "true", "extract": ", extract: {payment_id: json.id}", "find": "GET /x",
                "cleanup": '{name: refund, request: "POST /refund/{{ payment_id }}"}'}  # fmt: skip
    found = problems(tmp_path, FLOW.format(**{**defaults, **fields}))
    assert found == [f"synthetic.yaml:2: instances[0]: warning: {one}" for one in said]


@pytest.mark.parametrize(
    ("steps", "cleanup", "traces"),
    [
        (LATER, [REFUND], {"pay": {"payment_id"}}),
        ([ADMIN, PAY], [REFUND], {"admin": set(), "pay": {"payment_id"}}),
        # a credential in a header is no trace of what a login did
        ([ADMIN, PAY], [{**REFUND, "auth": {"bearer": "{{ admin_token }}"}}],
         {"admin": set(), "pay": {"admin_token", "payment_id"}}),
        # unless it is all that there is
        ([ADMIN], [{"name": "out", "request": "DELETE /session", "auth": {"bearer": "{{ admin_token }}"}}],
         {"admin": {"admin_token"}}),
        # a cleanup step that works for another one needs what it needs
        ([PAY], [{"name": "void", "request": "POST /void/{{ payment_id }}", "extract": {"void_id": "json.id"}},
                 {"name": "confirm", "request": "POST /confirm/{{ void_id }}"}], {"pay": {"payment_id"}}),
    ],
)  # fmt: skip
def test_what_tells_what_a_step_did(steps: Any, cleanup: Any, traces: dict[str, set[str]]) -> None:
    options = {"name": "x", "base_url": "http://localhost", "steps": steps, "cleanup": cleanup}
    plan = _plan(SyntheticConfig.model_validate(options))
    assert {name: set(plan.traces(name)) for name in traces} == traces
