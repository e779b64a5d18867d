"""A flow as configured, and what its requests leave behind: which answers tell it, which cleanup steps take it back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from vedette_checks.synthetic.step import Step


class Plan:
    """A flow as configured, thought through once.

    Args:
        steps: its steps.
        cleanup: what takes them back.
        cleanup_timeout: seconds for that.
        cleanup_attempts: runs that try it again.
    """

    def __init__(
        self, steps: Sequence[Step], cleanup: Sequence[Step], cleanup_timeout: float = 0.0, cleanup_attempts: int = 1
    ) -> None:
        self.steps = steps
        self.cleanup = cleanup
        self.cleanup_timeout = cleanup_timeout
        self.cleanup_attempts = cleanup_attempts
        extracted = {name for step in steps for name in step.extractions}
        self._from_steps = _with_helpers(cleanup, lambda step: step.needs)
        named = _with_helpers(cleanup, lambda step: step.names)
        marks = {name: all_ & extracted & named[name] or all_ & extracted for name, all_ in self._from_steps.items()}
        self._marks = frozenset().union(*marks.values())
        """What names a thing that the cleanup takes back: variables that are no mere credentials in headers."""
        self.wanted = frozenset().union(*self._from_steps.values())
        """Variables that the cleanup needs and does not extract for itself."""
        needed = {name for step in cleanup for name in step.needs}
        self._deeds = [step.name for step in cleanup if not needed & step.extractions.keys()]
        """The cleanup steps that are there for themselves; the others only find out what these need."""
        self._takes_back = {
            step.name: [name for name in self._deeds if marks[name] & self._telling(place)]
            for place, step in enumerate(steps)
        }

    def _telling(self, place: int) -> frozenset[str]:
        """The variables that tell what a step did: its own, and those of later steps that only look."""
        telling = set(self.steps[place].extractions)
        for later in self.steps[place + 1 :]:
            if later.config.changes_nothing or self._tells_nothing(place):
                telling |= later.extractions.keys()
        return frozenset(telling)

    def _tells_nothing(self, place: int) -> bool:
        """Whether no answer up to this step's tells of anything that was done.

        Then a later one may, even that of a request that seems to do something of its own, such as a search by POST.
        """
        step, before = self.steps[place], self.steps[: place + 1]
        if step.config.changes_nothing or step.extractions:
            return False
        return not any(self._marks & one.extractions.keys() for one in before)

    def told_late(self) -> tuple[str, str] | None:
        """A step that tells nothing although it may change something, and a later one of that kind that might tell."""
        for place, step in enumerate(self.steps):
            for later in self.steps[place + 1 :] if self._tells_nothing(place) else ():
                if self._marks & later.extractions.keys():
                    return None if later.config.changes_nothing else (step.name, later.name)
        return None

    def untaken(self) -> str:
        """The first step that may change something and that no cleanup step takes back; empty if there is none."""
        missing = {name for step in self.steps for name in step.extractions}
        for step in self.steps:
            ready = any(not self._from_steps[one] & missing for one in self._deeds)
            if not (step.config.changes_nothing or ready or self._takes_back[step.name]):
                return step.name
            missing -= step.extractions.keys()
        return ""

    def must_be_written(self, step: Step, known: Collection[str]) -> bool:
        """Whether, once this request has left, there may be something that a cleanup step could take back.

        Args:
            step: of the flow.
            known: variables that are set.
        """
        if step.config.changes_nothing or not self.cleanup:
            return False
        return bool(self._takes_back[step.name]) or any(self._from_steps[one] <= set(known) for one in self._deeds)

    def traces(self, name: str) -> frozenset[str]:
        """Variables that must be known before what this step did can be taken back; of an unknown step, all."""
        if name not in self._takes_back:  # the configuration has changed since
            return self.wanted
        return frozenset().union(*(self._from_steps[one] for one in self._takes_back[name]))

    def owed(self, done: Collection[str], known: Collection[str]) -> list[Step]:
        """The cleanup steps still to be performed, in order.

        Those that are not done and have from the flow all they need; and those, done or not, that extract what such a
        step needs: a token of an earlier run is not kept, and would be stale.
        """
        owed: list[Step] = []
        needed: set[str] = set()
        for step in reversed(self.cleanup):
            to_do = step.name in self._deeds and step.name not in done and self._from_steps[step.name] <= set(known)
            if to_do or needed & step.extractions.keys():
                owed.insert(0, step)
                needed |= step.needs
        return owed


def _with_helpers(cleanup: Sequence[Step], own: Callable[[Step], frozenset[str]]) -> dict[str, frozenset[str]]:
    """What each cleanup step has of a kind, and has through the steps that extract something for it."""
    made: dict[str, frozenset[str]] = {}
    for place, step in enumerate(cleanup):
        helpers = [one for one in cleanup[:place] if step.needs & one.extractions.keys()]
        found = {name for one in helpers for name in one.extractions}
        made[step.name] = (own(step) - found).union(*(made[one.name] for one in helpers))
    return made
