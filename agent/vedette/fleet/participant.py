"""Floor 4: one agent's part in the fleet's protocol, without a clock of its own, a network or a task.

It says what to ask of the engine (`requests`) and when there will be more to ask (`due`); each request knows what to
do with its answer. Whoever drives it asks again after every answer. docs/fleet.md says why it is safe.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, Any

from vedette.engine import EngineConflict, EngineUnavailable
from vedette.fleet.records import CLAIMS, Catalogue
from vedette.fleet.requests import Read, Remove
from vedette.fleet.roster import Roster, Sighting, elect, member_key, weight
from vedette.fleet.seat import BEAT, HINTED, RETRY, Seat, Tally
from vedette.fleet.shelf import SWEEP, Shelf
from vedette.fleet.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vedette.engine import EngineRecord
    from vedette.fleet.records import Mode
    from vedette.fleet.requests import Failure, Request
    from vedette.fleet.vitals import State

_AT_ONCE = 3
"""Requests about claims that may be under way together: fewer than an engine has connections, so that no beat waits."""
_FORMER = 8
"""Own ids of before whose records are removed at once; an older one's, written late, is dead after a ttl."""
_REMEMBERED = 50_000
"""Weights: of a thousand instances for fifty agents."""


class Participant:
    """Joins, and joins anew whenever its seat is over; finds out what it shall own, and owns it.

    Args:
        identity: what people call the agent.
        ttl: seconds.
        clock: seconds, going on in a suspend.
        new_id: makes 16 hex digits that nobody made before.
    """

    def __init__(self, identity: str, ttl: float, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self.identity = identity
        self.roster = Roster(ttl)
        self.tally = Tally()
        self.leaving = False
        """On its way out, or gone."""
        self._ttl = ttl
        self._clock = clock
        self._new_id = new_id
        self._wanted = Catalogue.of({})
        self._known: dict[str, Mapping[str, Mode]] = {}
        self._weigh = lru_cache(_REMEMBERED)(weight)
        self._former: deque[str] = deque(maxlen=_FORMER)
        self._removing: dict[str, float] = {}
        self._now = -inf
        self._sit()

    def _sit(self) -> None:
        member_id = f"{self.identity}_{self._new_id()}"
        self.seat = Seat(member_id, self.identity, self.roster, self._ttl, self._clock, self.tally)
        self.tenures: dict[str, Tenure] = {}
        self._shelf = Shelf(self._wanted, self._known, self._ttl, self._clock, self.tally)
        self._active: list[Tenure] = []
        self._turn = 0
        self._decided = (-1, -1, False)
        self._claims_busy = False
        self._claims_at = self._last_claims = -inf
        self._waiting_since = inf

    @property
    def ready(self) -> bool:
        """Whether the others count with this agent."""
        own = self.roster.get(self.seat.id)
        return own is not None and own.member.ready and self.seat.begun and self.seat.term.current

    @property
    def left(self) -> bool:
        """Gone from the fleet, for good."""
        return self.leaving and self.seat.gone

    @property
    def state(self) -> State:
        """In a word."""
        if self.left:
            return "left"
        if self.ready:
            return "member"
        return "joining" if not self.tally.trouble or (self.seat.begun and self.seat.term.current) else "lost"

    @property
    def held(self) -> dict[str, Tenure]:
        """Those with a lease."""
        return {one.instance: one for one in self._active if one.lease is not None}

    def want(self, modes: Mapping[str, Mode]) -> None:
        """What this agent's configuration has for the fleet."""
        self._wanted = Catalogue.of(modes)
        self._shelf.want(self._wanted)

    def hint(self) -> None:
        """Something may have changed in the engine."""
        self.seat.look()
        if any(one.mine and not one.owned for one in self._active):
            self._claims_at = min(self._claims_at, self._last_claims + self._ttl * HINTED)

    def stopped(self, instance: str, token: int) -> None:
        """What ran under a lease that was taken back has ended."""
        if (tenure := self.tenures.get(instance)) is not None:
            tenure.stopped(token)

    def save(self, instance: str, values: Mapping[str, Any], done: Callable[[bool], None]) -> None:
        """Merge values into the state of an instance; see `Tenure.save`."""
        if (tenure := self.tenures.get(instance)) is not None:
            tenure.save(values, done)
        else:
            done(False)

    def leave(self) -> None:
        """Give up everything: write what was saved, then remove the own record, which sets all claims free."""
        self.leaving = True
        for tenure in self.tenures.values():
            tenure.close()

    def part(self) -> None:
        """Remove the own record now, whatever is unwritten."""
        self.leaving = True
        self._end()
        self.seat.part()

    def retire(self) -> None:
        """Hold nothing, ask nothing: for good."""
        self.leaving = True
        self._end()
        self.seat.gone = True

    @property
    def due(self) -> float:
        """When there is more to ask, if no answer comes before."""
        times = [self.seat.due, *(one.due(self._now) for one in self._active)]
        if not self.leaving:
            times += [self._removal(one) for one in self._others()]
            times.append(self._shelf.due(self.roster.named))
            times.append(self._claims_at if self.tenures and not self._claims_busy else inf)
        return min(times)

    def requests(self) -> list[Request]:
        """What to ask now."""
        now = self._now = self._clock()
        self.seat.check()
        if self.seat.over and not self.seat.parting:
            self._end()
            if not self.leaving:
                self._sit()
        if self.leaving:
            if not self.seat.parting and not any(one.unwritten for one in self._active):
                self.part()
            return [*self.seat.requests(), *self._tend()]
        if self._shelf.stored and self._shelf.stored != self.seat.catalogue:
            self.seat.catalogue = self._shelf.stored
            self.seat.hasten()
        grounds = (self.roster.version, self._shelf.version, self.ready)
        if self._decided != grounds:
            self._decided = grounds
            self._decide(now)
        shelf = self._shelf.requests(self.roster.named)
        return [*self.seat.requests(), *self._bury(now), *shelf, *self._survey(now), *self._tend()]

    def _end(self) -> None:
        self.seat.end()
        self._former.append(self.seat.id)
        for tenure in self.tenures.values():
            tenure.lose()

    def _others(self) -> Iterator[Sighting]:
        return (one for one in self.roster if one.member.id != self.seat.id)

    # What this seat shall own

    def _decide(self, now: float) -> None:
        """Rank anew: the members, or what they have, are different."""
        wanted, ready = self._wanted.modes, self.ready
        members = [one for one in self.roster.members if one.ready]
        for instance in wanted:
            if instance not in self.tenures:
                self.tenures[instance] = Tenure(instance, self.seat, self._ttl, self._clock, self.tally)
        for instance, tenure in list(self.tenures.items()):
            eligible = ready and instance in wanted
            tenure.assign(eligible and elect(instance, members, self._known, self._weigh) == self.seat.id)
            if instance not in wanted and tenure.idle:
                del self.tenures[instance]
        self._sort()
        unknown = any(one.mine and not one.known for one in self._active)
        self._claims_at = min(self._claims_at, now if unknown else now + self._ttl * BEAT)

    def _sort(self) -> None:
        self._active = [one for one in self.tenures.values() if not one.idle]

    def _tend(self) -> Iterator[Request]:
        """Owners before states, and states in turn: a slow engine must not leave the last ones out for ever."""
        room = _AT_ONCE - sum(one.busy for one in self._active)
        if room <= 0:
            return
        held = [one for one in self._active if one.lease is not None]
        first = self._turn % max(1, len(held))
        for tenure in (*(one for one in self._active if one.lease is None), *held[first:], *held[:first]):
            if (request := tenure.request(self.roster)) is not None:
                self._turn += tenure.lease is not None
                room -= 1
                yield request
                if room <= 0:
                    return

    # What the engine has of all

    def _survey(self, now: float) -> Iterator[Request]:
        """Read the claims: often while one is waited for, which its owner is about to give up; else now and then."""
        if self.tenures and now >= self._claims_at and not self._claims_busy:
            self._claims_busy = True
            yield Read(CLAIMS, partial(self._surveyed, self.seat, now))

    def _surveyed(self, seat: Seat, asked: float, reply: list[EngineRecord] | Failure) -> None:
        if seat is not self.seat:
            return
        self._claims_busy = False
        now = self._last_claims = self._clock()
        if isinstance(reply, EngineUnavailable | EngineConflict):
            self._failed(reply)
            self._claims_at = now + self._ttl * RETRY
            return
        records = {record.key: record for record in reply}
        for tenure in self.tenures.values():
            tenure.update(records.get(f"{CLAIMS}{tenure.instance}"), asked)
        self._sort()
        waiting = any(one.mine and not one.owned for one in self._active)
        self._waiting_since = min(self._waiting_since, now) if waiting else inf
        pause = SWEEP if not waiting else RETRY if now < self._waiting_since + self._ttl else BEAT
        self._claims_at = now + self._ttl * pause

    def _bury(self, now: float) -> Iterator[Request]:
        """Remove the records of those who are dead, and of those that this agent was before."""
        if self._removing:  # what others removed meanwhile is not tried again
            self._removing = {id_: at for id_, at in self._removing.items() if id_ in self.roster or at == inf}
        for one in list(self._others()):
            if self._removal(one) <= now:
                self._removing[one.member.id] = inf
                yield Remove(member_key(one.member.id), one.revision, partial(self._buried, one))

    def _removal(self, one: Sighting) -> float:
        dead_at = -inf if one.member.id in self._former else one.expires
        return max(dead_at, self._removing.get(one.member.id, -inf))

    def _buried(self, one: Sighting, reply: Failure | None) -> None:
        if reply is None:
            del self._removing[one.member.id]
            self.roster.drop(one.member.id, one.revision)
            return
        self._failed(reply)
        self._removing[one.member.id] = self._clock() + self._ttl * RETRY
        self.seat.look()

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure, EngineUnavailable):
            self.tally.failed(failure)
