"""Floor 3: performs the runs of one instance under a deadline, and survives whatever the check does."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vedette.check import Listener
from vedette.emit import Channel, Emit, Gathering
from vedette.errors import CheckError
from vedette.metrics import Kind, Sample, Status
from vedette.outbox import describe
from vedette.schedule import SOON, CronTicks, IntervalTicks, OwnTicks
from vedette.secrets import OF_THIS_TASK
from vedette.transitions import transition
from vedette.units import format_duration
from vedette.vitals import HEALTH_METRICS, INSTANCE, State, Surroundings, Vitals

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vedette.config import Instance
    from vedette.lease import Lease
    from vedette.metrics import Batch
    from vedette.schedule import Ticks

__all__ = ["CLOSE_TIMEOUT", "GRACE", "HEALTH_METRICS", "Runner", "State", "Surroundings", "Vitals"]

CLOSE_TIMEOUT = 2.0
GRACE = 2.0
NEVER = float("inf")
_LONGEST_SLEEP = 60.0
_LISTENER_PAUSE = 30.0
_MOST_BACKOFF = 4
_SHARE_TO_LISTEN = 0.8
_RAN = "vedette.ran"
"""In the state of an instance with a `schedule:` that one agent of the fleet runs: Unix time of its last run."""
_COUNTED = ("last_run", "duration", "runs", "failures", "skipped", "samples", "blocked", "muted_until")


class Runner:
    """One instance at work: its check object, its runs one after another, and its vitals.

    Args:
        instance: what to run.
        surroundings: what the agent gives.
        lease: the right to run it, where only one agent of the fleet may; without one it just stands by.
    """

    def __init__(self, instance: Instance, surroundings: Surroundings, lease: Lease | None = None) -> None:
        plugin = instance.plugin
        self.instance = instance
        self.lease = lease
        self.vitals = Vitals(
            instance.id,
            instance.check,
            file=instance.file,
            line=instance.line,
            origin=instance.origin,
            run_on=instance.run_on,
        )
        self._around = surroundings = _own(instance, surroundings)
        self._log = logging.LoggerAdapter(logging.getLogger(f"vedette.{instance.id}"), {"instance": instance.id})
        self._channel = _channel(instance, surroundings)
        self.vitals.dropped = self._channel.dropped
        self._of_check = (f"check:{instance.check}",)
        self.listens = issubclass(plugin, Listener)
        self._backs_off = False
        self._opened = False
        self._current: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: asyncio.Future[bool] | None = None
        self._emit: Emit | None = None
        self._next_step = NEVER
        self._check: Any = None
        self._threaded = False
        if self.stands_by:
            self.vitals.state = State.STANDBY
        else:
            self._prepare()

    def _prepare(self) -> None:
        """Make the check's object."""
        plugin = self.instance.plugin
        self._check = plugin(self.instance.config, self._around.state(self.instance.id))
        self._threaded = not issubclass(plugin, Listener) and not inspect.iscoroutinefunction(plugin.run)

    # The lease

    @property
    def stands_by(self) -> bool:
        """Whether it is without a lease and needs one."""
        return self.instance.owned and self.lease is None

    @property
    def may_run(self) -> bool:
        """Whether a run may begin at this moment."""
        return self.lease.held if self.lease is not None else not self.instance.owned

    async def _until_it_may(self) -> None:
        """Return as soon as a run may begin; never after the lease: one that has ended does not come back."""
        if self.lease is not None:
            self._next_step = NEVER
        if self.lease is not None and self._around.written is not None:
            await self._around.written(self.instance.id)
        if not self.may_run:
            await asyncio.get_running_loop().create_future()

    # The instance's life

    async def serve(self) -> None:
        """Run at every tick, or for a listener all the time, until cancelled."""
        INSTANCE.set(self.instance.id)
        OF_THIS_TASK.set(self._around.masker)
        if self.listens:
            await self._serve_listener()
        else:
            await self._serve_ticks()

    async def _serve_ticks(self) -> None:
        clock = self._around.clock
        ticks = self._ticks(clock())
        while True:
            asked = await self._sleep_until(ticks)
            await self._until_it_may()
            if asked:  # the ticks stay where they are
                await self.run()
            else:
                now, wall = clock(), time.time()
                self.vitals.skipped += ticks.catch_up(now, wall)
                await self.run(lateness=max(0.0, now - ticks.due))
                self._advance(ticks)
            if self.abandoned:
                await self._until_unstuck(ticks)
            if self.vitals.backoff > 1 and isinstance(ticks, IntervalTicks):
                ticks.leave_out(self.vitals.backoff - 1)
                self._announce(ticks)

    def _advance(self, ticks: Ticks) -> None:
        self.vitals.skipped += ticks.advance(self._around.clock(), time.time())
        self._announce(ticks)

    def _announce(self, ticks: Ticks) -> None:
        self._next_step = ticks.due
        self.vitals.next_run = time.time() + ticks.due - self._around.clock()

    def overdue(self, now: float) -> float:
        """Seconds since this instance should have begun a run, or been done with one; nobody but a fault keeps it.

        Args:
            now: monotonic time.
        """
        return max(0.0, now - self._next_step)

    def _ticks(self, now: float) -> Ticks:
        config, wall = self.instance.config, time.time()
        soon = SOON if self.lease is None else min(SOON, self.lease.soon)
        ticks: Ticks
        if self._next_due(wall) is not None:
            ticks = OwnTicks(self.instance.id, self._next_due, now, wall, soon / 5)
        elif config.schedule is not None:
            ran = self._around.state(self.instance.id).get(_RAN) if self.lease is not None else None
            ticks = CronTicks(config.schedule, config.timezone, now, wall, ran)
        else:
            ticks = IntervalTicks(self.instance.id, config.interval, now, wall, soon)
            self._backs_off = True
        self._announce(ticks)
        return ticks

    def _next_due(self, after: float) -> float | None:
        """When a check with a clock of its own is due; None for all others."""
        due: float | None = self._check.next_due(after)
        return due

    async def _sleep_until(self, ticks: Ticks) -> bool:
        """Wait for the next tick; returns whether a run was asked for before."""
        while (left := (due := ticks.due) - self._around.clock()) > 0:
            self._next_step = due
            if await self._pause(min(left, _LONGEST_SLEEP)):
                return True
            if left > _LONGEST_SLEEP:
                ticks.adjust(self._around.clock(), time.time())
        return False

    async def _pause(self, seconds: float) -> bool:
        """Sleep, or until `run_now`; returns whether it was that. As cheap as asyncio.sleep, which does the same."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bool] = loop.create_future()
        self._waiting = waiting
        timer = loop.call_later(seconds, _wake, waiting, False)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting = None

    def run_now(self) -> str:
        """Have a run at once, beside the ticks; returns why that cannot be, or nothing."""
        if self.listens:
            return "it listens all the time"
        if self._waiting is None:
            return "a run is in progress"
        _wake(self._waiting, True)
        return ""

    async def _serve_listener(self) -> None:
        pause = 1.0
        while True:
            await self._until_it_may()
            begun = self._around.clock()
            emit = self._emit = Emit(self._channel, time.time(), self._flush, time.time, settled=self._settled)
            self.vitals.last_run = time.time()
            error = await self._listen(emit)
            self.vitals.runs += 1
            self.vitals.failures += 1
            self._conclude(State.FAILING, *self._explain(error))
            await self._reopen()
            if self._around.clock() - begun > _LISTENER_PAUSE:
                pause = 1.0
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads retries, guards nothing
            pause = min(pause * 2, _LISTENER_PAUSE)

    async def _listen(self, emit: Emit) -> BaseException:
        try:
            await self._open()
            await self._until_it_may()
            self._conclude(State.OK, "", "")
            await self._check.serve(emit)
        except (Exception, SystemExit) as error:
            return error
        return CheckError("the listener ended by itself")

    async def _flush(self, batch: Batch) -> None:
        if batch.commits:  # what stands for something is not pushed into a full queue; cancelled here, it comes again
            await self._around.room()
        self._give(batch)
        await self._around.room()

    async def _settled(self) -> None:
        await self._around.settled(self.instance.id)

    def stand_by(self) -> None:
        """Give the lease back, once `stop` has ended: nothing is begun or handed over any more."""
        self.lease = None
        self._next_step = NEVER
        self.vitals.state = State.STANDBY

    # One run

    async def run(self, lateness: float = 0.0) -> Batch:
        """Perform one run and hand its batch over; whatever the check does, this returns in time + grace."""
        INSTANCE.set(self.instance.id)
        OF_THIS_TASK.set(self._around.masker)
        loop, vitals, config = asyncio.get_running_loop(), self.vitals, self.instance.config
        vitals.last_run, started = time.time(), self._around.clock()
        self._next_step = started + config.deadline + config.grace + CLOSE_TIMEOUT
        speak = Gathering if self.listens else Emit
        emit = speak(self._channel, vitals.last_run, save=partial(self._around.save, self.instance.id))
        task = self._current = loop.create_task(self._collect(emit), name=self.instance.id)
        try:
            in_time = await _within(task, config.deadline, config.grace)
        except asyncio.CancelledError:  # the agent stops: the run gets the grace to clean up, and no more
            await _within(task, 0.0, config.grace)
            self._last_words(task, emit)
            emit.kill()
            raise
        self._measured(started, lateness)
        reopen = self._judge(task, emit, in_time)
        batch = self._hand_over(emit)
        if reopen:
            await self._reopen()
        return batch

    def _measured(self, started: float, lateness: float) -> None:
        vitals = self.vitals
        vitals.duration = self._around.clock() - started
        vitals.lateness = lateness
        vitals.worst_lateness = max(vitals.worst_lateness, lateness)
        vitals.runs += 1

    async def _collect(self, emit: Emit) -> None:
        try:
            await self._open()
            if not self.may_run:  # what it hands over is not passed on either
                return
            if self.listens:
                await self._listen_for_a_while(emit)
            elif self._threaded:
                await self._run_in_thread(emit)
            else:
                await self._check.run(emit)
        except SystemExit as error:  # out of a task it would end the whole agent
            raise RuntimeError(f"the check called sys.exit({error.code!r})") from error

    async def _listen_for_a_while(self, emit: Emit) -> None:
        """What a run of a listener is, where a command asks for one: it serves for most of its deadline."""
        limit = asyncio.timeout(_SHARE_TO_LISTEN * self.instance.config.deadline)
        try:
            async with limit:
                await self._check.serve(emit)
        except TimeoutError:
            if not limit.expired():
                raise

    async def _open(self) -> None:
        if not self._opened:
            await self._check.open()
            self._opened = True

    async def _run_in_thread(self, emit: Emit) -> None:
        if self._thread is None:  # a thread of its own: a hung one must not take a place in a shared pool
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"vedette-{self.instance.id}")
        job = self._thread.submit(self._run_here, emit)
        running = asyncio.wrap_future(job)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if not job.cancel():  # a thread cannot be cancelled: the run lasts until it ends
                await asyncio.wait({running})
            raise

    def _run_here(self, emit: Emit) -> None:
        """In the thread: it may have taken a while to begin."""
        if self.may_run:
            self._check.run(emit)

    def _judge(self, task: asyncio.Task[None], emit: Emit, in_time: bool) -> bool:
        """Conclude the vitals from how the run ended; returns whether to close and reopen."""
        if not task.done():
            emit.uncommit()
            message = f"{self._overrun()} and does not end"
            self._misbehaved(State.STUCK, message, "it starts again once it has ended")
            return False
        if not in_time:
            emit.uncommit()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.debug("ended with an error after its deadline", exc_info=error)
            self._misbehaved(State.FAILING, self._overrun(), "raise timeout, or see why the target is slow")
            return True
        error = asyncio.CancelledError("the check cancelled itself") if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CheckError):
            emit.uncommit()
            self._log.debug("the run raised", exc_info=error)
            self._misbehaved(State.FAILING, *self._explain(error))
            return True
        self.vitals.backoff = 1
        if error is None:
            self._conclude_from_statuses(emit)
        else:
            self.vitals.failures += 1
            self._conclude(State.FAILING, *self._explain(error))
        return False

    def _misbehaved(self, state: State, message: str, hint: str) -> None:
        """Conclude a run that overran or crashed: the next ones come less often, until one does not."""
        vitals = self.vitals
        vitals.failures += 1
        if self._backs_off:
            vitals.backoff = min(2 * vitals.backoff, _MOST_BACKOFF)
            pace = f"runs every {format_duration(vitals.backoff * self.instance.config.interval)} until it succeeds"
            hint = f"{hint}; {pace}" if hint else pace
        self._conclude(state, message, hint)

    def _overrun(self) -> str:
        return f"timed out after {format_duration(self.instance.config.deadline)}"

    def _explain(self, error: BaseException) -> tuple[str, str]:
        mask = self._around.masker
        if isinstance(error, CheckError):
            return mask(error.message), mask(error.hint)
        return mask(f"the check failed: {describe(error)}"), "log: {level: debug} shows where"

    def _conclude_from_statuses(self, emit: Emit) -> None:
        worst = emit.worst()
        if worst is None or worst.status is Status.OK:
            self._conclude(State.OK, "", "")
        elif worst.status is Status.CRITICAL:
            self._conclude(State.CRITICAL, worst.message or f"{worst.name} is critical", "")
        else:
            self._conclude(State.WARNING, worst.message or f"{worst.name} is {worst.status.name.lower()}", "")

    def _conclude(self, state: State, message: str, hint: str) -> None:
        """Enter a state; logs only when the state changed."""
        vitals, before = self.vitals, self.vitals.state
        vitals.message, vitals.hint = message, hint
        if state is before:
            return
        vitals.state, lasted = state, time.time() - vitals.since
        vitals.since = time.time()
        if state is State.OK:
            if before is not State.STARTING:
                self._log.info("recovered after %s", format_duration(lasted))
                self._report_change(before, lasted)
        else:
            level = logging.WARNING if state is State.WARNING else logging.ERROR
            self._log.log(level, "%s: %s%s", state.value, message, f" ({hint})" if hint else "")
            self._report_change(before, lasted)

    def _report_change(self, before: State, lasted: float) -> None:
        """Tell the sinks of a failure or a recovery, where the agent is to; of a muted instance nothing is told."""
        ways, now = self._around.changes, time.time()
        if not ways or self.vitals.muted_until > now:
            return
        self._hand_on(transition(Emit(self._channel, now), self.vitals, before, lasted, ways))

    def _hand_over(self, emit: Emit) -> Batch:
        vitals, tags = self.vitals, emit.tag_set(self._of_check)
        batch = emit.batch(
            Sample("health_check.status", Kind.GAUGE, int(vitals.healthy), tags),
            Sample("health_check.response_time", Kind.HISTOGRAM, vitals.duration * 1000, tags),
        )
        if vitals.state is State.STUCK:
            emit.kill()
        self._warn_of_undeclared()
        return self._deliver(batch)

    def _deliver(self, batch: Batch) -> Batch:
        """Hand a run's batch over; while runs come less often it says so, lest sinks think that the series ended."""
        if self.vitals.backoff > 1:
            batch = replace(batch, interval=self.vitals.backoff * batch.interval)
        self._give(batch)
        return batch

    def _give(self, batch: Batch) -> None:
        """Give a batch to the agent, and count what it holds."""
        if self._hand_on(batch):
            self.vitals.samples += len(batch.samples)

    def _hand_on(self, batch: Batch) -> bool:
        """Give a batch to the agent, unless the lease has ended: another agent may have gone on from there."""
        if not self.may_run:
            self._channel.dropped["fenced"] += len(batch)
            return False
        if self.lease is not None:
            ran = () if self.instance.config.schedule is None else ((_RAN, batch.time),)
            batch = replace(batch, lease=self.lease, commits=(*batch.commits, *ran))
        self._around.deliver(batch)
        return True

    def _last_words(self, task: asyncio.Task[None], emit: Emit) -> None:
        """Hand over what a run collected that came to its end although the agent stops; of others nothing is said."""
        if task.done() and not task.cancelled() and task.exception() is None:
            self._give(emit.batch())

    def _warn_of_undeclared(self) -> None:
        if self._channel.undeclared:
            names = ", ".join(self._channel.take_undeclared())
            self._log.warning("dropped because the check does not declare them (with this kind): %s", names)

    # Closing

    async def _until_unstuck(self, ticks: Ticks) -> None:
        """Wait for an abandoned run to end; at each tick meanwhile say that the instance is not healthy."""
        while self._current is not None and not self._current.done():
            self._next_step = NEVER
            await asyncio.wait({self._current}, timeout=max(0.0, ticks.due - self._around.clock()))
            if not self._current.done():
                self.vitals.skipped += 1
                self._hand_over(Emit(self._channel, time.time()))
                self._advance(ticks)
        await self._reopen()

    async def _reopen(self) -> None:
        """Close what the failed run left behind; the next run opens anew."""
        self._opened = False
        if self._check is None:
            return
        error = await _bounded(self._check.close(), CLOSE_TIMEOUT)
        if error is not None:
            self._log.debug("close failed", exc_info=error)

    async def stop(self) -> None:
        """Close the check and say to the sinks that its series end; call it once `serve` has ended."""
        if self._current is None or self._current.done():
            await self._reopen()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
        self.vitals.state = State.STOPPED

    def farewell(self) -> Batch:
        """The batch that makes sinks forget this instance's series."""
        return replace(Emit(self._channel, time.time()).batch(), closed=True)

    def moved(self, instance: Instance) -> None:
        """The same instance stands elsewhere in the files now."""
        self.instance = instance
        self.vitals.file, self.vitals.line = instance.file, instance.line

    def resume(self, predecessor: Runner) -> None:
        """Go on counting where a runner of the same instance stopped that had the lease before, or stood by."""
        vitals, before = self.vitals, predecessor.vitals
        for name in _COUNTED:
            setattr(vitals, name, getattr(before, name))
        self._channel.dropped.update(predecessor._channel.dropped)
        vitals.since = time.time()

    def succeed(self, predecessor: Runner) -> None:
        """Take the place of a runner of the same instance that serves no more and is about to be stopped."""
        self.vitals.muted_until = predecessor.vitals.muted_until
        if isinstance(self._check, Listener) and isinstance(predecessor.check, Listener):
            try:
                self._check.succeed(predecessor.check)
            except Exception as error:
                self._log.debug("nothing was taken over", exc_info=error)

    def relabel(self, surroundings: Surroundings) -> Batch:
        """Go on under new tags or another host name; returns the batch that ends the old series."""
        farewell = self.farewell()
        dropped = self._channel.dropped
        self._around = surroundings = _own(self.instance, surroundings)
        self._channel = _channel(self.instance, surroundings)
        self._channel.dropped = self.vitals.dropped = dropped
        if self._emit is not None:
            self._emit.go_on_in(self._channel)
        return farewell

    @property
    def check(self) -> Any:
        """The check's object, for a command that asks it for more than a run."""
        return self._check

    @property
    def abandoned(self) -> bool:
        """Whether a run is still going on that nobody waits for."""
        return self._current is not None and not self._current.done()

    async def ended(self) -> None:
        """Wait until no run is going on."""
        if self._current is not None and not self._current.done():
            await asyncio.wait({self._current})


