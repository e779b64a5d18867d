"""Floor 4: the catalogues: what the configurations of a fleet's members have, stored once for all who have the same."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from vedette.engine import EngineUnavailable
from vedette.fleet.records import CATALOGUES, Catalogue
from vedette.fleet.requests import Get, Read, Remove, Write
from vedette.fleet.seat import BEAT, RETRY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from vedette.engine import EngineRecord
    from vedette.fleet.records import Mode
    from vedette.fleet.requests import Failure, Request
    from vedette.fleet.seat import Tally

SWEEP = 4.0
"""Shares of the ttl between two looks at everything, where nothing seems to have changed."""
_EARLY = 2
"""Looks of a new seat that come after a ttl each: what it stored may be lost with what ended the one before."""


class Shelf:
    """For one seat: stores the own catalogue, fetches those that members name, removes those that nobody names.

    Nothing that must be right depends on it: a member whose catalogue is unknown is a candidate for nothing, and
    keeps what it owns.

    Args:
        wanted: the own catalogue.
        known: contents by digest, from the seats of before; what is learnt is added.
        ttl: seconds.
        clock: seconds.
        tally: counts.
    """

    def __init__(
        self,
        wanted: Catalogue,
        known: dict[str, Mapping[str, Mode]],
        ttl: float,
        clock: Callable[[], float],
        tally: Tally,
    ) -> None:
        self.version = 0
        """Grows with what is known."""
        self.stored = ""
        """Digest of the own catalogue once it is in the engine."""
        self._wanted = wanted
        self._known = known
        self._ttl = ttl
        self._clock = clock
        self._tally = tally
        self._busy = False
        self._again_at = self._sweep_at = -inf
        self._sweeps = 0
        self._unused: dict[str, str] = {}
        self._waste: list[EngineRecord] = []
        self.want(wanted)

    def want(self, catalogue: Catalogue) -> None:
        """The configuration is another."""
        self._wanted = catalogue
        self._learn(catalogue.digest, catalogue.modes)

    def due(self, named: Collection[str]) -> float:
        """When there is something to ask.

        Args:
            named: digests in the members' records.
        """
        if self._busy:
            return inf
        urgent = self.stored != self._wanted.digest or self._waste or self._missing(named)
        return max(self._again_at, -inf if urgent else self._sweep_at)

    def requests(self, named: Collection[str]) -> Iterator[Request]:
        """What to ask now: one thing at a time."""
        if self.due(named) > self._clock():
            return
        self._busy = True
        mine = self._wanted
        if self.stored != mine.digest:
            yield Write(_key(mine.digest), mine.text, None, None, partial(self._wrote, mine.digest))
        elif missing := self._missing(named):
            yield Get(_key(missing), partial(self._got, missing))
        elif self._waste:
            key, _, revision = self._waste.pop()
            yield Remove(key, revision, self._removed)
        else:
            yield Read(CATALOGUES, partial(self._swept, named))

    def _missing(self, named: Collection[str]) -> str:
        return min((one for one in named if one not in self._known), default="")

    def _wrote(self, digest: str, reply: str | Failure) -> None:
        if not self._failed(reply):
            self.stored = digest

    def _got(self, digest: str, reply: EngineRecord | Failure | None) -> None:
        if self._failed(reply):
            return
        if isinstance(reply, tuple):
            self._learn(digest, Catalogue.parse(reply.value))
        else:  # its member stores it again when it sweeps
            self._again_at = self._clock() + self._ttl * BEAT

    def _swept(self, named: Collection[str], reply: list[EngineRecord] | Failure) -> None:
        if self._failed(reply) or not isinstance(reply, list):
            return
        self._sweeps += 1
        self._sweep_at = self._clock() + self._ttl * (1.0 if self._sweeps <= _EARLY else SWEEP)
        used = {*named, self._wanted.digest}
        unused = {one.key: one.revision for one in reply if one.key.removeprefix(CATALOGUES) not in used}
        self._waste = [one for one in reply if self._unused.get(one.key) == one.revision and one.key in unused]
        self._unused = unused
        for digest in self._known.keys() - used:
            del self._known[digest]
        if _key(self._wanted.digest) not in {one.key for one in reply}:
            self.stored = ""

    def _removed(self, reply: Failure | None) -> None:
        self._failed(reply)

    def _learn(self, digest: str, modes: Mapping[str, Mode]) -> None:
        self._known[digest] = modes
        self.version += 1

    def _failed(self, reply: object) -> bool:
        """Whether there was no answer. A conflict is one: the record is there already, or used again."""
        self._busy = False
        if isinstance(reply, EngineUnavailable):
            self._tally.failed(reply)
            self._again_at = self._clock() + self._ttl * RETRY
        return isinstance(reply, EngineUnavailable)


def _key(digest: str) -> str:
    return f"{CATALOGUES}{digest}"
