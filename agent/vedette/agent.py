"""Floor 5: wires configuration, runners, outboxes, sinks and state together, and starts and stops them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vedette import logs
from vedette.alerts.dispatch import Dispatcher
from vedette.alerts.service import Alerting
from vedette.config import load
from vedette.config.changes import compare, in_force
from vedette.config.discovered import Findings, Maker, joined
from vedette.control import ControlError, Snapshot
from vedette.control.path import socket_path
from vedette.crew import Crew, watched
from vedette.isolation.isolated import make_runner
from vedette.orphans import Orphans
from vedette.outbox import Receipt
from vedette.outlets import Outlets
from vedette.ownership import Ownership, identity_of
from vedette.plugins import Registry
from vedette.renewal import Renewal
from vedette.report import FindingsLog, SelfReport, SinkVitals, log_problems
from vedette.scouts import Scouts
from vedette.servicemanager import ServiceManager
from vedette.services import Services
from vedette.sink import Home
from vedette.vitals import Surroundings
from vedette.watch import Watch
from vedette.watchdog import Verdicts, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from vedette.config import Configuration, Instance
    from vedette.config.changes import Changes
    from vedette.lease import Lease
    from vedette.metrics import Batch
    from vedette.runner import Runner, Vitals
    from vedette.secrets import Masker
    from vedette.state import StateStore
    from vedette.watch import Fingerprint
    from vedette.watchdog import Limits

log = logging.getLogger("vedette.agent")

_FIRST_REPORT = 2.0
_ASK_AGAIN = 60.0
"""Seconds between two renewals of all secrets because one was refused."""
_SETTLE = 0.2
"""Seconds in which several changes of what discoveries found become one."""
_NEEDS_RESTART = ("state_directory", "control_socket", "auto_isolate", "report_changes", "mask_card_numbers")
_KILLED_BY_SECOND_SIGNAL = 130
_LAST_WORDS = 2.0
"""Seconds in which notifiers may tell what they have not told yet; the rest is on disk for the next start."""
_HAND_OVER = 1.0
"""Seconds that the other agents of the fleet wait at most for this one's sinks."""


