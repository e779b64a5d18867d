"""Block devices: what the kernel counted, and how long requests took.

Names and formulas are those of the Datadog agent's io check and disk integration, which follow iostat(1).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil

from vedette import Emit, Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_checks.host.config import HostConfig

_TAGS = ("device", "device_name")
_SECTOR = 512

IO_METRICS = (
    Metric("system.io.r_s", Kind.RATE, "request", "Reads.", _TAGS, per="second"),
    Metric("system.io.w_s", Kind.RATE, "request", "Writes.", _TAGS, per="second"),
    Metric("system.io.rkb_s", Kind.RATE, "kibibyte", "Read.", _TAGS, per="second"),
    Metric("system.io.wkb_s", Kind.RATE, "kibibyte", "Written.", _TAGS, per="second"),
    Metric("system.io.rrqm_s", Kind.RATE, "request", "Reads merged with others (Linux).", _TAGS, per="second"),
    Metric("system.io.wrqm_s", Kind.RATE, "request", "Writes merged with others (Linux).", _TAGS, per="second"),
    Metric("system.io.util", Kind.GAUGE, "percent", "Time with requests in progress (Linux, BSD).", _TAGS),
    Metric("system.io.await", Kind.GAUGE, "millisecond", "Mean time of a request.", _TAGS),
    Metric("system.io.r_await", Kind.GAUGE, "millisecond", "Mean time of a read.", _TAGS),
    Metric("system.io.w_await", Kind.GAUGE, "millisecond", "Mean time of a write.", _TAGS),
    Metric("system.io.avg_rq_sz", Kind.GAUGE, "sector", "Mean size of a request, in 512 bytes.", _TAGS),
    Metric("system.disk.read_time", Kind.COUNTER, "millisecond", "Time that reads took.", _TAGS),
    Metric("system.disk.write_time", Kind.COUNTER, "millisecond", "Time that writes took.", _TAGS),
    Metric("system.disk.read_time_pct", Kind.RATE, "percent", "Time that reads took; over 100 if parallel.", _TAGS),
    Metric("system.disk.write_time_pct", Kind.RATE, "percent", "Time that writes took; over 100 if parallel.", _TAGS),
)


class BlockDevices:
    """`system.io.*` and the times of `system.disk.*`; a device that never worked is left out.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._devices = config.devices.compile()
        self._tags: dict[str, tuple[str, str]] = {}
        self._last: Mapping[str, Any] = {}
        self._last_time = 0.0

    def begin(self) -> None:
        """Take the reading that the first run compares with.

        Raises:
            OSError, NotImplementedError: the system does not tell.
            ValueError: /proc/diskstats has an unknown form.
        """
        self._last, self._last_time = _read(), time.monotonic()

    def collect(self, emit: Emit) -> None:
        """Report the totals, and means over the time since the last reading.

        Raises:
            OSError, NotImplementedError: the system does not tell.
            ValueError: /proc/diskstats has an unknown form.
        """
        last, last_time = self._last, self._last_time
        self.begin()
        elapsed = self._last_time - last_time
        for name, now in self._last.items():
            if not now.read_count and not now.write_count:
                continue
            if not self._devices(name, f"/dev/{name}"):
                continue
            tags = self._tags.setdefault(name, (f"device:{name}", f"device_name:{name}"))
            _emit_totals(emit, now, tags)
            if name in last:
                _emit_means(emit, last[name], now, elapsed, tags)


def _read() -> Mapping[str, Any]:
    # nowrap would keep totals of its own for the whole process; the sinks handle a total that fell
    return psutil.disk_io_counters(perdisk=True, nowrap=False)


def _emit_totals(emit: Emit, now: Any, tags: tuple[str, str]) -> None:
    emit.rate("system.io.r_s", now.read_count, tags)
    emit.rate("system.io.w_s", now.write_count, tags)
    emit.rate("system.io.rkb_s", now.read_bytes / 1024, tags)
    emit.rate("system.io.wkb_s", now.write_bytes / 1024, tags)
    if hasattr(now, "read_merged_count"):
        emit.rate("system.io.rrqm_s", now.read_merged_count, tags)
        emit.rate("system.io.wrqm_s", now.write_merged_count, tags)
    if hasattr(now, "read_time"):
        emit.counter("system.disk.read_time", now.read_time, tags)
        emit.counter("system.disk.write_time", now.write_time, tags)
        # the rate of milliseconds per second is thousandths; a tenth of it is percent
        emit.rate("system.disk.read_time_pct", now.read_time / 10, tags)
        emit.rate("system.disk.write_time_pct", now.write_time / 10, tags)


def _emit_means(emit: Emit, old: Any, now: Any, elapsed: float, tags: tuple[str, str]) -> None:
    if hasattr(now, "busy_time") and elapsed > 0 and now.busy_time >= old.busy_time:
        percent = (now.busy_time - old.busy_time) / elapsed / 10
        emit.gauge("system.io.util", min(100.0, percent), tags)
    reads, writes = now.read_count - old.read_count, now.write_count - old.write_count
    if reads < 0 or writes < 0:
        return  # the device is another one now
    if reads + writes:
        size = now.read_bytes - old.read_bytes + now.write_bytes - old.write_bytes
        emit.gauge("system.io.avg_rq_sz", size / _SECTOR / (reads + writes), tags)
    if not hasattr(now, "read_time"):
        return
    read_time, write_time = now.read_time - old.read_time, now.write_time - old.write_time
    if reads:
        emit.gauge("system.io.r_await", read_time / reads, tags)
    if writes:
        emit.gauge("system.io.w_await", write_time / writes, tags)
    if reads + writes:
        emit.gauge("system.io.await", (read_time + write_time) / (reads + writes), tags)
