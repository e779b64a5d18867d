"""Evaluates the rules: over each batch those that look at something in it, once a second those that wait."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vedette.alerts import story
from vedette.alerts.book import Book
from vedette.alerts.calendar import Calendar, Silences
from vedette.alerts.claims import Claims
from vedette.alerts.clock import Steady
from vedette.alerts.course import Course
from vedette.alerts.estate import Estate, take_over
from vedette.alerts.hush import Hush
from vedette.alerts.memory import Memory
from vedette.alerts.runs import About, Runs
from vedette.alerts.teller import Tell, Teller
from vedette.alerts.vitals import AlertsVitals, AlertVitals, vitals_of
from vedette.notifier import Evidence
from vedette.rules.model import Rulebook

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.history import Window
    from vedette.alerts.memory import Keeper
    from vedette.alerts.rule import Case
    from vedette.alerts.terms import Store
    from vedette.metrics import Batch
    from vedette.notifier import Alert
    from vedette.rules.model import Source

log = logging.getLogger("vedette.alerts")

_ALL_AGAIN = 30.0
"""Seconds between two looks at everything: at windows that nothing came for."""
_UNASKED = 90.0
"""Seconds after which a case that nothing came for is evaluated anyway."""
_MANY = 200
"""Cases that fire or wait; where there are more, reasons for silence are asked for less often."""
_RARELY = 5.0


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
        even: seconds that only pass, by which steps of `clock` are known; None has none.
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
        even: Callable[[], float] | None = None,
    ) -> None:
        self._clock = Steady(clock, even)
        self._runs = Runs(about)
        self._memory = Memory(keeper, self._clock)
        self._rulebook = Rulebook()
        runs, memory = self._runs, self._memory
        self._book = Book(runs.completed, runs.counts, self._is_here, self._restore_window, self._came, memory.kinds)
        self._book.router.brought, self._book.emitters = memory.brought, memory.emitters
        self._hush = Hush(self._book, self._runs, self._clock, Silences(self._memory.silences))
        self._teller = Teller(self._memory, self._hush, self._clock, self._runs.saying, heard)
        self._course = Course(self._teller, self._runs)
        self._estate = Estate(self._book, self._memory, self._teller, self._course, self._clock)
        self._claims = Claims(self._book, self._memory, self._estate, self._course, self._teller)
        self._claims.resume, self._claims.forget = resume, forget
        self.tell = tell
        self._batch = self._steps = 0
        self._offset = 0.0
        self._now = 0.0
        self._started = 0.0
        self._all_at = 0.0
        self._faults: set[str] = set()
        self.faults = 0
        """Errors so far that cost an evaluation; each kind is logged once."""

    @property
    def tell(self) -> Tell | None:
        """Tells notifiers."""
        return self._teller.tell

    @tell.setter
    def tell(self, tell: Tell | None) -> None:
        """Have notifiers told so."""
        self._teller.tell = tell

    def now(self) -> float:
        """The engine's time: Unix seconds that nobody sets."""
        return self._clock.now()

    # The rules

    def configure(self, rulebook: Rulebook | None, now: float | None = None) -> None:
        """Have these rules from now on; those that did not change go on as if nothing had happened."""
        now = self._now = self._clock.now() if now is None else now
        self._rulebook = self._estate.rulebook = rulebook or Rulebook(whole=rulebook is None or rulebook.whole)
        self._hush.calendar = Calendar(self._rulebook.maintenance)
        if not self._started:
            self._started = self._hush.started = now
            self._runs.restore(self._memory.statuses, now)
            self._runs.completed.update(self._memory.completed)
        before = {case.key: case for case in self._book}
        gone = self._book.change(self._rulebook.rules, now)
        self._course.busy = {}
        for case in self._book:
            old = before.get(case.key)
            if old is not None and old is not case:
                take_over(case, old)
            self._course.note(case)
        here = {case.key for case in self._book}
        for case in gone:
            if case.key not in here and case.incident.stage != "ok":
                self._estate.pass_on(case, now)
        self._estate.restore_groups(now)
        self._estate.settle("", now)
        self._estate.evict(now)
        self._estate.bury(now, at_once=True)

    @property
    def rulebook(self) -> Rulebook:
        """What is in force."""
        return self._rulebook

    def _is_here(self, source: Source) -> bool:
        return not source.owned or self._claims.holds(source.instance)

    def _restore_window(self, window: Window) -> None:
        self._memory.windows.restore(window, self._now)

    def _came(self, case: Case) -> None:
        """A case is new: go on where it was, if it was before the start."""
        if case.incident.stage == "ok":  # else it goes on in another case of the same group
            self._estate.take_up(case, self._memory.incident(case.home, case.key), self._now)
        self._memory.rings.restore(case)
        self._course.note(case)

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
        now = self._now = self._clock.now() if now is None else now
        instance, lease, pace = batch.instance, batch.lease, batch.interval
        if self._offset != self._clock.offset:
            self._try("a step of the clock", self._heed_clock)
        if self._clock.steps:
            batch = self._clock.steadied(batch, now)
        if lease is not None:
            try:
                self._claims.take_over(instance, lease, now)
            except Exception as error:
                self.fault(f"the takeover of {instance}", error)
        if batch.closed:
            book.router.forget(instance)
            self._runs.forget(instance)
            if not self._claims.leave(instance):
                self._estate.ended[instance] = now
            return
        if self._estate.ended:
            self._estate.ended.pop(instance, None)
        touched: list[Store] = []
        completed = False
        try:
            book.router.samples(batch, touched)
            if batch.samples or batch.statuses:
                value, message, completed = self._runs.note(batch, now)
                book.router.statuses(batch, value, message, touched)
        except Exception as error:
            self.fault(f"a batch of {instance}", error)
        self._batch += 1
        number = self._batch
        for store in touched:
            for case in store.users:
                if case.mark != number:
                    case.mark = number
                    case.judged = now
                    if lease is not None:
                        self._follow(case, instance, now)
                    try:
                        case.last = verdict = case.verdict(now)
                        if verdict or not case.calm:
                            self._course.step(case, verdict, now, pace)
                    except Exception as error:
                        self.fault(f"the rule {case.rule.name}", error)
        if completed:
            for cases in book.counting.get(instance, ()):
                for case in list(cases.values()):
                    if case.mark != number:
                        case.mark = number
                        if lease is not None:
                            self._follow(case, instance, now)
                        self._judge(case, now, pace)

    def _follow(self, case: Case, instance: str, now: float) -> None:
        try:
            self._claims.follow(case, instance, now)
        except Exception as error:
            self.fault(f"whose the rule {case.rule.name} is", error)

    def _judge(self, case: Case, now: float, pace: float | None) -> None:
        case.judged = now
        try:
            case.last = verdict = case.verdict(now)
            if verdict or not case.calm:
                self._course.step(case, verdict, now, pace)
        except Exception as error:
            self.fault(f"the rule {case.rule.name}", error)

    def fault(self, what: str, error: Exception) -> None:
        """Note an error that cost an evaluation: one ends neither the check nor the alerting."""
        self.faults += 1
        text = f"{what}: {type(error).__name__}"
        if text not in self._faults and len(self._faults) < _MANY:
            self._faults.add(text)
            log.error("a fault in vedette itself: %s cannot be evaluated", text, exc_info=error)

    def _try(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            self.fault(what, error)

    # Time

    def tick(self, now: float | None = None) -> None:
        """What changes by time alone; called about once a second."""
        now = self._now = self._clock.now() if now is None else now
        self._try("what is kept", lambda: self._save(now))
        everything = not self._all_at <= now < self._all_at + _ALL_AGAIN
        if everything:
            self._all_at = now
        self._try("the end of an instance", lambda: self._estate.bury(now))
        late = now - _UNASKED
        cases = self._book.unasked(late) if everything else []
        self._teller.wait = _RARELY if len(self._course.busy) > _MANY else 0.0
        for case in (*self._course.busy.values(), *cases):
            if not case.home or self._claims.holds(case.home):
                self._pass_time(case, now, late)

    def _heed_clock(self) -> None:
        back, self._offset = self._clock.offset - self._offset, self._clock.offset
        if back:
            self._book.router.clock_was_set(self._now, back)

    def _save(self, now: float) -> None:
        self._heed_clock()
        if self._steps != self._clock.steps:  # what was kept is in the time that the clock had before
            self._steps = self._clock.steps
            self._course.keep_all(now)
            self._memory.save(self._book, self._runs, self._claims.held, now, everything=True)
        self._memory.save(self._book, self._runs, self._claims.held, now)

    def _pass_time(self, case: Case, now: float, late: float) -> None:
        incident = case.incident
        if case.watches_silence:
            self._judge(case, now, case.pace)
        elif case.judged < late:
            self._judge(case, now, None)
        elif not incident.told or case.last is not True or case.rule.config.every is not None:
            try:  # a window that loses a sample just before the next one comes says nothing
                self._course.step(case, case.last, now, None)
            except Exception as error:
                self.fault(f"the rule {case.rule.name}", error)

    def close(self) -> None:
        """Keep what the next start needs."""
        now = self._clock.now()
        self._heed_clock()
        self._memory.save(self._book, self._runs, self._claims.held, now, everything=True)

    # For people

    @property
    def silences(self) -> Silences:
        """What people do not want to be told of."""
        return self._hush.silences

    def silenced(self) -> None:
        """Keep the silences as they are now."""
        self._memory.keep_silences(self.silences.rows)

    def acknowledge(self, case: Case) -> None:
        """Somebody works on it: no reminders until it is over."""
        self._teller.acknowledge(case, self._clock.now())

    def end(self, case: Case) -> None:
        """Somebody says that it is over; it fires again if its condition holds at the next run."""
        self._course.end(case, self._clock.now(), "ended by hand")

    @property
    def cases(self) -> list[Case]:
        """Every rule in every group that was seen."""
        return list(self._book)

    def describe(self, case: Case, now: float) -> AlertVitals:
        """Where a rule stands in a group; `now` is the engine's time."""
        since = self._clock.wall(case.incident.fired or case.incident.since)
        try:
            quiet = self._hush.shown(case, now)
            return vitals_of(case, story.sentence(case, now, self._runs.saying), since, quiet, case.verdict(now))
        except Exception as error:
            self.fault(f"the rule {case.rule.name}", error)
            seen = vitals_of(case, f"{case.key}: cannot be evaluated ({type(error).__name__})", since, "", None)
            return replace(seen, state="fault") if case.incident.stage == "ok" else seen

    def explained(self, case: Case, now: float) -> dict[str, Any]:
        """What a rule sees now, as plain data."""
        vitals = self.describe(case, now)
        try:
            evidence = self._teller.alert(case, "firing", now).evidence
        except Exception as error:
            self.fault(f"the rule {case.rule.name}", error)
            evidence = Evidence(condition=case.rule.written)
        return {**asdict(vitals), "evidence": asdict(evidence)}

    @property
    def vitals(self) -> AlertsVitals | None:
        """How all stands; None without a rule."""
        if not self._book.rules:
            return None
        now = self._clock.now()
        busy = [case for case in self._course.busy.values() if case.incident.stage != "ok"]
        alerts = tuple(self.describe(case, now) for case in busy)
        left_out = sum(one.left_out for one in self._book.terms.values())
        return AlertsVitals(len(self._book.rules), self._teller.told, alerts, left_out, self.faults)


__all__ = ["About", "AlertEngine", "Tell"]
