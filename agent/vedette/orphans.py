"""Floor 4: as process 1 of a container, takes in the ended processes that others left behind: nobody else there does.

Source: wait(2), credentials and parents in pid_namespaces(7); the fields of /proc/PID/stat are in proc(5).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

_PAUSE = 10.0
"""Seconds between two looks. Whoever started a process waits for it and takes it in much sooner."""


class Orphans:
    """The ended children of this process that nobody waits for.

    What ended is taken in at the second look, so that nothing is taken from the part of the agent that started it.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    async def run(self) -> None:
        """Look regularly until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            self.look()

    def look(self) -> int:
        """Take in what had ended at the last look already; how many that were."""
        ended = _ended() if _any_ended() else set()
        taken = ended & self._seen
        for pid, _ in taken:
            with suppress(ChildProcessError):  # its parent came first
                os.waitpid(pid, os.WNOHANG)
        self._seen = ended - taken
        return len(taken)


def _any_ended() -> bool:
    """Whether a child has ended, without taking it in."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _ended() -> set[tuple[int, str]]:
    """Process id and start time of every child that has ended."""
    own = str(os.getpid())
    found: set[tuple[int, str]] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:  # gone meanwhile
            continue
        fields = text.rpartition(")")[2].split()
        if fields[:2] == ["Z", own]:
            found.add((int(entry.name), fields[19]))
    return found
