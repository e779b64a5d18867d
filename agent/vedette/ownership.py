"""Floor 4: hands the leases that the fleet grants to the crew, takes them back, keeps the state that follows them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vedette.crew import watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from vedette.config import Configuration, Instance
    from vedette.crew import Crew
    from vedette.engine import Engine, EngineConfig
    from vedette.fleet.fleet import Fleet, Holding
    from vedette.fleet.vitals import FleetVitals
    from vedette.lease import Lease
    from vedette.metrics import Batch
    from vedette.runner import Runner
    from vedette.secrets import Masker
    from vedette.state import StateStore

    Configured = tuple[type[Engine[Any]], EngineConfig]

log = logging.getLogger("vedette.fleet")

_IN_HAND = 1 / 3
"""Shares of the ttl that sinks have to finish with what they are sending, before an instance is given up."""
_LEAVE = 2.0
_TWIN = 1.5
"""Shares of the ttl between two looks for another agent of this name: what a dead one left is gone by then."""
_BAR = 4.0
"""Shares of the ttl that another agent is given, before this one tries again to run what it could not."""


class Ownership:
    """What of the configuration this agent runs of all that only one agent of the fleet may run.

    Args:
        crew: the runners.
        state: the local store, which has the newest values of what this agent owns.
        deliver: hands a batch to the sinks.
        masker: blots out secrets.
    """

    def __init__(
        self, crew: Callable[[], Crew], state: StateStore, deliver: Callable[[Batch], None], masker: Masker
    ) -> None:
        self._crew = crew
        self._masker = masker
        self._state = state
        self._deliver = deliver
        self._fleet: Fleet | None = None
        self._task: asyncio.Task[None] | None = None
        self._lookout: asyncio.Task[None] | None = None
        self._twin = ""
        self._granted: dict[str, Lease] = {}
        self._moving: dict[str, asyncio.Task[None]] = {}
        self._lingering: dict[str, asyncio.Task[None]] = {}
        self._unsettled: dict[str, int] = {}
        self._settled: dict[str, asyncio.Event] = {}
        self._writing: dict[str, set[asyncio.Future[bool]]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._number = 0
        self._newest: dict[tuple[str, str], int] = {}
        self._barred: set[str] = set()
        self._failed: set[str] = set()
        self._ttl = 0.0
        self._paused = self._closed = False
        self._identity = ""

    # The fleet

    def join(self, configured: Configured | None, identity: str) -> None:
        """Become a member of this fleet, of none with None."""
        if configured is None:
            return
        from vedette.fleet.fleet import Fleet  # only where there is one

        plugin, config = configured
        self._identity = identity
        self._ttl = float(config.ttl)
        self._fleet = Fleet(plugin(config), identity, self._look)
        self.want()
        self._task = watched(self._fleet.run(), "vedette/fleet")
        self._lookout = watched(self._look_for_twins(self._fleet), "vedette/fleet names")

    def want(self) -> None:
        """Tell the fleet what the configuration has now."""
        if self._fleet is not None:
            self._fleet.want({name: mode for name, mode in self._crew().owned.items() if name not in self._barred})
        self._look()

    async def leave(self, timeout: float = _LEAVE) -> None:
        """Hand everything over at once; nothing of it may be running any more."""
        fleet, self._fleet = self._fleet, None
        if self._lookout is not None:
            self._lookout.cancel()
            self._lookout, self._twin = None, ""
        if fleet is not None:
            await fleet.leave(timeout)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout)
            self._task = None
        self._granted.clear()

    async def swap(self, configured: Configured | None, identity: str) -> None:
        """Leave the fleet, and join this one."""
        async with self.paused():
            granted = list(self._granted)
            await self._stand_by(granted)
            await self.leave()
            for name in granted:
                self._forget_unsettled(name)
            self.join(configured, identity)

    async def release(self, instances: Iterable[Instance]) -> None:
        """Before these replace what is here: those that every agent runs from now on begin with what was delivered.

        What is still queued under their leases will be fenced.
        """
        names = [one.id for one in instances if not one.owned and one.id in self._granted]
        await self._stand_by(names)
        for name in names:
            self._forget_unsettled(name)

    async def _stand_by(self, names: Iterable[str]) -> None:
        """Halt these, and wait for sinks that are sending something of them."""
        granted = [(name, self._granted[name]) for name in names]
        await asyncio.gather(*(self._halt(name, lease) for name, lease in granted))
        await asyncio.gather(*(self._until_settled(name, lease) for name, lease in granted))

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Meanwhile nothing is granted or taken back: for whoever changes the crew."""
        self._paused = True
        if self._moving:
            await asyncio.wait(self._moving.values())
        try:
            yield
        finally:
            self._paused = self._closed
            self._look()

    async def close(self) -> None:
        """Grant nothing any more: the agent stops."""
        self._paused = self._closed = True
        if self._moving:
            await asyncio.wait(self._moving.values(), timeout=_LEAVE)

    @property
    def vitals(self) -> FleetVitals | None:
        """Where the fleet stands; None without one."""
        if self._fleet is None:
            return None
        vitals = self._fleet.vitals
        trouble = self._masker(vitals.trouble) or self._twin
        return replace(vitals, trouble=trouble) if trouble else vitals

    async def _look_for_twins(self, fleet: Fleet) -> None:
        """Say so while another agent that is alive has this one's name: `hash` gives all of both to one of them."""
        before: set[str] = set()
        while True:
            await asyncio.sleep(_TWIN * self._ttl)
            namesakes = (one for one in fleet.vitals.members if one.identity == self._identity and not one.me)
            alive = {one.id for one in namesakes if one.ready and one.age < self._ttl}
            twin = f"another agent is called {self._identity} too; give each an `identity` of its own in `fleet:`"
            was, self._twin = self._twin, twin if alive & before else ""
            before = alive
            if self._twin and not was:
                log.warning("%s", twin)

    # Leases

    @property
    def _holdings(self) -> Mapping[str, Holding]:
        return self._fleet.holdings if self._fleet is not None else {}

    def _look(self) -> None:
        """See what is different between what the fleet grants and what the crew runs."""
        if self._paused:
            return
        held = {name: holding.lease for name, holding in self._holdings.items() if holding.lease.held}
        for name in {*self._granted, *held}:
            wanted = held.get(name)
            if name not in self._moving and name not in self._lingering and self._granted.get(name) is not wanted:
                self._moving[name] = task = watched(self._move(name), f"vedette/fleet {name}")
                task.add_done_callback(partial(self._moved, name))

    def _moved(self, name: str, _: object) -> None:
        self._moving.pop(name, None)
        self._look()

    async def _move(self, name: str) -> None:
        lease = self._granted.get(name)
        if lease is not None:
            await self._end(name, lease)
        holding = self._holdings.get(name)
        if holding is not None and holding.lease.held and name not in self._lingering and not self._paused:
            self._begin(name, holding)

    def _begin(self, name: str, holding: Holding) -> None:
        self._granted[name] = holding.lease
        if self._fleet is None or self._crew().get(name) is None:  # it is about to be given back
            return
        if holding.state:
            self._state.restore(name, holding.state)
        elif local := dict(self._state.view(name)):  # of before there was a fleet, or before its engine lost everything
            self._fleet.save(name, local)
        self._unsettled[name] = 0
        self._kept[name] = dict(self._state.view(name))
        if self._crew().grant(name, holding.lease):
            self._failed.discard(name)
        else:
            self._bar(name)

    def _bar(self, name: str) -> None:
        """Leave to others for a while what cannot run here: with its lease here it would run nowhere."""
        self._failed.add(name)
        self._barred.add(name)
        loop = asyncio.get_running_loop()
        loop.call_later(_BAR * self._ttl, self._unbar, name)
        loop.call_soon(self._want_again)  # not here: it looks at what is being moved

    def _unbar(self, name: str) -> None:
        self._barred.discard(name)
        self._want_again()

    def _want_again(self) -> None:
        if not self._paused:  # else the crew is being changed, and whoever does it tells the fleet at the end
            self.want()

    async def _end(self, name: str, lease: Lease) -> None:
        """Have an instance run no more; then the fleet may give it to another agent."""
        fleet = self._fleet
        runner = await self._halt(name, lease)
        await self._until_settled(name, lease)
        self._granted.pop(name, None)
        self._forget_unsettled(name)
        if runner is not None and runner.abandoned:
            self._lingering[name] = watched(self._linger(name, runner, lease, fleet), f"vedette/fleet {name}")
        elif fleet is not None:
            fleet.stopped(name, lease.token)

    async def _halt(self, name: str, lease: Lease) -> Runner | None:
        crew = self._crew()
        runner = crew.get(name)
        if runner is None or crew.lease(name) is not lease:  # it left the configuration, or is in it otherwise
            return None
        self._deliver(runner.farewell())
        return await crew.take_back(name)

    async def _linger(self, name: str, runner: Runner, lease: Lease, fleet: Fleet | None) -> None:
        """Wait for a run that does not end although it was cancelled; until then nobody is told that it has."""
        await runner.ended()
        del self._lingering[name]
        if fleet is not None and fleet is self._fleet:
            fleet.stopped(name, lease.token)
        self._look()

    async def _until_settled(self, name: str, lease: Lease) -> None:
        """Wait for sinks that have something of it: what they have sent needs not be sent again.

        The term goes on meanwhile, and nobody else may have the instance. After that queues give nothing of it away.
        """
        if lease.term.current and self._unsettled.get(name, 0) > 0:
            self._settled[name] = settled = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(settled.wait(), min(_IN_HAND * self._ttl, lease.term.left))
            del self._settled[name]
        lease.end()  # what is queued still is for the next owner

    def _forget_unsettled(self, name: str) -> None:
        """Have in memory what sinks took and no more: what was fenced is for the next owner, who may be this agent."""
        kept = self._kept.pop(name, None)
        runner = self._crew().get(name)
        if kept is not None and (runner is None or runner.stands_by):  # else it runs on, on every node
            self._state.restore(name, kept)

    # State

    def adopt(self, batch: Batch, lease: Lease) -> Callable[[], None]:
        """Take over what an owned instance commits, in memory; what this returns has it written for all agents."""
        name = batch.instance
        persist = self._state.adopt(name, batch.commits)
        view = self._state.view(name)
        values = {key: view[key] for key, _ in batch.commits if key in view}
        self._unsettled[name] = self._unsettled.get(name, 0) + 1
        number = self._next()

        def then() -> None:
            if self._granted.get(name) is not lease or not lease.lasts:
                return
            self._unsettled[name] -= 1
            if not self._unsettled[name] and name in self._settled:
                self._settled[name].set()
            newest = self._keep(name, values, number)
            if lease.term.current and self._fleet is not None:
                persist()
                if newest:
                    writing = self._writing.setdefault(name, set())
                    writing.add(written := self._fleet.save(name, newest))
                    written.add_done_callback(writing.discard)

        return then

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _keep(self, name: str, values: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Note that these count from now on; returns those in whose place nothing newer does already."""
        newest = {key: value for key, value in values.items() if number > self._newest.get((name, key), 0)}
        self._newest.update({(name, key): number for key in newest})
        if name in self._kept:
            self._kept[name].update(newest)
        return newest

    async def written(self, name: str) -> None:
        """Wait until the engine has what an instance committed: while it is silent no more is sent that it cannot know.

        So whoever takes over sends the last packet again, and not all since the engine was heard last.
        """
        if writing := self._writing.get(name):
            await asyncio.wait(writing)

    async def save(self, name: str, key: str, value: Any) -> bool:
        """Store one value now; returns whether it is where the next owner will find it."""
        lease, fleet = self._granted.get(name), self._fleet
        if lease is None or not lease.held or fleet is None:
            return False
        try:
            plain = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            return False
        number = self._next()
        await self._state.save(name, key, plain)
        if self._granted.get(name) is not lease or not lease.held:
            return False
        newest = self._keep(name, {key: plain}, number)
        return not newest or await fleet.save(name, newest)

    # For people

    def whereabouts(self, name: str) -> str:
        """Where an instance runs that does not run here, in a few words."""
        where = self._whereabouts(name)
        return f"its check cannot be made here, see the log; {where}" if name in self._failed else where

    def _whereabouts(self, name: str) -> str:
        vitals = self.vitals
        if vitals is None:
            return "agent.yaml has no `fleet:` any more, so nobody knows which agent should run it"
        owner = vitals.owners.get(name, "")
        if vitals.state == "lost":
            return "this agent is cut off from its fleet"
        if owner and owner != self._identity:
            alive = any(one.identity == owner for one in vitals.members)
            return f"runs on {owner}" if alive else f"ran on {owner}, which is gone; another agent takes over"
        if owner and name not in self._holdings and name not in self._moving and self._twin:
            return f"runs on another agent that is called {owner} too"
        return "this agent is joining its fleet" if vitals.state == "joining" else "no agent runs it yet"


def identity_of(configuration: Configuration, host: str) -> str:
    """What this agent is called in its fleet.

    Args:
        configuration: whose `fleet:` may name it.
        host: the host's name.
    """
    if configuration.fleet is not None and configuration.fleet[1].identity:
        return configuration.fleet[1].identity
    return re.sub(r"[^A-Za-z0-9._-]", "-", host).strip("-._")[:200] or "agent"
