"""Why nobody is told of what fires: muted, silenced, in maintenance, or hanging on something that is down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vedette.alerts import story
from vedette.alerts.calendar import Calendar, Silences

if TYPE_CHECKING:
    from vedette.alerts.book import Book
    from vedette.alerts.clock import Steady
    from vedette.alerts.rule import Case
    from vedette.alerts.runs import Runs

_LONGEST: Final = 900.0
"""Seconds that what depends on something may take to recover after it; then people are told."""
_PATIENCE: Final = 60.0
"""Seconds that an alert waits at most for a run of what it depends on."""
_LATE: Final = 5.0
_NEVER: Final = float("inf")


class Hush:
    """Knows the reasons for silence.

    Args:
        book: the rules, which may depend on each other.
        runs: how the instances' runs went.
        clock: tells the wall's time, which windows and silences mean.
        silences: what people do not want to be told of.
    """

    def __init__(self, book: Book, runs: Runs, clock: Steady, silences: Silences) -> None:
        self.silences = silences
        self.calendar = Calendar()
        self.started = 0.0
        self._book = book
        self._runs = runs
        self._clock = clock

    def reason(self, case: Case, now: float) -> str:
        """Why nobody is to be told of this now; empty if people are."""
        if case.incident.acknowledged and not case.incident.told:
            return "acknowledged before anybody was told"
        wall = self._clock.wall(now)
        muted = self._muted(case, now, wall)
        if muted:
            return muted
        name, labels = case.rule.name, case.labels
        asked = self.silences.reason(name, labels, wall) or self.calendar.reason(name, labels, wall)
        return asked or (self._blame(case, now) if case.rule.config.depends_on else "")

    def shown(self, case: Case, now: float) -> str:
        """Why people are not told of what fires, for those who ask."""
        if case.incident.stage != "firing":
            return ""
        return (case.quiet if case.last is None else "") or self.reason(case, now)

    def _muted(self, case: Case, now: float, wall: float) -> str:
        """A mute counts if all that the condition holds for are muted: of the others people want to hear."""
        first = ""
        for instance in story.culprits(case, now):
            about = self._runs.about(instance)
            if about is None or about.muted_until <= wall:
                return ""
            first = first or instance
        return f"{first} is muted" if first else ""

    # What it depends on

    def _blame(self, case: Case, now: float) -> str:
        """What it depends on and is down, or was so recently that what hangs on it has had no time to recover."""
        wanted = case.rule.config.depends_on
        for one in wanted:
            if self._is_down(one, case, now):
                case.down, case.pulse, case.blame = now, self._pulse(case), one
                return f"depends on {one}, which is down"
        for one in wanted:  # it may have been down before anything showed here
            down = self._was_down(one, case)
            if down > case.down:
                case.down, case.pulse, case.blame = down, self._pulse(case), one
        if case.down and self._settles(case, now):
            return f"depends on {case.blame}, which has just recovered"
        if not case.incident.told:
            for one in wanted:
                if self._is_awaited(one, case, now):
                    return f"depends on {one}, which has not run since"
                if self._is_brewing(one, case, now):
                    return f"depends on {one}, which may be about to fire"
        return ""

    def _is_down(self, wanted: str, case: Case, now: float) -> bool:
        cases = self._book.cases.get(wanted)
        if cases is None:
            return self._runs.is_down(wanted, now)
        return any(one.incident.stage == "firing" and _agree(one, case) for one in cases.values())

    def _was_down(self, wanted: str, case: Case) -> float:
        """When it was down last, as far as that was seen; 0 if it never was."""
        cases = self._book.cases.get(wanted)
        if cases is None:
            return self._runs.down.get(wanted, 0.0)
        return max((one.over for one in cases.values() if one.over and _agree(one, case)), default=0.0)

    def _settles(self, case: Case, now: float) -> bool:
        """Whether what hung on it has still to show that it is well: by its windows, and by runs if they come."""
        passed = now - case.down
        if passed < case.settling:
            return True
        needed = case.settling_runs
        each = max((self._runs.intervals.get(one, 0.0) for one in story.sources_of(case)), default=0.0)
        bound = min(max((needed + 1) * each, 2 * _LATE), _LONGEST)
        return passed < bound and self._pulse(case) - case.pulse < needed

    def _pulse(self, case: Case) -> int:
        return sum(self._runs.numbers.get(one, 0) for one in story.sources_of(case))

    def _is_awaited(self, wanted: str, case: Case, now: float) -> bool:
        """Whether it has still to run since the condition began to hold, or since the start: it may be the cause."""
        since = case.incident.since
        waited = now - max(case.incident.fired, self.started)
        for instance in self._instances(wanted):
            if self._runs.begun.get(instance, 0.0) >= max(since, self.started):
                continue
            interval = self._runs.intervals.get(instance)
            if interval is None:  # nothing is known of it: none of this agent's, or one that has still to begin
                if now - self.started < _PATIENCE:
                    return True
            elif waited < min(interval + _LATE, _PATIENCE):
                return True
        return False

    def _is_brewing(self, wanted: str, case: Case, now: float) -> bool:
        """Whether it is a rule that has begun to hold, and fires soon if it goes on so: `for` and N runs take time."""
        begun = max(case.incident.fired, self.started)
        if now - begun >= _PATIENCE:
            return False
        each = max((self._runs.intervals.get(one, 0.0) for one in self._instances(wanted)), default=0.0)
        for one in self._book.cases.get(wanted, {}).values():
            if not _agree(one, case):
                continue
            fires = one.incident.since
            if one.incident.stage != "pending":
                missing = min((ring.missing for ring in one.compiler.begins if ring.missing), default=0)
                fires = now + missing * each if missing else _NEVER
            fires += one.rule.config.lasting
            if fires <= begun + _PATIENCE and now < fires + each + _LATE:
                return True
        return False

    def _instances(self, wanted: str) -> list[str]:
        rule = self._book.rules.get(wanted)
        if rule is None:
            return [wanted]
        return list(dict.fromkeys(one.instance for some in rule.sources.values() for one in some))


def _agree(one: Case, other: Case) -> bool:
    """Whether two groups may be about the same: the tags that both are grouped by have the same values."""
    shared = set(one.rule.when.by) & set(other.rule.when.by)
    return all(one.labels.get(key) == other.labels.get(key) for key in shared)
