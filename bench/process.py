"""What the process check costs on a machine with a thousand processes: CPU time of this process alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from common import report

from vedette_checks.process.procfs import Table, boot_clock, listing, look_at

PROCESSES, REPEATS = 1_000, 9


def milliseconds(act: Callable[[], Any]) -> float:
    """CPU time of the fastest of several runs."""
    taken = []
    for _ in range(REPEATS):
        begun = time.process_time()
        act()
        taken.append(time.process_time() - begun)
    return 1_000 * min(taken)


def commands() -> None:
    """A list, and all command lines."""
    table = Table("/proc")
    for one in table.processes:
        table.command(one.pid)


def main() -> None:
    """Start them, measure, end them."""
    those = [subprocess.Popen(["sleep", "600"]) for _ in range(PROCESSES)]
    try:
        listed = len(Table("/proc").processes)
        alone = milliseconds(lambda: Table("/proc")) * PROCESSES / listed
        lines = milliseconds(commands) * PROCESSES / listed
        look = milliseconds(lambda: [look_at("/proc", one.pid) for one in those]) / PROCESSES
        shared = milliseconds(lambda: listing("/proc").since(boot_clock() - 600))
    finally:
        for one in those:
            one.kill()
        for one in those:
            os.waitpid(one.pid, 0)
    report(
        ("list of 1,000 processes", alone, "ms CPU", "< 50"),
        ("the same with command lines", lines, "ms CPU", "< 100"),
        ("the same from another instance", shared, "ms CPU", "< 0.1"),
        ("one process that was found", look, "ms CPU", "< 0.3"),
    )


if __name__ == "__main__":
    main()
