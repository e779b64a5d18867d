"""The course of incidents: what becomes of each as its condition is judged, and as time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette.alerts import story
from vedette.units import format_duration

if TYPE_CHECKING:
    from vedette.alerts.rule import Case
    from vedette.alerts.runs import Runs
    from vedette.alerts.teller import Teller


class Course:
    """Has incidents begin, last and end.

    Args:
        teller: tells people.
        runs: how the instances' runs went.
    """

    def __init__(self, teller: Teller, runs: Runs) -> None:
        self._teller = teller
        self._runs = runs
        self.busy: dict[str, Case] = {}
        """Cases that may change without anything coming."""

    def note(self, case: Case) -> None:
        """Keep in mind whether it may change without anything coming."""
        case.calm = case.incident.stage == "ok"
        if not case.calm or case.watches_silence:
            self.busy[case.key] = case
        else:
            self.busy.pop(case.key, None)

    def step(self, case: Case, verdict: bool | None, now: float, pace: float | None) -> None:
        """Go on by one evaluation.

        Args:
            case: a rule in a group.
            verdict: whether its condition holds; None where that is not known.
            now: steady seconds.
            pace: the interval of what came; None if only time has passed.
        """
        incident = case.incident
        was_lost, was_dark, done = incident.lost, incident.dark, ""
        if verdict is None or (pace is None and incident.stage == "pending"):
            self._wait(case, now, blind=verdict is None)
        else:
            if pace is not None:
                if incident.stage == "pending" and now - case.fresh > case.hole:
                    incident.since = now
                case.fresh, case.pace = now, pace
            keep = case.keep
            asked = (lambda: keep(now)) if keep is not None else _no
            done = incident.step(verdict, asked, case.rule, now, fresh=pace is not None)
        if done == "resolved":
            self.end(case, now)
            return
        if done:
            self.note(case)
        told = incident.stage == "firing" and self._teller.speak(case, now)
        if not told and (done or incident.lost != was_lost or (was_dark and not incident.dark)):
            self._teller.keep(case, now)

    def _wait(self, case: Case, now: float, *, blind: bool) -> None:
        """Nothing has come: what is pending ends after a while, and so does what fires and cannot come any more."""
        incident = case.incident
        if incident.stage == "pending":
            if now - case.fresh > case.hole:
                self.end(case, now)
        elif incident.stage == "firing" and blind:
            if not incident.dark:
                incident.dark = now
                self._teller.keep(case, now)
            after = case.rule.config.expire
            if after and now - incident.dark >= after and self._ran_since(case, incident.dark):
                self.end(case, now, f"no data has come for {format_duration(after)}")

    def _ran_since(self, case: Case, moment: float) -> bool:
        """Whether those looked since from whom it came, and there was nothing: then it is not the looking that fails.

        Where that is not known any more, as after a restart, those that may emit it and that run here.
        """
        names = case.compiler.heard
        if not names:
            sources = story.sources_of(case)
            names = {one for one in sources if one in self._runs.numbers}
            if not names:
                return not sources
        looked = self._runs.completed
        return all(looked.get(one, 0.0) > moment and not self._runs.is_down(one, moment) for one in names)

    def keep_all(self, now: float) -> None:
        """Have all outlast a restart as they are now."""
        for case in self.busy.values():
            if case.incident.stage != "ok":
                self._teller.keep(case, now)

    def end(self, case: Case, now: float, why: str = "") -> None:
        """It is over."""
        if case.incident.stage == "firing":
            case.over = now
        try:
            self._teller.end(case, now, why)
        finally:
            self.note(case)


def _no() -> bool:
    return False
