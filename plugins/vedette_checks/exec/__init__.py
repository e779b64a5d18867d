"""The exec check: other people's programs as they are, such as the Monitoring Plugins of Nagios."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from vedette import Check, CheckError, Kind, Metric, Status, hookimpl
from vedette.kit import cut_text
from vedette_checks.exec.config import ExecConfig
from vedette_checks.exec.formats import Printed, Samples, metric_name, read
from vedette_checks.exec.perfdata import Perf, Reading, read_output
from vedette_checks.exec.program import Ended, run_program

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["Exec", "ExecConfig", "register_checks"]

_R = TypeVar("_R")
_STATUS = "exec.status"
_KEPT = ("PATH", "HOME", "USER", "LANG", "TZ")
_STATES = (Status.OK, Status.WARNING, Status.CRITICAL)
_SLOW_TO_READ = 50_000
"""Bytes from which on the output is read in a thread."""
_AT_ONCE = 500
"""Samples that are emitted before others have the loop."""
_LONGEST = 1_000


class Exec(Check[ExecConfig]):
    """Runs a program and reports what it prints: Monitoring Plugins (Nagios), JSON, Prometheus text, InfluxDB lines."""

    name = "exec"
    metrics = (
        Metric("exec.duration", Kind.GAUGE, unit="second", help="How long the program ran."),
        Metric("exec.exit_status", Kind.GAUGE, help="Its exit status; minus the signal that ended it."),
        Metric("exec.cut", Kind.GAUGE, unit="sample", help="What it reported beyond `max_samples`; absent if nothing."),
    )
    statuses = (_STATUS,)
    open_names = True

    async def open(self) -> None:
        """Nothing was cut so far, and nothing left running."""
        self._told = self._told_left = False

    async def run(self, emit: Emit) -> None:
        """Run the program once.

        Raises:
            CheckError: it could not be started, was ended by a signal, printed too much or something else.
        """
        config, loop = self.config, asyncio.get_running_loop()
        started = loop.time()
        try:
            ended = await run_program(config.command, self._environment(), config.directory, config.max_output)
        except CheckError as error:
            emit.status(_STATUS, Status.UNKNOWN, error.message)
            raise
        except asyncio.CancelledError:
            emit.status(_STATUS, Status.CRITICAL, "the program did not end in time")
            raise
        emit.gauge("exec.duration", loop.time() - started)
        emit.gauge("exec.exit_status", ended.status)
        if ended.left and not self._told_left:
            self._told_left = True
            self.log.warning("the program left processes running, which were ended: %s in this run", ended.left)
        try:
            if config.format == "nagios":
                await self._report_plugin(emit, ended)
            else:
                await self._report_samples(emit, ended)
        except asyncio.CancelledError:
            emit.status(_STATUS, Status.CRITICAL, "there was no time to read all that the program printed")
            raise

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Is the program there, and may it be run?"""
        from vedette_checks.exec.doctor import diagnose

        diagnose(self.config, diagnosis, self._environment().get("PATH", os.defpath))

    def _environment(self) -> dict[str, str]:
        mine = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {**mine, **{name: value.reveal() for name, value in self.config.environment.items()}}

    async def _report_plugin(self, emit: Emit, ended: Ended) -> None:
        reading = await self._read(ended, self._read_plugin)
        for number, item in enumerate(reading.items, 1):
            self._emit_perf(emit, item)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._tell(emit, reading.cut)
        if reading.strange:
            self.log.warning("perfdata that is none was left out: %s", cut_text(" ".join(reading.strange), 200))
        status = _STATES[ended.status] if 0 <= ended.status < len(_STATES) else Status.UNKNOWN
        emit.status(_STATUS, status, _message(reading, ended))
        if ended.status < 0:
            raise CheckError(f"the program was ended by {ended.signal_name}")

    async def _read(self, ended: Ended, reader: Callable[[bytes, Event], _R]) -> _R:
        """What a reader makes of the output: in a thread where that takes long, which stops with the run."""
        stop = Event()
        try:
            if len(ended.output) <= _SLOW_TO_READ:
                return reader(ended.output, stop)
            return await asyncio.to_thread(reader, ended.output, stop)
        finally:
            stop.set()

    def _read_plugin(self, output: bytes, _: Event) -> Reading:
        return read_output(output.decode("utf-8", "replace"), self.config.max_samples)

    def _read_samples(self, output: bytes, stop: Event) -> Samples:
        return read(self.config.format, output, self.config.max_samples, stop)

    def _tell(self, emit: Emit, cut: int) -> None:
        """Count what was cut, and say so when it begins."""
        if cut:
            emit.gauge("exec.cut", cut)
            if not self._told:
                self.log.warning("the program reports %s samples beyond max_samples: they are cut", f"{cut:,}")
        self._told = cut > 0

    def _emit_perf(self, emit: Emit, item: Perf) -> None:
        name = metric_name(item.label)
        tags = () if name == item.label else (f"perfdata:{item.label}",)
        name = self.config.prefix + name
        (emit.counter if item.unit == "counter" else emit.gauge)(name, item.value, tags)
        if self.config.thresholds:
            for which, value in item.thresholds.items():
                emit.gauge(f"{name}.{which}", value, tags)

    async def _report_samples(self, emit: Emit, ended: Ended) -> None:
        if ended.status != 0:
            how = f"was ended by {ended.signal_name}" if ended.status < 0 else f"ended with status {ended.status}"
            said = ended.errors.decode("utf-8", "replace").strip()
            reason = f"the program {how}{f': {cut_text(said, _LONGEST)}' if said else ''}"
            emit.status(_STATUS, Status.CRITICAL, reason)
            raise CheckError(reason)
        try:
            found = await self._read(ended, self._read_samples)
        except ValueError as error:
            emit.status(_STATUS, Status.UNKNOWN, cut_text(str(error), _LONGEST))
            raise CheckError(cut_text(str(error), _LONGEST), hint="`format` says what the program prints") from error
        for number, one in enumerate(found.items, 1):
            self._emit_printed(emit, one)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._tell(emit, found.cut)
        emit.status(_STATUS, Status.OK)

    def _emit_printed(self, emit: Emit, one: Printed) -> None:
        say: dict[Kind, Callable[..., None]] = {
            Kind.GAUGE: emit.gauge,
            Kind.COUNT: emit.count,
            Kind.COUNTER: emit.counter,
            Kind.RATE: emit.rate,
            Kind.HISTOGRAM: emit.histogram,
            Kind.DISTRIBUTION: emit.distribution,
        }
        say[one.kind](self.config.prefix + one.name, one.value, one.tags, one.time)


def _message(reading: Reading, ended: Ended) -> str:
    """The plugin's first line and its details; where it said nothing, what stands on its standard error."""
    said = "\n".join(filter(None, (reading.text, reading.details)))
    return cut_text(said or ended.errors.decode("utf-8", "replace").strip(), _LONGEST) or "the program printed nothing"


@hookimpl
def register_checks(register: Callable[[type[Exec]], None]) -> None:
    """Offer the exec check."""
    register(Exec)
