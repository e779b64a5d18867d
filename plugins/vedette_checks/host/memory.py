"""Memory and swap, in mebibytes as the Datadog agent sends them.

On Linux /proc/meminfo is read once for both. psutil would read it twice, knows a part of it and gives 0 for a
field that is not there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from vedette import Emit, Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette_checks.host.config import HostConfig

_MIB = 1024 * 1024

MEMORY_METRICS = (
    Metric("system.mem.total", Kind.GAUGE, "mebibyte", "Physical memory."),
    Metric("system.mem.free", Kind.GAUGE, "mebibyte", "Memory used for nothing at all."),
    Metric("system.mem.used", Kind.GAUGE, "mebibyte", "Memory not free, caches among it."),
    Metric("system.mem.usable", Kind.GAUGE, "mebibyte", "Memory that programs can have without swapping."),
    Metric("system.mem.pct_usable", Kind.GAUGE, "fraction", "Usable memory as a fraction of all."),
    Metric("system.mem.buffered", Kind.GAUGE, "mebibyte", "Buffers of block devices (Linux, BSD)."),
    Metric("system.mem.cached", Kind.GAUGE, "mebibyte", "Page cache and reclaimable slab (Linux, BSD)."),
    Metric("system.mem.shared", Kind.GAUGE, "mebibyte", "Shared memory and tmpfs (Linux, BSD)."),
    Metric("system.mem.slab", Kind.GAUGE, "mebibyte", "The kernel's own data structures (Linux)."),
    Metric("system.mem.slab_reclaimable", Kind.GAUGE, "mebibyte", "The part of slab that can be freed (Linux)."),
    Metric("system.mem.page_tables", Kind.GAUGE, "mebibyte", "Page tables (Linux)."),
    Metric("system.mem.commit_limit", Kind.GAUGE, "mebibyte", "Memory that can be promised (Linux)."),
    Metric("system.mem.committed_as", Kind.GAUGE, "mebibyte", "Memory promised to programs (Linux)."),
)
SWAP_METRICS = (
    Metric("system.swap.total", Kind.GAUGE, "mebibyte", "Swap space."),
    Metric("system.swap.free", Kind.GAUGE, "mebibyte", "Swap space not used."),
    Metric("system.swap.used", Kind.GAUGE, "mebibyte", "Swap space used."),
    Metric("system.swap.cached", Kind.GAUGE, "mebibyte", "Memory that is in swap as well (Linux)."),
    Metric("system.swap.pct_free", Kind.GAUGE, "fraction", "Free swap as a fraction of all; absent without swap."),
    Metric("system.swap.swap_in", Kind.RATE, "mebibyte", "Read from swap since boot.", per="second"),
    Metric("system.swap.swap_out", Kind.RATE, "mebibyte", "Written to swap since boot.", per="second"),
)


class Memory:
    """`system.mem.*` and `system.swap.*`.

    Args:
        config: the instance's options.
    """

    def __init__(self, config: HostConfig) -> None:
        self._memory = config.memory
        self._swap = config.swap
        self._meminfo = Path(config.procfs_path, "meminfo")
        self._vmstat = Path(config.procfs_path, "vmstat")

    def collect(self, emit: Emit) -> None:
        """Read what the options ask for.

        Raises:
            OSError: a file in /proc cannot be read.
            ValueError: it has an unknown form.
            LookupError: it lacks the total or the free memory.
        """
        linux = sys.platform == "linux"
        info = read_meminfo(self._meminfo.read_bytes()) if linux else {}
        if self._memory:
            _emit_memory(emit, linux_memory(info) if linux else _other_memory())
        if self._swap:
            _emit_swap(emit, _linux_swap(info) if linux else _other_swap())
            if linux:
                self._emit_swapping(emit)

    def _emit_swapping(self, emit: Emit) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        text = self._vmstat.read_bytes()
        for name, field in (("system.swap.swap_in", b"\npswpin "), ("system.swap.swap_out", b"\npswpout ")):
            _, found, rest = text.partition(field)
            if found:
                emit.rate(name, int(rest.partition(b"\n")[0]) * page / _MIB)


def read_meminfo(text: bytes) -> dict[str, int]:
    """/proc/meminfo as bytes by field name (proc(5): its kB are 1024 bytes).

    Raises:
        ValueError: a line has an unknown form.
    """
    fields: dict[str, int] = {}
    for line in text.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB":
            fields[name] = int(number) * 1024
    return fields


def linux_memory(info: Mapping[str, int]) -> dict[str, int]:
    """Bytes by metric, with the sums of free(1) and the Datadog agent; a field that is not there is left out.

    Raises:
        LookupError: there is no total or no free memory.
    """
    total, free = info["MemTotal"], info["MemFree"]
    figures = {"total": total, "free": free, "used": total - free}
    available = info.get("MemAvailable")
    if available is not None:
        # in some LXC containers it is the machine's and exceeds the container's total: free(1) then says `free`
        figures["usable"] = available if available <= total else free
    if "Cached" in info:
        figures["cached"] = info["Cached"] + info.get("SReclaimable", 0)
    for name, field in _LINUX_FIELDS.items():
        if field in info:
            figures[name] = info[field]
    return figures


_LINUX_FIELDS: Mapping[str, str] = {
    "buffered": "Buffers",
    "shared": "Shmem",
    "slab": "Slab",
    "slab_reclaimable": "SReclaimable",
    "page_tables": "PageTables",
    "commit_limit": "CommitLimit",
    "committed_as": "Committed_AS",
}


def _other_memory() -> dict[str, int]:
    known = psutil.virtual_memory()
    figures = {"total": known.total, "free": known.free, "used": known.total - known.free}
    figures["usable"] = known.available
    for name, field in (("buffered", "buffers"), ("cached", "cached"), ("shared", "shared")):
        value = getattr(known, field, None)
        if value is not None:
            figures[name] = value
    return figures


def _linux_swap(info: Mapping[str, int]) -> dict[str, int]:
    total, free = info["SwapTotal"], info["SwapFree"]
    figures = {"total": total, "free": free, "used": total - free}
    if "SwapCached" in info:
        figures["cached"] = info["SwapCached"]
    return figures


def _other_swap() -> dict[str, int]:
    known = psutil.swap_memory()
    return {"total": known.total, "free": known.free, "used": known.used}


def _emit_memory(emit: Emit, figures: Mapping[str, int]) -> None:
    for name, value in figures.items():
        emit.gauge(f"system.mem.{name}", value / _MIB)
    if "usable" in figures and figures["total"]:
        emit.gauge("system.mem.pct_usable", figures["usable"] / figures["total"])


def _emit_swap(emit: Emit, figures: Mapping[str, int]) -> None:
    for name, value in figures.items():
        emit.gauge(f"system.swap.{name}", value / _MIB)
    if figures["total"]:
        emit.gauge("system.swap.pct_free", figures["free"] / figures["total"])
