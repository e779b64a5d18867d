"""Sums by group that follow each change, so that a run costs what there is to report and not what there is in all."""

from __future__ import annotations

from dataclasses import dataclass

Group = tuple[str, str, str]
"""Namespace, kind and name of a workload, or `("", "", node)`."""


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A series of a group; told from others by identity, since it is hashed a hundred times a pod.

    Attributes:
        metric: its name.
        tags: tags beside the group's.
        nano: whether amounts are in billionths.
    """

    metric: str
    tags: tuple[str, ...] = ()
    nano: bool = False


Parts = tuple[tuple[Key, int], ...]
"""What one object adds to the sums of its group."""


class Ledger:
    """Sums of each group; a group goes with its last member, so that what is kept is bounded by what exists.

    A sum that falls to 0 stays 0 while its group has members, since a series that just ends never clears an alert.
    """

    def __init__(self) -> None:
        self.groups: dict[Group, dict[Key, int]] = {}
        self.members: dict[Group, int] = {}

    def add(self, group: Group, parts: Parts, times: int = 1) -> None:
        """An object joins a group, or several that are alike."""
        sums = self.groups.get(group)
        if sums is None:
            sums = self.groups[group] = {}
            self.members[group] = 0
        self.members[group] += times
        for key, amount in parts:
            sums[key] = sums.get(key, 0) + amount * times

    def take(self, group: Group, parts: Parts) -> None:
        """An object leaves a group, with what it had added."""
        left = self.members[group] - 1
        if not left:
            del self.groups[group], self.members[group]
            return
        self.members[group] = left
        sums = self.groups[group]
        for key, amount in parts:
            sums[key] -= amount
