"""Whose say it is: the alerts of an instance that one agent of the fleet runs go where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.book import Book
    from vedette.alerts.course import Course
    from vedette.alerts.estate import Estate
    from vedette.alerts.memory import Memory
    from vedette.alerts.rule import Case
    from vedette.alerts.teller import Tell, Teller
    from vedette.lease import Lease


class Claims:
    """The leases that came with batches, and what they mean for incidents. Times are steady seconds.

    Args:
        book: the rules in force.
        memory: where incidents are kept.
        estate: finds the case that an incident goes on in.
        course: knows what may change by time alone.
        teller: tells people.
    """

    def __init__(self, book: Book, memory: Memory, estate: Estate, course: Course, teller: Teller) -> None:
        self.resume: Tell | None = None
        """Told of an incident that another agent told of and that is this one's from now on."""
        self.forget: Callable[[str], None] | None = None
        """Told of the key of an incident that is another agent's from now on."""
        self._leases: dict[str, Lease] = {}
        self._book = book
        self._memory = memory
        self._estate = estate
        self._course = course
        self._teller = teller

    def holds(self, instance: str) -> bool:
        """Whether this agent has the say about what the instance shows."""
        lease = self._leases.get(instance)
        return lease is not None and lease.held

    @property
    def held(self) -> list[str]:
        """The instances of which it has the say now."""
        return [instance for instance, lease in self._leases.items() if lease.held]

    def take_over(self, instance: str, lease: Lease, now: float) -> None:
        """A batch came under a lease: if it is another than before, its alerts go on where they are said to be."""
        if self._leases.get(instance) is lease:
            return
        self._leases[instance] = lease
        seen = max(self._book.completed.get(instance, 0.0), self._memory.held_before(instance))
        self._book.begin_anew(instance, seen, now)
        self._estate.settle(instance, now)
        for case in self._book:
            if case.home == instance or _may_follow(case, instance):
                kept = self._memory.incident(instance, case.key)
                if kept is not None or case.home == instance:
                    case.home = instance
                    case.incident.reset()
                    self._estate.take_up(case, kept, now)
                    self._course.note(case)
                    if case.incident.told and self.resume is not None:
                        self.resume(self._teller.alert(case, "firing", now), case.rule.config.notify)

    def follow(self, case: Case, instance: str, now: float) -> None:
        """From now on the case goes where this instance goes."""
        if case.home == instance:
            return
        case.home = instance
        if case.incident.stage == "ok" and not case.incident.told:
            self._estate.take_up(case, self._memory.incident(instance, case.key), now)
            self._course.note(case)

    def leave(self, instance: str) -> bool:
        """The instance ends here; returns whether that was under a lease: then nobody here has the say any more."""
        if self._leases.pop(instance, None) is None:
            return False
        self._memory.leave(instance)
        for case in self._book:
            if case.home == instance:
                if case.incident.told and self.forget is not None:
                    self.forget(case.key)
                case.incident.reset()
                case.home = ""
                for ring in case.compiler.rings:
                    ring.clear()
                self._course.note(case)
        return True


def _may_follow(case: Case, instance: str) -> bool:
    return any(one.instance == instance and one.owned for some in case.rule.sources.values() for one in some)
