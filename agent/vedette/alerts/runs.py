"""What the batches of instances say of their runs: how many there were, how the last one went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from vedette.alerts.terms import BADNESS, CRITICAL
from vedette.metrics import Status
from vedette.vitals import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vedette.metrics import Batch, Sample

_STALE: Final = 3
"""Intervals after which how a run went says nothing any more."""
_FOREVER: Final = float("inf")


class About(Protocol):
    """What is known of an instance beside its batches: its `Vitals`."""

    state: State
    message: str
    muted_until: float


class Runs:
    """How the runs of all instances went. Times are steady seconds.

    Args:
        about: what is known of an instance here; None if there is none.
    """

    def __init__(self, about: Callable[[str], About | None]) -> None:
        self.about = about
        self.completed: dict[str, float] = {}
        """When each completed a run last."""
        self.counts: dict[str, int] = {}
        """How many runs each completed."""
        self.begun: dict[str, float] = {}
        """When the last run of each began, completed or not."""
        self.numbers: dict[str, int] = {}
        """How many there were, completed or not."""
        self.intervals: dict[str, float] = {}
        self.down: dict[str, float] = {}
        """When each was last seen to be critical."""
        self._status: dict[str, tuple[int, float]] = {}
        self._said: dict[str, str] = {}

    def note(self, batch: Batch, now: float) -> tuple[int, str, bool]:
        """How a run went.

        Returns:
            Its badness, what it says, and whether it was completed.
        """
        instance, statuses = batch.instance, batch.statuses
        worst = statuses[0] if statuses else None
        if len(statuses) > 1:
            worst = max(statuses, key=lambda one: BADNESS[one.status])
        value = BADNESS[worst.status] if worst is not None else 0
        message = worst.message if worst is not None and worst.status is not Status.OK else ""
        about = self.about(instance)
        if about is not None:
            failed = about.state in (State.FAILING, State.STUCK)
            message = about.message or message
        else:
            failed = value < CRITICAL and any(map(_is_unhealthy, batch.samples[-2:]))
        if failed:
            value = CRITICAL
        else:
            self.completed[instance] = now
            self.counts[instance] = self.counts.get(instance, 0) + 1
        step = failed_step(batch) if value else ""
        if step and not message.startswith(f"step {step}"):
            message = f"step {step}: {message.removeprefix(f'{step}: ')}"
        if value == CRITICAL:
            self.down[instance] = now
        self._said[instance] = message
        self._status[instance] = (value, now + _STALE * batch.interval if batch.interval else _FOREVER)
        self.begun[instance] = batch.time
        self.numbers[instance] = self.numbers.get(instance, 0) + 1
        self.intervals[instance] = batch.interval
        return value, message, not failed

    def saying(self, instance: str) -> str:
        """What the last run of an instance said."""
        return self._said.get(instance, "")

    def is_down(self, instance: str, now: float) -> bool:
        """Whether it is critical, as far as that is known: after three intervals without a run it is not."""
        value, until = self._status.get(instance, (0, 0.0))
        if value < CRITICAL:
            return False
        if now <= until:
            return True
        about = self.about(instance)  # one that hangs runs less often
        return about is not None and about.state in (State.FAILING, State.STUCK)

    def forget(self, instance: str) -> None:
        """It ends here."""
        self._status.pop(instance, None)
        self._said.pop(instance, None)

    def kept(self, instances: Iterable[str]) -> dict[str, list[float]]:
        """Badness and interval of these, as plain data."""
        known = self._status
        return {one: [known[one][0], self.intervals.get(one, 0.0)] for one in instances if one in known}

    def restore(self, rows: object, now: float) -> None:
        """Put back what `kept` gave: no older than it was then, for nobody ran anything meanwhile."""
        for instance, row in rows.items() if isinstance(rows, dict) else ():
            if isinstance(row, list) and len(row) == 2 and all(isinstance(one, int | float) for one in row):
                self._status[instance] = (int(row[0]), now + _STALE * row[1] if row[1] else _FOREVER)
                self.intervals[instance] = float(row[1])


def _is_unhealthy(sample: Sample) -> bool:
    return sample.name == "health_check.status" and not sample.value


def failed_step(batch: Batch) -> str:
    """The step of a flow that failed, by the tags that its result has; empty if there is none."""
    for sample in batch.samples:
        tags = sample.tags
        if "result:failed" in tags:
            step = next((tag.partition(":")[2] for tag in tags if tag.startswith("step:")), "")
            if step:
                return step
    return ""
