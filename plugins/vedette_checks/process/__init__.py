"""The process check: how many processes there are of a program, and what they use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from vedette import Check, CheckError, Estimate, Kind, Metric, Status, hookimpl
from vedette_checks.process.config import ProcessConfig
from vedette_checks.process.course import Course, Spent
from vedette_checks.process.group import Finder, Group
from vedette_checks.process.procfs import TICK, Usage, boot_clock, cores, listing, memory_total
from vedette_checks.process.verdict import judge

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["Process", "ProcessConfig", "register_checks"]

_STATUS = "process.up"
_SHORTEST = 0.1
"""Seconds that the first percentage spans: Linux counts processor time in hundredths."""
_TAGS = ("process_name",)
_NAME = "system.processes."
_FAULTS = ("minor_faults", "children_minor_faults", "major_faults", "children_major_faults")


def _gauge(name: str, unit: str, text: str) -> Metric:
    return Metric(_NAME + name, Kind.GAUGE, unit, text, _TAGS)


class Process(Check[ProcessConfig]):
    """Counts the processes of a program and says what they use: processor, memory, threads, open files, disk."""

    name = "process"
    metrics = (
        _gauge("number", "process", "Processes that were found."),
        _gauge("cpu.pct", "percent", "Processor time; one core that is busy all the time is 100."),
        _gauge("cpu.normalized_pct", "percent", "The same, divided by the machine's cores."),
        _gauge("mem.rss", "byte", "Memory in use, what is shared counted for each."),
        _gauge("mem.vms", "byte", "Address space."),
        _gauge("mem.real", "byte", "Memory in use that is not shared."),
        _gauge("mem.pct", "percent", "Memory in use, of the machine's."),
        _gauge("threads", "thread", "Threads."),
        _gauge("open_file_descriptors", "file", "Open files, sockets among them."),
        _gauge("open_file_descriptors_pct", "percent", "Of the process that is nearest to its limit (`ulimit -n`)."),
        _gauge("ioread_count", "read", "System calls that read, since each began."),
        _gauge("iowrite_count", "write", "System calls that wrote, since each began."),
        _gauge("ioread_bytes", "byte", "Read from disks, since each began."),
        _gauge("iowrite_bytes", "byte", "Written to disks, since each began."),
        Metric(_NAME + "ioread_bytes_count", Kind.COUNTER, "byte", "Read from disks, whoever came and went.", _TAGS),
        Metric(_NAME + "iowrite_bytes_count", Kind.COUNTER, "byte", "Written to disks, likewise.", _TAGS),
        _gauge("voluntary_ctx_switches", "event", "Times that main threads waited, since each began."),
        _gauge("involuntary_ctx_switches", "event", "Times that main threads had to make room, since each began."),
        _gauge("run_time.avg", "second", "Mean time since they began."),
        _gauge("run_time.max", "second", "Time since the oldest began."),
        _gauge("run_time.min", "second", "Time since the youngest began."),
        *(
            Metric(f"{_NAME}mem.page_faults.{name}", Kind.RATE, "occurrence per second", text, _TAGS)
            for name, text in zip(
                _FAULTS,
                ("Page faults without the disk.", "The same, of children that ended.", "Page faults that read "
                 "the disk.", "The same, of children that ended."),
                strict=True,
            )
        ),
    )  # fmt: skip
    statuses = (_STATUS,)

    async def open(self) -> None:
        """Begin to compare anew."""
        self._finder, self._course = Finder(self.config), Course()
        self._denied = 0
        self._tags = (f"process_name:{self.config.name}",)
        self._found = 0

    def run(self, emit: Emit) -> None:
        """Look for the processes and at them.

        Raises:
            CheckError: it cannot be told, or there is none and there should be.
        """
        tags = (*self._tags, f"process:{self.config.name}")
        try:
            if not self._course.begun:
                self._course.go_on(self._look())
                time.sleep(min(_SHORTEST, self.config.deadline / 4))
            group = self._look()
        except CheckError as error:
            emit.status(_STATUS, Status.UNKNOWN, error.message, tags)
            raise
        self._found = len(group.processes)
        status, reason = judge(self._found, self.config)
        emit.status(_STATUS, status, reason, tags)
        emit.gauge(_NAME + "number", self._found, self._tags)
        spent = self._course.go_on(group)
        if group.processes:
            self._report(emit, group, spent)
        elif status is Status.CRITICAL:
            raise CheckError(reason, hint="does it run? `vedette doctor` says what is seen")
        self._tell_denied(group.processes)

    async def estimate(self) -> Iterable[Estimate]:
        """Files of /proc that a run reads."""
        listed = len(listing(self.config.procfs_path).since(0.0).processes) if self.config.search_string else 0
        files = listed * (1 if self.config.exact_match else 2) + self._found * 6 + 2
        hint = "the list is shared by all instances that come within `list_age`" if listed else ""
        return [Estimate("files of /proc per run", files, "files/run", hint)]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """What is seen of the machine, and of these processes."""
        from vedette_checks.process.doctor import diagnose

        diagnose(self.config, diagnosis)

    def _look(self) -> Group:
        """With a list that another instance took; anew where it does not hold."""
        if sys.platform != "linux":
            raise CheckError("processes are read from /proc, which this system does not have")
        now = boot_clock()
        group = self._finder.look(now - self.config.list_age)
        wrong = judge(len(group.processes), self.config)[0] is not Status.OK
        return self._finder.look(now) if group.listed < now and (group.changed or wrong) else group

    def _report(self, emit: Emit, group: Group, spent: Spent) -> None:
        those, tags, procfs = group.processes, self._tags, self.config.procfs_path
        if spent.cores is not None:
            emit.gauge(_NAME + "cpu.pct", 100.0 * spent.cores, tags)
            with suppress(OSError, ZeroDivisionError):
                emit.gauge(_NAME + "cpu.normalized_pct", 100.0 * spent.cores / cores(procfs), tags)
        for name, value in sums(those).items():
            emit.gauge(_NAME + name, value, tags)
        with suppress(OSError, LookupError):
            emit.gauge(_NAME + "mem.pct", 100.0 * sum(one.rss for one in those) / memory_total(procfs), tags)
        ages = [max(0.0, group.at - one.stat.started * TICK) for one in those]
        for name, age in (("avg", sum(ages) / len(ages)), ("max", max(ages)), ("min", min(ages))):
            emit.gauge(f"{_NAME}run_time.{name}", age, tags)
        for name, total in zip(_FAULTS, spent.faults, strict=True):
            emit.rate(f"{_NAME}mem.page_faults.{name}", total, tags)
        for name, moved in (("ioread", spent.bytes_read), ("iowrite", spent.bytes_written)):
            if moved is not None:
                emit.counter(f"{_NAME}{name}_bytes_count", moved, tags)

    def _tell_denied(self, those: tuple[Usage, ...]) -> None:
        denied = sum(one.io is None or one.descriptors is None for one in those)
        if denied != self._denied and self.config.ignore_denied_access and denied:
            self.log.info("reads and writes, or open files, of %d of %d processes are not for us", denied, len(those))
        self._denied = denied
        if denied and not self.config.ignore_denied_access:
            raise CheckError(
                f"reads and writes, or open files, of {denied} of {len(those)} processes may not be read",
                hint="the agent needs to be their user, root, or to have CAP_SYS_PTRACE",
            )


def sums(those: tuple[Usage, ...]) -> dict[str, float]:
    """What can be added up; what one of them does not tell is not there at all."""
    made: dict[str, float] = {
        "mem.rss": sum(one.rss for one in those),
        "mem.vms": sum(one.vms for one in those),
        "mem.real": sum(max(0, one.rss - one.shared) for one in those),
        "threads": sum(one.stat.threads for one in those),
        "voluntary_ctx_switches": sum(one.switches[0] for one in those),
        "involuntary_ctx_switches": sum(one.switches[1] for one in those),
    }
    open_files = [one.descriptors for one in those if one.descriptors is not None]
    if len(open_files) == len(those):
        made["open_file_descriptors"] = sum(open_files)
    if shares := [100.0 * (one.descriptors or 0) / one.most_descriptors for one in those if one.most_descriptors]:
        made |= {"open_file_descriptors_pct": max(shares)} if len(open_files) == len(those) else {}
    told = [one.io for one in those if one.io is not None]
    if len(told) == len(those):
        made["ioread_count"] = sum(one.reads for one in told)
        made["iowrite_count"] = sum(one.writes for one in told)
        made["ioread_bytes"] = sum(one.bytes_read for one in told)
        made["iowrite_bytes"] = sum(one.bytes_written for one in told)
    return made


@hookimpl
def register_checks(register: Callable[[type[Process]], None]) -> None:
    """Offer the process check."""
    register(Process)
