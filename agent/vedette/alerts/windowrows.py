"""How windows outlast a restart: a row for each, and where that is long another for what came since it was written."""

from __future__ import annotations

import logging
from array import array
from base64 import b64decode, b64encode
from dataclasses import dataclass
from itertools import islice
from math import nextafter
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window, tolerated
from vedette.state import BESIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vedette.alerts.clock import Steady

log = logging.getLogger("vedette.alerts")

EVERY: Final = 10
"""Seconds in which each window has its turn to be kept."""
_WINDOW: Final = f"{BESIDE}window:"
_TAIL: Final = f"{BESIDE}tail:"
_MOST: Final = 5_000
_LONG: Final = 240
"""Points beyond which not all are written each time."""
_WHOLE: Final = 600.0
"""Seconds after which they are."""
_NEVER: Final = float("-inf")
_FOREVER: Final = float("inf")


@dataclass(slots=True)
class _Kept:
    """What the store has of a window.

    Attributes:
        at: when it was kept last.
        whole: when all of it was, and `steps` how often the clock had been set by then.
        until: the last point of that, by the clock.
        tail: whether there is a row for what came since.
    """

    at: float = 0.0
    whole: float = _NEVER
    steps: int = 0
    until: float = 0.0
    tail: bool = False


class WindowRows:
    """The rows of an earlier process, and those for the next one. Times in them are by the clock.

    Args:
        own: what the store has.
        clock: of the engine.
        keep: has a value from now on, or none.
    """

    def __init__(self, own: Mapping[str, Any], clock: Steady, keep: Callable[[str, Any], None]) -> None:
        rows = {key: row for key, row in own.items() if isinstance(row, dict)}
        self._rows = {key.removeprefix(_WINDOW): row for key, row in rows.items() if key.startswith(_WINDOW)}
        self._tails = {key.removeprefix(_TAIL): row for key, row in rows.items() if key.startswith(_TAIL)}
        self._clock = clock
        self._keep = keep
        self._kept: dict[str, _Kept] = {}
        self._turned = 0

    def restore(self, window: Window, now: float) -> None:
        """Fill a new window with what was kept of it, unless too much is missing since."""
        row, tail = self._rows.pop(window.name, None), self._tails.pop(window.name, None)
        if row is None:
            return
        self._kept[window.name] = _Kept(tail=tail is not None)  # to be let go, if nothing of it is worth anything
        offset = self._clock.offset
        try:
            if tail is not None and tail["since"] == row["until"]:
                window.restore(_unpacked(row["columns"], offset), min(now, nextafter(tail["from"] + offset, _NEVER)))
                row = tail
            window.restore(_unpacked(row["columns"], offset), now)
            saved, ready = float(row["saved"]) + offset, float(row["ready"]) + offset
        except (TypeError, ValueError, KeyError):
            window.clear()
            log.warning("what was kept of %s makes no sense to this version, and is left out", window.name)
            return
        if -tolerated(window.over) <= now - saved <= tolerated(window.over):
            window.ready = min(window.ready, ready)

    def save(self, windows: Iterable[Window], now: float, *, everything: bool) -> None:
        """Keep those whose turn it is since the last time."""
        turns = self._turns(int(now))
        sweeps, names = everything or 0 in turns, set[str]()
        for window in islice(windows, _MOST):
            if sweeps:
                names.add(window.name)
            if everything or hash(window.name) % EVERY in turns:
                self._save(window, now, at_once=everything)
        if sweeps:
            self._let_go(names, now)

    def _turns(self, second: int) -> set[int]:
        first = max(self._turned + 1, second - EVERY + 1) if self._turned <= second else second
        self._turned = second
        return {one % EVERY for one in range(first, second + 1)}

    def _save(self, window: Window, now: float, *, at_once: bool) -> None:
        name, offset, steps = window.name, self._clock.offset, self._clock.steps
        kept = self._kept.setdefault(name, _Kept())
        if not at_once and kept.at <= now < kept.at + tolerated(window.over) / 2 - EVERY:
            return
        kept.at = now
        row: dict[str, Any] = {"saved": now - offset, "over": window.over, "ready": window.ready - offset}
        if len(window.times) > _LONG and kept.steps == steps and now < kept.whole + _WHOLE:
            first = min(kept.until + offset, window.behind)
            columns = window.kept(first)
            if len(columns[0]) <= _LONG:
                kept.tail = True
                row |= {"since": kept.until, "from": first - offset, "columns": _packed(columns, offset)}
                self._keep(_TAIL + name, row)
                return
        kept.whole, kept.steps, kept.until, window.behind = now, steps, window.came - offset, _FOREVER
        self._keep(_WINDOW + name, {**row, "until": kept.until, "columns": _packed(window.kept(), offset)})
        if kept.tail:
            kept.tail = False
            self._keep(_TAIL + name, None)

    def _let_go(self, names: set[str], now: float) -> None:
        """Delete what is of no use any more."""
        for name in [name for name in self._kept if name not in names]:
            self._delete(name, tail=self._kept.pop(name).tail)
        wall = self._clock.wall(now)
        for name in [name for name, row in self._rows.items() if _is_old(self._tails.get(name, row), wall)]:
            del self._rows[name]
            if name not in names:
                self._delete(name, tail=self._tails.pop(name, None) is not None)

    def _delete(self, name: str, *, tail: bool) -> None:
        self._keep(_WINDOW + name, None)
        if tail:
            self._keep(_TAIL + name, None)


def _is_old(row: dict[str, Any], wall: float) -> bool:
    """Whether a window that nobody asked for is of no use any more."""
    saved, over = row.get("saved"), row.get("over")
    if not isinstance(saved, int | float) or not isinstance(over, int | float):
        return True
    return abs(wall - saved) > tolerated(over)


def _packed(columns: tuple[array[float], ...], offset: float) -> list[str]:
    """Columns as text, times by the clock. Base 64 of doubles: a tenth of the time and half of the room of digits."""
    times, *others = columns
    if offset:
        times = array("d", [time - offset for time in times])
    return [b64encode(column.tobytes()).decode() for column in (times, *others)]


def _unpacked(columns: list[str], offset: float) -> list[array[float]]:
    times, *others = (array("d", b64decode(one, validate=True)) for one in columns)
    return [array("d", [time + offset for time in times]), *others]
