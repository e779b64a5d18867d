"""Files that look like a copy of one that is followed: left alone for some seconds, in which that one is truncated."""

from __future__ import annotations

from dataclasses import dataclass

_QUIET = 5.0  # seconds without growth after which whoever copied it would have truncated the other one
_LONGEST = 600.0  # seconds that copying may take
_KEPT = 60.0  # seconds beyond two looks that a file without a suspicion is remembered


@dataclass(frozen=True, slots=True)
class _Suspicion:
    size: int
    since: float
    until: float


class Copies:
    """Remembers what is suspected, as the same lines in two files are no proof: in vain they wait, and are read then.

    Args:
        pace: seconds between two looks at the files.
    """

    def __init__(self, pace: float) -> None:
        self.count = 0
        """Files that were suspected, since that was last told."""
        self._kept = _KEPT + 2 * pace
        self._found: dict[tuple[int, int], _Suspicion] = {}

    def suspect(self, identity: tuple[int, int], size: int, now: float) -> bool:
        """A file has the lines of another: whether it is to be left alone now."""
        known = self._found.get(identity)
        if known is None or known.size != size:
            since = now if known is None else known.since
            self.count += known is None
            known = self._found[identity] = _Suspicion(size, since, min(now + _QUIET, since + _LONGEST))
        return now < known.until

    def holds(self, identity: tuple[int, int], size: int, now: float) -> bool:
        """Whether a file is suspected and has not grown since, so that it need not be looked at."""
        known = self._found.get(identity)
        return known is not None and known.size == size and now < known.until

    def acquit(self, identity: tuple[int, int]) -> None:
        """Whatever it is, it is to be read."""
        self._found.pop(identity, None)

    def forget(self, now: float) -> None:
        """Let go of what was decided long ago."""
        self._found = {one: known for one, known in self._found.items() if now < known.until + self._kept}
