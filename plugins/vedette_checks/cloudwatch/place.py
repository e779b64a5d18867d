"""One region: what there is, what of it is due, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from vedette import CheckError
from vedette.kit import Budget
from vedette_checks.aws import Account, Throttled
from vedette_checks.cloudwatch.bill import Bill
from vedette_checks.cloudwatch.config import CloudWatchConfig
from vedette_checks.cloudwatch.discovery import Discovery
from vedette_checks.cloudwatch.ledger import Ledger
from vedette_checks.cloudwatch.reading import Answer, Reader, Window
from vedette_checks.cloudwatch.series import Series, fixed
from vedette_checks.cloudwatch.states import States


@dataclass(slots=True)
class Harvest:
    """What a run brought home from a region.

    Attributes:
        region: which.
        series: everything that is asked for, now or another time.
        answers: what came back.
        down: why there is no talking to CloudWatch there; None while there is.
        wants: what is not as it should be, in words.
        cut: series beyond the limit.
        complete: whether it is known what there is.
    """

    region: str
    series: tuple[Series, ...] = ()
    answers: list[tuple[Series, Window, Answer]] = field(default_factory=list)
    down: CheckError | None = None
    wants: list[str] = field(default_factory=list)
    cut: int = 0
    complete: bool = True


class Place:
    """One region of an instance.

    Args:
        config: the options.
        account: AWS.
        region: which.
    """

    def __init__(self, config: CloudWatchConfig, account: Account, region: str) -> None:
        self.region = region
        self._config = config
        self._account = account
        self._budget = Budget(config.series_limit)
        self._fixed = tuple(fixed(config, region))
        self._refused: set[str] = set()
        self._round = -1
        self._known: tuple[Series, ...] = ()
        self.discovery = Discovery(config, account, region)
        self.states = States(config, account, region, self.discovery.tags)

    async def collect(self, ledger: Ledger, bill: Bill, now: float, until: float) -> Harvest:
        """Look, ask for what is due, and bring it home. Failures are in the harvest."""
        half = monotonic() + (until - monotonic()) / 2
        await self.discovery.look(half, ledger.behind(self.region, now))
        if self._round != self.discovery.round:
            self._round, self._known = self.discovery.round, tuple(self._all())
        made = Harvest(self.region, self._known, cut=self._budget.cut, complete=self.discovery.complete)
        due = [(one, window) for one in made.series if (window := ledger.window(one, now)) is not None]
        await asyncio.sleep(0)  # with thousands of series each of these steps is some milliseconds
        reader = Reader(self._account, self.region, bill, self._refused)
        made.answers = await reader.fetch(due, until)
        await self.states.look(until)
        self._judge(made, reader.problem)
        return made

    def _all(self) -> Iterator[Series]:
        """Each series once, whichever job it is of; as many as the limit allows."""
        self._budget.begin()
        seen = set[tuple[str, tuple[str, ...]]]()
        for one in (*self._fixed, *self.discovery.series):
            identity = (one.name, tuple(sorted(one.tags)))
            if identity not in seen:
                seen.add(identity)
                if self._budget.admit(identity):
                    yield one

    def _judge(self, made: Harvest, problem: CheckError | None) -> None:
        answered = any(answer.status for _, _, answer in made.answers)
        lost = None if answered or isinstance(problem, Throttled) else problem
        made.down = lost or (None if self.discovery.complete else self.discovery.problem)
        if isinstance(made.down, Throttled):
            made.down = None
        problems = (problem, self.discovery.problem, self.states.problem)
        made.wants += [sentence(one) for one in problems if one]
        for status in ("PartialData", "InternalError", "Forbidden"):
            count = sum(answer.status == status for _, _, answer in made.answers)
            if count:
                made.wants.append(f"{self.region}: {count} series are not complete ({status}), and are asked for again")
        if made.cut:
            made.wants.append(f"{self.region}: {made.cut} series are left out: see series_limit")


def sentence(error: CheckError) -> str:
    """A finding and its hint in one line."""
    return "; ".join(filter(None, (error.message, error.hint)))
