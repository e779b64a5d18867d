"""What processes used since they were looked at last: each on its own, so that none that comes or goes is a leap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette_checks.process.procfs import TICK, Usage

if TYPE_CHECKING:
    from vedette_checks.process.group import Group

_TOTALS = 6


@dataclass(frozen=True, slots=True)
class Spent:
    """Between two looks.

    Attributes:
        cores: how many processors they kept busy; None where nothing can be compared.
        faults: page faults since the first look: minor, of children, major, of children.
        bytes_read: from the disk since the first look; None where one of them does not tell.
        bytes_written: likewise.
    """

    cores: float | None
    faults: tuple[int, ...]
    bytes_read: int | None
    bytes_written: int | None


class Course:
    """Remembers each process as it was seen last, by its id and when it began: another one with its id is another.

    The totals begin at 0 and grow by what each process did since then. One that ends takes nothing away, one that was
    there before and fits only now (another name, another file with an id) adds nothing that it did before that.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        self._group: Group | None = None
        self._totals = [0] * _TOTALS

    @property
    def begun(self) -> bool:
        """Whether there was a look before."""
        return self._group is not None

    def go_on(self, group: Group) -> Spent:
        """Compare with the last look, and remember this one."""
        before, ticks, compared, now = self._group, 0.0, False, {}
        for one in group.processes:
            key, figures = (one.stat.pid, one.stat.started), _figures(one)
            now[key] = one.stat.ticks, figures
            lifetime = group.at - one.stat.started * TICK
            if key in self._last:
                base_ticks, base = self._last[key]
                since = group.at - before.at if before else 0.0
            elif before is not None and one.stat.started * TICK > before.listed:
                base_ticks, base, since = 0, (0,) * _TOTALS, max(lifetime, group.at - before.at)
            else:
                continue
            if since > 0:
                ticks, compared = ticks + max(0, one.stat.ticks - base_ticks) / since, True
            for place, (new, old) in enumerate(zip(figures, base, strict=True)):
                self._totals[place] += max(0, new - old)
        self._last, self._group = now, group
        told = all(one.io is not None for one in group.processes)
        return Spent(
            ticks * TICK if compared else None,
            tuple(self._totals[:4]),
            self._totals[4] if told else None,
            self._totals[5] if told else None,
        )


def _figures(one: Usage) -> tuple[int, ...]:
    return (*one.stat.faults, *((one.io.bytes_read, one.io.bytes_written) if one.io else (0, 0)))
