"""The options of the rabbitmq check."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Secret
from vedette.kit import Size
from vedette_checks.options import CaFile, CertFile, KeyFile, Verify

_LONGEST = 1_000


class RabbitMQConfig(CheckConfig):
    """The options of one server, or of one cluster."""

    url: str = Field(
        "http://127.0.0.1:15672", description="Address of the management plugin.", examples=["https://mq1:15671"]
    )
    username: str = Field(
        "guest", description="User, with the tag `monitoring` and permissions on the vhosts.", examples=["vedette"]
    )
    password: Secret | None = Field(
        None, description="Its password. Default: guest.", examples=["${env:RABBITMQ_PASSWORD}"]
    )
    vhosts: tuple[str, ...] = Field(
        (), description="Only these vhosts. Each is asked for by itself.", examples=[["/", "payments"]]
    )
    queues: tuple[str, ...] = Field(
        (),
        description="Only these queues, by `name` or `vhost/name`; `rabbitmq.queue_found` is CRITICAL for one "
        "that is not there.",
        examples=[["payouts", "payments/refunds"]],
    )
    queues_regex: tuple[str, ...] = Field(
        (),
        description="Only queues in whose names one of these is found, beside those of `queues`.",
        examples=[["^shop-(?P<region>[a-z]+)-"]],
    )
    exchanges: tuple[str, ...] = Field(
        (), description="Only these exchanges, by `name` or `vhost/name`.", examples=[["orders"]]
    )
    exchanges_regex: tuple[str, ...] = Field(
        (), description="Only exchanges in whose names one of these is found, beside those of `exchanges`.",
        examples=[["^shop-"]],
    )  # fmt: skip
    tag_families: bool = Field(
        False,
        description="Tag what a group of the regular expressions found: `rabbitmq_queue_family`, for a named group "
        "`rabbitmq_queue_family_<name>`.",
    )
    depth_warning: int | None = Field(
        None, description="`rabbitmq.queue` is WARNING from so many waiting messages on.", examples=[1000], ge=1
    )
    depth_critical: int | None = Field(
        None, description="`rabbitmq.queue` is CRITICAL from so many on.", examples=[10000], ge=1
    )
    consumers_least: int | None = Field(
        None, description="`rabbitmq.queue` is CRITICAL where fewer consumers are there.", examples=[1], ge=1
    )
    max_queues: int = Field(200, description="Most queues to report; those beyond are counted.", ge=1, le=20_000)
    max_exchanges: int = Field(50, description="Most exchanges to report; 0 asks for none.", ge=0, le=5_000)
    max_vhosts: int = Field(100, description="Most vhosts to report.", ge=1, le=5_000)
    max_connections: int = Field(
        2_000, description="Connections are not counted by vhost and state where there are more; 0 asks for none.",
        ge=0, le=100_000,
    )  # fmt: skip
    node_metrics: bool = Field(True, description="Ask for the nodes.")
    bindings: bool = Field(
        False, description="Count the bindings of each queue, by a list of all bindings, which may be long."
    )
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    verify: Verify = True
    max_body: Size = Field(32 << 20, description="Longest answer that is read, unpacked.", gt=0)

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        login = False
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            good = good and not parts.query and not parts.fragment
            login = parts.username is not None or parts.password is not None
            httpx.URL(value)
        except (ValueError, httpx.InvalidURL):
            good = False
        if not good:
            raise PydanticCustomError("vedette", "is an address such as http://127.0.0.1:15672")
        if login:
            raise PydanticCustomError("vedette", "holds a login: give `username` and `password` instead")
        return value

    @field_validator("queues_regex", "exchanges_regex")
    @classmethod
    def _regular(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                re.compile(one)
            except re.error:
                raise PydanticCustomError("vedette", "is not a list of regular expressions") from None
        return value

    @field_validator("queues", "exchanges", "vhosts")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not one or len(one) > _LONGEST for one in value):
            raise PydanticCustomError("vedette", "is a list of names")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _in_order(self) -> RabbitMQConfig:
        if self.depth_warning and self.depth_critical and self.depth_critical < self.depth_warning:
            raise PydanticCustomError("vedette", "depth_critical must not be less than depth_warning")
        if len(self.queues) > self.max_queues:
            raise PydanticCustomError("vedette", "max_queues is less than there are queues in the list")
        return self

    @property
    def api(self) -> str:
        """Where the API is, which ends with `/api`; a URL that says so itself is good too."""
        return f"{self.url.rstrip('/').removesuffix('/api')}/api"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
