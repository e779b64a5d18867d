"""Which queues there are in a region, and what SQS says of each.

Source: Amazon SQS API Reference, ListQueues, GetQueueUrl, GetQueueAttributes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from vedette import CheckError
from vedette_checks.aws import Absent, Account
from vedette_checks.sqs.config import QueueConfig, SqsConfig, Thresholds

_PAGE = 1000
_ATTRIBUTES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "RedrivePolicy",
)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to watch.

    Attributes:
        name: its name.
        url: its URL; empty if there is no queue of that name.
        thresholds: its own.
        tags: tags of its metrics.
        error: why its URL could not be had, though there may be such a queue.
        account: number of the account in its URL, where the entry has one: names are unique in an account only.
    """

    name: str
    url: str
    thresholds: Thresholds
    tags: tuple[str, ...] = ()
    error: CheckError | None = None
    account: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """What SQS says of a queue.

    Attributes:
        visible: messages that wait.
        in_flight: messages that were received and are being worked on.
        delayed: messages that are not to be received yet.
        dead_letter_name: name of its dead-letter queue; empty if it has none.
        dead_letter_url: its URL.
    """

    visible: int
    in_flight: int
    delayed: int
    dead_letter_name: str = ""
    dead_letter_url: str = ""


@dataclass(slots=True)
class Survey:
    """What a run found out in a region.

    Attributes:
        queues: what is watched.
        depths: what SQS says, by URL, or why it says nothing; those that there was no time for are missing.
        cut: queues beyond the limit.
        problems: what is wrong with finding queues, in sentences.
        lost: why the region cannot be asked at all.
    """

    queues: tuple[Queue, ...] = ()
    depths: dict[str, Depth | CheckError] = field(default_factory=dict)
    cut: int = 0
    problems: list[str] = field(default_factory=list)
    lost: CheckError | None = None


def depth_of(attributes: Mapping[str, str], url: str) -> Depth:
    """The attributes of a queue as numbers; its dead-letter queue is in the same account and region, as SQS demands."""
    name = dead_url = ""
    policy = attributes.get("RedrivePolicy")
    if policy:
        arn = str(json.loads(policy).get("deadLetterTargetArn", "")).split(":")
        if len(arn) == 6:
            name, dead_url = arn[5], f"{url.rsplit('/', 2)[0]}/{arn[4]}/{arn[5]}"
    visible, in_flight, delayed = (int(attributes.get(one, 0)) for one in _ATTRIBUTES[:3])
    return Depth(visible, in_flight, delayed, name, dead_url)


class Region:
    """One region as an instance sees it.

    Args:
        config: the instance's options.
        account: AWS.
        name: the region.
        first: whether it is the instance's first one, which takes the URLs that name no region.
    """

    def __init__(self, config: SqsConfig, account: Account, name: str, *, first: bool) -> None:
        self.name = name
        self._config = config
        self._account = account
        self._wanted = [one for one in config.queues if not one.url or one.region == name or (first and not one.region)]
        self._urls: dict[str, str] = {}
        self._listed: dict[str, tuple[str, ...]] = {}
        self._listed_at = -float("inf")
        self._room = asyncio.Semaphore(config.at_once)

    async def survey(self, until: float) -> Survey:
        """Look what queues there are, if it is time to, and ask about each.

        Args:
            until: monotonic seconds after which nothing more is asked.
        """
        found = Survey()
        try:
            await self._find(found, until)
        except CheckError as error:
            found.lost = error
            return found
        known = {queue.url for queue in found.queues if queue.url}
        await self._ask(known, found, until)
        if self._config.dead_letters:
            depths = [one for one in found.depths.values() if isinstance(one, Depth)]
            await self._ask({one.dead_letter_url for one in depths if one.dead_letter_url} - known, found, until)
        answers = [found.depths.get(queue.url) or queue.error for queue in found.queues]
        errors = [one for one in answers if isinstance(one, CheckError) and not isinstance(one, Absent)]
        if errors and len(errors) == len(answers):
            found.lost = errors[0]
        return found

    async def _find(self, found: Survey, until: float) -> None:
        """The queues of all entries, those that are named before those that are discovered, each once."""
        problem = None
        if any(one.prefix is not None for one in self._wanted):
            problem = await self._list(found, until)
        entries = sorted(self._wanted, key=lambda one: one.prefix is not None)
        members = await asyncio.gather(*(self._members(entry, until) for entry in entries))
        queues: dict[str, Queue] = {}
        for entry, some in zip(entries, members, strict=True):
            for name, url, error in some:
                made = Queue(name, url, self._config.thresholds(entry), entry.tags, error, entry.account)
                queues.setdefault(url or name, made)
        if problem is not None and not queues:
            raise problem
        every = list(queues.values())
        found.queues, found.cut = tuple(every[: self._config.limit]), max(0, len(every) - self._config.limit)

    async def _members(self, entry: QueueConfig, until: float) -> Iterable[tuple[str, str, CheckError | None]]:
        """Name and URL of each, and why there is no URL, if it could not be had."""
        if entry.prefix is not None:
            listed = ((url.rpartition("/")[2], url) for url in self._listed.get(entry.prefix, ()))
            return [(name, url, None) for name, url in listed if entry.takes(name)]
        if entry.url:
            return [(entry.url.rpartition("/")[2], entry.url, None)]
        if entry.name not in self._urls:
            try:
                async with self._room:
                    answer = await self._call("GetQueueUrl", until, QueueName=entry.name)
            except Absent:
                return [(entry.name, "", None)]
            except CheckError as error:
                return [(entry.name, "", error)]
            self._urls[entry.name] = answer["QueueUrl"]
        return [(entry.name, self._urls[entry.name], None)]

    async def _list(self, found: Survey, until: float) -> CheckError | None:
        """Look what queues there are, if it is time to; what AWS has against it."""
        if monotonic() < self._listed_at + self._config.discover_every:
            return None
        prefixes = {one.prefix for one in self._wanted if one.prefix is not None}
        try:
            listed = {prefix: tuple([url async for url in self._pages(prefix, until)]) for prefix in prefixes}
        except CheckError as error:
            anew = " anew" if self._listed else ""
            found.problems.append(f"what queues there are is not known{anew}: {error.message}")
            return error
        self._listed, self._listed_at = listed, monotonic()
        return None

    async def _pages(self, prefix: str, until: float) -> AsyncIterator[str]:
        more: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
        while True:
            answer = await self._call("ListQueues", until, MaxResults=_PAGE, **more)
            for url in answer.get("QueueUrls", ()):
                yield url
            if not answer.get("NextToken"):
                return
            more["NextToken"] = answer["NextToken"]

    async def _ask(self, urls: Iterable[str], found: Survey, until: float) -> None:
        async def one(url: str) -> None:
            async with self._room:
                if monotonic() >= until:
                    return
                try:
                    answer = await self._call(
                        "GetQueueAttributes", until, QueueUrl=url, AttributeNames=list(_ATTRIBUTES)
                    )
                except CheckError as error:
                    found.depths[url] = error
                    if isinstance(error, Absent):  # deleted, and perhaps made anew
                        self._urls = {name: known for name, known in self._urls.items() if known != url}
                    return
                found.depths[url] = depth_of(answer.get("Attributes", {}), url)

        await asyncio.gather(*map(one, sorted(urls)))

    async def _call(self, operation: str, until: float, **parameters: Any) -> Any:
        return await self._account.call("sqs", operation, self.name, until=until, **parameters)
