"""Processes as Linux shows them in /proc.

Read without psutil: that knows one `PROCFS_PATH` for the whole agent, asks for resource limits by a system call that
knows nothing of another procfs, leaves out page faults, and takes several files for what one line of `stat` says.
Source: proc_pid_stat(5), proc_pid_statm(5), proc_pid_status(5), proc_pid_io(5), proc_pid_limits(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds of one tick, in which Linux counts processor time and when a process began."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST = 65_536
"""Bytes of a file that are read: of a command line, more are not searched."""
_DEAD = frozenset(b"ZXx")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of `stat`.

    Attributes:
        pid: the process's id, which another gets after it.
        comm: its name, at most 15 bytes.
        dead: it ended, and whoever started it has not looked yet (a zombie).
        parent: the id of who started it.
        started: ticks since the machine's start; with `pid` it is one process for good.
        faults: page faults: minor, those of children that ended, major, those of children that ended.
        ticks: processor time of all its threads.
        threads: how many it has.
    """

    pid: int
    comm: bytes
    dead: bool
    parent: int
    started: int
    faults: tuple[int, int, int, int]
    ticks: int
    threads: int


@dataclass(frozen=True, slots=True)
class Io:
    """What `io` says: system calls, and bytes of the disk."""

    reads: int
    writes: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used, at one moment; None is what this user may not know.

    Attributes:
        stat: its line of `stat`.
        uid: the user who runs it.
        vms: bytes of address space.
        rss: bytes in memory.
        shared: bytes of those that files or others have too.
        switches: of its main thread: those it wished for, and those it did not.
        descriptors: open files.
        most_descriptors: how many it may open; None also where there is no limit.
        io: reads and writes.
    """

    stat: Stat
    uid: int
    vms: int
    rss: int
    shared: int
    switches: tuple[int, int]
    descriptors: int | None
    most_descriptors: int | None
    io: Io | None


class Table:
    """All processes at one moment, zombies left out.

    Args:
        procfs: where procfs is mounted.

    Raises:
        OSError: it cannot be listed.
    """

    def __init__(self, procfs: str) -> None:
        self.taken = boot_clock()
        self._procfs = procfs
        self._commands: dict[int, bytes] = {}
        pids = [name for name in os.listdir(procfs) if name.isdigit()]  # noqa: PTH208 - thousands of them, for speed
        self.processes = tuple(one for pid in pids if (one := _glance(procfs, pid)) is not None and not one.dead)

    def command(self, pid: int) -> list[bytes]:
        """Program and arguments; nothing for a thread of the kernel, and where it cannot be read."""
        if pid not in self._commands:
            try:
                self._commands[pid] = _slurp(f"{self._procfs}/{pid}/cmdline")
            except OSError:
                self._commands[pid] = b""
        return self._commands[pid].rstrip(b"\0").split(b"\0")

    def with_children(self, those: Iterable[Stat]) -> list[Stat]:
        """Processes, those that they started, and so on."""
        children: dict[int, list[Stat]] = {}
        for one in self.processes:
            children.setdefault(one.parent, []).append(one)
        found: dict[int, Stat] = {}
        waiting = list(those)
        while waiting:
            one = waiting.pop()
            if one.pid not in found:
                found[one.pid] = one
                waiting += children.get(one.pid, ())
        return list(found.values())


class Listing:
    """The table that all instances share, so that the processes of a machine are not listed once for each."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._lock = Lock()
        self._table: Table | None = None

    def since(self, moment: float) -> Table:
        """A table that was taken at this moment of the boot clock, or later.

        Raises:
            OSError: procfs cannot be listed.
        """
        with self._lock:
            if self._table is None or self._table.taken < moment:
                self._table = Table(self._procfs)
            return self._table


@lru_cache(maxsize=8)
def listing(procfs: str) -> Listing:
    """The one of a procfs, for all instances of this agent."""
    return Listing(procfs)


