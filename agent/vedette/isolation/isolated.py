"""Floor 3: an instance whose runs happen in a child process, so that nothing it does can hold up or end the agent."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from vedette.check import Check
from vedette.emit import Emit, canonical_tags, masked_values
from vedette.isolation.frames import (
    Answer,
    Done,
    FrameError,
    Handed,
    Hello,
    Lend,
    Logged,
    Part,
    Ready,
    Refused,
    Relabel,
    Report,
    Room,
    Run,
    Save,
    Settled,
    Setup,
    Standing,
)
from vedette.isolation.warden import WHERE, Child, ChildLost
from vedette.runner import CLOSE_TIMEOUT, NEVER, Runner
from vedette.schedule import spread
from vedette.vitals import INSTANCE, State

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from vedette.config import Instance
    from vedette.lease import Lease
    from vedette.metrics import Batch, Sample, Tags
    from vedette.secrets import Masker
    from vedette.vitals import Surroundings

T = TypeVar("T")

log = logging.getLogger("vedette.isolation.isolated")

START_TIMEOUT = 30.0
_SLACK = 0.25
_SPREAD = 5.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LONG_LIFE = 60.0
_MOST_SAMPLES = 1_000_000
_LEND_AGAIN = 0.25
_SHORTEST_LOAN = 0.05


class IsolatedRunner(Runner):
    """One instance whose check lives in a child process: the schedule is here, the runs are there.

    Args:
        instance: what to run.
        surroundings: what the agent gives.
        because: why, where it was not the configuration that wanted it.
        lease: see `Runner`.
    """

    def __init__(
        self, instance: Instance, surroundings: Surroundings, because: str = "", lease: Lease | None = None
    ) -> None:
        super().__init__(instance, surroundings, lease)
        self.vitals.isolated = True
        self.vitals.isolated_because = because
        self._child: Child | None = None
        self._due: float | None = None
        self._rest = 0.0
        self._started = float("-inf")
        self._samples: list[Sample] = []
        self._handed: asyncio.Future[Handed] | None = None
        self._done: asyncio.Future[Done] | None = None
        self._last: Report | None = None
        self._busy = False
        self._tasks: set[asyncio.Task[None]] = set()

    def _prepare(self) -> None:
        """The check's object is made in the child process only."""

    def _next_due(self, after: float) -> float | None:
        return self._due

    # The schedule

    async def _serve_ticks(self) -> None:
        """The process starts before the first tick: a check with a clock of its own has to be asked for it."""
        own = getattr(self.instance.plugin, "next_due", None) is not Check.next_due
        soon = _SPREAD if self.lease is None else self.lease.soon / 2
        await asyncio.sleep(spread(f"{self.instance.id} process", min(self.instance.config.interval / 2, soon)))
        while True:
            try:
                await self._alive()
                break
            except ChildLost as lost:
                self._misbehaved(State.FAILING, lost.message, lost.hint)
                if not own:
                    break
        await super()._serve_ticks()

    async def _serve_listener(self) -> None:
        while True:
            await self._until_it_may()
            try:
                child = await self._alive()
                self.vitals.last_run = time.time()
                lost = await asyncio.shield(child.lost)
            except ChildLost as error:
                lost = error
            self.vitals.runs += 1
            self._misbehaved(State.FAILING, lost.message, lost.hint)

    async def run(self, lateness: float = 0.0) -> Batch:
        """Have the child perform one run; returns within timeout + grace, and the child's own start."""
        INSTANCE.set(self.instance.id)
        vitals, clock = self.vitals, self._around.clock
        due, vitals.last_run, self._busy = clock() - lateness, time.time(), True
        begun = clock()
        self._next_step = NEVER  # the child's start, and its rest after a crash, take what they take
        try:
            child = await self._alive()
            begun, vitals.last_run = clock(), time.time()
            done = self._done = asyncio.get_running_loop().create_future()
            handed = await self._have_it_run(child)
        except asyncio.CancelledError:
            await self._last_words_of_child()
            raise
        except ChildLost as lost:
            self._measured(begun, begun - due)
            self._misbehaved(State.FAILING, lost.message, lost.hint)
            return self._hand_over(Emit(self._channel, vitals.last_run))
        finally:
            self._busy = False
        self._measured(begun, begun - due)
        self._take_over(handed.report)
        batch = self._deliver(handed.batch)
        await self._settle(child, handed.report, done)
        return batch

    async def _have_it_run(self, child: Child) -> Handed:
        config = self.instance.config
        self._samples.clear()
        self._handed = asyncio.get_running_loop().create_future()
        await self._until_it_may()
        child.send(Run(self._lasts))
        try:
            return await child.wait(self._handed, config.deadline + config.grace + _SLACK)
        except TimeoutError:
            await child.end()
            raise ChildLost(f"{self._overrun()} and did not end: the child process was killed", WHERE) from None

    def _take_over(self, report: Report) -> None:
        """Conclude from what the child says of its run."""
        self._count(report)
        if report.state is State.STUCK:
            message = f"{self._overrun()} and did not end: the child process was killed"
            self._misbehaved(State.FAILING, message, "raise timeout, or see why the target is slow")
        elif report.misbehaved:
            self._misbehaved(State.FAILING, report.message, report.hint)
        else:
            self.vitals.backoff = 1
            self.vitals.failures += report.state is State.FAILING
            self._conclude(report.state, report.message, report.hint)

    def _count(self, report: Report) -> None:
        """Add what the child counted since it was last heard."""
        before = self._last.dropped if self._last is not None else {}
        self._channel.dropped.update({reason: n - before.get(reason, 0) for reason, n in report.dropped.items()})
        self._last = report

    async def _settle(self, child: Child, report: Report, future: asyncio.Future[Done]) -> None:
        """The child closes and reopens after a failed run: until then it is not asked again."""
        if report.state is State.STUCK or report.exhausted:
            await child.end()
            return
        try:
            done = await child.wait(future, CLOSE_TIMEOUT + _SLACK)
        except TimeoutError:
            self._log.debug("the child process did not close the check in time: killed")
            await child.end()
        except ChildLost as lost:
            self._misbehaved(State.FAILING, lost.message, lost.hint)
        else:
            self._due = done.due

    # The child

    async def _alive(self) -> Child:
        """The child process, ready; a new one where there is none, but not too soon after the last.

        Raises:
            ChildLost: there is none to be had.
        """
        if self._child is not None and not self._child.lost.done():
            return self._child
        if self._child is not None:
            await self._child.end()
            self._child = None
        now = self._around.clock()
        if now - self._started > _LONG_LIFE:
            self._rest = 0.0
        await asyncio.sleep(max(0.0, self._started + self._rest - now))
        self._rest = min(max(2 * self._rest, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._started, self._last = self._around.clock(), None
        return await self._begin()

    async def _begin(self) -> Child:
        if self._due is not None:
            self._due = max(self._due, time.time() + self.instance.config.interval)
        child = await Child.start(self.instance.id, self._hear, self._around.masker, self.instance.config.memory_limit)
        child.lost.add_done_callback(self._notice)
        self._child = child
        level = logging.getLogger().getEffectiveLevel()
        try:
            child.send(Hello(tuple(map(os.fspath, sys.path)), level), self._setup())
            ready = await child.wait(child.ready, START_TIMEOUT)
        except FrameError as error:
            await child.end()
            raise ChildLost(self._around.masker(f"its options {error}")) from error
        except TimeoutError:
            await child.end()
            raise ChildLost("the child process did not start in time", "is the machine overloaded?") from None
        self._due = ready.due
        if self.lease is not None:
            self._do(self._lend(child, self.lease))
        if self.listens:
            self._conclude(State.OK, "", "")
        return child

    def _setup(self) -> Setup:
        around, instance = self._around, self.instance
        return Setup(
            replace(instance, run_on="every_node"),  # it runs when it is told to
            around.tags,
            around.host,
            dict(around.state(instance.id)),
            around.masker.within(_texts(instance.content)),
            self._lasts,
            around.masker.hides_cards,
            around.masker.salt,
        )

    @property
    def _lasts(self) -> float | None:
        """Until when the child may begin something."""
        if self.lease is None:
            return None
        return self.lease.term.until if self.lease.held else float("-inf")

    async def _lend(self, child: Child, lease: Lease) -> None:
        """Tell the child again and again how long the lease lasts: its check may take long to open."""
        while lease.held and not child.lost.done():
            child.send(Lend(lease.term.until))
            await asyncio.sleep(max(_SHORTEST_LOAN, _LEND_AGAIN * lease.term.left))

    def relabel(self, surroundings: Surroundings) -> Batch:
        """Go on under new tags or another host name, and so does the child; a run in progress keeps the old ones."""
        farewell = super().relabel(surroundings)
        if self._child is not None:
            self._child.send(Relabel(surroundings.tags, surroundings.host))
        return farewell

    def _notice(self, lost: asyncio.Future[ChildLost]) -> None:
        """The child ended. Between two runs nobody else says so."""
        child = self._child
        if not self._busy and not self.listens and child is not None and not child.ending:
            self._misbehaved(State.FAILING, lost.result().message, lost.result().hint)

    def _hear(self, child: Child, message: Any) -> None:
        """Act on what the child says."""
        match message:
            case Ready():
                _fulfil(child.ready, message)
            case Part():
                self._samples += message.samples
                if len(self._samples) > _MOST_SAMPLES:
                    child.lose(ChildLost(f"handed over more than {_MOST_SAMPLES:,} samples in one batch"))
            case Handed():
                self._receive(message)
            case Done():
                _fulfil(self._done, message)
            case Standing():
                self._count(message.report)
                self._conclude(message.report.state, message.report.message, message.report.hint)
            case Save():
                self._do(self._save(child, message))
            case Room():
                self._do(self._make_room(child, message))
            case Settled():
                self._do(self._wait_for_the_disk(child, message))
            case Logged():
                self._pass_on(message)
            case Refused():
                child.lose(ChildLost(self._around.masker(message.message), WHERE))
            case _:
                child.lose(ChildLost("the child process said something that only the agent says"))

    def _receive(self, handed: Handed) -> None:
        samples, self._samples = (*self._samples, *handed.batch.samples), []
        handed = replace(handed, batch=self._own(handed.batch, samples))
        if self.listens:
            self._count(handed.report)
            self._deliver(handed.batch)
        else:
            _fulfil(self._handed, handed)

    def _own(self, batch: Batch, samples: tuple[Sample, ...]) -> Batch:
        """The batch as this instance's, with every text masked by one who knows all secrets."""
        mask = self._around.masker
        clean = _Tags(mask)
        return replace(
            batch,
            instance=self.instance.id,
            check=self.instance.check,
            closed=False,
            samples=clean.samples(samples, names=self._channel.open_names),
            statuses=tuple(
                replace(one, name=mask.tag(one.name), message=mask(one.message), tags=clean[one.tags])
                for one in batch.statuses
            ),
            events=tuple(
                replace(
                    one,
                    title=mask(one.title),
                    text=mask(one.text),
                    alert_type=mask(one.alert_type),
                    aggregation_key=mask(one.aggregation_key),
                    tags=clean[one.tags],
                )
                for one in batch.events
            ),
            logs=tuple(
                one._replace(
                    message=mask(one.message),
                    level=mask(one.level),
                    tags=clean[one.tags],
                    attributes=masked_values(one.attributes, mask),
                )
                for one in batch.logs
            ),
        )

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=self.instance.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save(self, child: Child, asked: Save) -> None:
        child.send(Answer(asked.number, await self._around.save(self.instance.id, asked.key, asked.value)))

    async def _make_room(self, child: Child, asked: Room) -> None:
        await self._around.room()
        child.send(Answer(asked.number, good=True))

    async def _wait_for_the_disk(self, child: Child, asked: Settled) -> None:
        await self._around.settled(self.instance.id)
        child.send(Answer(asked.number, good=True))

    def _pass_on(self, said: Logged) -> None:
        logger = logging.getLogger(said.name)
        if logger.isEnabledFor(said.level) and self._child is not None and self._child.may_log():
            text = self._around.masker(said.text)
            logger.log(said.level, "%s", text, extra={"instance": self.instance.id})

    @property
    def bereft(self) -> bool:
        """Whether it has had a child process that is of no more use."""
        return self._child is not None and self._child.lost.done()

    # Stopping

    async def _last_words_of_child(self) -> None:
        """The agent stops in the middle of a run: the child gets the grace to clean up, and what it hands over counts.

        A run that is cut off hands nothing over.
        """
        child, handed = self._child, self._handed
        if child is None or handed is None or child.lost.done():
            return
        child.stop()
        with suppress(TimeoutError, ChildLost):
            self._deliver((await child.wait(handed, self.instance.config.grace + _SLACK)).batch)

    async def stop(self) -> None:
        """Have the child close the check and end; kill what does not."""
        if self._child is not None:
            self._child.stop()
            await asyncio.wait({self._child.lost}, timeout=CLOSE_TIMEOUT + _SLACK)
            await self._child.end()
        for task in self._tasks:
            task.cancel()
        self.vitals.state = State.STOPPED


class _Tags(dict["Tags", "Tags"]):
    """The tag sets of a batch and what is left of each: many samples share one."""

    def __init__(self, masker: Masker) -> None:
        super().__init__()
        self._masker = masker

    def __missing__(self, tags: Tags) -> Tags:
        clean = self._masker.tags(tags)
        made = self[tags] = tags if clean is tags else canonical_tags(clean)
        return made

    def samples(self, samples: tuple[Sample, ...], *, names: bool) -> tuple[Sample, ...]:
        """The samples under what is left of their tags and, where others chose those, their names."""
        changed = {tags for tags in {one.tags for one in samples} if self[tags] is not tags}
        if names:
            clean = {name: self._masker.tag(name) for name in {one.name for one in samples}}
            if any(name != shown for name, shown in clean.items()):
                samples = tuple(one._replace(name=clean[one.name]) for one in samples)
        if not changed:
            return samples
        return tuple(one._replace(tags=self[one.tags]) if one.tags in changed else one for one in samples)


def _fulfil(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _texts(value: Any) -> Iterator[str]:
    """Every string in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def make_runner(
    instance: Instance, surroundings: Surroundings, because: str = "", lease: Lease | None = None
) -> Runner:
    """The runner for an instance: in a child process if its options or `because` want it."""
    if instance.config.isolate or because:
        if because and (lease is None or not instance.owned):
            log.warning("%s runs in a child process, since it %s; `isolate: false` ends that", instance.id, because)
        return IsolatedRunner(instance, surroundings, because, lease)
    return Runner(instance, surroundings, lease)
