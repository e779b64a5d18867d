"""One rule at work: for each group an incident that begins, lasts and ends."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from vedette.alerts.compiled import Compiler
from vedette.alerts.history import Window
from vedette.alerts.latest import Each

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.alerts.terms import Group
    from vedette.alerts.verdicts import Verdict
    from vedette.rules.model import Rule

Stage = Literal["ok", "pending", "firing"]
Step = Literal["", "pending", "calm", "fired", "resolved"]

_LONGEST_SETTLING: Final = 900.0
_SHORTEST_HOLE: Final = 30.0


@dataclass(slots=True)
class Incident:
    """Where a rule stands in one group: what outlasts restarts and takeovers. Times are Unix seconds.

    Attributes:
        stage: `ok`, `pending` or `firing`.
        since: when its condition began to hold.
        fired: when it fired.
        lost: since when its condition holds no more, while it is kept firing.
        told: when people were told last; 0 if they were not.
        acknowledged: when somebody took it on; 0 if nobody did.
        telling: the moment of what is just being told, and `ending` of a recovery: after a kill just that is repeated.
        dark: since when nothing is known of its condition.
    """

    stage: Stage = "ok"
    since: float = 0.0
    fired: float = 0.0
    lost: float = 0.0
    told: float = 0.0
    acknowledged: float = 0.0
    telling: float = 0.0
    ending: float = 0.0
    dark: float = 0.0

    def step(
        self, verdict: bool, keep: Callable[[], bool | None], rule: Rule, now: float, *, fresh: bool = True
    ) -> Step:
        """Go on by one evaluation.

        Args:
            verdict: whether the condition holds.
            keep: whether the condition of `keep:` holds.
            rule: the rule.
            now: Unix seconds.
            fresh: whether something came that says so; otherwise only time has passed, and nothing fires.
        """
        self.dark = 0.0
        if verdict:
            return self._holds(rule, now, fresh)
        if self.stage == "pending":
            self.reset()
            return "calm"
        if self.stage == "ok" or not (fresh or self.lost):
            return ""
        seconds = rule.config.keep_seconds
        self.lost = self.lost or now
        if (rule.keep is not None and keep() is not False) or (seconds is not None and now - self.lost < seconds):
            return ""
        return "resolved"

    def _holds(self, rule: Rule, now: float, fresh: bool) -> Step:
        if self.stage == "firing" or not fresh:
            self.lost = 0.0 if fresh else self.lost
            return ""
        begins = self.stage == "ok"
        if begins:
            self.stage, self.since = "pending", now
        if now - self.since < rule.config.lasting:
            return "pending" if begins else ""
        self.stage, self.fired = "firing", now
        return "fired"

    def reset(self) -> None:
        """It is over."""
        self.stage = "ok"
        for name in TIMES:
            setattr(self, name, 0.0)

    @property
    def row(self) -> dict[str, Any] | None:
        """As plain data; None where there is nothing to keep."""
        if self.stage == "ok":
            return None
        return {"stage": self.stage, **{name: getattr(self, name) for name in TIMES}}

    def restore(self, row: Any) -> None:
        """Take over what `row` gave; anything else is left alone."""
        if not isinstance(row, dict) or row.get("stage") not in ("pending", "firing"):
            return
        times = {name: row.get(name, 0.0) for name in TIMES}
        if all(isinstance(one, int | float) for one in times.values()):
            self.stage = row["stage"]
            for name, moment in times.items():
                setattr(self, name, float(moment))


TIMES: Final = tuple(one.name for one in fields(Incident) if one.name != "stage")
"""What of an incident is Unix seconds, 0 for never."""


@dataclass(slots=True, eq=False)
class Case:
    """A rule in one group.

    Attributes:
        rule: the rule.
        group: the values of the tags that it is grouped by.
        key: stable over restarts, hosts and takeovers.
        labels: the group's tags and the rule's labels.
        verdict: whether its condition holds.
        keep: whether that of `keep:` does.
        compiler: what they look at.
        incident: where it stands.
        home: the owned instance that it follows through the fleet; empty if it stays here.
        mark: the batch for which it was evaluated last.
        watches_silence: whether it may change by nothing happening.
        calm: whether its incident is not even pending; kept up by `Course.note`, for it is asked all the time.
        judged: when it was evaluated last, and `last` what came out.
        quiet: why nobody is told; empty if people are.
        asked: until when nobody asks again why nobody is told.
        down: when what it depends on was last seen to be down, and `pulse` how many runs there had been by then.
        blame: what that was.
        over: when it fired last and does no more.
        fresh: when something came last by which it could be judged.
        pace: seconds from run to run of what it looks at; 0 where that is not known.
    """

    rule: Rule
    group: Group
    key: str
    labels: dict[str, str]
    verdict: Verdict
    keep: Verdict | None
    compiler: Compiler
    watches_silence: bool = False
    calm: bool = True
    incident: Incident = field(default_factory=Incident)
    home: str = ""
    mark: int = 0
    judged: float = 0.0
    last: bool | None = None
    quiet: str = ""
    asked: float = 0.0
    down: float = 0.0
    pulse: int = 0
    blame: str = ""
    over: float = 0.0
    fresh: float = 0.0
    pace: float = 0.0

    @property
    def hole(self) -> float:
        """Seconds without data after which what was pending is so no more."""
        return max(3 * self.pace, _SHORTEST_HOLE)

    @property
    def settling(self) -> float:
        """Seconds that what it looks at needs until a recovery shows."""
        windows = [store.over for store in self.compiler.stores if isinstance(store, Window | Each)]
        return min(max(windows, default=0.0), _LONGEST_SETTLING)

    @property
    def settling_runs(self) -> int:
        """Runs likewise."""
        return max((ring.needed for ring in self.compiler.rings), default=1)


def key_of(rule: str, labels: dict[str, str]) -> str:
    """Rule and group, without a host: the same wherever it is evaluated."""
    return f"{rule}{{{','.join(f'{key}:{value}' for key, value in sorted(labels.items()))}}}" if labels else rule