def boot_clock() -> float:
    """Seconds since the machine's start, sleep included: what `started` counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def parse_stat(line: bytes) -> Stat:
    """Read one line of `stat`. The name stands in brackets, and may itself hold any.

    Raises:
        ValueError: it is not one.
    """
    opens, closes = line.index(b"("), line.rindex(b")")
    rest = line[closes + 2 :].split()
    if len(rest) < 22:
        raise ValueError("a line of stat that is cut short")
    return Stat(
        pid=int(line[:opens]),
        comm=line[opens + 1 : closes],
        dead=rest[0][0] in _DEAD,
        parent=int(rest[1]),
        started=int(rest[19]),
        faults=(int(rest[7]), int(rest[8]), int(rest[9]), int(rest[10])),
        ticks=int(rest[11]) + int(rest[12]),
        threads=int(rest[17]),
    )


def look_at(procfs: str, pid: int, started: int | None = None) -> Usage | None:
    """What a process uses; None if it ended, or another one has its id now.

    All files are opened below one folder, which stays that of the process it was opened for.

    Args:
        procfs: where procfs is mounted.
        pid: its id.
        started: when it began, if that is known.
    """
    try:
        folder = os.open(f"{procfs}/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        stat = parse_stat(_slurp("stat", folder))
        if stat.dead or started not in (None, stat.started):
            return None
        vms, rss, shared = (int(pages) * _PAGE for pages in _slurp("statm", folder).split()[:3])
        status = dict(_fields(_slurp("status", folder)))
        return Usage(
            stat,
            int(status[b"Uid"].split()[0]),
            vms,
            rss,
            shared,
            (int(status[b"voluntary_ctxt_switches"]), int(status[b"nonvoluntary_ctxt_switches"])),
            _descriptors(folder),
            _limit(folder),
            _io(folder),
        )
    except (OSError, ValueError, KeyError):  # it ended in between, or hides
        return None
    finally:
        os.close(folder)


def memory_total(procfs: str) -> int:
    """Bytes of memory that the machine has.

    Raises:
        OSError: `meminfo` cannot be read.
    """
    fields = dict(_fields(_slurp(f"{procfs}/meminfo")))
    return int(fields[b"MemTotal"].split()[0]) * 1024


def cores(procfs: str) -> int:
    """Processors that the machine has online.

    Raises:
        OSError: `stat` cannot be read.
    """
    return _slurp(f"{procfs}/stat").count(b"\ncpu")


def _glance(procfs: str, pid: str) -> Stat | None:
    try:
        return parse_stat(_slurp(f"{procfs}/{pid}/stat"))
    except (OSError, ValueError):
        return None


def _slurp(path: str, folder: int | None = None) -> bytes:
    file = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, _MOST)
    finally:
        os.close(file)


def _fields(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in text.splitlines():
        key, found, value = line.partition(b":")
        if found:
            yield key, value.strip()


def _descriptors(folder: int) -> int | None:
    """Open files: the size of the folder `fd` from Linux 6.2 on, which all may see; before, how many entries it has."""
    if size := os.stat("fd", dir_fd=folder).st_size:
        return size
    try:
        inner = os.open("fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    except PermissionError:
        return None
    try:
        return len(os.listdir(inner))  # noqa: PTH208 - pathlib knows no descriptors
    except PermissionError:
        return None
    finally:
        os.close(inner)


def _limit(folder: int) -> int | None:
    try:
        text = _slurp("limits", folder)
    except PermissionError:
        return None
    for line in text.splitlines():
        if line.startswith(b"Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def _io(folder: int) -> Io | None:
    try:
        text = dict(_fields(_slurp("io", folder)))
    except (PermissionError, FileNotFoundError):  # some kernels are built without it
        return None
    return Io(*(int(text[key]) for key in (b"syscr", b"syscw", b"read_bytes", b"write_bytes")))
