"""What became of items whose files are gone, and which files those are."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vedette.spool.records import Outcome
from vedette.spool.segment import read_file, set_aside, sync_folder, write_all

if TYPE_CHECKING:
    from pathlib import Path

TOTALS = "totals.json"
HIGHEST = 2**62
"""No number of a segment, and no count, gets that high."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts of segments that are gone.

    Attributes:
        items: how many items had which outcome.
        folded: numbers of segments whose counts are in it although they may not be deleted yet.
        next: the number of the next segment.
    """

    items: Counter[Outcome]
    folded: frozenset[int]
    next: int

    @classmethod
    def load(cls, path: Path) -> Totals:
        """What was saved.

        Raises:
            FileNotFoundError: nothing was.
            Exception: of any class, where it is not what was saved.
        """
        known = json.loads(read_file(path))
        items = Counter({Outcome[name]: _natural(number) for name, number in known["items"].items()})
        return cls(items, frozenset(map(_natural, known["folded"])), _natural(known["next"]))

    def save(self, path: Path) -> None:
        """Have it on disk, in place of what was there, when this returns.

        Raises:
            OSError: what was there may still be.
        """
        items = {outcome.name: self.items[outcome] for outcome in Outcome}
        text = json.dumps({"items": items, "folded": sorted(self.folded), "next": self.next})
        draft = path.with_suffix(".new")
        try:
            draft.unlink(missing_ok=True)  # whatever somebody put there is not written through
        except OSError:
            set_aside(draft)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(file, text.encode("ascii"))
            os.fsync(file)
        finally:
            os.close(file)
        draft.replace(path)
        sync_folder(path.parent)


def _natural(number: object) -> int:
    """A count as it was written.

    Raises:
        ValueError: it is none.
    """
    if type(number) is not int or not 0 <= number < HIGHEST:
        raise ValueError("it is no count")
    return number
