"""The state of RDS and ElastiCache instances as statuses.

Sources: Amazon RDS User Guide, "Viewing Amazon RDS DB instance status"; Amazon ElastiCache API Reference, CacheCluster.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from vedette import CheckError, Emit, Status
from vedette_checks.aws import Account
from vedette_checks.cloudwatch.config import CloudWatchConfig, DiscoverConfig
from vedette_checks.cloudwatch.discovery import Tags, wanted

RDS, ELASTICACHE = "aws.rds.state", "aws.elasticache.state"
_FINE = frozenset(
    {
        "available",
        "backing-up",
        "configuring-associated-roles",
        "configuring-enhanced-monitoring",
        "configuring-iam-database-auth",
        "configuring-log-exports",
        "snapshotting",
        "storage-config-upgrade",
        "storage-initialization",
        "storage-optimization",
    }
)
_PASSING = frozenset(
    {
        "converting-to-vpc",
        "creating",
        "delete-precheck",
        "deleted",
        "deleting",
        "maintenance",
        "modifying",
        "moving-to-vpc",
        "rebooting",
        "rebooting cluster nodes",
        "renaming",
        "resetting-master-credentials",
        "starting",
        "stopped",
        "stopping",
        "upgrading",
    }
)
_BROKEN = frozenset(
    {
        "create-failed",
        "failed",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
        "insufficient-capacity",
        "restore-error",
        "restore-failed",
        "storage-full",
    }
)
ACTIONS = {
    "rds": ("rds:DescribeDBInstances",),
    "elasticache": ("elasticache:DescribeCacheClusters", "elasticache:DescribeReplicationGroups"),
}
"""What is called, by preset."""


def grade(state: str) -> Status:
    """OK: serves; WARNING: something is being done to it; CRITICAL: broken; UNKNOWN: a word we do not know."""
    if state in _FINE:
        return Status.OK
    if state in _BROKEN or state.startswith("incompatible-"):
        return Status.CRITICAL
    return Status.WARNING if state in _PASSING else Status.UNKNOWN


@dataclass(frozen=True, slots=True)
class State:
    """The state of one instance.

    Attributes:
        status: the name of the service check.
        state: AWS' word.
        tags: which instance.
    """

    status: str
    state: str
    tags: tuple[str, ...]


class States:
    """The states in one region, asked for now and then, said with every run.

    Args:
        config: the options.
        account: AWS.
        region: where.
        tags: the tags of the resource that has this name, for a job.
    """

    def __init__(
        self, config: CloudWatchConfig, account: Account, region: str, tags: Callable[[DiscoverConfig, str], Tags]
    ) -> None:
        self._tags = tags
        self._config = config
        self._account = account
        self._region = region
        self._next: dict[str, float] = {}
        self._known: dict[str, tuple[State, ...]] = {}
        self._problems: dict[str, CheckError] = {}

    @property
    def problem(self) -> CheckError | None:
        """Why the last look failed, if it did."""
        return next(iter(self._problems.values()), None)

    async def look(self, until: float) -> None:
        """Ask for what it is time for, and again for what failed the last time."""
        for preset in self._config.watched:
            if monotonic() < self._next.get(preset, 0.0):
                continue
            asked = self._rds(until) if preset == "rds" else self._elasticache(until)
            try:
                self._known[preset] = tuple([one async for one in asked])
            except CheckError as error:
                self._known.pop(preset, None)  # an old state would be a lie
                self._problems[preset] = error
            else:
                self._problems.pop(preset, None)
                self._next[preset] = monotonic() + self._config.state_every

    def say(self, emit: Emit) -> None:
        """Report them."""
        for states in self._known.values():
            for one in states:
                how = grade(one.state)
                emit.status(one.status, how, "" if how is Status.OK else f"{one.tags[1]} is {one.state}", one.tags)

    async def _rds(self, until: float) -> AsyncIterator[State]:
        async for one in self._pages("rds", "DescribeDBInstances", "DBInstances", until):
            name = one["DBInstanceIdentifier"]
            if self._wanted("rds", "DBInstanceIdentifier", name):
                yield self._state(RDS, one.get("DBInstanceStatus"), f"dbinstanceidentifier:{name}", one.get("Engine"))

    async def _elasticache(self, until: float) -> AsyncIterator[State]:
        groups = set[str]()
        async for one in self._pages("elasticache", "DescribeCacheClusters", "CacheClusters", until):
            name = one["CacheClusterId"]
            if self._wanted("elasticache", "CacheClusterId", name):
                groups |= {one["ReplicationGroupId"]} if one.get("ReplicationGroupId") else set()
                yield self._state(
                    ELASTICACHE, one.get("CacheClusterStatus"), f"cacheclusterid:{name}", one.get("Engine")
                )
        async for one in self._pages("elasticache", "DescribeReplicationGroups", "ReplicationGroups", until):
            name = one["ReplicationGroupId"]
            if name in groups or not self._filtered("elasticache"):
                yield self._state(ELASTICACHE, one.get("Status"), f"replication_group:{name}", one.get("Engine"))

    def _state(self, status: str, state: str | None, tag: str, engine: str | None) -> State:
        more = (f"engine:{engine}",) if engine else ()
        return State(status, (state or "unknown").lower(), (f"region:{self._region}", tag, *more))

    def _jobs(self, preset: str) -> list[DiscoverConfig]:
        return [job for job in self._config.discover if job.preset == preset]

    def _wanted(self, preset: str, dimension: str, name: str) -> bool:
        """Whether a job is about it, as its name and its tags tell."""
        return any(wanted(job, ((dimension, name),), self._tags(job, name)) for job in self._jobs(preset))

    def _filtered(self, preset: str) -> bool:
        return all(job.match or job.exclude or job.match_tags for job in self._jobs(preset))

    async def _pages(self, service: str, operation: str, key: str, until: float) -> AsyncIterator[Any]:
        more: dict[str, Any] = {}
        while True:
            page = await self._account.call(service, operation, self._region, until=until, MaxRecords=100, **more)
            for one in page.get(key, ()):
                yield one
            if not page.get("Marker"):
                return
            more = {"Marker": page["Marker"]}
