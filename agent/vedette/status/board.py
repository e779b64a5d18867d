"""What the page shows, as text, with a version for each row: viewers are sent what changed and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vedette.control import is_cut_off, is_muted, is_wrong, overall
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette.control import Operations, Snapshot
    from vedette.fleet.vitals import FleetVitals
    from vedette.report import NotifierVitals
    from vedette.runner import Vitals

HEADINGS: Final = ("state", "last run", "took", "late by", "next run", "runs", "message")
FRESH: Final = 1.0
"""Seconds for which a picture is fresh enough for everybody."""
_MUTED = "muted"


@dataclass(slots=True)
class Row:
    """An instance in the table.

    Attributes:
        vitals: what it was made of.
        state: the word that colours it.
        cells: its texts, as in `HEADINGS`.
        version: when it changed last.
        wrong: whether somebody should look at it.
    """

    vitals: Vitals
    state: str
    cells: tuple[str, ...]
    version: int
    wrong: bool


class Board:
    """The newest picture of the agent, made at most once a second and only when somebody asks.

    Args:
        operations: the agent.
        clock: monotonic seconds.
    """

    def __init__(self, operations: Operations, clock: Callable[[], float] = time.monotonic) -> None:
        self.epoch = f"{time.time_ns():x}"
        """Tells this process's versions from those of the one before."""
        self.version = 0
        self.layout = 0
        """The version in which the instances became these."""
        self.rows: dict[str, Row] = {}
        self.snapshot: Snapshot = operations.snapshot()
        self._operations = operations
        self._clock = clock
        self._made = -FRESH

    @property
    def stamp(self) -> str:
        """What a viewer has who has everything."""
        return f"{self.epoch}-{self.version}"

    @property
    def wrong(self) -> list[Row]:
        """The rows of what is wrong, in the order of the configuration."""
        return [row for row in self.rows.values() if row.wrong]

    def refresh(self) -> None:
        """Look at the agent, unless somebody just did."""
        if self._clock() - self._made < FRESH:
            return
        before, self.snapshot = self.snapshot, self._operations.snapshot()
        self._made = self._clock()
        version = self.version + 1
        if list(self.rows) != [vitals.instance for vitals in self.snapshot.instances]:
            self.rows = {v.instance: _row(v, self.snapshot.time, version) for v in self.snapshot.instances}
            self.version = self.layout = version
            return
        changed = self._update(version)
        parts = (
            (one.sinks, _told(one.notifiers), one.discoveries, one.problems, one.alerts, facts(one.fleet))
            for one in (before, self.snapshot)
        )
        if changed or next(parts) != next(parts):
            self.version = version

    def _update(self, version: int) -> bool:
        changed, now = False, self.snapshot.time
        for vitals in self.snapshot.instances:
            row = self.rows[vitals.instance]
            if row.vitals != vitals or (row.state == _MUTED) != is_muted(vitals, now):
                self.rows[vitals.instance] = _row(vitals, now, version)
                changed = True
        return changed

    def since(self, version: int) -> list[list[Any]]:
        """The rows that changed after a version: position in the table, state and cells."""
        return [[at, row.state, row.cells] for at, row in enumerate(self.rows.values()) if row.version > version]

    @property
    def headline(self) -> tuple[str, str]:
        """The overall state's word, and a sentence."""
        snapshot, wrong = self.snapshot, len(self.wrong)
        worst = overall(snapshot)
        number = len(snapshot.instances)
        all_of_them = f"{number} instance{'' if number == 1 else 's'}"
        if is_cut_off(snapshot.fleet) and not wrong:
            return worst.name.lower(), "Cut off from its fleet"
        if wrong:
            return worst.name.lower(), f"{wrong} of {all_of_them} failing"
        return worst.name.lower(), f"{'All is well' if not worst else 'A warning'}: {all_of_them}"


def facts(fleet: FleetVitals | None) -> tuple[Any, ...]:
    """What the page shows of a fleet: all that does not change from second to second."""
    if fleet is None:
        return ()
    members = sorted((one.identity, one.id, one.ready, one.me, one.owns) for one in fleet.members)
    return (fleet.name, fleet.backend, fleet.state, fleet.leader, fleet.moves, fleet.trouble, *members)


def _row(vitals: Vitals, now: float, version: int) -> Row:
    muted = is_muted(vitals, now)
    state = vitals.state.value
    cells = (
        f"{state}, muted" if muted else state,
        clock_time(vitals.last_run, now) if vitals.last_run else "–",
        format_duration(vitals.duration) if vitals.runs else "–",
        format_duration(vitals.lateness) if vitals.runs else "–",
        clock_time(vitals.next_run, now) if vitals.next_run else "–",
        f"{vitals.runs:,}",
        vitals.message,
    )
    return Row(vitals, _MUTED if muted else state, cells, version, is_wrong(vitals, now))


def clock_time(when: float, now: float) -> str:
    """`14:00:47` in the host's time zone, with the date where it is not within half a day."""
    pattern = "%H:%M:%S" if abs(now - when) < 43_200 else "%Y-%m-%d %H:%M:%S"
    return time.strftime(pattern, time.localtime(when))


def _told(notifiers: Sequence[NotifierVitals]) -> list[NotifierVitals]:
    """Without what changes by itself while something waits."""
    return [replace(one, oldest=0.0) for one in notifiers]
