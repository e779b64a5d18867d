"""Floor 4: how the fleet is, as one of its members sees it: for the status and the self-report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vedette.fleet.records import identity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.engine import Engine
    from vedette.fleet.participant import Participant

State = Literal["joining", "member", "lost", "left"]


@dataclass(frozen=True, slots=True)
class MemberVitals:
    """One member.

    Attributes:
        id: member id.
        identity: what people call the agent.
        ready: whether it may own instances.
        me: whether it is this agent.
        age: seconds since its record was seen to change.
        owns: how many of the instances that this agent knows it owns.
    """

    id: str
    identity: str
    ready: bool
    me: bool
    age: float
    owns: int


@dataclass(frozen=True, slots=True)
class FleetVitals:
    """The fleet.

    Attributes:
        name: of the fleet.
        backend: of the engine.
        me: this agent's member id.
        state: `lost`: the engine has not answered for so long that nothing may be run.
        members: all that have a record, in the order of their ids.
        leader: identity of the ready member that came first; empty if there is none.
        owners: identity of the last known owner by instance id; of the instances in this agent's configuration.
        moves: changes of an owner that were noticed.
        beats: good ones.
        errors: requests that the engine did not answer.
        claims: writes of claims: of owners and of states.
        left: seconds until the term ends, unless a beat extends it.
        trouble: why the engine cannot be used; empty while it can.
    """

    name: str
    backend: str
    me: str
    state: State
    members: tuple[MemberVitals, ...]
    leader: str
    owners: Mapping[str, str]
    moves: int
    beats: int
    errors: int
    claims: int
    left: float
    trouble: str


def vitals(part: Participant, engine: Engine[Any], state: State, now: float) -> FleetVitals:
    """What this agent's part knows at `now`."""
    seat, tally = part.seat, part.tally
    owners = {one.instance: one.claim.owner for one in part.tenures.values() if one.claim.owner}
    owned = Counter(owners.values())
    sightings = sorted(part.roster, key=lambda one: one.member.id)
    leader = min(((one.member.order, one.member.id) for one in sightings if one.member.ready), default=(0, ""))[1]
    return FleetVitals(
        name=engine.config.name,
        backend=engine.config.backend,
        me=seat.id,
        state=state,
        members=tuple(
            MemberVitals(
                id=one.member.id,
                identity=one.member.identity,
                ready=one.member.ready,
                me=one.member.id == seat.id,
                age=max(0.0, now - one.since),
                owns=owned[one.member.id],
            )
            for one in sightings
        ),
        leader=identity_of(leader),
        owners={instance: identity_of(owner) for instance, owner in owners.items()},
        moves=tally.moves,
        beats=tally.beats,
        errors=tally.errors,
        claims=tally.claims,
        left=seat.term.left if seat.begun else 0.0,
        trouble=tally.trouble,
    )
