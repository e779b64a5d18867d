"""What is not on disk yet: who waits for it, and who takes it over when the sink that has it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vedette.kit import Batches, Entry, Record

HEIRLESS = 120.0
"""Seconds after which nobody takes over any more what a sink that ended had in memory."""


class Handover:
    """Keeps what the queue of a sink had in memory only, and settles what waits for records once they are safe.

    Args:
        lose: is told how many items nobody took over.
    """

    def __init__(self, lose: Callable[[int], None]) -> None:
        self._lose = lose
        self._waiting: list[tuple[list[Record], Callable[[], None]]] = []
        self._carried: dict[Record, list[Entry]] = {}
        """What the last queue had in memory only: for the next one, of this sink or of its successor."""
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, records: list[Record], settle: Callable[[], None]) -> None:
        """Something waits until these records are safe."""
        self._waiting.append((records, settle))

    def settle(self) -> None:
        """Settle what need not wait any more."""
        ready = [one for one in self._waiting if all(record.safe for record in one[0])]
        if ready:
            self._waiting = [one for one in self._waiting if one not in ready]
            for _, settle in ready:
                settle()

    # From one queue to the next

    def succeed(self, predecessor: Handover) -> None:
        """Take over what a predecessor has."""
        self._carried, predecessor._carried = predecessor._carried, {}
        self._waiting, predecessor._waiting = predecessor._waiting, []

    def keep(self, left: Mapping[Record, list[Entry]]) -> None:
        """A queue has ended, and this is what only its memory had."""
        if not self._carried:  # else it was not taken over: it is with neither queue for certain
            self._carried = dict(left)

    def stop_waiting(self) -> None:
        """Whoever takes it over is there."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def carried(self) -> list[Entry]:
        """What is to be queued anew."""
        return [entry for entries in self._carried.values() for entry in entries]

    def taken_over(self, records: Iterable[Record]) -> None:
        """The records that were made of `carried`, in its order: who waits for the old ones waits for these."""
        new = iter(records)
        places = {old: [next(new) for _ in entries] for old, entries in self._carried.items()}
        self._carried = {}
        self._waiting = [
            ([one for old in olds for one in places.get(old, ())], settle) for olds, settle in self._waiting
        ]

    def wait_for_an_heir(self, batches: Batches) -> None:
        """Give up what nobody takes over, be it that the sink was replaced or that it is never started again."""
        self._timer = asyncio.get_running_loop().call_later(HEIRLESS, self._look_for_an_heir, batches)

    def _look_for_an_heir(self, batches: Batches) -> None:
        if batches.goes_on:
            self._give_up()
        elif not batches.closed:
            self.wait_for_an_heir(batches)

    def _give_up(self) -> None:
        """Nobody took over what was in memory only: what waits for it must not wait for ever."""
        lost = sum(entry.count for entry in self.carried)
        self._carried = {}
        waiting, self._waiting = self._waiting, []
        if lost:
            self._lose(lost)
        for _, settle in waiting:
            settle()
