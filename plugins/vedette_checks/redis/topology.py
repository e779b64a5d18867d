"""Sentinel and Cluster: their options, and the metrics and statuses that they add."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vedette import Kind, Metric, Secret
from vedette_checks.redis.names import TAGS

SENTINEL_PORT, REDIS_PORT = 26379, 6379
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<name>[^\s/@:\[\]]+))(?::(?P<port>\d{1,5}))?", re.ASCII)


def split_address(text: str, port: int) -> tuple[str, int]:
    """Host and port in `host:port`, `[::1]:port` or a host alone, which means the port given here.

    Raises:
        ValueError: it is none of these.
    """
    match = _ADDRESS.fullmatch(text)
    number = int(match["port"] or port) if match else 0
    if match is None or not 1 <= number <= 65535:
        raise ValueError("must look like cache1.internal:6379 or [::1]:6379")
    return match["v6"] or match["name"], number


def _check(addresses: tuple[str, ...], port: int) -> tuple[str, ...]:
    places = [split_address(address, port) for address in addresses]
    if len(set(places)) < len(places):
        raise ValueError("lists an address twice")
    return addresses


class SentinelConfig(BaseModel):
    """The option `sentinel`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: tuple[str, ...] = Field(
        description="The sentinels, as `host:port`; the port is 26379 where it is left out. List all: each is asked.",
        examples=[["sentinel1.internal:26379", "sentinel2.internal:26379", "sentinel3.internal:26379"]],
        min_length=1,
    )
    master: str = Field(
        description="Name of the master, as in `sentinel monitor NAME …`.", examples=["mymaster"], min_length=1
    )
    username: str = Field("", description="ACL user on the sentinels.", examples=["vedette"])
    password: Secret | None = Field(
        None, description="Password of the sentinels themselves.", examples=["${file:/run/secrets/sentinel}"]
    )

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check(value, SENTINEL_PORT)

    @model_validator(mode="after")
    def _login(self) -> SentinelConfig:
        if self.username and self.password is None:
            raise ValueError("`username` needs `password`")
        return self


class ClusterPlace(BaseModel):
    """The option `cluster`, as far as it says where that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: tuple[str, ...] = Field(
        description="Some nodes of the cluster, as `host:port`, the port 6379 where it is left out: the first that "
        "answers names the others.",
        examples=[["cache1.internal:6379", "cache2.internal:6379"]],
        min_length=1,
    )

    @field_validator("addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _check(value, REDIS_PORT)


class ClusterConfig(ClusterPlace):
    """The option `cluster` of the check."""

    max_nodes: int = Field(100, description="Visit at most this many nodes, primaries first.", ge=1)


_NAME = ("redis_name", "master_ip")


def _sentinel(name: str, unit: str, text: str, *tags: str) -> Metric:
    return Metric(f"redis.sentinel.{name}", Kind.GAUGE, unit, text, tags or _NAME)


SENTINEL_METRICS = (
    _sentinel("known_sentinels", "instance", "Sentinels that watch the master, as far as they know of each other."),
    _sentinel("ok_sentinels", "instance", "Those of them that are up."),
    _sentinel("known_slaves", "instance", "Replicas of the master that the sentinels know."),
    _sentinel("ok_slaves", "instance", "Those of them that are up."),
    _sentinel("sdown_slaves", "instance", "Replicas that are down in the eyes of the sentinel that was asked."),
    _sentinel("odown_slaves", "instance", "Replicas that are down in the eyes of a quorum of sentinels."),
    _sentinel(
        "link_pending_commands",
        "command",
        "Commands that a sentinel has sent and not yet had answered: to the master, a replica, another sentinel.",
        "redis_name",
        "master_ip",
        "slave_ip",
        "slave_port",
        "sentinel_ip",
        "sentinel_port",
    ),
    _sentinel(
        "last_ok_ping_latency",
        "second",
        "Time since another sentinel last answered a ping.",
        "redis_name",
        "sentinel_ip",
        "sentinel_port",
    ),
    Metric("redis.sentinel.failover", Kind.COUNT, "", "Failovers: another server is the master now.", ("redis_name",)),
)
"""Under `sentinel`; the names are those of Datadog's redis_sentinel integration."""

SENTINEL_STATUSES = (
    "redis.sentinel.can_connect",
    "redis.sentinel.quorum",
    "redis.sentinel.master_is_down",
    "redis.sentinel.master_is_disconnected",
    "redis.sentinel.slave_is_disconnected",
    "redis.sentinel.slave_master_link_down",
)


def _cluster(name: str, unit: str, text: str, *tags: str) -> Metric:
    return Metric(f"redis.cluster.{name}", Kind.GAUGE, unit, text, tags)


CLUSTER_METRICS = (
    _cluster("slots_assigned", "", "Slots that belong to a node; all is well at 16384."),
    _cluster("slots_ok", "", "Slots whose node is well."),
    _cluster("slots_pfail", "", "Slots whose node does not answer one node."),
    _cluster("slots_fail", "", "Slots whose node is down."),
    _cluster("known_nodes", "instance", "Nodes of the cluster, whatever their state."),
    _cluster("size", "instance", "Primaries that serve slots."),
    _cluster("nodes_failing", "instance", "Nodes that are down."),
    _cluster("nodes_pfail", "instance", "Nodes that do not answer the node that was asked."),
    _cluster("node.slots", "", "Slots of a primary.", *TAGS),
    _cluster("node.replicas", "instance", "Replicas of a primary that are not down.", *TAGS),
)
"""Under `cluster`, as one node sees it."""

CLUSTER_STATUSES = ("redis.cluster.state",)
