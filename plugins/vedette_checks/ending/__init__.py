"""What exec and datadog_check share: ending a program with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

import psutil

__all__ = ["MERCY", "end_all"]

MERCY = 1.0
"""Seconds between SIGTERM and SIGKILL; the agent gives a cancelled run two."""


async def end_all(pid: int, ending: asyncio.Future[int], *, gently: bool = True) -> None:
    """End a program that leads a session of its own and all that it started, in whatever process group.

    What has left its parents behind (a daemon that forked twice into a session of its own) stays.

    Args:
        pid: the program's.
        ending: done once it has ended.
        gently: SIGTERM first, if it still runs.
    """
    left = _descendants(pid)
    if gently and not ending.done():
        _signal(pid, left, signal.SIGTERM)
        with suppress(asyncio.CancelledError):
            await asyncio.wait({ending}, timeout=MERCY)
        left = [*left, *_descendants(pid)]
    _signal(pid, left, signal.SIGKILL)
    with suppress(asyncio.CancelledError):
        await asyncio.wait({ending}, timeout=MERCY)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal(pid: int, others: Sequence[psutil.Process], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    for one in others:
        with suppress(psutil.Error):
            one.send_signal(number)
