"""Between the fleet and the crew: what is told when a run does not end, a sink is busy, or nobody has the instance."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.parts import Recorder
from core.test_leases import Hand, eventually, owned
from vedette import Check, CheckConfig
from vedette.crew import Crew
from vedette.fleet import Holding
from vedette.lease import Lease
from vedette.ownership import Ownership
from vedette.secrets import Masker
from vedette.state import StateStore

pytestmark = pytest.mark.anyio
NAME = "probe/probe"


class Hasty(CheckConfig):
    @property
    def grace(self) -> float:
        return 0.05


class Stubborn(Check[Hasty]):
    """Ends when it likes, cancelled or not."""

    name = "probe"

    def __init__(self, config: Hasty, state: Any = None) -> None:
        super().__init__(config, state)
        self.may_end = asyncio.Event()
        self.begun = False

    async def run(self, emit: Any) -> None:
        self.begun = True
        while not self.may_end.is_set():
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                continue


class Fleet:
    """What the fleet says, in the test's hands."""

    def __init__(self) -> None:
        self.holdings: dict[str, Holding] = {}
        self.told: list[tuple[str, int]] = []
        self.saved: list[dict[str, Any]] = []

    def stopped(self, instance: str, token: int) -> None:
        self.told.append((instance, token))

    def save(self, instance: str, values: dict[str, Any]) -> asyncio.Future[bool]:
        self.saved.append(values)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done


class Desk:
    """An `Ownership` with a fleet in hand."""

    def __init__(self, folder: Path, *instances: Any) -> None:
        self.recorder, self.clock, self.fleet = Recorder(), Hand(), Fleet()
        self.crew = Crew(instances, self.recorder.surroundings)
        self.state = StateStore(folder)
        self.ownership = Ownership(lambda: self.crew, self.state, self.recorder.deliver, Masker())
        self.ownership._fleet = self.fleet  # type: ignore[assignment]

    def grant(self, token: int, name: str = NAME, **state: Any) -> Lease:
        lease = self.clock.lease(name, token)
        self.fleet.holdings = {name: Holding(lease, state)}
        self.ownership._look()
        return lease

    def revoke(self, lease: Lease) -> None:
        lease.revoke()
        self.fleet.holdings = {}
        self.ownership._look()

    async def end(self) -> None:
        await self.crew.halt_all(5.0)
        await self.crew.close_all()
        await self.state.close()


async def test_nobody_is_told_that_a_run_has_ended_that_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, owned(Stubborn, interval="10ms", timeout="10ms"))
    lease = desk.grant(1)
    await eventually(lambda: desk.crew.lease(NAME) is lease)
    stuck: Any = desk.crew.get(NAME)
    try:
        await eventually(lambda: stuck.check.begun)
        desk.revoke(lease)
        await eventually(lambda: desk.crew.get(NAME) is not stuck)
        again = desk.grant(2)  # and it is not run beside itself
        await asyncio.sleep(0.1)
        assert (desk.fleet.told, desk.crew.get(NAME).stands_by) == ([], True)  # type: ignore[union-attr]
    finally:
        stuck.check.may_end.set()
    await eventually(lambda: desk.fleet.told == [(NAME, 1)])
    await eventually(lambda: desk.crew.lease(NAME) is again)
    made: Any = desk.crew.get(NAME)
    made.check.may_end.set()
    await desk.end()


async def test_what_nobody_has_here_is_given_back_when_asked_and_no_sooner(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    lease = desk.grant(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert desk.ownership._moving == {}
    desk.revoke(lease)
    await eventually(lambda: desk.fleet.told == [(NAME, 1)])
    await desk.end()


async def test_a_value_is_saved_where_the_next_owner_finds_it_or_not_at_all(tmp_path: Path) -> None:
    desk = Desk(tmp_path, owned(interval="1h"))
    assert not await desk.ownership.save(NAME, "intention", 1)
    lease = desk.grant(1)
    await eventually(lambda: desk.crew.lease(NAME) is lease)
    assert await desk.ownership.save(NAME, "intention", {"order": 7})
    assert not await desk.ownership.save(NAME, "intention", float("nan"))
    assert desk.fleet.saved == [{"intention": {"order": 7}}]
    assert dict(desk.state.view(NAME)) == {"intention": {"order": 7}}
    desk.clock.now += 10.0
    assert not await desk.ownership.save(NAME, "intention", 2)
    await desk.end()
