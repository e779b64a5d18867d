"""One run: in every region at once, how deep each queue is; then the ages, and what is too much."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

from vedette import Check, CheckError, Diagnosis, Emit, Estimate, Kind, Metric, Status
from vedette_checks.aws import Absent, Account
from vedette_checks.sqs.age import Ages, Waits
from vedette_checks.sqs.config import SqsConfig
from vedette_checks.sqs.queues import Depth, Queue, Region, Survey
from vedette_checks.sqs.verdict import judge

_G, _C = Kind.GAUGE, Kind.COUNT
CONNECT, COMPLETE, QUEUE = "sqs.can_connect", "sqs.complete", "sqs.queue"
_TAGS, _QUEUE_TAGS = ("region",), ("region", "queue", "account")
_DEAD_TAGS = (*_QUEUE_TAGS, "dead_letter_queue")
METRICS = (
    Metric("sqs.messages_visible", _G, "message", "Messages that wait to be received.", _QUEUE_TAGS),
    Metric("sqs.messages_in_flight", _G, "message", "Messages that were received and not deleted yet.", _QUEUE_TAGS),
    Metric("sqs.messages_delayed", _G, "message", "Messages that cannot be received yet.", _QUEUE_TAGS),
    Metric(
        "sqs.oldest_message_age",
        _G,
        "second",
        "How long the oldest message had waited, by CloudWatch, with its own time.",
        _QUEUE_TAGS,
    ),
    Metric("sqs.dead_letter_messages", _G, "message", "Messages in the queue's dead-letter queue.", _DEAD_TAGS),
    Metric("sqs.queues", _G, "queue", "Queues that are watched.", _TAGS),
    Metric("sqs.queues_cut", _G, "queue", "Queues left out because of `limit`.", _TAGS),
    Metric("sqs.api_calls", _C, "request", "Requests sent to AWS.", ("region", "action")),
    Metric("sqs.metrics_requested", _C, "", "Metrics requested of CloudWatch, as AWS charges for them.", _TAGS),
)
_SHARE = 0.8
"""How much of the deadline is for requests."""


class Sqs(Check[SqsConfig]):
    """Watches queues of Amazon SQS: messages that wait, how long, and those that ended in dead-letter queues."""

    name = "sqs"
    metrics = METRICS
    statuses = (CONNECT, COMPLETE, QUEUE)
    host_bound = False

    @classmethod
    def lint(cls, config: SqsConfig) -> Iterable[str]:
        """Warns where nothing can ever be wrong, and of money spent for nothing."""
        judged = [config.thresholds(entry) for entry in config.queues]
        if not any(one.depth_warning or one.depth_critical or config.wants_age(one) for one in judged):
            yield "no threshold is set: `sqs.queue` only tells of dead letters; give depth_critical or age_critical"
        if config.age is False and any(one.age_warning or one.age_critical for one in judged):
            yield "`age: false` switches the thresholds of age off"

    def __init__(self, config: SqsConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._account = Account(config.access)
        self._regions: tuple[Region, ...] = ()
        self._ages: dict[str, Ages] = {}
        self._counted: Counter[tuple[str, str]] = Counter()
        self._requested: Counter[str] = Counter()
        self._own = ""
        self._last: tuple[tuple[Region, Survey], ...] = ()

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def close(self) -> None:
        """Drop the connections."""
        await self._account.close()

    async def run(self, emit: Emit) -> None:
        """Ask about all queues.

        Raises:
            CheckError: there is no talking to SQS in a region.
        """
        until = monotonic() + self.config.deadline * _SHARE
        try:
            await self._settle()
            surveys = await asyncio.gather(*(region.survey(until) for region in self._regions))
            self._last = tuple(zip(self._regions, surveys, strict=True))
            for region, survey in self._last:
                await self._say(region, survey, emit, until)
        except CheckError as error:
            emit.status(CONNECT, Status.CRITICAL, sentence(error))
            raise
        finally:
            self._say_calls(emit)
        await self._conclude([survey.lost for survey in surveys if survey.lost is not None])

    async def estimate(self) -> Iterable[Estimate]:
        """Requests of a month and what they cost."""
        from vedette_checks.sqs.costs import estimate

        return estimate(self.config, [survey for _, survey in self._last])

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The credentials, who they are, each action on its own, and the IAM policy that all of it needs."""
        from vedette_checks.sqs.doctor import diagnose

        await diagnose(self.config, self._account, diagnosis)

    async def _settle(self) -> None:
        """Find the credentials and, where none is given, the region."""
        await self._account.open(self.config.places[0])
        if not self._regions:
            names = [self._account.region(one) for one in self.config.places]
            self._regions = tuple(
                Region(self.config, self._account, name, first=place == 0) for place, name in enumerate(names)
            )
            self._ages = {name: Ages(self._account, name, self.config.age_every) for name in names}

    async def _say(self, region: Region, survey: Survey, emit: Emit, until: float) -> None:
        tags, wants = (f"region:{region.name}",), list(survey.problems)
        if survey.lost is not None:
            emit.status(CONNECT, Status.CRITICAL, sentence(survey.lost), tags)
            return
        emit.status(CONNECT, Status.OK, tags=tags)
        waits = await self._find_ages(region, survey, wants, until)
        late = 0
        for queue in survey.queues:
            if queue.url and queue.url not in survey.depths:
                late += 1
            else:
                self._say_queue(region, queue, survey, waits, wants, emit)
        emit.gauge("sqs.queues", len(survey.queues), tags)
        emit.gauge("sqs.queues_cut", survey.cut, tags)
        if late:
            wants.append(f"no time for {late} of {len(survey.queues)} queues: raise `timeout`, or `at_once`")
        if survey.cut:
            wants.append(f"{survey.cut} queues are left out: raise `limit`, or narrow `prefix` and `match`")
        emit.status(COMPLETE, Status.WARNING if wants else Status.OK, "; ".join(wants), tags)

    async def _find_ages(self, region: Region, survey: Survey, wants: list[str], until: float) -> Waits:
        """What is known of the ages of the oldest messages, as far as CloudWatch tells."""
        asked = [queue for queue in survey.queues if queue.url and self.config.wants_age(queue.thresholds)]
        addressed, failed = frozenset(queue.url for queue in asked if queue.account), frozenset[str]()
        if addressed and not self._own:
            try:
                self._own = await self._own_account(region, survey, until)
            except CheckError as error:
                wants.append(f"the ages of queues given by URL are not known: {sentence(error)}")
                failed = addressed
        foreign = frozenset(one.url for one in asked if one.account not in ("", self._own)) - failed
        mine = [one for one in asked if one.url not in failed | foreign and has_messages(survey.depths.get(one.url))]
        ages, names = self._ages[region.name], {queue.url: queue.name for queue in mine}
        try:
            known = await ages.of(names.values(), self.now(), until)
        except CheckError as error:
            wants.append(f"the ages of messages are not known: {sentence(error)}")
            known, failed = ages.young(names.values(), self.now()), failed | frozenset(names)
        return Waits({url: known[name] for url, name in names.items() if name in known}, failed, foreign)

    async def _own_account(self, region: Region, survey: Survey, until: float) -> str:
        """The number of the caller's account: SQS gives it away in the URLs of its queues, else STS knows."""
        for queue in survey.queues:
            if queue.url and not queue.account:
                return queue.url.split("/")[-2]
        answer = await self._account.call("sts", "GetCallerIdentity", region.name, until=until)
        return str(answer["Account"])

    def _say_queue(
        self,
        region: Region,
        queue: Queue,
        survey: Survey,
        waits: Waits,
        wants: list[str],
        emit: Emit,
    ) -> None:
        age = waits.ages.get(queue.url)
        account = (f"account:{queue.account}",) if queue.account else ()
        tags = (f"region:{region.name}", f"queue:{queue.name}", *account, *queue.tags)
        depth = queue.error or survey.depths.get(queue.url, Absent("there is no queue of this name"))
        if isinstance(depth, CheckError):
            absent = isinstance(depth, Absent)
            said = f"there is no queue {queue.name} in {region.name}" if absent else f"{queue.name}: {sentence(depth)}"
            emit.status(QUEUE, Status.CRITICAL if absent else Status.UNKNOWN, said, tags)
            return
        emit.gauge("sqs.messages_visible", depth.visible, tags)
        emit.gauge("sqs.messages_in_flight", depth.in_flight, tags)
        emit.gauge("sqs.messages_delayed", depth.delayed, tags)
        if age is not None and self._ages[region.name].fresh:
            emit.gauge("sqs.oldest_message_age", age.seconds, tags, age.time)
        dead = survey.depths.get(depth.dead_letter_url) if depth.dead_letter_url else None
        letters = dead.visible if isinstance(dead, Depth) else None
        if letters is not None:
            emit.gauge("sqs.dead_letter_messages", letters, (*tags, f"dead_letter_queue:{depth.dead_letter_name}"))
        elif isinstance(dead, CheckError):
            wants.append(f"the dead-letter queue {depth.dead_letter_name}: {sentence(dead)}")
        missing = queue.url in waits.failed and has_messages(depth)
        status, message = judge(depth, age, letters, queue.thresholds, age_missing=missing)
        if queue.url in waits.foreign and queue.thresholds.of_age:
            said = f"its age is not watched: CloudWatch tells of account {self._own} only"
            message = "; ".join(filter(None, (message, said)))
            mend = "give it `age_critical: null`, or an instance with a `role_arn` of its account"
            wants.append(f"{queue.name} of account {queue.account}: {said}; {mend}")
        emit.status(QUEUE, status, f"{queue.name}: {message}" if message else "", tags)

    def _say_calls(self, emit: Emit) -> None:
        """What was requested: also of a run that failed, as it is charged."""
        for (action, region), count in (self._account.calls - self._counted).items():
            emit.count("sqs.api_calls", count, (f"region:{region}", f"action:{action}"))
        self._counted = Counter(self._account.calls)
        for region, ages in self._ages.items():
            if ages.requested > self._requested[region]:
                emit.count("sqs.metrics_requested", ages.requested - self._requested[region], (f"region:{region}",))
                self._requested[region] = ages.requested

    async def _conclude(self, lost: list[CheckError]) -> None:
        if not lost:
            return
        if len(lost) == len(self._regions):
            await self._account.close()  # the next run looks for credentials anew: these may be of yesterday
        raise lost[0]


def has_messages(depth: Depth | CheckError | None) -> bool:
    """Whether there is an oldest message to ask for."""
    return isinstance(depth, Depth) and depth.visible + depth.in_flight > 0


def sentence(error: CheckError) -> str:
    """A finding and its hint in one line."""
    return "; ".join(filter(None, (error.message, error.hint)))
