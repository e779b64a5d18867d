"""The alert engine inside an agent: its clock, its place in the state store, and what commands ask of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from vedette.alerts.calendar import named
from vedette.alerts.engine import AlertEngine
from vedette.alerts.heartbeat import Pulse
from vedette.alerts.memory import Keeper
from vedette.alerts.post import Post
from vedette.config.problems import suggest
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from vedette.alerts.dispatch import Dispatcher
    from vedette.alerts.engine import About
    from vedette.alerts.rule import Case
    from vedette.alerts.vitals import AlertsVitals
    from vedette.metrics import Batch
    from vedette.rules.model import Rulebook
    from vedette.state import StateStore

_BEAT: Final = 1.0


class NoSuchAlert(VedetteError):
    """Nothing is called so; the text says what is near."""


class Alerting:
    """Rules at work.

    Args:
        state: where what outlasts a restart is kept.
        save: stores a value where the next owner of an instance finds it.
        about: what is known of an instance here.
        dispatcher: tells people; it never waits. None in commands, which tell nobody.
    """

    def __init__(
        self,
        state: StateStore,
        save: Callable[[str, str, Any], Awaitable[bool]],
        about: Callable[[str], About | None],
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self._state = state
        self._post = Post(state, save, dispatcher.tell if dispatcher is not None else None)
        keeper = Keeper(self._post.view, self._post.keep, self._post.follow)
        self.engine = AlertEngine(keeper, about=about, even=time.monotonic)
        if dispatcher is not None:
            resume, forget = dispatcher.resume, dispatcher.forget
            self.engine = AlertEngine(keeper, self._post.tell, about, resume=resume, forget=forget, even=time.monotonic)
        self._pulse = Pulse()
        self._wanted = asyncio.Event()

    def configure(self, rulebook: Rulebook | None) -> None:
        """Have these rules from now on."""
        self.engine.configure(rulebook)
        if rulebook:
            self._wanted.set()
        else:
            self._wanted.clear()

    def consume(self, batch: Batch) -> None:
        """Evaluate what looks at something in a batch; an error in that is none of the check's."""
        try:
            self.engine.consume(batch)
        except Exception as error:
            self.engine.fault(f"a batch of {batch.instance}", error)

    async def run(self) -> None:
        """Evaluate once a second what waits for something, until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_BEAT)
            try:
                self.engine.tick()
            except Exception as error:
                self.engine.fault("what waits", error)
            self._pulse.beat(self.engine.rulebook.heartbeat, self.engine.tell, time.time())

    async def close(self) -> None:
        """Keep what the next start needs."""
        if self.engine.rulebook:
            self.engine.close()
        await self._post.close()

    @property
    def vitals(self) -> AlertsVitals | None:
        """How all alerts stand; None without rules."""
        vitals = self.engine.vitals
        return replace(vitals, heartbeat=self._pulse.arrived) if vitals is not None else None

    # What commands ask

    def listing(self) -> dict[str, Any]:
        """Every rule and group, and what people silenced."""
        now, wall = self.engine.now(), time.time()
        rows = [asdict(self.engine.describe(case, now)) for case in self.engine.cases]
        seen = {row["rule"] for row in rows}
        for rule in self.engine.rulebook.rules:
            if rule.name not in seen:  # grouped, and no group was seen yet
                row = {"rule": rule.name, "key": rule.name, "state": "waiting", "severity": rule.config.severity}
                rows.append({**row, "summary": "no group was seen yet", "since": 0.0, "quiet": "", "labels": {}})
        silences = [asdict(one) for one in self.engine.silences.active(wall)]
        return {"alerts": rows, "silences": silences, "trouble": self._pulse.trouble}

    def explain(self, name: str) -> dict[str, Any]:
        """What the groups of a rule see now.

        Raises:
            NoSuchAlert: there is none.
        """
        now = self.engine.now()
        rule = next((one for one in self.engine.rulebook.rules if one.name == name), None)
        cases = [one for one in self.engine.cases if one.rule.name == name] if rule is not None else self._find(name)
        rule = rule or cases[0].rule
        options = rule.config.model_dump(by_alias=True, exclude_defaults=True)
        return {
            "rule": rule.name,
            "condition": rule.written,
            "options": options,
            "file": rule.file,
            "line": rule.line,
            "groups": [self.engine.explained(case, now) for case in cases],
        }

    def _find(self, name: str, *, patterns: bool = False) -> list[Case]:
        cases = self.engine.cases
        found = [one for one in cases if name in (one.rule.name, one.key)]
        if not found and patterns:
            found = [one for one in cases if fnmatchcase(one.key, name)]
        if not found:
            names = [one.name for one in self.engine.rulebook.rules]
            hint = suggest(name, [*names, *(one.key for one in cases)]) or "`vedette alerts` lists them"
            raise NoSuchAlert(f"no alert is called '{name}'; {hint}")
        return found

    def acknowledge(self, name: str) -> list[str]:
        """Somebody works on it: no reminders until it is over.

        Returns:
            The keys of what fires and is called so.

        Raises:
            NoSuchAlert: there is none, or none that fires.
        """
        firing = self._firing(name)
        for case in firing:
            self.engine.acknowledge(case)
        return [case.key for case in firing]

    def end(self, name: str) -> list[str]:
        """Somebody says that it is over, though nothing comes any more that would.

        Returns:
            The keys of what fired and is called so.

        Raises:
            NoSuchAlert: there is none, or none that fires.
        """
        firing = self._firing(name)
        for case in firing:
            self.engine.end(case)
        return [case.key for case in firing]

    def _firing(self, name: str) -> list[Case]:
        firing = [one for one in self._find(name, patterns=True) if one.incident.stage == "firing"]
        if not firing:
            raise NoSuchAlert(f"'{name}' does not fire")
        return firing

    def silence(self, what: Iterable[str], seconds: float, comment: str) -> Mapping[str, Any]:
        """Tell nobody of this for a while.

        Args:
            what: names of rules (`*` stands for anything), and tags such as `queue:payments`.
            seconds: for how long.
            comment: why.

        Raises:
            NoSuchAlert: no rule is called so.
        """
        words, names = list(what), [one.name for one in self.engine.rulebook.rules]
        rules = [one for one in words if any(named(name, one) for name in names)]
        tags = [one for one in words if one not in rules]
        for one in tags:
            if ":" not in one:
                hint = suggest(one, names) or "`vedette alerts` lists them; a tag is such as queue:payments"
                raise NoSuchAlert(f"no rule is called '{one}'; {hint}")
        now = time.time()
        made = self.engine.silences.add(rules, tags, now, now + seconds, comment)
        self.engine.silenced()
        return asdict(made)

    def unsilence(self, number: int) -> None:
        """End a silence.

        Raises:
            NoSuchAlert: there is none of this number.
        """
        if not self.engine.silences.end(number):
            raise NoSuchAlert(f"no silence has the number {number}; `vedette alerts` lists them")
        self.engine.silenced()
