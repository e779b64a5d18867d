"""Floor 4: who is in the fleet as last read, who has been silent for too long, and who is first for an instance."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from vedette.fleet.records import MEMBERS, Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from vedette.engine import EngineRecord
    from vedette.fleet.records import Mode


@dataclass(frozen=True, slots=True)
class Sighting:
    """A member's record as it was read.

    Attributes:
        member: what it says.
        revision: of the record.
        since: when this revision was first seen here, on this machine's clock.
    """

    member: Member
    revision: str
    since: float

    @property
    def expires(self) -> float:
        """When the member counts as dead unless its record changes."""
        return self.since + self.member.ttl


class Roster:
    """The members' records. Only a record that is not in the engine any more is out: so all agree who is in.

    Args:
        ttl: this agent's own, in seconds.
    """

    def __init__(self, ttl: float) -> None:
        self.longest_ttl = ttl
        """The longest of those who were seen, or gone for less than theirs: no term of anyone lasts longer."""
        self.version = 0
        """Grows when what ranking depends on has changed."""
        self.named: frozenset[str] = frozenset()
        """Digests of the catalogues that members name."""
        self._ttl = ttl
        self._lasting: dict[float, float] = {}
        self._seen: dict[str, Sighting] = {}
        self._standing: set[tuple[str, int, str]] = set()

    def __contains__(self, member_id: object) -> bool:
        return member_id in self._seen

    def __iter__(self) -> Iterator[Sighting]:
        return iter(self._seen.values())

    def get(self, member_id: str) -> Sighting | None:
        """One member, if it is in."""
        return self._seen.get(member_id)

    @property
    def members(self) -> list[Member]:
        """All of them."""
        return [one.member for one in self._seen.values()]

    def update(self, records: Iterable[EngineRecord], now: float) -> None:
        """Take over what was read, at `now` on this machine's clock or before.

        The clock starts when the answer is here, not when the record was written: a member lives longer in others'
        eyes than in its own.
        """
        seen: dict[str, Sighting] = {}
        for key, value, revision in records:
            sighting = self._seen.get(key.removeprefix(MEMBERS))
            if sighting is None or sighting.revision != revision:
                sighting = Sighting(Member.parse(key, value, self._ttl), revision, now)
            seen[sighting.member.id] = sighting
        self._measure((*self._seen.values(), *seen.values()), now)
        self._seen = seen
        self._look()

    def drop(self, member_id: str, revision: str) -> None:
        """A record was removed."""
        seen = self._seen.get(member_id)
        if seen is not None and seen.revision == revision:
            del self._seen[member_id]
            self._look()

    def _measure(self, there: Iterable[Sighting], now: float) -> None:
        """Whoever is not there any more may have beaten since the last look, if the engine forgot it."""
        lasting = {ttl: end for ttl, end in self._lasting.items() if end > now}
        self._lasting = lasting | {one.member.ttl: now + one.member.ttl for one in there}
        self.longest_ttl = max((self._ttl, *self._lasting))

    def _look(self) -> None:
        members = self.members
        self.named = frozenset(one.catalogue for one in members if one.catalogue)
        standing = {(one.id, one.order, one.catalogue) for one in members if one.ready}
        if standing != self._standing:
            self._standing = standing
            self.version += 1


def weight(identity: str, instance: str) -> int:
    """How much an instance belongs to an agent, the same after each restart."""
    return int.from_bytes(blake2b(f"{identity}|{instance}".encode(), digest_size=8).digest(), "big")


def elect(
    instance: str,
    members: Iterable[Member],
    catalogues: Mapping[str, Mapping[str, Mode]],
    weigh: Callable[[str, str], int] = weight,
) -> str:
    """Who shall own an instance: member id, empty if nobody can.

    Candidates are ready and their configuration has the instance. `hash`: rendezvous hashing (Thaler, Ravishankar:
    "Using Name-Based Mappings to Increase Hit Rates", 1998), so that a change moves only what it must. `leader`: who
    came first. While configurations differ on which, `leader` it is, for all alike.

    Args:
        instance: instance id.
        members: the roster.
        catalogues: what is known of the members' configurations, by digest.
        weigh: `weight`, or what remembers its results.
    """
    offers = [
        (mode, one)
        for one in members
        if one.ready and (mode := catalogues.get(one.catalogue, {}).get(instance)) is not None
    ]
    if not offers:
        return ""
    if any(mode == "leader" for mode, _ in offers):
        return min((one.order, one.id) for _, one in offers)[1]
    return max((weigh(one.identity, instance), one.id) for _, one in offers)[1]


def member_key(member_id: str) -> str:
    """Where a member's record is."""
    return f"{MEMBERS}{member_id}"
