"""Floor 4: the runners of all instances and their tasks; started and ended one by one when configuration changes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

from vedette.runner import Runner, State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from vedette.config import Instance
    from vedette.lease import Lease
    from vedette.metrics import Batch
    from vedette.vitals import Surroundings

log = logging.getLogger("vedette.agent")


class Crew:
    """Every instance's runner, in configuration order, and the tasks in which they serve.

    An instance that only one agent of a fleet may run stands by until a lease is granted.

    Args:
        instances: what to run.
        surroundings: what the agent gives each.
        make: makes the runner of an instance.
    """

    def __init__(
        self,
        instances: Iterable[Instance],
        surroundings: Surroundings,
        make: Callable[[Instance, Surroundings, Lease | None], Runner] = Runner,
    ) -> None:
        self._make = make
        self._surroundings = surroundings
        self._runners: dict[str, Runner] = {}
        self._leases: dict[str, Lease] = {}
        for instance in instances:
            self._add(instance)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def _add(self, instance: Instance) -> Runner | None:
        """Make its runner; a check whose code fails even before its first run keeps no other from starting."""
        try:
            lease = self._leases.get(instance.id) if instance.owned else None
            runner = self._runners[instance.id] = self._make(instance, self._surroundings, lease)
        except Exception as error:
            text = "%s cannot be started: the check failed (%s); log: {level: debug} shows where"
            log.error(text, instance.id, type(error).__name__)
            log.debug("the check failed", exc_info=error)
            return None
        return runner

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._runners.values())

    def __len__(self) -> int:
        return len(self._runners)

    def get(self, instance: str) -> Runner | None:
        """The runner of an instance id, or None."""
        return self._runners.get(instance)

    def start(self) -> None:
        """Let everyone serve who does not yet."""
        for name, runner in self._runners.items():
            if name not in self._tasks and not runner.stands_by:
                self._start(name)

    def _start(self, name: str) -> None:
        self._tasks[name] = watched(self._runners[name].serve(), name)

    async def run_each_once(self, stopping: asyncio.Event) -> None:
        """One run of each, at the same time; ended early by the event."""
        runs = asyncio.gather(*(runner.run() for runner in self if not runner.stands_by))
        stop = asyncio.ensure_future(stopping.wait())
        stop.add_done_callback(lambda _: runs.cancel())
        await asyncio.wait([runs])
        stop.cancel()

    # Leases

    @property
    def owned(self) -> dict[str, Literal["leader", "hash"]]:
        """The instances that only one agent of the fleet may run, and which one: `leader` or `hash`."""
        modes: dict[str, Literal["leader", "hash"]] = {}
        for name, runner in self._runners.items():
            if (mode := runner.instance.run_on) != "every_node":
                modes[name] = mode
        return modes

    def lease(self, name: str) -> Lease | None:
        """The lease that was granted for an instance and not taken back."""
        return self._leases.get(name)

    def grant(self, name: str, lease: Lease) -> bool:
        """Let an instance run under this lease, with a check object that begins with the state as it is now.

        Returns:
            Whether it runs. Where its check cannot be made it stands by, as failing.
        """
        self._leases[name] = lease
        if not self._renew(name):
            del self._leases[name]
            self._runners[name].vitals.state = State.FAILING
            return False
        self._start(name)  # and nobody else: others may be on their way to be taken back
        return True

    async def take_back(self, name: str) -> Runner | None:
        """Let an instance run no more and stand by again.

        Returns:
            The runner that had the lease, which may have left a run behind; None if the instance is gone.
        """
        await self.halt([name])
        self._leases.pop(name, None)
        before = self._runners.get(name)
        if before is not None:
            await before.stop()
            if not self._renew(name):
                before.stand_by()
        return before

    def _renew(self, name: str) -> bool:
        before = self._runners[name]
        if (made := self._add(before.instance)) is None:
            return False
        made.resume(before)
        return True

    async def halt(self, names: Iterable[str], timeout: float | None = None) -> None:
        """Let these run no more; runs under way get the grace to clean up."""
        tasks = [self._tasks.pop(name) for name in list(names) if name in self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    async def halt_all(self, timeout: float) -> None:
        """Let nobody run any more, and wait so many seconds for those who do."""
        await self.halt(list(self._tasks), timeout)

    async def close_all(self) -> None:
        """Close every check, once nobody runs."""
        await asyncio.gather(*(runner.stop() for runner in self))

    def warn_of_stuck(self) -> None:
        """Name those whose runs are still going on."""
        stuck = [runner.instance.id for runner in self if runner.abandoned]
        if stuck:
            log.warning("left behind, still running: %s", ", ".join(stuck))

    async def swap(self, instances: Sequence[Instance], afresh: Iterable[str]) -> list[Batch]:
        """Have just these instances. Those not in `afresh` that are here already keep task, phase and connection.

        Args:
            instances: what to run from now on.
            afresh: ids of instances that are to start anew.

        Returns:
            The batches that make sinks forget the series of those who ended.
        """
        wanted, anew = {instance.id: instance for instance in instances}, set(afresh)
        ending = [name for name in self._runners if name not in wanted or name in anew]
        await self.halt(ending)
        gone = {name: self._runners.pop(name) for name in ending}
        kept, self._runners = self._runners, {}
        for name, instance in wanted.items():
            runner = kept.get(name)
            if runner is not None:
                runner.moved(instance)
                self._runners[name] = runner
            elif (made := self._add(instance)) is not None and name in gone:
                made.succeed(gone[name])
        self._leases = {name: lease for name, lease in self._leases.items() if name in wanted and wanted[name].owned}
        await asyncio.gather(*(runner.stop() for runner in gone.values()))
        return [runner.farewell() for runner in gone.values() if not runner.stands_by]

    def relabel(self, surroundings: Surroundings) -> list[Batch]:
        """Give everyone new tags and a new host name; returns the batches that end the old series."""
        self._surroundings = surroundings
        farewells = [(runner, runner.relabel(surroundings)) for runner in self]
        return [farewell for runner, farewell in farewells if not runner.stands_by]


def watched(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A task that says so if it ends by a fault of ours."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s has stopped because of a fault in vedette itself", task.get_name(), exc_info=error)
