"""Processor time, load and uptime.

Percentages are shares of the time between two readings of psutil.cpu_times(); the names and the sums of fields
are those of the Datadog agent's cpu, load and uptime checks and of its system_core integration.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from vedette import Emit, Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vedette_checks.host.config import HostConfig

_FIELDS = {
    "user": "programs",
    "nice": "programs of lowered priority",
    "system": "the kernel",
    "idle": "nothing",
    "iowait": "nothing, while a disk was awaited",
    "irq": "hardware interrupts",
    "softirq": "software interrupts",
    "steal": "other guests of the same hypervisor",
    "guest": "virtual machines (part of user)",
    "guest_nice": "virtual machines of lowered priority (part of nice)",
    "interrupt": "hardware interrupts (Windows)",
    "dpc": "deferred procedure calls (Windows)",
}
_PARTS_OF_OTHERS = frozenset({"guest", "guest_nice"})
"""Fields that Linux has counted in `user` and `nice` already (proc(5), /proc/stat)."""

CPU_METRICS = (
    Metric("system.cpu.user", Kind.GAUGE, "percent", "Time spent in programs, niced ones among them."),
    Metric("system.cpu.system", Kind.GAUGE, "percent", "Time spent in the kernel, interrupts among it."),
    Metric("system.cpu.interrupt", Kind.GAUGE, "percent", "Time spent on hardware and software interrupts."),
    Metric("system.cpu.iowait", Kind.GAUGE, "percent", "Time idle while a disk was awaited (Linux)."),
    Metric("system.cpu.idle", Kind.GAUGE, "percent", "Time idle."),
    Metric("system.cpu.stolen", Kind.GAUGE, "percent", "Time that the hypervisor gave to others (Linux)."),
    Metric("system.cpu.guest", Kind.GAUGE, "percent", "Time spent on virtual machines, part of user (Linux)."),
    Metric("system.cpu.num_cores", Kind.GAUGE, "core", "Logical processors that are online."),
    Metric("system.cpu.context_switches", Kind.COUNTER, "event", "Context switches since boot."),
)
CORE_METRICS = (
    Metric("system.core.count", Kind.GAUGE, "core", "Logical processors that reported times."),
    *(
        Metric(f"system.core.{field}", Kind.GAUGE, "percent", f"Time of one core spent on {what}.", ("core",))
        for field, what in _FIELDS.items()
    ),
    *(
        Metric(f"system.core.{field}.total", Kind.GAUGE, "percent", f"Time of all cores spent on {what}.")
        for field, what in _FIELDS.items()
    ),
)
FREQUENCY_METRICS = (Metric("system.core.frequency", Kind.GAUGE, "megahertz", "Clock of one core.", ("core",)),)
LOAD_METRICS = tuple(
    Metric(f"system.load.{norm}{minutes}", Kind.GAUGE, "", f"Load averaged over {minutes} min{per}.")
    for norm, per in (("", ""), ("norm.", ", divided by the number of cores"))
    for minutes in (1, 5, 15)
)
UPTIME_METRICS = (Metric("system.uptime", Kind.GAUGE, "second", "Time since the machine started."),)


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float] | None:
    """Percent of the time between two readings that each field took, or None if no time passed.

    A field that fell counts as 0: Linux warns that `iowait` and `idle` may (proc(5)).

    Args:
        before: seconds by field since boot, as of psutil.cpu_times().
        after: the same, later.
    """
    spent = {field: max(0.0, value - before.get(field, value)) for field, value in after.items()}
    total = sum(seconds for field, seconds in spent.items() if field not in _PARTS_OF_OTHERS)
    if total <= 0:
        return None
    return {field: 100.0 * seconds / total for field, seconds in spent.items()}


class Cpu:
    """`system.cpu.*`, and by option `system.core.*`.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._whole = config.cpu
        self._per_core = config.per_core
        self._last: dict[str, float] = {}
        self._last_cores: list[dict[str, float]] = []

    def begin(self) -> None:
        """Take the reading that the first run compares with.

        Raises:
            OSError: /proc/stat cannot be read.
        """
        self._last = psutil.cpu_times()._asdict()
        if self._per_core:
            self._last_cores = _cores()

    def collect(self, emit: Emit) -> None:
        """Compare with the last reading.

        Raises:
            OSError: /proc/stat cannot be read.
        """
        before, self._last = self._last, psutil.cpu_times()._asdict()
        percent = shares(before, self._last) if before else None
        if self._whole:
            self._emit_whole(emit, percent)
        if self._per_core:
            self._emit_cores(emit, percent)

    def _emit_whole(self, emit: Emit, percent: Mapping[str, float] | None) -> None:
        emit.gauge("system.cpu.num_cores", core_count())
        emit.counter("system.cpu.context_switches", psutil.cpu_stats().ctx_switches)
        if percent is None:
            return
        for name, fields in _SUMS.items():
            if fields[0] in percent:
                emit.gauge(name, sum(percent.get(field, 0.0) for field in fields))

    def _emit_cores(self, emit: Emit, percent: Mapping[str, float] | None) -> None:
        before, self._last_cores = self._last_cores, _cores()
        emit.gauge("system.core.count", len(self._last_cores))
        for field, value in (percent or {}).items():
            emit.gauge(f"system.core.{field}.total", value)
        if len(before) != len(self._last_cores):
            return  # a core came or went: psutil numbers them by position, so old and new do not match
        for number, (old, new) in enumerate(zip(before, self._last_cores, strict=True)):
            tags = (f"core:{number}",)
            for field, value in (shares(old, new) or {}).items():
                emit.gauge(f"system.core.{field}", value, tags)


