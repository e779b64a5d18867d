"""What one node of a cluster says of the whole: nodes, slots, state.

CLUSTER NODES has everything since Redis 3 but the endpoints that clients are meant to use, which CLUSTER SLOTS adds.
https://redis.io/docs/latest/commands/cluster-nodes/ and …/cluster-slots/
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from vedette_checks.redis.info import parse_info

SLOTS: int = REDIS_CLUSTER_HASH_SLOTS
Ranges = tuple[tuple[int, int], ...]
"""Slots, as (first, last)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as another one sees it.

    Attributes:
        id: its id in the cluster.
        host: where clients reach it; empty if it is the host of whoever was asked.
        port: its port; 0 if it is not known.
        flags: `master`, `slave`, `fail?`, `fail`, `noaddr`, ….
        primary: id of its primary, empty if it has none.
        slots: the slots it serves.
        hostname: the name that it announces, or empty.
    """

    id: str
    host: str
    port: int
    flags: frozenset[str]
    primary: str
    slots: Ranges
    hostname: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def visitable(self) -> bool:
        """Whether it is a member with an address."""
        return self.port > 0 and not self.flags & {"noaddr", "handshake"}

    @property
    def is_primary(self) -> bool:
        """Whether it is a primary."""
        return "master" in self.flags

    @property
    def down(self) -> bool:
        """Whether most primaries agree that it does not answer."""
        return "fail" in self.flags

    @property
    def suspected(self) -> bool:
        """Whether it does not answer the node that was asked."""
        return "fail?" in self.flags

    @property
    def slot_count(self) -> int:
        """How many slots it serves."""
        return sum(last - first + 1 for first, last in self.slots)

    def serves(self, slot: int) -> bool:
        """Whether the slot is among its own."""
        return any(first <= slot <= last for first, last in self.slots)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Shards:
    """The cluster as one node sees it.

    Attributes:
        source: that node's address, as it was asked.
        info: the fields of CLUSTER INFO.
        members: the nodes, primaries first.
    """

    source: str
    info: Mapping[str, str]
    members: Sequence[Member]

    @cached_property
    def _owners(self) -> list[tuple[int, int, Member]]:
        spans = ((first, last, member) for member in self.members for first, last in member.slots)
        return sorted(spans, key=lambda span: span[:2])

    @property
    def well(self) -> bool:
        """Whether the node is in a cluster that serves."""
        return self.info.get("cluster_state") == "ok" and bool(self._owners)

    @property
    def soundness(self) -> tuple[bool, bool, int]:
        """The greater, the more this view is to be believed: of a working cluster rather than of a node cut off."""
        return self.well, bool(self._owners), sum(not member.down for member in self.members)

    def owner(self, slot: int) -> Member | None:
        """The primary that serves this slot, or None."""
        place = bisect_right(self._owners, slot, key=lambda span: span[0]) - 1
        if place < 0 or self._owners[place][1] < slot:
            return None
        return self._owners[place][2]

    def uncovered(self) -> Ranges:
        """The slots that belong to no node."""
        gaps, expected = [], 0
        for first, last, _ in self._owners:
            if first > expected:
                gaps.append((expected, first - 1))
            expected = max(expected, last + 1)
        if expected < SLOTS:
            gaps.append((expected, SLOTS - 1))
        return tuple(gaps)

    def replicas(self, member: Member) -> int:
        """How many replicas of this primary are not down."""
        return sum(one.primary == member.id and not one.down for one in self.members)


def read_shards(source: str, host: str, info: bytes, nodes: bytes, slots: Any) -> Shards:
    """The cluster from the replies to CLUSTER INFO, NODES and SLOTS.

    Args:
        source: address of the node that was asked, for people.
        host: the host part of it, which nodes without one share.
        info: reply to CLUSTER INFO.
        nodes: reply to CLUSTER NODES.
        slots: reply to CLUSTER SLOTS; an exception if it was refused.
    """
    members = [_member(line) for line in nodes.decode("utf-8", "replace").splitlines() if line]
    endpoints = {} if isinstance(slots, Exception) else _endpoints(slots)
    named = any(endpoints.get(member.id) == member.hostname != "" for member in members)
    nameless = None in endpoints.values()
    placed = []
    for member in members:
        endpoint = endpoints.get(member.id, member.hostname if named and member.hostname else member.host)
        if endpoint is None or (nameless and member.id not in endpoints):
            endpoint = ""  # the cluster does not tell endpoints: all share the host of the one that was asked
        elif endpoint == "?":  # prefers names, and has none for this one
            endpoint = member.host
        placed.append(replace(member, host=endpoint or host))
    placed.sort(key=lambda member: (not member.slots, not member.is_primary, member.id))
    return Shards(source, parse_info(info), placed)


def _member(line: str) -> Member:
    """A line: id, ip:port@cport,hostname, flags, primary, ping sent, pong received, epoch, link state, slots."""
    name, address, flags, primary, _, _, _, _, *slots = line.split(" ")
    place, _, rest = address.partition(",")
    host, _, port = place.partition("@")[0].rpartition(":")
    return Member(
        name,
        host,
        int(port or 0),
        frozenset(flags.split(",")),
        "" if primary == "-" else primary,
        tuple(_range(slot) for slot in slots if not slot.startswith("[")),  # in brackets: slots that are on the move
        rest.partition(",")[0],
    )


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _endpoints(reply: Iterable[Any]) -> dict[str, str | None]:
    """Preferred endpoint by node id, from rows of (first slot, last slot, (endpoint, port, id, …), …)."""
    found: dict[str, str | None] = {}
    for _, _, *nodes in reply:
        for endpoint, _, name, *_ in nodes:
            found[name.decode()] = None if endpoint is None else endpoint.decode("utf-8", "replace")
    return found


def slot_of(key: str) -> int:
    """The slot of a key, by its hash tag if it has one."""
    return key_slot(key.encode())


def hash_tag(member: Member) -> str:
    """A hash tag, with its braces, whose slot this node serves; a key with it belongs there.

    Raises:
        ValueError: it serves no slot.
    """
    if not member.slots:
        raise ValueError("a node without slots holds no keys")
    number = 0
    while not member.serves(slot_of(f"{{{number:x}}}")):
        number += 1
    return f"{{{number:x}}}"


def spoken(ranges: Ranges, most: int = 5) -> str:
    """Slots for people: `0-99, 500 and 3 more ranges`."""
    texts = [f"{first}-{last}" if last > first else str(first) for first, last in ranges[:most]]
    more = f" and {len(ranges) - most} more ranges" if len(ranges) > most else ""
    return ", ".join(texts) + more
