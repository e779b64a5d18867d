"""Floor 5: wires configuration, runners, outboxes, sinks and state together, and starts and stops them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vedette.config.changes import Changes
from vedette.control import ControlError, Snapshot
from vedette.control.path import socket_path
from vedette.control.server import ControlServer
from vedette.outbox import Outbox, Receipt, supervise
from vedette.report import AGENT_METRICS, SelfReport, SinkVitals
from vedette.runner import Runner, Surroundings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from vedette.config import Configuration, HttpConfig, Instance
    from vedette.control import Service
    from vedette.metrics import Batch
    from vedette.sink import Sink
    from vedette.state import StateStore

log = logging.getLogger("vedette.agent")

_FIRST_REPORT = 2.0
_KILLED_BY_SECOND_SIGNAL = 130


@dataclass(slots=True)
class _Outlet:
    """A sink at work: its queue and the task that supervises it."""

    sink: Sink[Any]
    outbox: Outbox
    task: asyncio.Task[None] | None = None

    @property
    def vitals(self) -> SinkVitals:
        sink, outbox = self.sink, self.outbox
        return SinkVitals(
            name=sink.config.name or sink.name,
            sent=max(0, outbox.delivered - sink.lost),
            dropped=outbox.dropped + sink.lost,
            errors=sink.errors,
            queued=outbox.queued,
            trouble=sink.trouble,
        )


class Agent:
    """The running agent of one configuration.

    Args:
        configuration: what to run; only its valid instances are started.
        state: where commits go; the agent closes it when it stops.
        environ: environment variables, for the strategy's tags.
        on_batch: called with every batch after the outboxes have it (alerts, tables, tests).
    """

    def __init__(
        self,
        configuration: Configuration,
        state: StateStore,
        environ: Mapping[str, str] = os.environ,
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        options = configuration.agent
        self._configuration = configuration
        self._state = state
        self._on_batch = on_batch
        self._started = time.time()
        host = options.hostname or socket.gethostname()
        tags = agent_tags(options.tags, environ)
        self._outlets = [_outlet(plugin(config)) for plugin, config in configuration.sinks]
        self._report = SelfReport(tags, host, options.report_interval, configuration.masker)
        self._surroundings = Surroundings(
            self._deliver, self._room, tags, host, configuration.masker, state.view, state.save
        )
        self._runners = [Runner(instance, self._surroundings) for instance in configuration.instances]
        self._fill_catalogs()
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = asyncio.Event()
        self._consumers: list[Callable[[Batch], None]] = []
        self._services: list[Service] = [ControlServer(self, socket_path(options, environ, state.directory))]
        if options.http is not None:
            self._services.append(self._status_page(options.http))

    def snapshot(self) -> Snapshot:
        """A picture of the agent as it is now."""
        return Snapshot(
            time=time.time(),
            started=self._started,
            instances=tuple(replace(runner.vitals) for runner in self._runners),
            sinks=tuple(outlet.vitals for outlet in self._outlets),
            problems=self._configuration.problems,
            directory=str(self._configuration.directory),
            host=self._surroundings.host,
            state_errors=self._state.errors,
        )

    async def reload(self, *, check: bool = False) -> Changes:
        """See `Operations`."""
        return Changes(same=len(self._runners), problems=self._configuration.problems)

    def run_now(self, instance: str) -> None:
        """See `Operations`."""
        if why := self._runner(instance).run_now():
            raise ControlError(f"{instance} cannot run now: {why}")

    def mute(self, instance: str, until: float) -> None:
        """See `Operations`."""
        self._runner(instance).vitals.muted_until = until

    def _runner(self, instance: str) -> Runner:
        for runner in self._runners:
            if runner.instance.id == instance:
                return runner
        raise ControlError(f"no instance is called '{instance}'")

    def _status_page(self, options: HttpConfig) -> Service:
        from vedette.status.service import StatusPage  # starlette and uvicorn are loaded for those who ask for a page

        page = StatusPage(self, options, len(self._runners))
        self._consumers.append(page.history.add)
        return page

    def stop(self) -> None:
        """Ask the agent to stop; `run` returns soon after."""
        self._stopping.set()

    async def run(self, *, once: bool = False, duration: float | None = None) -> None:
        """Run until `stop`, a signal or `duration` seconds; with `once`, run each instance one time.

        Returns within `stop_timeout` of being asked, give or take a second; a run that cannot be ended is left
        behind, so the process should not wait for threads and tasks when it exits.
        """
        loop = asyncio.get_running_loop()
        signals = _handle_signals(loop, self.stop)
        self._start_sinks(loop)
        gc.collect()
        gc.freeze()  # thousands of long-lived objects that every collection would walk (p99 lateness 70 ms → 1 ms)
        try:
            if once:
                await self._run_each_once()
            else:
                self._start_runners(loop)
                for service in self._services:
                    await service.start()
                await _until(self._stopping, duration)
            await self._shut_down()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
            gc.unfreeze()

    # Running

    def _start_sinks(self, loop: asyncio.AbstractEventLoop) -> None:
        for outlet in self._outlets:
            outlet.task = loop.create_task(supervise(outlet.sink, outlet.outbox))

    def _start_runners(self, loop: asyncio.AbstractEventLoop) -> None:
        for runner in self._runners:
            self._spawn(loop, runner.serve(), runner.instance.id)
        self._spawn(loop, self._report_regularly(), "vedette/agent")
        log.info("%d instances, %d sinks", len(self._runners), len(self._outlets))

    def _spawn(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], name: str) -> None:
        task = loop.create_task(work, name=name)
        self._tasks[task] = name
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task, "?")
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s has stopped because of a fault in vedette itself", name, exc_info=error)

    async def _run_each_once(self) -> None:
        runs = asyncio.gather(*(runner.run() for runner in self._runners))
        stop = asyncio.ensure_future(self._stopping.wait())
        stop.add_done_callback(lambda _: runs.cancel())
        await asyncio.wait([runs])
        stop.cancel()

    async def _report_regularly(self) -> None:
        await asyncio.sleep(min(_FIRST_REPORT, self._configuration.agent.report_interval))
        while True:
            self._report_now()
            await asyncio.sleep(self._configuration.agent.report_interval)

    def _report_now(self) -> None:
        self._deliver(
            self._report.batch(
                (runner.vitals for runner in self._runners),
                [outlet.vitals for outlet in self._outlets],
                self._state.errors,
                len(self._configuration.problems),
            )
        )

    def _deliver(self, batch: Batch) -> None:
        receipt = self._receipt(batch) if batch.commits else None
        for outlet in self._outlets:
            outlet.outbox.put(batch, receipt if outlet.outbox.durable else None)
        for consume in self._consumers:
            consume(batch)
        if self._on_batch is not None:
            self._on_batch(batch)

    def _receipt(self, batch: Batch) -> Receipt:
        """Commits are visible at once, and on disk as soon as every durable sink has what they stand for."""
        durable = sum(outlet.outbox.durable for outlet in self._outlets)
        return Receipt(durable, self._state.adopt(batch.instance, batch.commits))

    async def _room(self) -> None:
        for outlet in self._outlets:
            await outlet.outbox.room()

    def _fill_catalogs(self) -> None:
        for outlet in self._outlets:
            outlet.sink.catalog.update((metric.name, metric) for metric in AGENT_METRICS)
            for instance in self._configuration.instances:
                outlet.sink.catalog.update(_declared(instance))

    # Stopping

    async def _shut_down(self) -> None:
        """Stop runs, close checks, flush sinks, write state: each within its share of `stop_timeout`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._configuration.agent.stop_timeout
        for service in self._services:
            await service.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=deadline - loop.time())
        self._report_now()
        await asyncio.gather(*(runner.stop() for runner in self._runners))
        await self._flush_sinks(max(0.5, deadline - loop.time()))
        await self._state.close()
        stuck = [runner.instance.id for runner in self._runners if runner.abandoned]
        if stuck:
            log.warning("left behind, still running: %s", ", ".join(stuck))

    async def _flush_sinks(self, timeout: float) -> None:
        tasks = {outlet.task for outlet in self._outlets if outlet.task is not None}
        for outlet in self._outlets:
            outlet.outbox.close()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        for outlet in self._outlets:
            left = outlet.vitals.dropped
            outlet.outbox.abandon()
            if lost := outlet.vitals.dropped - left:
                log.warning("sink %s: %d samples were not sent before the stop", outlet.vitals.name, lost)


