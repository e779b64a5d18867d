"""Who may have how many series: a budget for each origin, and one for all, since origins are what clients say."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vedette_checks.statsd.cells import Cell, Owner
from vedette_checks.statsd.protocol import Origin

_MOST_ORIGINS = 1_000
_MOST_SPILLED = 100  # names that are told apart beyond a budget
_MOST_SPILLED_IN_ALL = 1_000


class Budgets:
    """All origins of one instance.

    Args:
        each: most series of one origin.
        total: most series of all of them.
    """

    def __init__(self, each: int, total: int) -> None:
        self._each, self._total = each, total
        self._owners: dict[str, Owner] = {}
        self._live = self._spilled = 0

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, origin: Origin, sender: str) -> Owner:
        """Whose budget a line counts against; those beyond a thousand share one."""
        name = origin.container or origin.pod or sender
        owner = self._owners.get(name)
        if owner is None:
            if len(self._owners) >= _MOST_ORIGINS:
                name = "other"
            owner = self._owners.setdefault(name, Owner(name))
        return owner

    def is_full(self, owner: Owner) -> bool:
        """Whether there is no room for one more series."""
        return owner.live >= self._each or self._live >= self._total

    def may_spill(self, owner: Owner) -> bool:
        """Whether there is room for one more series that collects what is beyond."""
        return owner.spilled < _MOST_SPILLED and self._spilled < _MOST_SPILLED_IN_ALL

    def charge(self, owner: Owner, cell: Cell) -> None:
        """Have a series count against a budget until it is given back."""
        cell.owner = owner
        self._add(owner, cell, 1)

    def give_back(self, cell: Cell) -> None:
        """A series is forgotten."""
        if cell.owner is not None:
            self._add(cell.owner, cell, -1)

    def _add(self, owner: Owner, cell: Cell, number: int) -> None:
        if cell.beyond:
            owner.spilled += number
            self._spilled += number
        else:
            owner.live += number
            self._live += number

    def told(self) -> Iterator[tuple[str, int]]:
        """Who was beyond its budget since this was last asked, and with how many values."""
        for owner in self._owners.values():
            if owner.refused:
                yield owner.name, owner.refused
                owner.refused = 0

    def forget(self, needed: Collection[Owner | None]) -> None:
        """Forget the origins that have nothing, but for those of which more may be told."""
        self._owners = {
            name: one for name, one in self._owners.items() if one.live or one.refused or one.spilled or one in needed
        }
