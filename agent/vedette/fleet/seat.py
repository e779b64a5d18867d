"""Floor 4: one incarnation of this agent in the fleet: it joins, beats, and ends for good when its term runs out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from vedette.engine import EngineConflict, EngineRecord, EngineUnavailable
from vedette.fleet.records import MEMBERS, Member
from vedette.fleet.requests import Read, Remove, Write
from vedette.fleet.roster import member_key
from vedette.lease import Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vedette.fleet.requests import Failure, Request
    from vedette.fleet.roster import Roster

BEAT, RETRY, HINTED, TERM = 1 / 3, 1 / 12, 1 / 20, 0.9
"""Shares of the ttl: between two beats, before a failed request is made again, between two reads that hints ask
for, and how long a term lasts from before its beat was written. The tenth is more than two clocks drift apart."""
_SOONEST = 0.1


@dataclass(slots=True)
class Tally:
    """What the agent's part in the fleet came to so far."""

    beats: int = 0
    errors: int = 0
    claims: int = 0
    moves: int = 0
    token: int = 0
    """The highest fencing token that anyone was seen to know of."""
    trouble: str = ""
    """Why the engine cannot be used now; empty while it can."""

    def failed(self, failure: EngineUnavailable) -> None:
        """The engine gave no answer."""
        self.errors += 1
        self.trouble = str(failure)


