"""The options of the redis check, and the address they amount to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Duration, Login, Password, Secret
from vedette_checks.redis.names import METRICS
from vedette_checks.redis.options import ScanConfig, SlowlogConfig
from vedette_checks.redis.template import KeyTemplate
from vedette_checks.redis.topology import CLUSTER_METRICS, SENTINEL_METRICS, ClusterConfig, SentinelConfig

Read = Literal["get", "scard", "llen", "zcard", "zcount", "hget", "hlen", "xlen", "pfcount"]
"""How a counter's value is read: the Redis command of that name."""

_METRIC = re.compile(r"[a-zA-Z][a-zA-Z0-9_.]{0,199}", re.ASCII)
_DATABASE = re.compile(r"/?(\d{0,9})", re.ASCII)
_OWN = frozenset(metric.name for metric in (*METRICS, *SENTINEL_METRICS, *CLUSTER_METRICS))
_PLACE = ("host", "port", "unix_socket_path")
_IN_URL = (*_PLACE, "db", "username", "password", "tls")

_EXAMPLE_COUNTERS: list[dict[str, Any]] = [
    {
        "metric": "dashboard.transactions.hourly",
        "key": "{dashboard}:hourly_transactions:{%Y%m%d%H%z}",
        "read": "get",
        "missing": 0,
        "unit": "transaction",
    },
    {
        "metric": "dashboard.transactions.daily",
        "key": "{dashboard}:daily_transactions:{%Y%m%d}",
        "read": "get",
        "missing": 0,
        "unit": "transaction",
    },
    {
        "metric": "dashboard.revenue.hourly",
        "key": "{dashboard}:hourly_revenue:{tag:currency}:{%Y%m%d%H%z}",
        "read": "get",
        "scale": 2,
        "missing": 0,
        "tags": ["currency:USD"],
        "unit": "currency",
    },
    {
        "metric": "dashboard.revenue.daily",
        "key": "{dashboard}:daily_revenue:{tag:currency}:{%Y%m%d}",
        "read": "get",
        "scale": 2,
        "missing": 0,
        "tags": ["currency:USD"],
        "unit": "currency",
    },
    {
        "metric": "dashboard.users.active_5min",
        "key": "{dashboard}:active_users",
        "read": "zcount",
        "window": "5m",
        "missing": 0,
        "unit": "user",
    },
    {
        "metric": "dashboard.users.active_1hour",
        "key": "{dashboard}:active_users",
        "read": "zcount",
        "window": "1h",
        "missing": 0,
        "unit": "user",
    },
]


class CounterConfig(BaseModel):
    """One entry of `counters:`: a number that an application keeps in Redis, reported as a metric."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    metric: str = Field(description="Name of the metric.", examples=["dashboard.transactions.hourly"])
    key: str = Field(
        description="Key to read. `{%Y%m%d%H}` is the time in `timezone` (strftime), `{tag:NAME}` the value of the "
        "counter's or the instance's tag NAME; any other braces are part of the key.",
        examples=["{dashboard}:hourly_transactions:{%Y%m%d%H%z}"],
        min_length=1,
    )
    read: Read = Field("get", description="The Redis command that reads the number.", examples=["zcount"])
    field: str | None = Field(None, description="Field of the hash, for `read: hget`.", examples=["total"])
    window: Duration | None = Field(
        None,
        description="For `read: zcount`: count the members whose score, in epoch seconds, is at most this old and no "
        "more than a minute ahead.",
        examples=["5m"],
        gt=0,
    )
    scale: int = Field(
        0,
        description="Shift the decimal point this many places to the left, exactly: 1234 with scale 2 is 12.34.",
        examples=[2],
        ge=0,
        le=18,
    )
    kind: Literal["gauge", "count", "counter", "rate"] = Field(
        "gauge",
        description="What the number means: `gauge` a level, `count` a delta, `counter` a total that only grows, "
        "`rate` such a total seen as a per-second gauge.",
    )
    missing: Literal[0] | None = Field(
        None, description="Report 0 where the key does not exist. Default: report nothing.", examples=[0]
    )
    tags: tuple[str, ...] = Field((), description="Tags of this metric.", examples=[["currency:EUR"]])
    unit: str = Field("", description="Unit, for people.", examples=["transaction"])

    @field_validator("metric")
    @classmethod
    def _metric_name(cls, value: str) -> str:
        if not _METRIC.fullmatch(value):
            raise ValueError("must be a dotted name of letters, digits and underscores, such as dashboard.users")
        if value in _OWN:
            raise ValueError("is a metric of the check itself; choose another name")
        return value

    @field_validator("key")
    @classmethod
    def _key_template(cls, value: str) -> str:
        KeyTemplate(value)
        return value

    @model_validator(mode="after")
    def _read_fits(self) -> CounterConfig:
        if (self.read == "hget") != (self.field is not None):
            raise ValueError("`read: hget` needs `field`, and only it may have one")
        if (self.read == "zcount") != (self.window is not None):
            raise ValueError("`read: zcount` needs `window`, and only it may have one")
        return self

    def template(self, instance_tags: tuple[str, ...]) -> KeyTemplate:
        """The key's template with its `{tag:…}` fields filled in.

        Raises:
            ValueError: a `{tag:…}` field names a tag that neither the counter nor the instance has.
        """
        return KeyTemplate(self.key).with_tags((*self.tags, *instance_tags))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to log in.

    Attributes:
        host: host name or IP address; empty with a unix socket.
        port: TCP port.
        path: path of the unix socket, or empty.
        db: database number.
        username: ACL user, or empty for the default one.
        password: its password, never printed.
        tls: whether to speak TLS.
        minted: a password that is made for each connection, instead of `password`.
    """

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    minted: Password | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def credentials(self) -> tuple[str, str]:
        """User and password for a connection that is about to be made.

        Raises:
            SecretError: the password cannot be made.
        """
        if self.minted is None:
            return self.username, self.password
        return self.username, await self.minted.of(Login("redis", self.host, self.port, self.username))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of Datadog's integration for it."""
        if self.path:
            return (f"redis_host:{self.path}", "redis_port:unix_socket")
        return (f"redis_host:{self.host}", f"redis_port:{self.port}")


