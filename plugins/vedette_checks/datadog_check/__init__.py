"""The datadog_check check: a check written for `datadog-checks-base`, as it is, in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vedette import Check, CheckError, Kind, Metric, Status, hookimpl
from vedette_checks.datadog_check.config import DatadogCheckConfig, revealed
from vedette_checks.datadog_check.ledger import Ledger
from vedette_checks.datadog_check.process import Done, Process, Ready, Refused, exhausted

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["DatadogCheck", "DatadogCheckConfig", "register_checks"]

_STATUS = "datadog.agent.check_status"
_CACHE = "cache"
_MOST_CACHED = 1 << 20
"""Characters of the check's persistent cache that are kept over a restart."""
_KEPT = ("PATH", "HOME", "USER", "LANG", "TZ", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LONGEST_PAUSE = 300.0
_MOST_RUNNING = 100
"""Processes that a check may leave running."""


class DatadogCheck(Check[DatadogCheckConfig]):
    """Runs a Python check written for the Datadog Agent, of a package or of checks.d, as it is."""

    name = "datadog_check"
    metrics = (
        Metric("datadog_check.submitted", Kind.GAUGE, help="Metrics, service checks and events of the last run."),
        Metric(
            "datadog_check.dropped",
            Kind.GAUGE,
            help="What of them was not passed on, by `reason`: `series`, `platform_event`, `waiting`, `no_name`, "
            "`log`, `event`, `entry`, `status`, `observation`.",
            tags=("reason",),
        ),
    )
    statuses = (_STATUS,)
    open_names = True
    keeps_state = True

    def __init__(self, config: DatadogCheckConfig, state: Any = None) -> None:
        super().__init__(config, state)
        cache = self.state.get(_CACHE)
        self._ledger = Ledger(
            self.log, config.service_tags, config.max_series, cache if isinstance(cache, dict) else {}
        )
        self._process: Process | None = None
        self._refusal: Refused | None = None
        self._refusals = 0
        self._not_before = 0.0
        self._told: set[str] = set()

    @classmethod
    def lint(cls, config: DatadogCheckConfig) -> Iterable[str]:
        """What does nothing here, or twice."""
        if config.isolate:
            yield "isolate: such a check has a process of its own anyway; isolate costs a second one"
        ways = (config.instance, config.init_config)
        if any("min_collection_interval" in one for one in ways) and "interval" not in config.model_fields_set:
            yield "min_collection_interval changes nothing here: interval does"

    async def run(self, emit: Emit) -> None:
        """Have the check run once, and emit what it submits.

        Raises:
            CheckError: the check cannot be made, failed, or ended its process.
        """
        tags, good, lost = (f"check:{self.config.called}",), False, 0
        self._ledger.begin(emit)
        try:
            process = await self._alive(emit)
            try:
                done = await process.run(self._ledger.take)
                good, lost = True, done.lost
            finally:  # however the run ended, what it submitted before counts, as in the Datadog Agent
                self._ledger.end()
                self._report(emit, lost)
        except CheckError as error:
            emit.status(_STATUS, Status.CRITICAL, error.message, tags)
            raise
        except asyncio.CancelledError:
            emit.status(_STATUS, Status.CRITICAL, "the check did not end in time", tags)
            raise
        finally:
            if not good:
                await self._end()
        finding = self._finding(done)
        if done.running > _MOST_RUNNING:
            await self._end()
        if finding is not None:
            emit.status(_STATUS, Status.CRITICAL, finding.message, tags)
            raise finding
        emit.status(_STATUS, Status.WARNING if done.warnings else Status.OK, "; ".join(done.warnings), tags)

    def _finding(self, done: Done) -> CheckError | None:
        """What was wrong with a run that ended by itself."""
        if done.running > _MOST_RUNNING:
            hint = "they were ended, and the check's own process with them: it should wait for what it starts"
            return CheckError(f"the check left {done.running} processes running", hint=hint)
        if done.error == "MemoryError" and self.config.memory_limit is not None:
            return exhausted()
        return CheckError(done.error) if done.error else None

    async def close(self) -> None:
        """Let the check say goodbye, and end its process."""
        await self._end(gently=True)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Is the base there, is the check found, and does it take its options?"""
        from vedette_checks.datadog_check.doctor import diagnose

        await diagnose(self.config, diagnosis, self.examined)

    async def examined(self) -> Ready:
        """Make the check in a process and have its own models look at its options; nothing is run.

        Raises:
            CheckError: why it cannot be made.
        """
        process = await self._started()
        try:
            return await process.make(self._hello(socket.gethostname(), only_look=True))
        finally:
            await process.end()

    async def _alive(self, emit: Emit) -> Process:
        if self._process is not None and self._process.alive:
            return self._process
        await self._end()
        if self._refusal is not None and time.monotonic() < self._not_before:
            raise CheckError(self._refusal.message, hint=self._refusal.hint)
        self._process = await self._started()
        try:
            ready = await self._process.make(self._hello(emit.batch().host or socket.gethostname()))
        except Refused as refusal:  # what stands in a file or is not installed seldom changes by itself
            pause = self.config.interval * (2.0**self._refusals - 0.5)
            self._refusal, self._not_before = refusal, time.monotonic() + min(pause, _LONGEST_PAUSE)
            self._refusals = min(self._refusals + 1, 10)
            raise
        self._refusal, self._refusals = None, 0
        self.log.debug("%s with datadog-checks-base %s and Python %s", ready.check, ready.base, ready.python)
        return self._process

    async def _started(self) -> Process:
        config = self.config
        return await Process.start(config.python, self._environment(), self.log, config.memory_limit)

    async def _end(self, *, gently: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end(gently=gently)

    def _environment(self) -> dict[str, str]:
        names = (*_KEPT, *_PROXIES, *map(str.lower, _PROXIES))
        mine = {name: os.environ[name] for name in names if name in os.environ}
        return {**mine, **{name: value.reveal() for name, value in self.config.environment.items()}}

    def _hello(self, hostname: str, *, only_look: bool = False) -> dict[str, Any]:
        config = self.config
        options = {"init_config": revealed(config.init_config), "instance": revealed(config.instance)}
        digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return {
            **json.loads(json.dumps(options, default=str)),  # YAML has dates, which JSON has not
            "module": (config.module or "").partition(":")[0],
            "path": os.fspath(config.path) if config.path is not None else "",
            "check_class": config.cls,
            "name": config.called,
            "check_id": f"{config.called}:{digest}",
            "hostname": hostname,
            "log_level": logging.getLevelName(max(logging.DEBUG, self.log.getEffectiveLevel())),
            "memory_limit": config.memory_limit,
            "cache": self._ledger.cache,
            "only_look": only_look,
        }

    def _report(self, emit: Emit, lost: int) -> None:
        """Say how much there was, and keep the check's cache."""
        ledger = self._ledger
        emit.gauge("datadog_check.submitted", ledger.submitted)
        dropped = {**ledger.dropped, **({"waiting": lost} if lost else {})}
        for reason, number in dropped.items():
            emit.gauge("datadog_check.dropped", number, (f"reason:{reason}",))
            if reason not in self._told:
                self._told.add(reason)
                self.log.warning("%s", _REASONS[reason])
        if ledger.cache != self.state.get(_CACHE, {}):
            size = sum(len(key) + len(value) for key, value in ledger.cache.items())
            if size <= _MOST_CACHED:
                emit.commit(_CACHE, dict(ledger.cache))
            elif "cache" not in self._told:
                self._told.add("cache")
                self.log.warning(
                    "the check's persistent cache is larger than a megabyte: it does not outlive the agent"
                )


_REASONS = {
    "series": "the check reports more series than max_series: the rest is cut",
    "platform_event": "the check submits events of Datadog's event platform, such as database monitoring's samples of "
    "queries: they are dropped, since only Datadog's own intake reads them",
    "waiting": "the check submits more between two runs than is kept",
    "no_name": "the check submits metrics without a name: they are dropped",
    "log": "the check logs more than 200 lines a run: the rest is cut",
    "event": "the check submits more than 10,000 events a run: the rest is cut",
    "entry": "the check collects more than 50,000 logs a run: the rest is cut",
    "status": "the check submits more than 10,000 service checks a run: the rest is cut",
    "observation": "the check submits more than 200,000 observations of histograms a run: the rest is cut",
}


@hookimpl
def register_checks(register: Callable[[type[DatadogCheck]], None]) -> None:
    """Offer the datadog_check check."""
    register(DatadogCheck)
