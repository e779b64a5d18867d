"""What there is to ask for: ListMetrics, as recently active, joined with the tags of the resources."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from vedette import CheckError
from vedette_checks.aws import Account, Refused
from vedette_checks.cloudwatch.config import CloudWatchConfig, DiscoverConfig
from vedette_checks.cloudwatch.names import resource_tag
from vedette_checks.cloudwatch.series import Dimensions, Series, Source, of_source

Tags = Mapping[str, str]
_AT_ONCE = 4
_ACTIVE, _RECENT = "PT3H", 10800
"""The only value that AWS takes, and its seconds: metrics with a datapoint in the last three hours."""


class Discovery:
    """The series of `discover` in one region, looked up anew now and then.

    What cannot be looked up keeps its last state: a series without its tags would be another series.

    Args:
        config: the options.
        account: AWS.
        region: where.
    """

    def __init__(self, config: CloudWatchConfig, account: Account, region: str) -> None:
        self._config = config
        self._account = account
        self._region = region
        self._found: dict[tuple[int, str], tuple[Series, ...]] = {}
        self._next: dict[tuple[int, str], float] = {}
        self._tags: dict[tuple[str, ...], dict[str, Tags]] = {}
        self._next_tags: dict[tuple[str, ...], float] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._problems: dict[object, CheckError] = {}
        self.round = 0
        """Grows when what is there may have changed."""

    @property
    def series(self) -> tuple[Series, ...]:
        """Those that are there, as of the last look."""
        return tuple(one for _, some in sorted(self._found.items()) for one in some)

    @property
    def complete(self) -> bool:
        """Whether everything has been looked up at least once."""
        return len(self._found) == len(self._wanted())

    @property
    def problem(self) -> CheckError | None:
        """Why something could not be looked up; None once it could."""
        return next(iter(self._problems.values()), None)

    def tags(self, job: DiscoverConfig, name: str) -> Tags:
        """The tags of a resource that a job is about, as far as they were looked up; for `match_tags` alone too."""
        return self._tags.get(job.types, {}).get(name, {})

    async def look(self, until: float, back: float = 0.0) -> None:
        """Look up what it is time for; what fails for a reason that may pass is looked up again with the next run.

        Args:
            until: by `time.monotonic()`.
            back: seconds that are to be made up for: a series that fell silent in between has points to be read yet.
        """
        types = sorted({job.types for job in self._config.discover if job.tagged})
        await asyncio.gather(*(self._look_up_tags(one, until) for one in types))
        await asyncio.gather(*(self._look_up(place, metric, until, back) for place, metric in self._wanted()))

    def _wanted(self) -> list[tuple[int, str]]:
        return [(place, metric) for place, job in enumerate(self._config.discover) for metric in job.asked]

    async def _look_up_tags(self, types: tuple[str, ...], until: float) -> None:
        if monotonic() < self._next_tags.get(types, 0.0):
            return
        try:
            self._tags[types] = await resources(self._account, self._region, types, until)
        except Refused as error:  # for good: better without tags than nothing
            self._tags.setdefault(types, {})
            self._problems[types] = error
        except CheckError as error:
            self._problems[types] = error
            return
        else:
            self._problems.pop(types, None)
        self._next_tags[types] = monotonic() + self._config.discover_every

    async def _look_up(self, place: int, metric: str, until: float, back: float) -> None:
        job, key = self._config.discover[place], (place, metric)
        if monotonic() < self._next.get(key, 0.0) or (job.tagged and job.types not in self._tags):
            return
        try:
            async with self._room:
                found = [one async for one in self._list(job, metric, until, back)]
        except CheckError as error:
            self._problems[key] = error
            return
        self._problems.pop(key, None)
        self.round += 1
        self._found[key] = tuple(self._made(job, metric, found))
        self._next[key] = monotonic() + self._config.discover_every

    def _made(self, job: DiscoverConfig, metric: str, found: Iterable[Dimensions]) -> Iterator[Series]:
        tags = self._tags[job.types] if job.tagged else {}
        for dimensions in preferred(job, found):
            own = tags_of(dimensions, tags)
            if wanted(job, dimensions, own):
                source = Source(job.space, metric, dimensions)
                yield from of_source(job, self._region, source, kept(job, own))

    async def _list(self, job: DiscoverConfig, metric: str, until: float, back: float) -> AsyncIterator[Dimensions]:
        more: dict[str, Any] = {"RecentlyActive": _ACTIVE} if max(back, job.period) <= _RECENT else {}
        while True:
            page = await self._account.call(
                "cloudwatch",
                "ListMetrics",
                self._region,
                until=until,
                Namespace=job.space,
                MetricName=metric,
                **more,
            )
            for one in page.get("Metrics", ()):
                yield tuple(sorted((each["Name"], each["Value"]) for each in one.get("Dimensions", ())))
            if not page.get("NextToken"):
                return
            more["NextToken"] = page["NextToken"]


def preferred(job: DiscoverConfig, found: Iterable[Dimensions]) -> list[Dimensions]:
    """Those with the dimensions that are wanted; of one resource only those of the first set that it has."""
    every = sorted(set(found))
    if not job.shapes:
        return every
    made: list[Dimensions] = []
    seen: set[str] = set()
    for shape in job.shapes:
        fitting = [one for one in every if tuple(key for key, _ in one) == tuple(sorted(shape))]
        new = [one for one in fitting if dict(one)[shape[0]] not in seen]
        made += new
        seen |= {dict(one)[shape[0]] for one in new} if len(job.shapes) > 1 else set()
    return made


def wanted(job: DiscoverConfig, dimensions: Dimensions, tags: Tags) -> bool:
    """Whether the filters let it pass."""
    values = dict(dimensions)
    return (
        all(re.fullmatch(pattern, values.get(key, "")) for key, pattern in job.match.items())
        and not any(key in values and re.fullmatch(pattern, values[key]) for key, pattern in job.exclude.items())
        and all(re.fullmatch(pattern, tags.get(key, "")) for key, pattern in job.match_tags.items())
    )


def kept(job: DiscoverConfig, tags: Tags) -> tuple[str, ...]:
    """The tags of a resource that become tags."""
    names = job.resource_tags
    return tuple(resource_tag(key, value) for key, value in sorted(tags.items()) if "*" in names or key in names)


def tags_of(dimensions: Dimensions, tags: Mapping[str, Tags]) -> Tags:
    """The tags of the resource that a dimension names."""
    return next((tags[value] for _, value in dimensions if value in tags), {})


async def resources(account: Account, region: str, types: tuple[str, ...], until: float) -> dict[str, Tags]:
    """The tags of all resources of these types, by the name that a dimension may have for them.

    Raises:
        CheckError: they cannot be had.
    """
    found: dict[str, Tags] = {}
    more: dict[str, Any] = {}
    while True:
        page = await account.call(
            "resourcegroupstaggingapi",
            "GetResources",
            region,
            until=until,
            ResourceTypeFilters=list(types),
            ResourcesPerPage=100,
            **more,
        )
        for one in page.get("ResourceTagMappingList", ()):
            tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", ())}
            for name in names_in(one["ResourceARN"]):
                found.setdefault(name, tags)
        if not page.get("PaginationToken"):
            return found
        more["PaginationToken"] = page["PaginationToken"]


def names_in(arn: str) -> Iterator[str]:
    """What a dimension may call a resource: the end of its ARN, from any `:` or `/` on.

    `arn:aws:rds:eu-central-1:1:db:payments` is `payments`; a load balancer's is `app/shop/50dc6c495c0c9188`.
    """
    resource = arn.split(":", 5)[-1]
    yield resource
    for place, letter in enumerate(resource):
        if letter in ":/":
            yield resource[place + 1 :]
