"""Evaluates the rules: over each batch those that look at something in it, once a second those that wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vedette.alerts import story
from vedette.alerts.book import Book
from vedette.alerts.calendar import Calendar, Silences
from vedette.alerts.memory import Memory
from vedette.alerts.terms import BADNESS, CRITICAL
from vedette.alerts.vitals import AlertsVitals, AlertVitals
from vedette.metrics import Status
from vedette.notifier import Alert
from vedette.rules.model import Rulebook
from vedette.vitals import State

if TYPE_CHECKING:
    from vedette.alerts.history import Window
    from vedette.alerts.memory import Keeper
    from vedette.alerts.rule import Case
    from vedette.alerts.terms import Store
    from vedette.lease import Lease
    from vedette.metrics import Batch
    from vedette.rules.model import Source

Tell = Callable[[Alert, Sequence[str]], None]
"""Tells these notifiers, by name, of a change. It never waits, and what it was given outlasts a restart."""

log = logging.getLogger("vedette.alerts")

_ALL_AGAIN = 30.0
"""Seconds between two looks at everything: at windows that nothing came for."""
_UNASKED = 90.0
"""Seconds after which a case that nothing came for is evaluated anyway."""


class About(Protocol):
    """What is known of an instance beside its batches: its `Vitals`."""

    state: State
    message: str
    muted_until: float


class AlertEngine:
    """Consumes batches like a sink, and tells what becomes of the rules.

    Args:
        keeper: where what outlasts a restart is kept; without one nothing does.
        tell: tells notifiers; without one the log has it.
        about: what is known of an instance here; None if there is none.
        clock: Unix seconds.
        heard: called with all that is told, whether or not a notifier is named.
        resume: told of an incident that another agent told of and that is this one's from now on.
        forget: told of the key of an incident that is another agent's from now on.
    """

    def __init__(
        self,
        keeper: Keeper | None = None,
        tell: Tell | None = None,
        about: Callable[[str], About | None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        heard: Callable[[Alert], None] | None = None,
        resume: Tell | None = None,
        forget: Callable[[str], None] | None = None,
    ) -> None:
        self._resume = resume
        self._forget = forget
        self._heard = heard
        self.tell = tell
        self._about = about
        self._clock = clock
        self._completed: dict[str, float] = {}
        self._runs: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._status: dict[str, int] = {}
        self._leases: dict[str, Lease] = {}
        self._memory = Memory(keeper)
        self._silences = Silences(self._memory.silences)
        self._calendar = Calendar()
        self._rulebook = Rulebook()
        self._book = Book(
            self._completed, self._runs, self._is_here, self._restore_window, self._came, self._memory.kinds
        )
        self._busy: dict[str, Case] = {}
        self._batch = 0
        self._now = 0.0
        self._all_at = 0.0
        self._told = 0

    # The rules

    def configure(self, rulebook: Rulebook | None, now: float | None = None) -> None:
        """Have these rules from now on; those that did not change go on as if nothing had happened."""
        self._rulebook = rulebook or Rulebook()
        self._now = self._clock() if now is None else now
        self._calendar = Calendar(self._rulebook.maintenance)
        before = {case.key: case for case in self._book}
        gone = self._book.change(self._rulebook.rules, self._now)
        self._busy = {}
        for case in self._book:
            old = before.get(case.key)
            if old is not None and old is not case:
                case.incident, case.home = old.incident, old.home
            self._note(case)
        here = {case.key for case in self._book}
        names = self._book.rules.keys()
        for case in gone:
            if case.key not in here and (case.rule.name not in names or not case.rule.when.by):
                self._end(case, self._now, "the rule is not in force any more")

    @property
    def rulebook(self) -> Rulebook:
        """What is in force."""
        return self._rulebook

    def _restore_window(self, name: str, window: Window) -> None:
        self._memory.restore(name, window, self._now)

    def _came(self, case: Case) -> None:
        """A group was seen for the first time, perhaps since the start: go on where it was."""
        case.incident.restore(self._memory.incident(case.home, case.key))
        self._memory.restore_rings(case)
        self._note(case)

    def _note(self, case: Case) -> None:
        """Keep in mind those that may change without anything coming."""
        if case.incident.stage != "ok" or case.watches_silence:
            self._busy[case.key] = case
        else:
            self._busy.pop(case.key, None)

    # Batches

    def consume(self, batch: Batch, now: float | None = None) -> None:
        """Take a batch, and evaluate what looks at something in it.

        Args:
            batch: any instance's.
            now: Unix seconds; the clock's where that is not given.
        """
        book = self._book
        if not book.rules:
            return
        now = self._now = self._clock() if now is None else now
        instance = batch.instance
        if batch.lease is not None and self._leases.get(instance) is not batch.lease:
            self._take_over(instance, batch.lease)
        if batch.closed:
            self._leave(instance)
            return
        touched: list[Store] = []
        book.router.samples(batch, touched)
        completed = self._run(batch, touched) if batch.samples or batch.statuses else False
        self._batch += 1
        number = self._batch
        for store in touched:
            for case in store.users:
                if case.mark != number:
                    case.mark = number
                    case.judged = now
                    if batch.lease is not None:
                        self._follow(case, instance)
                    case.last = verdict = case.verdict(now)
                    if verdict or case.incident.stage != "ok":
                        self._step(case, verdict, now)
        if completed:
            for cases in book.counting.get(instance, ()):
                for case in list(cases.values()):
                    if case.mark != number:
                        case.mark = number
                        if batch.lease is not None:
                            self._follow(case, instance)
                        self._judge(case, now)

    def _judge(self, case: Case, now: float) -> None:
        case.judged = now
        case.last = verdict = case.verdict(now)
        if verdict or case.incident.stage != "ok":
            self._step(case, verdict, now)

    def _run(self, batch: Batch, touched: list[Store]) -> bool:
        """Note how a run went; returns whether it was completed."""
        instance = batch.instance
        statuses = batch.statuses
        worst = statuses[0] if statuses else None
        if len(statuses) > 1:
            worst = max(statuses, key=lambda one: BADNESS[one.status])
        value = BADNESS[worst.status] if worst is not None else 0
        message = worst.message if worst is not None and worst.status is not Status.OK else ""
        about = self._about(instance)
        if about is not None:
            failed = about.state in (State.FAILING, State.STUCK)
            message = about.message or message
        else:
            healthy = next((one.value for one in reversed(batch.samples[-2:]) if one.name == "health_check.status"), 1)
            failed = not healthy and value < CRITICAL
        if failed:
            value = CRITICAL
        else:
            self._completed[instance] = self._now
            self._runs[instance] = self._runs.get(instance, 0) + 1
        step = failed_step(batch) if value else ""
        if step and not message.startswith(f"step {step}"):
            message = f"step {step}: {message.removeprefix(f'{step}: ')}"
        self._said[instance] = message
        self._status[instance] = value
        self._book.router.statuses(batch, value, message, touched)
        return not failed

    # The fleet

    def _is_here(self, source: Source) -> bool:
        lease = self._leases.get(source.instance)
        return not source.owned or (lease is not None and lease.held)

    def _take_over(self, instance: str, lease: Lease) -> None:
        """The instance runs here from now on: its alerts go on where they are said to be."""
        self._leases[instance] = lease
        self._book.begin_anew(instance, self._completed.get(instance, 0.0), self._now)
        for case in self._book:
            if case.home == instance or self._may_follow(case, instance):
                kept = self._memory.incident(instance, case.key)
                if kept is not None or case.home == instance:
                    case.home = instance
                    case.incident.reset()
                    case.incident.restore(kept)
                    self._note(case)
                    if case.incident.told and self._resume is not None:
                        self._resume(story.alert(case, "firing", self._now, self._saying), case.rule.config.notify)

    @staticmethod
    def _may_follow(case: Case, instance: str) -> bool:
        return any(one.instance == instance and one.owned for some in case.rule.sources.values() for one in some)

    def _follow(self, case: Case, instance: str) -> None:
        """From now on the case goes where this instance goes."""
        if case.home == instance:
            return
        case.home = instance
        if case.incident.stage == "ok" and not case.incident.told:
            case.incident.restore(self._memory.incident(instance, case.key))
            self._note(case)

    def _leave(self, instance: str) -> None:
        """The instance ends here; where it runs elsewhere from now on, nobody here has the say about its alerts."""
        self._book.router.forget(instance)
        self._status.pop(instance, None)
        self._said.pop(instance, None)
        if self._leases.pop(instance, None) is None:
            return
        for case in self._book:
            if case.home == instance:
                if case.incident.told and self._forget is not None:
                    self._forget(case.key)
                case.incident.reset()
                case.home = ""
                for ring in case.compiler.rings:
                    ring.clear()
                self._note(case)

    # Time

    def tick(self, now: float | None = None) -> None:
        """What changes by time alone; called about once a second."""
        now = self._now = self._clock() if now is None else now
        everything = not self._all_at <= now < self._all_at + _ALL_AGAIN
        if everything:
            self._all_at = now
            self._memory.save_some(self._book, now)
        late = now - _UNASKED
        cases = [case for case in self._book if case.judged < late] if everything else []
        for case in (*self._busy.values(), *cases):
            if case.home and not self._holds(case.home):
                continue
            if case.watches_silence or case.judged < late:
                self._judge(case, now)
            else:  # a window that loses a sample just before the next one comes says nothing
                self._step(case, case.last, now)

    def _holds(self, instance: str) -> bool:
        lease = self._leases.get(instance)
        return lease is not None and lease.held

    def close(self) -> None:
        """Keep what the next start needs."""
        self._memory.save_all(self._book, self._clock())

    # Incidents

    def _step(self, case: Case, verdict: bool | None, now: float) -> None:
        incident = case.incident
        keep = case.keep
        done = incident.step(verdict, (lambda: keep(now)) if keep is not None else _no, case.rule, now)
        if done == "resolved":
            self._end(case, now)
        elif done:
            log.debug("%s: %s", case.key, done)
            self._keep(case)
        if incident.stage == "firing":
            self._speak(case, now)
        if done:
            self._note(case)

    def _speak(self, case: Case, now: float) -> None:
        """Tell of what fires, unless people know or there is a reason for silence."""
        incident, every = case.incident, case.rule.config.every
        case.quiet = self._reason(case, now)
        if case.quiet:
            return
        if not incident.told:
            self._say(case, story.alert(case, "firing", now, self._saying))
        elif every is not None and not incident.acknowledged and now - incident.told >= every:
            self._say(case, story.alert(case, "firing", now, self._saying, reminder=True))
        else:
            return
        incident.told = now
        self._keep(case)

    def _end(self, case: Case, now: float, why: str = "") -> None:
        incident = case.incident
        if incident.told:
            summary = f"{case.key}: {why}" if why else ""
            self._say(case, story.alert(case, "resolved", now, self._saying, summary=summary))
        elif incident.stage == "firing":
            log.info("%s: over, and nobody was told", case.key)
        incident.reset()
        case.quiet = ""
        self._keep(case)

    def _say(self, case: Case, alert: Alert) -> None:
        self._told += 1
        level = logging.INFO if alert.state != "firing" or alert.severity == "info" else logging.WARNING
        log.log(level, "%s %s: %s", alert.state, alert.key, alert.summary)
        if self._heard is not None:
            self._heard(alert)
        if self.tell is not None:
            self.tell(alert, case.rule.config.notify)

    def _keep(self, case: Case) -> None:
        self._memory.keep(case)

    def _saying(self, instance: str) -> str:
        return self._said.get(instance, "")

    # Silence

    def _reason(self, case: Case, now: float) -> str:
        """Why nobody is to be told of this now."""
        for instance in story.instances_of(case):
            about = self._about(instance)
            if about is not None and about.muted_until > now:
                return f"{instance} is muted"
        name, labels = case.rule.name, case.labels
        asked = self._silences.reason(name, labels, now) or self._calendar.reason(name, labels, now)
        return asked or self._blame(case, now)

    def _blame(self, case: Case, now: float) -> str:
        """What it depends on and is down, or was so recently that what hangs on it has had no time to recover."""
        for wanted in case.rule.config.depends_on:
            if self._is_down(wanted):
                case.down, case.pulse, case.blame = now, case.seen, wanted
                return f"depends on {wanted}, which is down"
        if case.down and (now - case.down < case.settling or case.seen - case.pulse < case.settling_runs):
            return f"depends on {case.blame}, which has just recovered"
        case.down = 0.0
        return ""

    def _is_down(self, wanted: str) -> bool:
        cases = self._book.cases.get(wanted)
        if cases is not None:
            return any(case.incident.stage != "ok" for case in cases.values())
        return self._status.get(wanted, 0) >= CRITICAL

    # For people

    @property
    def silences(self) -> Silences:
        """What people do not want to be told of."""
        return self._silences

    def silenced(self) -> None:
        """Keep the silences as they are now."""
        self._memory.keep_silences(self._silences.rows)

    def acknowledge(self, case: Case, now: float) -> None:
        """Somebody works on it: no reminders until it is over."""
        case.incident.acknowledged = now
        self._say(case, story.alert(case, "acknowledged", now, self._saying))
        self._keep(case)

    @property
    def cases(self) -> list[Case]:
        """Every rule in every group that was seen."""
        return list(self._book)

    def describe(self, case: Case, now: float) -> AlertVitals:
        """Where a rule stands in a group."""
        incident, verdict = case.incident, case.verdict(now)
        state = incident.stage if incident.stage != "ok" else "waiting" if verdict is None else "ok"
        return AlertVitals(
            case.rule.name,
            case.key,
            "acknowledged" if incident.acknowledged else state,
            case.rule.config.severity,
            story.sentence(case, now, self._saying),
            incident.fired or incident.since,
            case.quiet if incident.stage == "firing" else "",
            dict(case.labels),
            case.rule.file,
            case.rule.line,
        )

    def explained(self, case: Case, now: float) -> dict[str, Any]:
        """What a rule sees now, as plain data."""
        from dataclasses import asdict

        return {**asdict(self.describe(case, now)), "evidence": asdict(story.evidence(case, now, self._saying))}

    @property
    def vitals(self) -> AlertsVitals | None:
        """How all stands; None without a rule."""
        if not self._book.rules:
            return None
        now = self._clock()
        busy = [case for case in self._busy.values() if case.incident.stage != "ok"]
        alerts = tuple(self.describe(case, now) for case in busy)
        left_out = sum(one.left_out for one in self._book.terms.values())
        return AlertsVitals(len(self._book.rules), self._told, alerts, left_out)


def failed_step(batch: Batch) -> str:
    """The step of a flow that failed, by the tags that its result has; empty if there is none."""
    for sample in batch.samples:
        tags = sample.tags
        if "result:failed" in tags:
            step = next((tag.partition(":")[2] for tag in tags if tag.startswith("step:")), "")
            if step:
                return step
    return ""


def _no() -> bool:
    return False


__all__ = ["About", "AlertEngine", "Tell"]
