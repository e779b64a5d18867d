"""Whether there are as many processes as there should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette import Status

if TYPE_CHECKING:
    from vedette_checks.process.config import Bounds, ProcessConfig


def judge(number: int, config: ProcessConfig) -> tuple[Status, str]:
    """Whether there are as many as there should be, and if not, how many that is."""
    warning, critical = config.ranges
    found = f"{number} process{'' if number == 1 else 'es'} found" if number else "no process found"
    for status, wanted in ((Status.CRITICAL, critical), (Status.WARNING, warning)):
        if not wanted[0] <= number <= wanted[1]:
            return status, f"{found}, wanted {_range(wanted)}"
    return Status.OK, ""


def _range(wanted: Bounds) -> str:
    least, most = wanted
    if most == float("inf"):
        return f"at least {least:g}"
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