_SUMS: Mapping[str, Sequence[str]] = {
    "system.cpu.user": ("user", "nice"),
    "system.cpu.system": ("system", "irq", "softirq"),
    "system.cpu.interrupt": ("irq", "softirq") if sys.platform == "linux" else ("interrupt",),
    "system.cpu.iowait": ("iowait",),
    "system.cpu.idle": ("idle",),
    "system.cpu.stolen": ("steal",),
    "system.cpu.guest": ("guest",),
}


def _cores() -> list[dict[str, float]]:
    return [times._asdict() for times in psutil.cpu_times(percpu=True)]


def core_count() -> int:
    """Logical processors online; 1 where the system does not tell."""
    return psutil.cpu_count() or 1


def collect_frequency(emit: Emit) -> None:
    """`system.core.frequency`; virtual machines often do not know it.

    Raises:
        NotImplementedError: the system does not tell it.
    """
    for number, clock in enumerate(psutil.cpu_freq(percpu=True)):
        if clock.current > 0:
            emit.gauge("system.core.frequency", clock.current, (f"core:{number}",))


class Load:
    """`system.load.*`.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._file = Path(config.procfs_path, "loadavg")

    def collect(self, emit: Emit) -> None:
        """Read the load averages.

        Raises:
            OSError: the system does not tell them.
            ValueError: /proc/loadavg has an unknown form.
        """
        if sys.platform == "linux":  # os.getloadavg() knows no procfs_path
            averages = tuple(map(float, self._file.read_text().split()[:3]))
        else:
            averages = os.getloadavg()
        cores = core_count()
        for minutes, average in zip((1, 5, 15), averages, strict=True):
            emit.gauge(f"system.load.{minutes}", average)
            emit.gauge(f"system.load.norm.{minutes}", average / cores)


class Uptime:
    """`system.uptime`.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._file = Path(config.procfs_path, "uptime")

    def collect(self, emit: Emit) -> None:
        """Read the time since the start.

        Raises:
            OSError: /proc/uptime cannot be read.
            ValueError: it has an unknown form.
        """
        if sys.platform == "linux":  # the difference from psutil.boot_time() would follow a clock that is set
            seconds = float(self._file.read_text().split()[0])
        else:
            seconds = time.time() - psutil.boot_time()
        emit.gauge("system.uptime", seconds)
