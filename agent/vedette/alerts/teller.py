"""Tells people what becomes of incidents: in such an order of writes that a kill in between repeats it at most."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vedette.alerts import story
from vedette.notifier import Alert

if TYPE_CHECKING:
    from vedette.alerts.clock import Steady
    from vedette.alerts.hush import Hush
    from vedette.alerts.memory import Memory
    from vedette.alerts.rule import Case

Tell = Callable[[Alert, Sequence[str]], None]
"""Tells these notifiers, by name, of a change. It never waits, and what it was given outlasts a restart."""

log = logging.getLogger("vedette.alerts")


class Teller:
    """Says what is to be said, once. Times are steady seconds.

    What is about to be told is kept before, with its moment; that it was told is kept after. So one that was killed in
    between tells it again under the same moment, which notifiers and receivers know as the same message.

    Args:
        memory: where incidents are kept.
        hush: knows the reasons for silence.
        clock: tells the wall's time, which people read.
        saying: gives what an instance says of itself.
        heard: called with all that is told.
    """

    def __init__(
        self,
        memory: Memory,
        hush: Hush,
        clock: Steady,
        saying: Callable[[str], str],
        heard: Callable[[Alert], None] | None,
    ) -> None:
        self.tell: Tell | None = None
        self.told = 0
        self.wait = 0.0
        """Seconds until a reason for silence is asked for again."""
        self._memory = memory
        self._hush = hush
        self._clock = clock
        self._saying = saying
        self._heard = heard

    def speak(self, case: Case, now: float) -> bool:
        """Tell of what fires, unless people know or there is a reason for silence; returns whether it was told."""
        incident, every = case.incident, case.rule.config.every
        if incident.told and (every is None or incident.acknowledged or now - incident.told < every):
            return False
        if case.last is None and not incident.told:
            case.quiet = "what it looks at is not known"
            return False
        if case.quiet and now < case.asked:
            return False
        case.quiet = self._hush.reason(case, now)
        if case.quiet:
            case.asked = now + self.wait
            return False
        reminder = bool(incident.told)
        incident.telling = incident.telling or now
        self._memory.keep(case, now)
        self._say(case, self.alert(case, "firing", now, at=incident.telling, reminder=reminder))
        incident.told, incident.telling = now, 0.0
        self._memory.keep(case, now)
        return True

    def end(self, case: Case, now: float, why: str = "") -> None:
        """It is over: tell those who heard of it."""
        incident = case.incident
        if incident.told or incident.telling:
            incident.ending = incident.ending or now
            self._memory.keep(case, now)
            summary = f"{case.key}: {why}" if why else ""
            self._say(case, self.alert(case, "resolved", now, at=incident.ending, summary=summary))
        elif incident.stage == "firing":
            log.info("%s: over%s, and nobody was told", case.key, f" ({why})" if why else "")
        incident.reset()
        case.quiet = ""
        self._memory.keep(case, now)

    def acknowledge(self, case: Case, now: float) -> None:
        """Somebody works on it: tell those who heard of it, and remind nobody until it is over."""
        case.incident.acknowledged = now
        self._memory.keep(case, now)
        if case.incident.told:
            self._say(case, self.alert(case, "acknowledged", now))

    def end_row(self, home: str, key: str, row: dict[str, Any], now: float, why: str) -> None:
        """An incident is over of which nothing is left but what was kept: tell those who heard of it."""
        if row.get("told") or row.get("telling"):
            at = row.get("ending")
            if not isinstance(at, int | float) or not at:
                at = now
                self._memory.write(home, key, {**row, "ending": self._clock.wall(now)})
            names = row.get("notify")
            names = [one for one in names if isinstance(one, str)] if isinstance(names, list) else []
            self._hand_on(self._by_the_wall(story.recovery(row, key, at, why)), names)
        self._memory.write(home, key, None)

    def keep(self, case: Case, now: float) -> None:
        """Have where it stands outlast a restart."""
        self._memory.keep(case, now)

    def alert(self, case: Case, state: Any, now: float, **more: Any) -> Alert:
        """What notifiers get, in the wall's time."""
        return self._by_the_wall(story.alert(case, state, now, self._saying, **more))

    def _by_the_wall(self, alert: Alert) -> Alert:
        wall = self._clock.wall
        if not self._clock.offset:
            return alert
        values = tuple((wall(time), value) for time, value in alert.evidence.values)
        evidence = replace(alert.evidence, values=values)
        return replace(alert, since=wall(alert.since), at=wall(alert.at), evidence=evidence)

    def _say(self, case: Case, alert: Alert) -> None:
        self._hand_on(alert, case.rule.config.notify)

    def _hand_on(self, alert: Alert, names: Sequence[str]) -> None:
        self.told += 1
        level = logging.INFO if alert.state != "firing" or alert.severity == "info" else logging.WARNING
        log.log(level, "%s %s: %s", alert.state, alert.key, alert.summary)
        if self._heard is not None:
            self._heard(alert)
        if self.tell is not None:
            self.tell(alert, names)
