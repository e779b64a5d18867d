"""Floor 4: drives this agent's part in the fleet's protocol over a real engine, and tells what may be run."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vedette.engine import EngineConflict, EngineUnavailable
from vedette.fleet.participant import Participant
from vedette.fleet.requests import Get, Read, Write
from vedette.fleet.seat import BEAT
from vedette.fleet.vitals import FleetVitals, State, vitals
from vedette.lease import boottime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vedette.engine import Engine
    from vedette.fleet.records import Mode
    from vedette.fleet.requests import Request
    from vedette.lease import Lease

_STUCK = 1.0
"""Shares of the ttl after which an engine that neither answers nor gives up is not waited for any more."""
_SHORTEST, _LONGEST = 0.001, 3600.0

log = logging.getLogger("vedette.fleet")


@dataclass(frozen=True, slots=True)
class Holding:
    """What this agent may run now.

    Attributes:
        lease: to be asked before each thing that only the owner may do.
        state: what the last owner committed; empty where the engine knows none, which the local store may.
    """

    lease: Lease
    state: Mapping[str, Any]


class Fleet:
    """This agent among others: which of the instances that only one may run are its own at the moment.

    Args:
        engine: where the fleet keeps its records; opened and closed here.
        identity: what people call this agent; unique in the fleet, the same after a restart.
        changed: called on the event loop when `holdings` is different. What is not in it any more has been revoked.
        clock: seconds, going on in a suspend.
    """

    def __init__(
        self,
        engine: Engine[Any],
        identity: str,
        changed: Callable[[], None],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._engine = engine
        self._changed = changed
        self._clock = clock
        self._ttl = float(engine.config.ttl)
        self._part = Participant(identity, self._ttl, clock, lambda: secrets.token_hex(8))
        self._holdings: Mapping[str, Holding] = MappingProxyType({})
        self._wake = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._state: State = "joining"
        self._opened = self._closed = False

    @property
    def holdings(self) -> Mapping[str, Holding]:
        """By instance id; read-only, and not changed later."""
        return self._holdings

    @property
    def vitals(self) -> FleetVitals:
        """How the fleet is, as this agent sees it."""
        return vitals(self._part, self._engine, self._state, self._clock())

    def want(self, instances: Mapping[str, Mode]) -> None:
        """What this agent's configuration has for the fleet: instance ids, and how their owner is chosen."""
        self._part.want(instances)
        self._wake.set()

    def stopped(self, instance: str, token: int) -> None:
        """What ran under the lease with this token has ended since it was revoked: another may have the instance.

        Without this it is given up a ttl after it was revoked.
        """
        self._part.stopped(instance, token)
        self._wake.set()

    def save(self, instance: str, values: Mapping[str, Any]) -> asyncio.Future[bool]:
        """Merge values into the instance's state in the engine, also after its lease was revoked.

        Returns:
            Whether the engine has them. False: this agent is not the owner any more, its term ended before they were
            written, they are nothing that JSON can hold, or the state would be larger than an engine takes.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            text = json.dumps(dict(values), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):  # half a surrogate pair is none either
            log.warning("%s committed what JSON cannot hold", instance)
            done.set_result(False)
            return done

        def settle(kept: bool) -> None:
            if not done.done():  # nobody may wait for it any more
                done.set_result(kept)

        self._part.save(instance, json.loads(text), settle)
        self._wake.set()
        return done

    async def run(self) -> None:
        """Take part until cancelled, or until this agent has left; survives every failure of the engine."""
        await self._open()
        news = asyncio.create_task(self._listen())
        try:
            await self._drive()
        finally:
            news.cancel()
            for task in list(self._asking):
                task.cancel()
            await asyncio.gather(news, *self._asking, return_exceptions=True)

    async def leave(self, timeout: float) -> None:
        """Hand over at once; call it when all runs have been halted, during `run` or after it.

        What was saved is written, then the own record is removed, and with it every claim is free.

        Args:
            timeout: seconds, for all of it.
        """
        if not self._opened:
            await self._shut()
            return
        self._part.leave()
        self._wake.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout / 2):
                    await self._drive()
            if not self._part.left:
                self._part.part()
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout / 2):
                        await self._drive()
        finally:
            await self._shut()

    async def _shut(self) -> None:
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        self._part.retire()
        self._publish()
        self._state = "left"
        if not self._closed:
            self._closed = True
            await self._engine.close()

    async def _open(self) -> None:
        while not self._opened:
            try:
                await self._engine.open()
                self._opened = True
            except Exception as error:
                self._part.tally.failed(_unavailable(error))
                self._publish()
                await asyncio.sleep(self._ttl * BEAT)

    async def _drive(self) -> None:
        """Ask what is to be asked, until this agent has left."""
        while not self._part.left:
            self._wake.clear()
            try:
                for request in self._part.requests():
                    task = asyncio.create_task(self._perform(request))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
            except Exception as error:
                self._fault(error)
                await asyncio.sleep(self._ttl * BEAT)
            self._publish()
            pause = min(max(self._part.due - self._clock(), _SHORTEST), _LONGEST)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _perform(self, request: Request) -> None:
        """Ask, and hand over the answer; whatever has none may or may not have been done."""
        try:
            async with asyncio.timeout(self._ttl * _STUCK):
                reply = await self._ask(request)
        except asyncio.CancelledError:
            request.answer(EngineUnavailable("nobody waited for the answer"))
            raise
        except EngineConflict as conflict:
            reply = conflict
        except Exception as error:
            reply = _unavailable(error)
        try:
            request.answer(reply)
        except Exception as error:
            self._fault(error)
        self._wake.set()

    def _fault(self, error: Exception) -> None:
        """Hold nothing any more, and join anew: whatever it was, nobody may wait for an agent that does not go on."""
        log.error("a fault in the fleet's protocol", exc_info=error)
        self._part.tally.failed(EngineUnavailable(f"a fault in vedette itself ({type(error).__name__}): see the log"))
        self._part.seat.end()

    async def _ask(self, request: Request) -> Any:
        if isinstance(request, Read):
            return await self._engine.read(request.prefix)
        if isinstance(request, Get):
            return await self._engine.get(request.key)
        if isinstance(request, Write):
            return await self._engine.write(request.key, request.value, request.revision, request.guard)
        return await self._engine.remove(request.key, request.revision)

    async def _listen(self) -> None:
        """Pass on hints; between two attempts, and after each, anything may have happened."""
        while True:
            try:
                async for _ in self._engine.changes():
                    self._hint()
            except EngineUnavailable as error:
                log.debug("no news from the engine: %s", error)
            except Exception:
                log.exception("news from the engine ended")
            await asyncio.sleep(self._ttl * BEAT)
            self._hint()

    def _hint(self) -> None:
        self._part.hint()
        self._wake.set()

    def _publish(self) -> None:
        """Tell what is different since the last time."""
        held = {
            instance: (tenure.lease, tenure.inherited)
            for instance, tenure in self._part.held.items()
            if tenure.lease is not None
        }
        self._note_state()
        if {name: one.lease for name, one in self._holdings.items()} != {name: one for name, (one, _) in held.items()}:
            before = self._holdings
            self._holdings = MappingProxyType(
                {
                    instance: kept if (kept := before.get(instance)) and kept.lease is lease else Holding(lease, state)
                    for instance, (lease, state) in held.items()
                }
            )
            self._changed()

    def _note_state(self) -> None:
        state, before = self._part.state, self._state
        if self._part.leaving or state == before:
            return
        self._state = state
        if state == "lost":
            log.warning("%s; nothing that only one agent may run is run here", self._part.tally.trouble)
        elif state == "member":
            log.info("%s is ready", self._part.seat.id)
        elif before == "member":
            log.warning("joining anew as %s", self._part.seat.id)


def _unavailable(error: Exception) -> EngineUnavailable:
    if isinstance(error, EngineUnavailable):
        return error
    if isinstance(error, TimeoutError):
        return EngineUnavailable("the engine gave no answer")
    log.error("a bug in the engine", exc_info=error)
    return EngineUnavailable(f"{type(error).__name__}: see the log")
