"""What conditions look at, shared between rules: for each value or status in them, a store for each group of tags."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.history import Window
from vedette.alerts.latest import Each, Latest, Worst
from vedette.metrics import Status
from vedette.rules.tree import STATUSES, Selector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vedette.metrics import Tags
    from vedette.rules.model import Source
    from vedette.rules.tree import Tag

Group = tuple[str, ...]
"""The values of the tags that a condition is grouped by."""

MOST_GROUPS: Final = 1_000
"""Groups of one value; more are left out, and counted."""
BADNESS: Final = {Status.OK: 0, Status.WARNING: 1, Status.UNKNOWN: 2, Status.CRITICAL: 3}
CRITICAL: Final = STATUSES.index("critical")

Store = Window | Latest | Each | Worst


@dataclass(slots=True, eq=False)
class Term:
    """One value or status that conditions look at, with what was seen of it in each group.

    Attributes:
        text: what it is called, among all that look at the same.
        by: the tags that it is grouped by.
        make: makes the store of a group.
        sources: who may emit it, as the configuration tells.
        kind: what its numbers mean; empty if nobody knows.
        counted: whether nothing coming means 0.
        heard: who does emit it, by group.
        before: who did before the start, and was not configured to.
        here: who ran since then: only those of `before` emit it still.
        rules: those that must know of new groups.
        left_out: series for which there was no room.
    """

    text: str
    by: tuple[str, ...]
    make: Callable[[Group], Store]
    selector: Selector | None = None
    sources: tuple[Source, ...] = ()
    kind: str = ""
    counted: bool = False
    heard: dict[Group, set[str]] = field(default_factory=dict)
    before: dict[Group, set[str]] = field(default_factory=dict)
    here: Mapping[str, object] = field(default_factory=dict)
    stores: dict[Group, Store] = field(default_factory=dict)
    rules: list[Any] = field(default_factory=list)
    left_out: int = 0

    def store(self, group: Group) -> Store:
        """That of a group, made if it is not there."""
        made = self.stores.get(group)
        if made is None:
            made = self.stores[group] = self.make(group)
        return made

    def read_by(self, group: Group) -> Store:
        """What a group's condition looks at: its own, or that of series which lack the tags."""
        return self.stores[()] if self.by and group not in self.stores and () in self.stores else self.store(group)

    def emitters(self, group: Group) -> set[str]:
        """The instances that emit it in a group, or may."""
        configured = {one.instance for one in sources_of(self, group)}
        return configured | self.heard.get(group, set()) | (self.before.get(group, set()) & self.here.keys())


def sources_of(term: Term, group: Group) -> Sequence[Source]:
    """Who may emit it in this group, as the configuration tells."""
    if "instance" in term.by and group:
        names = names_in(group[term.by.index("instance")])
        return [one for one in term.sources if one.instance.partition("/")[2] in names]
    return term.sources


def names_in(tag: str) -> set[str]:
    """The instances that a group's `instance` may mean: several where a series has such a tag of its own, too."""
    return {tag, *tag.split(",")}


def is_empty(store: Store, now: float) -> bool:
    """Whether nothing that was seen counts any more."""
    if isinstance(store, Window):
        return store.is_empty(now)
    if isinstance(store, Each):
        return all(is_empty(one, now) for one in store.members.values())
    return store.last(now) is None


def fits(wanted: Sequence[Tag], tags: Tags) -> bool:
    """Whether a series has the tags that are wanted."""
    for tag in wanted:
        pairs = (one.partition(":") for one in tags)
        has = any(key == tag.key and fnmatchcase(value, tag.value) for key, _, value in pairs)
        if has is not tag.wanted:
            return False
    return True


def group_of(by: tuple[str, ...], tags: Tags) -> Group:
    """The values of these tags; empty where one is missing."""
    if not by:
        return ()
    values: dict[str, str] = {}
    for tag in tags:
        key, _, value = tag.partition(":")
        if key in by:
            values[key] = f"{values[key]},{value}" if key in values else value
    return tuple(values[key] for key in by) if len(values) == len(by) else ()