def agent_tags(configured: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The configured tags, and `environment:`, `service:`, `version:` from the environment where not configured."""
    tags = list(configured)
    keys = {tag.partition(":")[0] for tag in tags}
    sources = (
        ("environment", ("ENVIRONMENT", "DD_ENV")),
        ("service", ("DD_SERVICE",)),
        ("version", ("APP_VERSION", "DD_VERSION")),
    )
    for key, variables in sources:
        value = next((environ[name] for name in variables if environ.get(name)), None)
        if value is not None and key not in keys:
            tags.append(f"{key}:{value}")
    return tuple(tags)


def _outlet(sink: Sink[Any]) -> _Outlet:
    names = sink.config.metrics.compile() if sink.config.metrics else None
    return _Outlet(sink, Outbox(sink.config.queue, names, durable=sink.durable))


def _declared(instance: Instance) -> dict[str, Any]:
    rename = instance.config.metrics.rename
    return {rename.get(metric.name, metric.name): metric for metric in instance.plugin.declare(instance.config)}


async def _until(event: asyncio.Event, duration: float | None) -> None:
    if duration is None:
        await event.wait()
        return
    waiter = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiter}, timeout=duration)
    waiter.cancel()


def _handle_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> list[int]:
    """The first SIGTERM or SIGINT stops with a flush, the second ends the process at once."""
    seen = 0

    def on_signal(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            os._exit(_KILLED_BY_SECOND_SIGNAL)
        log.info("%s: stopping", name)
        stop()

    handled: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, on_signal, number.name)
        except (RuntimeError, ValueError):  # not in the main thread: whoever embeds the agent handles signals
            continue
        handled.append(number)
    return handled
