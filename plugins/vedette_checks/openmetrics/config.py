"""The options of the openmetrics check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Secret
from vedette.kit import Size
from vedette_checks.options import CaFile, CertFile, KeyFile, Verify

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE = "holds a line break or another character that HTTP does not allow in a header"


def sendable(text: str) -> bool:
    """Whether a header may have this value: RFC 9110, "Field Values", without what is obsolete."""
    return text.isascii() and all(one.isprintable() or one == "\t" for one in text) and text == text.strip()


class OpenMetricsConfig(CheckConfig):
    """The options of one endpoint."""

    url: str = Field(
        description="Where the metrics are.", examples=["http://127.0.0.1:9100/metrics", "https://node1:9100/metrics"]
    )
    namespace: str = Field(
        "",
        description="What names of metrics begin with, such as `shop`. Default: nothing, names stay as exposed.",
        pattern=r"^(?:[A-Za-z][A-Za-z0-9_.]*)?$",
        examples=["shop"],
    )
    buckets: bool = Field(True, description="Emit the buckets of histograms; without them the sum and the count stay.")
    exclude_labels: tuple[str, ...] = Field(
        (),
        description="Labels to leave out. Series that are the same without them overwrite each other.",
        examples=[["pod_uid"]],
    )
    rename_labels: dict[str, str] = Field(
        default_factory=dict, description="New names of labels.", examples=[{"service": "exported_service"}]
    )
    timestamps: bool = Field(True, description="Times that are exposed are the samples' own.")
    username: str | None = Field(None, description="User of HTTP's Basic authentication.", examples=["scraper"])
    password: Secret | None = Field(None, description="Its password.", examples=["${env:SCRAPE_PASSWORD}"])
    token: Secret | None = Field(None, description="Bearer token.", examples=["${env:SCRAPE_TOKEN}"])
    token_file: Path | None = Field(
        None,
        description="File with the bearer token, read at each run: what Kubernetes renews.",
        examples=["/var/run/secrets/kubernetes.io/serviceaccount/token"],
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="Headers to send as well.", examples=[{"X-Scope-OrgID": "payments"}]
    )
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    verify: Verify = True
    max_body: Size = Field(32 << 20, description="Longest answer that is read, unpacked.", gt=0)
    max_samples: int = Field(
        50_000, description="Most samples of an answer, before `metrics` chooses; the rest is cut and counted.", gt=0
    )

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        login = False
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            good = good and value.isprintable() and " " not in value
            login = parts.username is not None or parts.password is not None
        except ValueError:
            good = False
        if not good:
            raise PydanticCustomError("vedette", "is an address such as http://127.0.0.1:9100/metrics")
        if login:
            raise PydanticCustomError("vedette", "holds a login: give `username` and `password` instead")
        return value

    @field_validator("token")
    @classmethod
    def _sendable_token(cls, value: Secret | None) -> Secret | None:
        if value is not None and not sendable(value.reveal()):
            raise PydanticCustomError("vedette", _UNSENDABLE)
        return value

    @field_validator("headers")
    @classmethod
    def _sendable_headers(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            if not _HEADER.fullmatch(name):
                raise PydanticCustomError("vedette", "has '{name}', which is no name of a header", {"name": name})
            if not sendable(secret.reveal()):
                raise PydanticCustomError("vedette", "{name} " + _UNSENDABLE, {"name": name})
        return value

    @model_validator(mode="after")
    def _one_login(self) -> OpenMetricsConfig:
        ways: list[tuple[str, Any]] = [
            ("username", self.username), ("token", self.token), ("token_file", self.token_file)
        ]  # fmt: skip
        given = [name for name, value in ways if value is not None]
        if len(given) > 1:
            raise PydanticCustomError("vedette", "give only one of {names}", {"names": " and ".join(given)})
        if (self.username is None) != (self.password is None):
            raise PydanticCustomError("vedette", "username and password go together")
        return self

    @property
    def prefix(self) -> str:
        """`namespace` and the dot after it."""
        return f"{self.namespace}." if self.namespace else ""