def _own(instance: Instance, surroundings: Surroundings) -> Surroundings:
    """What the agent gives an instance; one that came with secrets of its own masks them too."""
    return surroundings if instance.masker is None else replace(surroundings, masker=instance.masker)


def _channel(instance: Instance, surroundings: Surroundings) -> Channel:
    config, plugin = instance.config, instance.plugin
    return Channel(
        instance.id,
        instance.check,
        plugin.declare(config),
        plugin.statuses,
        (*surroundings.tags, *config.tags, f"instance:{config.name}"),
        open_names=plugin.open_names,
        interval=config.cadence,
        host=surroundings.host if plugin.host_bound and config.host_bound and config.run_on == "every_node" else "",
        names=config.metrics.compile() if config.metrics else None,
        masker=surroundings.masker,
    )


def _wake(waiting: asyncio.Future[bool], asked: bool) -> None:
    if not waiting.done():
        waiting.set_result(asked)


async def _within(task: asyncio.Task[None], timeout: float, grace: float) -> bool:
    """Wait for a task; cancel it after `timeout` seconds, leave it alone `grace` seconds later.

    Returns whether it ended before it was cancelled. Neither raises what the task raised nor cancels it when
    the waiting itself is cancelled.
    """
    if timeout > 0:
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if done:
            return True
    if task.done():
        return True
    task.cancel()
    await asyncio.wait({task}, timeout=grace)
    return False


async def _bounded(work: Coroutine[Any, Any, Any], timeout: float) -> BaseException | None:
    """Await something foreign for so long and no longer; returns what went wrong."""
    task = asyncio.get_running_loop().create_task(_quiet(work))
    done, _ = await asyncio.wait({task}, timeout=timeout)
    if done:
        return task.result() if not task.cancelled() else asyncio.CancelledError()
    task.cancel()
    return TimeoutError(f"did not end within {format_duration(timeout)}")


async def _quiet(work: Coroutine[Any, Any, Any]) -> BaseException | None:
    try:
        await work
    except (Exception, SystemExit) as error:
        return error
    return None
