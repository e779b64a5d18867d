"""One rule at work: for each group an incident that begins, lasts and ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

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

_LONGEST_SETTLING = 900.0


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
    """

    stage: Stage = "ok"
    since: float = 0.0
    fired: float = 0.0
    lost: float = 0.0
    told: float = 0.0
    acknowledged: float = 0.0

    def step(self, verdict: bool | None, keep: Callable[[], bool | None], rule: Rule, now: float) -> Step:
        """Go on by one evaluation.

        Args:
            verdict: whether the condition holds; None where that cannot be judged.
            keep: whether the condition of `keep:` holds.
            rule: the rule.
            now: Unix seconds.
        """
        if verdict is None:
            return ""
        if verdict:
            return self._holds(rule, now)
        if self.stage == "pending":
            self.reset()
            return "calm"
        if self.stage == "ok":
            return ""
        seconds = rule.config.keep_seconds
        self.lost = self.lost or now
        if (rule.keep is not None and keep() is not False) or (seconds is not None and now - self.lost < seconds):
            return ""
        return "resolved"

    def _holds(self, rule: Rule, now: float) -> Step:
        self.lost = 0.0
        if self.stage == "firing":
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
        self.since = self.fired = self.lost = self.told = self.acknowledged = 0.0

    @property
    def row(self) -> dict[str, Any] | None:
        """As plain data; None where there is nothing to keep."""
        return asdict(self) if self.stage != "ok" else None

    def restore(self, row: Any) -> None:
        """Take over what `row` gave."""
        if isinstance(row, dict) and row.get("stage") in ("pending", "firing"):
            for name in ("stage", "since", "fired", "lost", "told", "acknowledged"):
                setattr(self, name, row.get(name, 0.0))


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
        judged: when it was evaluated last, and `last` what came out.
        quiet: why nobody is told; empty if people are.
        down: when what it depends on was last seen to be down, and `pulse` how much had been seen by then.
        blame: what that was.
    """

    rule: Rule
    group: Group
    key: str
    labels: dict[str, str]
    verdict: Verdict
    keep: Verdict | None
    compiler: Compiler
    watches_silence: bool = False
    incident: Incident = field(default_factory=Incident)
    home: str = ""
    mark: int = 0
    judged: float = 0.0
    last: bool | None = None
    quiet: str = ""
    down: float = 0.0
    pulse: int = 0
    blame: str = ""

    @property
    def seen(self) -> int:
        """A number that grows with all that it looks at."""
        return sum(store.seen for store in self.compiler.stores)

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