class RedisConfig(CheckConfig):
    """The options of one redis instance."""

    timezone: str = Field(
        "UTC",
        description="Time zone of `schedule` and of the `{%…}` fields of `counters`.",
        examples=["Europe/Berlin"],
    )
    host: str = Field(
        "localhost", description="Host name or IP address.", examples=["cache1.internal"], pattern=r"^[^\s/@]+$"
    )
    port: int = Field(6379, description="TCP port.", ge=1, le=65535)
    unix_socket_path: Path | None = Field(
        None, description="Unix socket, instead of host and port.", examples=["/run/redis/redis.sock"]
    )
    url: Secret | None = Field(
        None,
        description="Address and login in one, instead of the options above and below: "
        "`redis://user:password@host:port/db`, `rediss://…` for TLS, `unix:///path?db=0`.",
        examples=["rediss://vedette:${env:REDIS_PASSWORD}@cache1.internal:6379/0"],
    )
    sentinel: SentinelConfig | None = Field(
        None, description="Watch a master that sentinels name, instead of a host: it is found anew at each run."
    )
    cluster: ClusterConfig | None = Field(None, description="Watch all nodes of a cluster, instead of a host.")
    db: int = Field(0, description="Database that `keys`, `counters` and the round trip use.", ge=0)
    username: str = Field("", description="ACL user (Redis 6 and later).", examples=["vedette"])
    password: Password | None = Field(
        None,
        description="Password; `${aws-iam:}` for IAM authentication of ElastiCache.",
        examples=["${file:/run/secrets/redis}"],
    )
    tls: bool = Field(False, description="Speak TLS.")
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities to trust instead of the system's.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    cert_file: Path | None = Field(None, description="Client certificate.", examples=["/etc/ssl/vedette.pem"])
    key_file: Path | None = Field(
        None, description="Its private key, if it is in a file of its own.", examples=["/etc/ssl/vedette.key"]
    )
    verify: bool = Field(True, description="Check the server's certificate and host name.")
    round_trip: bool = Field(
        True,
        description="Set, get and delete a unique key with a time to live at each run, and report how long that took.",
    )
    command_stats: bool = Field(False, description="Report calls and time per call of every command.")
    latency_percentiles: bool = Field(
        False, description="Report percentiles of the latency of every command (Redis 7 and later, Valkey)."
    )
    latency_events: bool = Field(
        False, description="Report what LATENCY LATEST says held the server up; it needs `latency-monitor-threshold`."
    )
    slowlog: SlowlogConfig | None = Field(
        None,
        description="Report the duration of each new entry of the slow log, by command. `{}` turns it on.",
        examples=[{"limit": 128}],
    )
    clients: bool = Field(False, description="Report connections by the client's name.")
    acl_log: bool = Field(False, description="Report how often the server denied what, by user.")
    streams: tuple[str, ...] = Field(
        (),
        description="Streams (names, not patterns) whose length, consumer groups and lag to report.",
        examples=[["orders", "mail:events"]],
    )
    scan: ScanConfig | None = Field(
        None,
        description="Count keys by pattern or prefix, in a walk with SCAN that goes on from run to run.",
        examples=[{"patterns": [{"pattern": "session:*", "name": "sessions"}], "by_prefix": ":"}],
    )
    tag_limit: int = Field(
        500,
        description="Most names of one kind (commands, databases, clients, groups, users) that become tags; the "
        "others are `other`.",
        ge=1,
    )
    keys: tuple[str, ...] = Field(
        (),
        description="Keys whose length to report (names, not patterns): items of a list, set, sorted set, hash or "
        "stream, bytes of a string.",
        examples=[["jobs", "mail:outbox"]],
    )
    counters: tuple[CounterConfig, ...] = Field(
        (), description="Numbers that an application keeps in Redis, as metrics.", examples=[_EXAMPLE_COUNTERS]
    )

    @field_validator("url")
    @classmethod
    def _readable_url(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            parse_url(value.reveal())
        return value

    @field_validator("keys", "streams")
    @classmethod
    def _distinct_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("an empty string is no key")
        if len(set(value)) < len(value):
            raise ValueError("lists a key twice")
        return value

    @model_validator(mode="after")
    def _one_address(self) -> RedisConfig:
        if self.url is not None and (given := [name for name in _IN_URL if name in self.model_fields_set]):
            raise ValueError(f"`url` says it all: leave out {', '.join(given)}")
        if self.unix_socket_path is not None:
            if given := [name for name in ("host", "port", "tls") if name in self.model_fields_set]:
                raise ValueError(f"a unix socket has no {', '.join(given)}")
        elif not self.address.tls and (
            given := [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name) is not None]
        ):
            raise ValueError(f"{', '.join(given)} without TLS: set `tls: true`")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`key_file` needs `cert_file`")
        if self.address.username and not self.address.password and self.address.minted is None:
            raise ValueError("`username` needs `password`")
        if self.password is not None and self.password.minted is not None:
            if self.password.needs_tls and not self.tls:
                raise PydanticCustomError("vedette", "this password only goes over TLS: set `tls: true`")
            if not self.username:
                raise PydanticCustomError("vedette", "this password is made for a user: give `username`")
        return self

    @model_validator(mode="after")
    def _one_topology(self) -> RedisConfig:
        if self.sentinel is not None and self.cluster is not None:
            raise ValueError("give either `sentinel` or `cluster`, not both")
        for option in ("sentinel", "cluster"):
            given = [name for name in (*_PLACE, "url") if name in self.model_fields_set]
            if getattr(self, option) is not None and given:
                raise ValueError(f"`{option}` says where the servers are: leave out {', '.join(given)}")
        return self

    @model_validator(mode="after")
    def _counters_fit(self) -> RedisConfig:
        kinds: dict[str, str] = {}
        for place, counter in enumerate(self.counters):
            try:
                counter.template(self.tags)
            except ValueError as error:
                raise ValueError(f"counters[{place}].key: {error}") from error
            if kinds.setdefault(counter.metric, counter.kind) != counter.kind:
                raise ValueError(f"counters[{place}].kind: the same metric has another kind further up")
        return self

    @property
    def address(self) -> Address:
        """Where the server is, from `url` or from the single options."""
        if self.url is not None:
            return parse_url(self.url.reveal())
        return Address(
            "" if self.unix_socket_path else self.host,
            0 if self.unix_socket_path else self.port,
            str(self.unix_socket_path or ""),
            self.db,
            self.username,
            self.password.reveal() if self.password else "",
            self.tls,
            self.password if self.password is not None and self.password.minted is not None else None,
        )


def parse_url(url: str) -> Address:
    """The address in a `redis://`, `rediss://` or `unix://` URL; `%40` and the like are decoded.

    Raises:
        ValueError: it is none; the text does not repeat it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError("is not a URL: write @ : / ? # in a password as %40 %3A %2F %3F %23") from None
    login: dict[str, Any] = {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    if parts.scheme == "unix" and parts.path and not parts.hostname:
        return Address("", 0, unquote(parts.path), _database(_query_database(parts)), tls=False, **login)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path?db=0")
    database = _database(parts.path)
    return Address(unquote(parts.hostname), port, "", database, tls=parts.scheme == "rediss", **login)


def _query_database(parts: SplitResult) -> str:
    key, _, value = parts.query.partition("=")
    if key not in ("", "db"):
        raise ValueError("a unix:// URL takes no parameter but db")
    return value


def _database(text: str) -> int:
    match = _DATABASE.fullmatch(text)
    if match is None:
        raise ValueError("must end in a database number, such as /0")
    return int(match[1] or 0)
