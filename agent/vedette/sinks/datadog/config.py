"""Options of the `datadog` sink, and the addresses that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Secret, SinkConfig
from vedette.kit import HttpOptions, Size

Site = Literal[
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "ddog-gov.com",
]
"""Source: Datadog, "Getting Started with Datadog Sites"."""
_LEAST_DISK = 1024 * 1024


class LateConfig(BaseModel):
    """What Datadog takes although it is over an hour old."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...] = Field(
        default=(),
        description="Metrics (glob patterns) for which Historical Metrics Ingestion is on at Datadog.",
        examples=[["business.*"]],
    )
    max_age: Duration = Field(default=7 * 86_400.0, gt=0, description="How old their points may get.")


class DatadogConfig(HttpOptions, SinkConfig):
    """Options of the `datadog` sink."""

    api_key: Secret = Field(description="API key.", examples=["${env:DD_API_KEY}"])
    app_key: Secret | None = Field(
        default=None,
        description="Application key: units and help texts of metrics, and `host_tags`, are pushed with it.",
        examples=["${env:DD_APP_KEY}"],
    )
    site: Site = Field(default="datadoghq.com", description="The Datadog site that your account is on.")
    base_url: str = Field(
        default="",
        description="Address of another intake instead of the site's, such as a relay that speaks the same.",
        examples=["https://datadog-relay.internal"],
    )
    logs_url: str = Field(
        default="",
        description="Address of the intake for logs. Default: `base_url`, else the site's.",
        examples=["https://logs-relay.internal"],
    )
    queue: int = Field(
        default=50_000, gt=0, description="Samples waiting for being queued on disk; beyond that the oldest batch goes."
    )
    flush: Duration = Field(
        default=10.0, gt=0, description="Time between two requests to an endpoint, while it keeps up."
    )
    histogram_as: Literal["aggregates", "distribution"] = Field(
        default="aggregates",
        description="Send histograms as `.avg .median .95percentile .max .count`, or as distributions.",
    )
    compression: Literal["zstd", "gzip", "deflate"] = Field(
        default="zstd", description="Where the endpoint takes it and it is installed; else what it takes."
    )
    spool: Path | None = Field(
        default=None,
        description="Folder of the queue on disk. Default: `spool/<name of the sink>` in the state directory.",
        examples=["/var/spool/vedette"],
    )
    disk: Size = Field(
        default=512 * 1024 * 1024,
        description="What the queue may take on disk; beyond that the oldest goes. 0 keeps it in memory.",
    )
    memory: Size = Field(
        default=16 * 1024 * 1024, gt=0, description="What it may take in memory while the disk refuses."
    )
    late: LateConfig = Field(
        default_factory=LateConfig, description="What may be sent although it is over an hour old."
    )
    host_tags: tuple[str, ...] = Field(
        default=(),
        description="Tags to give this host at Datadog, for what others report of it too; needs `app_key`.",
        examples=[["team:payments"]],
    )

    @field_validator("api_key", "app_key")
    @classmethod
    def _fit_for_a_header(cls, value: Secret | None) -> Secret | None:
        if value is not None and not (value.reveal().strip().isascii() and value.reveal().strip().isprintable()):
            raise PydanticCustomError("vedette", "must be a key as Datadog shows it: letters and digits")
        if value is not None and not value.reveal().strip():
            raise PydanticCustomError("vedette", "is empty: give a key as Datadog shows it")
        return value

    @field_validator("base_url", "logs_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and (not value.startswith(("https://", "http://")) or "@" in value or "?" in value):
            raise PydanticCustomError("vedette", "must be an address such as https://datadog-relay.internal")
        return value.rstrip("/")

    @field_validator("disk")
    @classmethod
    def _enough(cls, value: int) -> int:
        if 0 < value < _LEAST_DISK:
            raise PydanticCustomError("vedette", "must be 0 or at least 1MB")
        return value

    @model_validator(mode="after")
    def _host_tags_need_a_key(self) -> DatadogConfig:
        if self.host_tags and self.app_key is None:
            raise PydanticCustomError("vedette", "host_tags needs app_key, the only key that may set them")
        return self

    @property
    def api(self) -> str:
        """Where metrics, service checks and events go."""
        return self.base_url or f"https://api.{self.site}"

    @property
    def logs(self) -> str:
        """Where logs go."""
        return self.logs_url or self.base_url or f"https://http-intake.logs.{self.site}"

    @property
    def place(self) -> str:
        """Where it all goes, for people."""
        return self.base_url.partition("://")[2] or self.site
