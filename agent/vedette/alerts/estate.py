"""Incidents that began elsewhere: before a reload or the start, on another agent. They go on, or they are over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vedette.alerts import story
from vedette.alerts.heirs import group_of_row, lost
from vedette.alerts.history import Window
from vedette.alerts.latest import Each
from vedette.alerts.terms import names_in
from vedette.rules.model import Rulebook
from vedette.rules.tree import Absent

if TYPE_CHECKING:
    from vedette.alerts.book import Book
    from vedette.alerts.clock import Steady
    from vedette.alerts.course import Course
    from vedette.alerts.memory import Memory
    from vedette.alerts.rule import Case
    from vedette.alerts.teller import Teller
    from vedette.alerts.terms import Group, Store

log = logging.getLogger("vedette.alerts")

_GRACE = 30.0
"""Seconds that an instance that ended may take to begin again, as one does whose tags were changed."""


class Estate:
    """Finds the case that an incident goes on in. Times are steady seconds.

    Args:
        book: the rules in force.
        memory: where incidents are kept.
        teller: tells people of those that are over.
        course: knows what may change by time alone.
        clock: the engine's.
    """

    def __init__(self, book: Book, memory: Memory, teller: Teller, course: Course, clock: Steady) -> None:
        self.rulebook = Rulebook()
        self.ended: dict[str, float] = {}
        """When instances ended here that no other agent goes on with."""
        self._book = book
        self._memory = memory
        self._teller = teller
        self._course = course
        self._clock = clock

    # A reload

    def pass_on(self, case: Case, now: float) -> None:
        """The case is gone: its incident goes on in one of the same rule and group, or is over."""
        rule = self._book.rules.get(case.rule.name)
        why = self._lost(case.rule.name, case.rule.when.by, case.group)
        if rule is None or why:
            self._teller.end(case, now, why)
        else:
            take_over(self._book.adopt(rule, case.group), case)
            self._course.note(self._book.adopt(rule, case.group))

    def evict(self, now: float) -> None:
        """End and forget the groups that these rules do not look at."""
        for case in [one for one in self._book if one.group]:
            why = self._lost(case.rule.name, case.rule.when.by, case.group)
            if why:
                self._forget(case, now, why)

    def _lost(self, name: str, by: tuple[str, ...], group: Group) -> str:
        return lost(self._book.rules.get(name), by, group, complete=self.rulebook.complete)

    # A start, a takeover

    def restore_groups(self, now: float) -> None:
        """Groups of before the start are known, though nothing may come of them: that may be just what is wrong."""
        for rule in self._book.rules.values():
            for group, seen in self._memory.groups(rule, now):
                if not self._lost(rule.name, rule.when.by, group):
                    for store in self._book.adopt(rule, group).compiler.stores:
                        if not isinstance(store, Window) and not store.at:
                            store.at = seen

    def settle(self, home: str, now: float) -> None:
        """Incidents that were kept, and that no case has: their groups come back, or they are over."""
        for key, row in self._memory.incidents(home):
            place = group_of_row(row)
            if place is None:
                log.warning("what was kept of the alert %s makes no sense to this version, and is left out", key)
                continue
            by, group = place
            rule = self._book.rules.get(row["rule"])
            if rule is not None and group in self._book.cases[rule.name] and by == rule.when.by:
                continue
            why = self._lost(row["rule"], by, group)
            if rule is not None and not why:
                self._book.adopt(rule, group)
            elif rule is not None or self.rulebook.whole:
                self._teller.end_row(home, key, row, now, why)

    def take_up(self, case: Case, row: Any, now: float) -> None:
        """Go on where an earlier process was, or another agent."""
        incident = case.incident
        if not isinstance(row, dict):
            return
        incident.restore(row)
        if incident.stage == "ok":
            return
        pace, seen = row.get("pace"), row.get("at")
        case.pace = float(pace) if isinstance(pace, int | float) else 0.0
        alive = self._memory.alive + self._clock.offset
        if isinstance(seen, int | float):
            alive = max(alive, seen)
        if incident.stage == "pending" and now - alive > case.hole:
            incident.reset()
            return
        incident.since, incident.fired = min(incident.since, now), min(incident.fired, now)
        incident.lost = min(incident.lost, now)
        case.fresh = now
        for leaf in case.compiler.leaves if incident.stage == "firing" else ():
            store = leaf.store  # what was missing is missing until something comes
            if isinstance(leaf.node, Absent) and store is not None and not isinstance(store, Window):
                missing = incident.since - leaf.node.seconds
                store.at = min(store.at or missing, missing)

    # An end

    def bury(self, now: float, *, at_once: bool = False) -> None:
        """End and forget the groups of instances that have ended for good; `at_once` if it is known that they have."""
        over = {one for one, at in self.ended.items() if at_once or now - at >= _GRACE}
        if over:
            for case in list(self._book):
                self._bury(case, over, now)
            self.ended = {one: at for one, at in self.ended.items() if now - at < _GRACE}

    def _bury(self, case: Case, over: set[str], now: float) -> None:
        mine = case.labels.get("instance") if "instance" in case.rule.when.by else None
        ended = [self.ended[one] for one in over if mine and one.partition("/")[2] in names_in(mine)]
        if not ended or story.sources_of(case):
            return
        if any(_came_since(store, max(ended)) for store in case.compiler.stores):
            return
        self._forget(case, now, "its instance has ended")

    def _forget(self, case: Case, now: float, why: str) -> None:
        if case.incident.stage != "ok":
            self._teller.end(case, now, why)
        self._course.busy.pop(case.key, None)
        self._book.drop(case)


def take_over(heir: Case, case: Case) -> None:
    """Go on with the incident of a case that is gone."""
    heir.incident, heir.home, heir.fresh, heir.pace = case.incident, case.home, case.fresh, case.pace
    heir.down, heir.pulse, heir.blame, heir.last = case.down, case.pulse, case.blame, case.last


def _came_since(store: Store, moment: float) -> bool:
    if isinstance(store, Each):
        return any(_came_since(one, moment) for one in store.members.values())
    return store.came > moment
