"""What outlasts a restart: incidents at once, silences at once, what long windows hold now and then and at the stop.

The incidents of what one agent of the fleet runs are kept with that instance's state, and follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from vedette.alerts.history import PLOTTED, Window, tolerated
from vedette.state import BESIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.alerts.book import Book
    from vedette.alerts.rule import Case

OWN: Final = "vedette/alerts"
"""Where the state store keeps what belongs to no instance."""
_SLOTS: Final = 10
"""Windows are written in so many turns: nothing holds the event loop for long."""
_LONG: Final = 1_800.0
"""Seconds of a window that takes long to fill again: a kill must not empty it."""
_MOST: Final = 5_000


@dataclass(frozen=True, slots=True)
class Keeper:
    """A place for small values, under an instance's name and a key.

    Attributes:
        view: what an instance has.
        keep: have a value from now on, on disk soon.
        follow: likewise, where the next owner of the instance will find it.
    """

    view: Callable[[str], Mapping[str, Any]]
    keep: Callable[[str, str, Any], None]
    follow: Callable[[str, str, Any], None]


class Memory:
    """Reads and writes what outlasts a restart.

    Args:
        keeper: where; None forgets all.
    """

    def __init__(self, keeper: Keeper | None) -> None:
        self._keeper = keeper
        own = keeper.view(OWN) if keeper is not None else {}
        self.silences: list[dict[str, Any]] = list(own.get("silences") or ())
        self._windows: dict[str, Any] = {}
        self._rings: dict[str, Any] = dict(own.get("rings") or {})
        self.kinds: dict[str, tuple[str, str]] = _kinds(own.get("kinds"))
        """What the numbers of metrics mean that no configuration tells of, as far as they were seen."""
        self._kinds_kept = len(self.kinds)
        for slot in range(_SLOTS):
            self._windows.update(own.get(f"history:{slot}") or {})
        self._turn = 0

    def incident(self, home: str, key: str) -> Any:
        """Where a case was left; None if nothing was wrong."""
        return self._keeper.view(home or OWN).get(f"{BESIDE}alert:{key}") if self._keeper is not None else None

    def keep(self, case: Case) -> None:
        """Have where a case stands from now on."""
        if self._keeper is not None:
            write = self._keeper.follow if case.home else self._keeper.keep
            write(case.home or OWN, f"{BESIDE}alert:{case.key}", case.incident.row)

    def keep_silences(self, rows: list[dict[str, Any]]) -> None:
        """Have these silences from now on."""
        self.silences = rows
        if self._keeper is not None:
            self._keeper.keep(OWN, "silences", rows)

    def restore(self, name: str, window: Window, now: float) -> None:
        """Fill a new window with what was kept of it, unless too much is missing since."""
        kept = self._windows.pop(name, None)
        if not kept:
            return
        window.restore(kept["points"])
        if now - kept["saved"] <= tolerated(window.over):
            window.ready = min(window.ready, kept["ready"])

    def restore_rings(self, case: Case) -> None:
        """Put back how the last runs went."""
        for ring, results in zip(case.compiler.rings, self._rings.pop(case.key, ()), strict=False):
            ring.restore(results)

    def save_some(self, book: Book, now: float) -> None:
        """Keep a tenth of what long windows hold."""
        if self._keeper is not None:
            self._save_kinds()
            slot = self._turn = (self._turn + 1) % _SLOTS
            self._save(slot, ((name, one) for name, one in book.windows() if one.over >= _LONG), now)

    def save_all(self, book: Book, now: float) -> None:
        """Keep all that windows hold."""
        if self._keeper is None:
            return
        self._save_kinds()
        windows = list(book.windows())[:_MOST]
        for slot in range(_SLOTS):
            self._save(slot, windows, now)
        rings = {case.key: [ring.kept for ring in case.compiler.rings] for case in book if case.compiler.rings}
        self._keeper.keep(OWN, "rings", rings)

    def _save_kinds(self) -> None:
        if self._keeper is not None and len(self.kinds) != self._kinds_kept:
            self._kinds_kept = len(self.kinds)
            self._keeper.keep(OWN, "kinds", {name: kind for name, (kind, _) in self.kinds.items()})

    def _save(self, slot: int, windows: Iterable[tuple[str, Window]], now: float) -> None:
        kept = {
            name: {"saved": now, "ready": window.ready, "points": _thin(window.kept())}
            for name, window in windows
            if crc32(name.encode()) % _SLOTS == slot and window.points
        }
        assert self._keeper is not None  # noqa: S101 - for type checkers
        if kept or self._keeper.view(OWN).get(f"history:{slot}"):
            self._keeper.keep(OWN, f"history:{slot}", kept)


def _kinds(kept: Any) -> dict[str, tuple[str, str]]:
    return {name: (kind, "") for name, kind in kept.items() if isinstance(kind, str)} if isinstance(kept, dict) else {}


def _thin(rows: list[list[float]]) -> list[list[float]]:
    """At most 120 points, neighbours joined."""
    while len(rows) > PLOTTED:
        pairs = [rows[place : place + 2] for place in range(0, len(rows), 2)]
        rows = [_joined(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return rows


def _joined(one: list[float], other: list[float]) -> list[float]:
    return [one[0], one[1] + other[1], one[2] + other[2], min(one[3], other[3]), max(one[4], other[4]), other[5]]