class Seat:
    """Membership under one id, which is never taken up again once the term is over.

    A beat writes the own record and then reads everybody's. Both must have been answered; then the term lasts to
    nine tenths of a ttl after the moment *before* the write was sent. Others count a full ttl from the moment after
    they read it: so it is over here before anyone removes the record, whatever a network does in between.

    Args:
        member_id: new, and nobody else's.
        identity: what people call the agent.
        roster: where what was read goes.
        ttl: seconds.
        clock: seconds, going on in a suspend.
        tally: counts.
    """

    def __init__(
        self, member_id: str, identity: str, roster: Roster, ttl: float, clock: Callable[[], float], tally: Tally
    ) -> None:
        self.id = member_id
        self.term = Term(clock)
        self.over = False
        """For good: the agent has to join anew."""
        self.gone = False
        """The own record is removed."""
        self.catalogue = ""
        """Digest of the stored catalogue that the next beat is to name."""
        self._identity = identity
        self._roster = roster
        self._ttl = ttl
        self._clock = clock
        self._tally = tally
        self._order = 0
        self._seq = self._known_seq = 0
        self._value = ""
        self._revision: str | None = None
        self._present_since: float | None = None
        self._pledged: float | None = None
        self._busy = False
        self.parting = False
        """The own record is to be removed."""
        self.begun = False
        """A beat was good: the term has an end."""
        self.writing = False
        """A beat's write is under way, so that `present` may be old."""
        self._beat_at, self._read_at, self._last_read = inf, -inf, -inf

    @property
    def present(self) -> EngineRecord | None:
        """The own record as last known: the guard of what only a member may write."""
        if self._revision is None or self.over:
            return None
        return EngineRecord(member_key(self.id), self._value, self._revision)

    @property
    def due(self) -> float:
        """When there is something to do."""
        if self._busy or self.gone or (self.over and not self.parting):
            return inf
        if self.parting:
            return self._read_at
        return min(self._beat_at, self._read_at, self.term.until if self.begun else inf)

    def check(self) -> None:
        """Notice the end of the term."""
        if self.begun and not self.term.current:
            self.end()

    def end(self) -> None:
        """Hold no lease any more; this id is over."""
        self.term.end()
        self.over = True

    def hasten(self) -> None:
        """Beat at once: there is news about this member."""
        if self._beat_at < inf:
            self._beat_at = -inf

    def look(self) -> None:
        """Read soon: something may have changed."""
        self._read_at = min(self._read_at, self._last_read + max(self._ttl * HINTED, _SOONEST))

    def part(self) -> None:
        """End, and remove the own record."""
        self.end()
        self.parting = True
        self._read_at = -inf

    def requests(self) -> Iterator[Request]:
        """What to ask now: one thing at a time, so that answers never overtake each other."""
        now = self._clock()
        if self.due > now:
            return
        self._busy = True
        if self.parting and self._revision is not None:
            yield Remove(member_key(self.id), self._revision, self._removed)
        elif self._beat_at <= now and not self.parting:
            yield self._beat(now)
        else:
            yield Read(MEMBERS, self._read)

    def _beat(self, now: float) -> Write:
        self._seq += 1
        self._pledged, self.writing = None, True
        member = Member(
            id=self.id,
            identity=self._identity,
            seq=self._seq,
            ready=self._waited(now),
            order=self._order,
            catalogue=self.catalogue,
            ttl=self._ttl,
            token=self._tally.token,
        )
        value = member.text()
        return Write(member_key(self.id), value, self._revision, None, partial(self._wrote, now, member, value))

    def _waited(self, now: float) -> bool:
        """Whether every term that an engine which forgot everything may have forgotten is over by now."""
        return self._present_since is not None and now - self._present_since >= self._roster.longest_ttl

    def _wrote(self, sent: float, member: Member, value: str, reply: str | Failure) -> None:
        now = self._clock()
        self._busy = self.writing = False
        if isinstance(reply, EngineUnavailable):
            self._tally.failed(reply)
            self._beat_at = now + self._ttl * RETRY
        elif isinstance(reply, EngineConflict):  # by an own write that came late, or the engine forgot: the read tells
            self._beat_at, self._read_at = inf, -inf
        else:
            self._keep(reply, value, member.seq, now)
            self._pledged = sent
            self._beat_at = sent + self._ttl * BEAT
            if not member.ready and self._present_since is not None:
                self._beat_at = min(self._beat_at, self._present_since + self._roster.longest_ttl)
            self._read_at = -inf

    def _read(self, reply: list[EngineRecord] | Failure) -> None:
        now = self._clock()
        self._busy = False
        if isinstance(reply, EngineUnavailable | EngineConflict):
            if isinstance(reply, EngineUnavailable):
                self._tally.failed(reply)
            self._read_at = now + self._ttl * RETRY
            return
        self._roster.update(reply, now)
        self._tally.token = max(self._tally.token, *(one.token for one in self._roster.members), 0)
        self._last_read, self._read_at = now, inf
        own = next((one for one in reply if one.key == member_key(self.id)), None)
        if self.parting:
            self._revision, self.gone, self._read_at = own.revision if own else None, own is None, -inf
        elif not self._recognised(own, now):
            self.end()
        elif self._pledged is not None:
            self._good(self._pledged)
        elif self._beat_at == inf:
            self._beat_at = -inf if self._seq == 0 else now + self._ttl * RETRY
        self._order = self._order or 1 + max((one.order for one in self._roster.members), default=0)

    def _good(self, sent: float) -> None:
        self._pledged = None
        if self.begun:
            self.check()
        if not self.over:
            self.term.until = sent + self._ttl * TERM
            self.begun = True
            self._tally.beats += 1
            self._tally.trouble = ""

    def _recognised(self, own: EngineRecord | None, now: float) -> bool:
        """Whether the engine has the own record as it should: if not, it lost what it had answered for.

        If its memory is the same, it may have a later one than it answered for, a write whose answer was lost, or the
        same at another revision: somebody put a label on it.
        """
        known = self.present
        if own is None:
            return known is None
        if known is not None and own.revision == known.revision:
            return True
        if known is not None and own.value == known.value and own.memory == known.memory:
            self._revision = own.revision
            return True
        seq = Member.parse(own.key, own.value, self._ttl).seq
        if seq <= self._known_seq or (known is not None and own.memory != known.memory):
            return False
        self._keep(own.revision, own.value, seq, now)
        self._beat_at = -inf
        return True

    def _keep(self, revision: str, value: str, seq: int, now: float) -> None:
        self._revision, self._value, self._known_seq = revision, value, seq
        if self._present_since is None:
            self._present_since = now

    def _removed(self, reply: Failure | None) -> None:
        self._busy = False
        self.gone = reply is None
        self._revision = None  # a write of before may have come late: the read tells
        if isinstance(reply, EngineUnavailable):
            self._tally.failed(reply)
            self._read_at = self._clock() + self._ttl * RETRY
