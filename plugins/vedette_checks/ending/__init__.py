"""What exec and datadog_check share: ending a program with all that it started."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

__all__ = ["MARK", "MERCY", "Trace", "end_all"]

MERCY = 1.0
"""Seconds between SIGTERM and SIGKILL; the agent gives a cancelled run two."""
MARK = "VEDETTE_RUN"
"""Variable that a program hands on to all that it starts, by which that is found once its parents are gone."""
_ROUNDS = 5
"""How often is looked for more: what is ended may have started something just before."""


class Trace:
    """Finds what a program started, also after it has ended: by its session, and by a mark in the environment.

    Only processes that are newer than this are looked at, so that it costs little more than two lists of the pids
    (some 2 ms for a thousand): make it just before the program starts.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._before = frozenset(psutil.pids())

    @property
    def environment(self) -> dict[str, str]:
        """What the program's environment has to have."""
        return {MARK: self._mark}

    def found(self, leader: int) -> list[psutil.Process]:
        """What lives of it, but the program itself.

        Args:
            leader: the program's pid, which is that of its session.
        """
        return [
            process
            for pid in psutil.pids()
            if pid not in self._before and pid != leader and (process := self._mine(pid, leader)) is not None
        ]

    def _mine(self, pid: int, leader: int) -> psutil.Process | None:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)  # knows by the time of its start whether the pid is another's later
            if os.getsid(pid) == leader or process.environ().get(MARK) == self._mark:
                return None if process.status() == psutil.STATUS_ZOMBIE else process
        return None


async def end_all(pid: int, ending: asyncio.Future[int], *, gently: bool = True, trace: Trace | None = None) -> int:
    """End a program that leads a session of its own and all that it started, in whatever process group.

    Without a trace what has left its parents behind (a daemon in a session of its own) stays; with one only what has
    shed the mark as well, or runs as another user.

    Args:
        pid: the program's.
        ending: done once it has ended.
        gently: SIGTERM first, if it still runs.
        trace: whose mark the program had in its environment.

    Returns:
        How many processes there were beside it.
    """
    left = _left(pid, trace)
    if gently and not ending.done():
        _signal(pid, left, signal.SIGTERM)
        with suppress(asyncio.CancelledError):
            await asyncio.wait({ending}, timeout=MERCY)
        left |= _left(pid, trace)
    _signal(pid, left, signal.SIGKILL)
    with suppress(asyncio.CancelledError):
        await asyncio.wait({ending}, timeout=MERCY)
    for _ in range(_ROUNDS if left and trace is not None else 0):
        more = _left(pid, trace)
        if not more - left:
            break
        left |= more
        _signal(pid, more, signal.SIGKILL)
    return len(left)


def _left(pid: int, trace: Trace | None) -> set[psutil.Process]:
    left = set(trace.found(pid)) if trace is not None else set()
    with suppress(psutil.Error):
        left.update(psutil.Process(pid).children(recursive=True))
    return left


def _signal(pid: int, others: Iterable[psutil.Process], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    for one in others:
        with suppress(psutil.Error):
            one.send_signal(number)