class Agent:
    """The running agent of one configuration.

    Args:
        configuration: what to run; only its valid instances are started.
        state: where commits go; the agent closes it when it stops.
        environ: environment variables, for the strategy's tags.
        on_batch: called with every batch after the outboxes have it (alerts, tables, tests).
        reconfigure: called with each configuration that a reload brings into force (the log's options).
        limits: what the watchdog puts up with; without it there is none, since it may end the process.
        manager: what started the process and is told how it is.
        read: the fingerprint of the configuration's folder before it was read; what changed since is read again.
    """

    def __init__(
        self,
        configuration: Configuration,
        state: StateStore,
        environ: Mapping[str, str] = os.environ,
        on_batch: Callable[[Batch], None] | None = None,
        reconfigure: Callable[[Configuration], None] | None = None,
        limits: Limits | None = None,
        manager: ServiceManager | None = None,
        read: Fingerprint | None = None,
    ) -> None:
        self._files = configuration
        """What the folder says; `_configuration` adds what was found."""
        self._configuration = configuration
        self._state = state
        self._environ = environ
        self._on_batch = on_batch
        self._reconfigure = reconfigure
        self._manager = manager or ServiceManager()
        secrets = sorted(configuration.secret_files.items())
        self._read = None if read is None else (*read, *(seen for _, seen in secrets))
        self._started = time.time()
        self._surroundings = self._make_surroundings()
        self._outlets = Outlets(configuration.sinks, self._make_home())
        self.dispatcher = self._make_dispatcher()
        """Tells people of alerts."""
        self._report = self._make_report()
        self._verdicts = Verdicts(state, configuration.masker, enabled=configuration.agent.auto_isolate)
        self._verdicts.read_last_words(configuration.instances)
        self._crew = Crew(configuration.instances, self._surroundings, self._runner)
        self._ownership = Ownership(lambda: self._crew, state, self._deliver, configuration.masker)
        self._watchdog = None
        if limits is not None:
            self._watchdog = Watchdog(lambda: self._crew, self._verdicts, configuration.masker, state.directory, limits)
        self._alerting = Alerting(state, self._save, self._known, self.dispatcher)
        self._outlets.catalogue(configuration.instances)
        self._found = asyncio.Event()
        self._scouts = Scouts(configuration.discoveries, self._found.set, configuration.masker)
        self._maker = Maker(Registry())
        self._findings = Findings()
        self._findings_log = FindingsLog()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._renewal = Renewal(lambda: self._configuration.vault, self._renew, self.reload)
        self._reloads = 0
        self._asked_again = -_ASK_AGAIN
        self._left = 0
        self._stopping = asyncio.Event()
        self._services = Services(self, socket_path(configuration.agent, environ, state.directory))

    def _runner(self, instance: Instance, surroundings: Surroundings, lease: Lease | None) -> Runner:
        return make_runner(instance, surroundings, self._verdicts.reason(instance), lease)

    def snapshot(self) -> Snapshot:
        """A picture of the agent as it is now."""
        return Snapshot(
            time=time.time(),
            started=self._started,
            instances=tuple(map(self._vitals, self._crew)),
            sinks=tuple(self._sinks),
            problems=self._configuration.problems,
            discoveries=tuple(self._scouts.vitals(self._findings.made, self._findings.wrong)),
            directory=str(self._configuration.directory),
            host=self._surroundings.host,
            state_errors=self._state.errors,
            fleet=self._ownership.vitals,
            notifiers=tuple(self.dispatcher.vitals),
            alerts=self._alerting.vitals,
        )

    @property
    def _sinks(self) -> list[SinkVitals]:
        """Where each sink stands; a failure's text may quote what was sent."""
        mask = self._configuration.masker
        return [replace(one, trouble=mask(one.trouble)) for one in self._outlets.vitals]

    @property
    def masker(self) -> Masker:
        """See `Operations`."""
        return self._configuration.masker

    @property
    def alerting(self) -> Alerting:
        """See `Operations`."""
        return self._alerting

    def _known(self, instance: str) -> Vitals | None:
        runner = self._crew.get(instance)
        return runner.vitals if runner is not None else None

    def _vitals(self, runner: Runner) -> Vitals:
        if runner.stands_by:
            return replace(runner.vitals, message=self._ownership.whereabouts(runner.instance.id))
        return replace(runner.vitals)

    def run_now(self, instance: str) -> None:
        """See `Operations`."""
        runner = self._one(instance)
        if why := self._ownership.whereabouts(instance) if runner.stands_by else runner.run_now():
            raise ControlError(f"{instance} cannot run now: {why}")

    def mute(self, instance: str, until: float) -> None:
        """See `Operations`."""
        self._one(instance).vitals.muted_until = until

    def _one(self, instance: str) -> Runner:
        runner = self._crew.get(instance)
        if runner is None:
            raise ControlError(f"no instance is called '{instance}'")
        return runner

    def stop(self) -> None:
        """Ask the agent to stop; `run` returns soon after."""
        self._stopping.set()

    async def run(self, *, once: bool = False, duration: float | None = None) -> None:
        """Run until `stop`, a signal or `duration` seconds; with `once`, run each instance one time.

        Returns within `stop_timeout` of being asked, give or take a second; a run that cannot be ended is left
        behind, so the process should not wait for threads and tasks when it exits.
        """
        loop = asyncio.get_running_loop()
        signals = _handle_signals(loop, self.stop, self._reload_soon)
        self._outlets.start()
        self.dispatcher.start()
        if self._watchdog is not None:
            self._watchdog.start()
        _freeze()
        try:
            if once:
                _warn_of_left_out(self._crew.owned)
                await self._crew.run_each_once(self._stopping)
            else:
                self._start()
                await self._services.start(self._configuration.agent.http, len(self._crew))
                self._manager.ready()
                await _until(self._stopping, duration)
            await self._shut_down()
        finally:
            if self._watchdog is not None:
                self._watchdog.stop()
            for number in signals:
                loop.remove_signal_handler(number)
            self._manager.close()
            gc.unfreeze()

    def _start(self) -> None:
        self._alerting.configure(self._configuration.rulebook)
        self._tasks.add(watched(self._alerting.run(), "vedette/alerts"))
        self._crew.start()
        self._ownership.join(self._configuration.fleet, self._identity)
        self._scouts.start()
        self._tasks.add(watched(self._follow(), "vedette/discovery"))
        self._tasks.add(watched(self._report_regularly(), "vedette/agent"))
        self._tasks.add(watched(self._manager.attend(self.snapshot, lambda: self._crew), "vedette/systemd"))
        if os.getpid() == 1:
            self._tasks.add(watched(Orphans().run(), "vedette/orphans"))
        if self._configuration.agent.reload.watch:
            self._tasks.add(watched(Watch(self._sources, self.reload, self._read).run(), "vedette/reload"))
            self._tasks.add(watched(self._renewal.run(), "vedette/secrets"))
        more = f", {number} discoveries" if (number := len(self._configuration.discoveries)) else ""
        log.info("%d instances, %d sinks%s", len(self._crew), len(self._outlets.vitals), more)

    @property
    def _identity(self) -> str:
        return identity_of(self._configuration, self._surroundings.host)

    # Batches

    async def _report_regularly(self) -> None:
        await asyncio.sleep(min(_FIRST_REPORT, self._configuration.agent.report_interval))
        while True:
            self._report_now()
            await asyncio.sleep(self._configuration.agent.report_interval)

    def _report_now(self) -> None:
        self._deliver(
            self._report.batch(
                (runner.vitals for runner in self._crew),
                self._sinks,
                self._state.errors,
                self._files.problems,
                self._reloads,
                self._scouts.vitals(self._findings.made, self._findings.wrong),
                self._ownership.vitals,
                self.dispatcher.vitals,
                self._alerting.vitals,
            )
        )

    def _deliver(self, batch: Batch) -> None:
        if batch.commits:
            self._outlets.put(batch, self._receipt(batch), all_settle=batch.lease is not None)
        else:
            self._outlets.put(batch)
        self._services.consume(batch)
        self._alerting.consume(batch)
        if self._on_batch is not None:
            self._on_batch(batch)

    def _receipt(self, batch: Batch) -> Receipt:
        """Commits are visible at once, and on disk as soon as every durable sink has what they stand for.

        Those of an owned instance wait for all sinks: what is fenced in a queue is for the next owner to collect.
        """
        if batch.lease is not None:
            return Receipt(len(self._outlets), self._ownership.adopt(batch, batch.lease))
        return Receipt(self._outlets.durable, self._state.adopt(batch.instance, batch.commits))

    async def _save(self, instance: str, key: str, value: Any) -> bool:
        runner = self._crew.get(instance)
        if runner is not None and runner.instance.owned:
            return await self._ownership.save(instance, key, value)
        return await self._state.save(instance, key, value)

    async def _settled(self, instance: str) -> None:
        await self._state.settled(instance)
        await self._written(instance)

    async def _written(self, instance: str) -> None:
        await self._ownership.written(instance)

    async def _room(self) -> None:
        await self._outlets.room()

    def _make_surroundings(self) -> Surroundings:
        options, state = self._configuration.agent, self._state
        return Surroundings(
            self._deliver,
            self._room,
            agent_tags(options.tags, self._environ),
            options.hostname or socket.gethostname(),
            self._configuration.masker,
            state.own,
            self._save,
            self._settled,
            self._written,
            changes=options.report_changes,
        )

    def _make_home(self) -> Home:
        around = self._surroundings
        return Home(self._state.directory, around.host, around.tags, self._renew_soon)

    def _make_dispatcher(self) -> Dispatcher:
        options = self._configuration.agent
        folder, masker = self._state.directory / "notify", self._configuration.masker
        return Dispatcher(self._configuration.notifiers, options.routes, folder, masker, self._surroundings.host)

    def _make_report(self) -> SelfReport:
        around = self._surroundings
        return SelfReport(around.tags, around.host, self._configuration.agent.report_interval, around.masker)

    # Reloading

    async def reload(self, *, check: bool = False) -> Changes:
        """Read the configuration again and apply what changed; with `check` only say what would change.

        What did not change keeps task, phase, connection, counters and watermarks.
        """
        async with self._reloading:
            if check:
                return await self._read_again(check=True)
            with self._manager.reloading():
                return await self._read_again()

    async def _read_again(self, *, check: bool = False) -> Changes:
        before = self._configuration
        files = in_force(self._files, await asyncio.to_thread(self._load))
        findings = await asyncio.to_thread(self._maker.make, files, self._scouts.found)
        after = joined(files, findings)
        changes = replace(compare(before, after), problems=files.problems)  # pods' are not the folder's
        if not check:
            self._files, self._findings = files, findings
            await self._apply(before, after, changes)
        return changes

    async def _follow(self) -> None:
        """Start and end instances as discoveries find things and miss them."""
        while True:
            await self._found.wait()
            await asyncio.sleep(_SETTLE)
            async with self._reloading:
                self._found.clear()
                try:
                    await self._take_over()
                except Exception as error:  # else nothing that comes or goes would be noticed any more
                    log.critical("what was found could not be taken over: a fault in vedette itself", exc_info=error)

    async def _take_over(self) -> None:
        """Have the instances of what is there now."""
        findings = await asyncio.to_thread(self._maker.make, self._files, self._scouts.found)
        after = joined(self._files, findings)
        changes = compare(self._configuration, after)
        self._findings_log.say(self._findings.problems, findings.problems)
        self._configuration, self._findings = after, findings
        await self._change_instances(after, changes)
        if changes:
            log.info("found: %s", changes)

    def _load(self) -> Configuration:
        current = self._files
        return load(current.directory, Registry(), environ=self._environ, masker=current.masker, vault=current.vault)

    async def _renew(self) -> bool:
        """Ask again for the secrets whose time has come; returns whether something is different."""
        async with self._reloading:
            return await asyncio.to_thread(self._configuration.vault.refresh)

    def _renew_soon(self) -> None:
        """A secret is refused that was good: read them all again, at most once a minute."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_again >= _ASK_AGAIN:
            self._asked_again = now
            self._configuration.vault.expire()
            self._reload_soon()

    async def _apply(self, before: Configuration, after: Configuration, changes: Changes) -> None:
        self._configuration = after
        self._reloads += 1
        log_problems(before.problems, after.problems)
        for name in _NEEDS_RESTART:
            if getattr(before.agent, name) != getattr(after.agent, name):
                log.warning("agent.yaml: %s takes effect at the next start", name)
        if self._reconfigure is not None and before.agent.log != after.agent.log:
            self._reconfigure(after)
        if before.sinks != after.sinks:
            await self._outlets.swap(after.sinks, after.agent.stop_timeout / 2)
        if (before.notifiers, before.agent.routes) != (after.notifiers, after.agent.routes):
            await self.dispatcher.swap(after.notifiers, after.agent.routes, after.agent.stop_timeout / 2)
        if before.discoveries != after.discoveries:
            await self._scouts.swap(after.discoveries)
            self._found.set()
        identity = self._identity
        for batch in self._relabelled():
            self._deliver(batch)
        if before.fleet != after.fleet or identity != self._identity:
            await self._ownership.swap(after.fleet, self._identity)
        await self._change_instances(after, changes)
        self._alerting.configure(after.rulebook)
        await self.dispatcher.retire(after.agent.stop_timeout / 2)
        await self._services.have_page(after.agent.http, len(after.instances))
        self._renewal.look()
        if not self._stopping.is_set():
            self._scouts.start()
        if changes:
            log.info("configuration reloaded: %s", changes)

    async def _change_instances(self, after: Configuration, changes: Changes) -> None:
        """Have the instances of this configuration; what did not change goes on."""
        afresh = {change.name: change for change in changes.changed}
        async with self._ownership.paused():
            await self._ownership.release(after.instances)
            for batch in await self._crew.swap(after.instances, afresh):
                if batch.instance not in afresh or not afresh[batch.instance].same_series:
                    self._deliver(batch)
        self._ownership.want()
        for name in changes.removed:
            self._state.forget(name)
            logs.forget(f"vedette.{name}", f"vedette.check.{name.replace('/', '.', 1)}")
        self._outlets.catalogue(after.instances)
        if not self._stopping.is_set():
            self._crew.start()
        if changes:
            self._freeze_what_came(len(changes.changed) + len(changes.removed))

    def _freeze_what_came(self, left: int) -> None:
        """Walk everything only once as many instances have left as there are: a walk holds the loop for a while."""
        self._left += left
        if self._left >= len(self._configuration.instances):
            self._left = 0
            gc.unfreeze()
        _freeze()

    def _relabelled(self) -> list[Batch]:
        """Take over new tags and a new host name; returns the batches that end the old series."""
        around = self._make_surroundings()
        if (around.tags, around.host) == (self._surroundings.tags, self._surroundings.host):
            return []
        self._surroundings = around
        self._outlets.move(self._make_home())
        self._report = self._make_report()
        return self._crew.relabel(around)

    def _sources(self) -> tuple[Path, frozenset[Path], float]:
        current = self._configuration
        return current.directory, frozenset(current.secret_files), current.agent.reload.settle

    def _reload_soon(self) -> None:
        self._tasks.add(task := watched(self._reload_logged(), "vedette/reload now"))
        task.add_done_callback(self._tasks.discard)

    async def _reload_logged(self) -> None:
        if not await self.reload():
            log.info("configuration read again: nothing to change")

    # Stopping

    async def _shut_down(self) -> None:
        """Stop runs, close checks, flush sinks, write state: each within its share of `stop_timeout`."""
        self._manager.stopping()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._configuration.agent.stop_timeout
        with suppress(TimeoutError):  # a reload under way ends first: a sink may still be sending
            async with asyncio.timeout(self._configuration.agent.stop_timeout / 2):
                await self._reloading.acquire()
        await self._services.stop()
        for task in self._tasks:
            task.cancel()
        await self._ownership.close()
        await self._scouts.close()
        await self._crew.halt_all(deadline - loop.time())
        self._report_now()
        await self._alerting.close()
        await self._crew.close_all()
        telling = asyncio.ensure_future(self.dispatcher.stop(_LAST_WORDS))
        flushing = asyncio.ensure_future(self._outlets.close(max(0.5, deadline - loop.time())))
        await asyncio.wait({flushing}, timeout=_HAND_OVER)  # what it settles goes with what is handed over
        await self._ownership.leave()
        await flushing
        await telling
        await self._state.close()
        self._crew.warn_of_stuck()


def _freeze() -> None:
    """Take what lives long out of the collector's sight: thousands of objects that every collection would walk.

    With 2,000 instances the p99 lateness went from 70 ms to 1 ms.
    """
    gc.collect()
    gc.freeze()


def _warn_of_left_out(owned: Mapping[str, str]) -> None:
    if owned:
        text = "not run, since only one agent of the fleet may, and with --once this one joins none: %s"
        log.warning(text, ", ".join(owned))


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


async def _until(event: asyncio.Event, duration: float | None) -> None:
    if duration is None:
        await event.wait()
        return
    waiter = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiter}, timeout=duration)
    waiter.cancel()


def _handle_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None], reload: Callable[[], None]) -> list[int]:
    """The first SIGTERM or SIGINT stops with a flush, the second ends the process at once; SIGHUP reloads."""
    seen = 0

    def on_signal(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            os._exit(_KILLED_BY_SECOND_SIGNAL)
        log.info("%s: stopping", name)
        stop()

    actions: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: partial(on_signal, "SIGTERM"),
        signal.SIGINT: partial(on_signal, "SIGINT"),
        signal.SIGHUP: reload,
    }
    handled: list[int] = []
    for number, action in actions.items():
        try:
            loop.add_signal_handler(number, action)
        except (RuntimeError, ValueError):  # not in the main thread: whoever embeds the agent handles signals
            continue
        handled.append(number)
    return handled
