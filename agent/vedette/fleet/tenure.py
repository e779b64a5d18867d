"""Floor 4: one instance of the fleet's, seen from one seat: claim it, keep its state, give it up."""

from __future__ import annotations

import logging
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from vedette.engine import EngineConflict, EngineUnavailable
from vedette.fleet.records import CLAIMS, LARGEST, Claim, size
from vedette.fleet.requests import Get, Write
from vedette.fleet.seat import RETRY
from vedette.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from vedette.engine import EngineRecord
    from vedette.fleet.requests import Failure, Request
    from vedette.fleet.seat import Seat, Tally


SOON = 1 / 6
"""Shares of the ttl over which first runs are spread: a takeover has 2 ttl, and takes 4/3 to notice."""

log = logging.getLogger("vedette.fleet")


class Tenure:
    """What a seat knows of an instance's claim, and does about it.

    A lease is granted by one thing only: the answer that a write of this seat's claim was made. Every write names
    the revision it replaces, so this one also voids all writes of before whose outcome is unknown: whatever is
    under way still, such as a release that a network held back, can no longer be made. So an unknown outcome means:
    write again, whatever is right by now; a conflict says to look.

    Args:
        instance: instance id.
        seat: whose.
        ttl: seconds.
        clock: the seat's.
        tally: counts.
    """

    def __init__(self, instance: str, seat: Seat, ttl: float, clock: Callable[[], float], tally: Tally) -> None:
        self.instance = instance
        self.lease: Lease | None = None
        """Granted, and not taken back."""
        self._revoked: Lease | None = None
        """Taken back, and not given up yet."""
        self.inherited: Mapping[str, Any] = {}
        """The state when the lease was granted."""
        self.claim = Claim()
        """The record as last known."""
        self.known = False
        """Whether it was ever read."""
        self.mine = False
        """This seat is the one that shall own it."""
        self._seat = seat
        self._ttl = ttl
        self._clock = clock
        self._tally = tally
        self._revision: str | None = None
        self._halt_by = -inf
        self.busy = False
        """A request is under way."""
        self._look = False
        self._doubt = False
        self._again_at = self._touched = -inf
        self._pending: list[tuple[Mapping[str, Any], Callable[[bool], None]]] = []

    @property
    def owned(self) -> bool:
        """Whether the record says that this seat is the owner; runs it only with a lease, though."""
        return self.claim.owner == self._seat.id

    @property
    def idle(self) -> bool:
        """Whether it is none of this seat's business, and nothing that is under way can make it so."""
        return not (self.mine or self.owned or self.busy or self._doubt)

    @property
    def unwritten(self) -> bool:
        """Whether something was saved that the record does not have yet."""
        return bool(self._pending)

    def due(self, now: float) -> float:
        """When there may be something to do that could not be done at `now`; answers aside."""
        if self.busy:
            return inf
        return min((one for one in (self._again_at, self._halt_by) if one > now), default=inf)

    def save(self, values: Mapping[str, Any], done: Callable[[bool], None]) -> None:
        """Merge into the claim's state, whoever may run it: until the record has another owner it is to be kept.

        Not what would outgrow the engine: that could never be written, and with it the claim never be given up.
        """
        if not self.owned or self._seat.over:
            done(False)
        elif size(Claim(self._seat.id, self.claim.token, self._merged(values)).text()) > LARGEST:
            text = "%s commits more than an engine takes (%d bytes of state): whoever takes over does not get it"
            log.warning(text, self.instance, LARGEST)
            done(False)
        else:
            self._pending.append((values, done))

    def _merged(self, *more: Mapping[str, Any]) -> dict[str, Any]:
        state = dict(self.claim.state)
        for values in (*(values for values, _ in self._pending), *more):
            state.update(values)
        return state

    def assign(self, mine: bool) -> None:
        """Who shall own it was found out anew. A lease that was taken back is given up once its runs have stopped."""
        self.mine = mine
        if not mine and self.lease is not None:
            self.lease.revoke()
            self._revoked, self.lease = self.lease, None
            self._halt_by = self._clock() + self._ttl

    def close(self) -> None:
        """Give up the lease, write what was saved, and leave the record as it is: its owner will be gone."""
        self.assign(False)
        self._halt_by = inf

    def stopped(self, token: int) -> None:
        """What ran under the lease with this token has ended."""
        if self.claim.token == token and self.lease is None and self._halt_by < inf:
            self._halt_by = -inf

    def lose(self) -> None:
        """It is another's, or this seat is over: nothing is kept and nothing is written."""
        self._end_lease()
        pending, self._pending = self._pending, []
        for _, done in pending:
            done(False)

    def _end_lease(self) -> None:
        for lease in (self.lease, self._revoked):
            if lease is not None:
                lease.end()
        self.lease = self._revoked = None

    def update(self, record: EngineRecord | None, asked: float) -> None:
        """Take over the record as it was read, unless a write of ours may have overtaken what was asked at `asked`."""
        revision = record.revision if record else None
        if not self.busy and self._touched < asked and not (self.known and revision == self._revision):
            self._keep(Claim.parse(record.value) if record else Claim(), revision)

    def request(self, alive: Container[str]) -> Request | None:
        """What to ask now, if anything.

        Args:
            alive: ids of the members whose records are in the engine.
        """
        now = self._clock()
        if self.busy or now < self._again_at:
            return None
        if self._look:
            self.busy = True
            return Get(f"{CLAIMS}{self.instance}", self._looked)
        if self.owned and (self.lease is not None or now < self._halt_by):
            return self._write(self._seat.id, self.claim.token) if self._pending else None
        if self.mine:
            return self._take(alive)
        if self._doubt:  # nobody else would find out that the claim was made after all; another token voids it
            return self._write("", self.claim.token + 1)
        return self._write("", self.claim.token) if self.owned else None

    def _take(self, alive: Container[str]) -> Request | None:
        if not self.known or self._seat.writing or self._seat.present is None or not self._free(alive):
            return None
        return self._write(self._seat.id, 1 + self._tally.token)

    def _free(self, alive: Container[str]) -> bool:
        """Whether nobody can have a lease. The living give up by themselves; the dead have no record, and no term."""
        return self.claim.owner in ("", self._seat.id) or self.claim.owner not in alive

    def _write(self, owner: str, token: int) -> Write:
        self.busy, self._touched = True, self._clock()
        if owner != self._seat.id or token != self.claim.token:  # once it is made another one may have a lease
            self._end_lease()
        saved = len(self._pending)
        claim = Claim(owner, token, self._merged())
        guard = self._seat.present if owner and token != self.claim.token else None
        answer = partial(self._wrote, claim, saved, guard is not None)
        return Write(f"{CLAIMS}{self.instance}", claim.text(), self._revision, guard, answer)

    def _wrote(self, claim: Claim, saved: int, claiming: bool, reply: str | Failure) -> None:
        now = self._clock()
        self.busy, self._touched = False, now
        if isinstance(reply, EngineUnavailable):
            self._tally.failed(reply)
            self._doubt = self._doubt or claiming
            self._again_at = now + self._ttl * RETRY
        elif isinstance(reply, EngineConflict):
            self._look = True
        else:
            settled, self._pending = self._pending[:saved], self._pending[saved:]
            self._tally.claims += 1
            if claiming:
                self.inherited = claim.state
            self._keep(claim, reply)
            if claiming and self.mine and not self._seat.over:
                self.lease = Lease(self._seat.term, self.instance, claim.token, self._ttl * SOON)
            for _, done in settled:
                done(True)

    def _looked(self, reply: EngineRecord | Failure | None) -> None:
        now = self._clock()
        self.busy = False
        self._again_at = now + self._ttl * RETRY
        if isinstance(reply, EngineUnavailable):
            self._tally.failed(reply)
        elif not isinstance(reply, EngineConflict):
            self._look = False
            self._keep(Claim.parse(reply.value) if reply else Claim(), reply.revision if reply else None)

    def _keep(self, claim: Claim, revision: str | None) -> None:
        if self.known and claim.token > self.claim.token:
            self._tally.moves += 1
        self._doubt = self._doubt and revision == self._revision
        self.known, self.claim, self._revision = True, claim, revision
        self._tally.token = max(self._tally.token, claim.token)
        if not self.owned or (self.lease is not None and self.lease.token != claim.token):
            self.lose()
