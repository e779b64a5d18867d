"""The options of the synthetic check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field, ValidationInfo, field_validator, model_validator

from vedette import CheckConfig, Duration, Secret
from vedette_checks.synthetic.options import METHODS, Auth, Expect, Headers, StepConfig, has_blank
from vedette_checks.synthetic.reading import BUILT_IN, check_flow
from vedette_checks.synthetic.templates import NAME

_BEARER = {"Authorization": "Bearer {{ token }}"}
_EXAMPLE = [
    {
        "name": "login",
        "request": "POST /api/v1/auth/login",
        "json": {"email": "synthetic.test@example.com", "password": "${env:SYNTHETIC_PASSWORD:-}"},
        "expect": {"status": 200, "max_time": "800ms"},
        "extract": {"token": "json.access_token"},
    },
    {
        "name": "balance",
        "request": "GET /api/v1/wallet/balance",
        "headers": _BEARER,
        "expect": {"status": 200, "json": {"currency": "USD"}},
    },
    {
        "name": "payment",
        "request": "POST /api/v1/payments/send",
        "headers": _BEARER,
        "json": {"amount": "{{ amount }}", "currency": "USD"},
        "extract": {"payment_id": "json.transaction_id"},
    },
    {
        "name": "verify",
        "request": "GET /api/v1/payments/{{ payment_id }}",
        "headers": _BEARER,
        "until": {"json": {"status": "completed"}, "every": "500ms", "within": "5s"},
    },
]
"""The strategy's flow."""
_ALONE = ("method", "expect", "auth")
"""Options of the single request that `url` makes."""
_MARGIN = 1.0


class SyntheticConfig(CheckConfig):
    """The options of one flow."""

    example = ("base_url", "variables", "steps", "cleanup")

    url: str = Field(
        "",
        description="Check this one address, instead of a flow of `steps`.",
        examples=["https://api.bank.example/health"],
    )
    method: str = Field("GET", description="Method of the request to `url`.", pattern=r"^[A-Z]+$")
    expect: Expect = Field(
        default=Expect(),
        description="What the answer of `url` must be like.",
        examples=[{"status": 200, "regex": "ok"}],
    )
    auth: Auth | None = Field(
        None, description="HTTP authentication at `url`.", examples=[{"username": "monitor", "password": "${env:PW}"}]
    )
    base_url: str = Field(
        "", description="What the steps' paths are appended to.", examples=["https://pay.example.com"]
    )
    variables: dict[str, str | int | float | bool] = Field(
        {}, description="Values for `{{ name }}` in the steps.", examples=[{"amount": "1.00"}]
    )
    show: tuple[str, ...] = Field(
        (),
        description="Extracted variables that may be shown; all others are masked wherever they come up.",
        examples=[["payment_id"]],
    )
    headers: Headers = Field({}, description="Headers of every request.", examples=[{"X-Tenant": "synthetic"}])
    steps: tuple[StepConfig, ...] = Field(
        (),
        description="The requests of the flow, in order; the first that fails ends it.",
        examples=[_EXAMPLE],
    )
    cleanup: tuple[StepConfig, ...] = Field(
        (),
        description="Requests that take back what the steps did, whatever happened to them.",
        examples=[[{"name": "refund", "request": "POST /api/v1/payments/{{ payment_id }}/refund"}]],
    )
    cleanup_timeout: Duration = Field(10.0, description="Time for the cleanup, beside `timeout`.", gt=0, le=300)
    cleanup_attempts: int = Field(
        10, description="Runs that try a cleanup again that failed; then it is counted as left over.", ge=1, le=1000
    )
    retry: int = Field(0, description="How often to repeat a flow that failed, once it is cleaned up.", ge=0, le=5)
    connections: str = Field(
        "fresh",
        description="`fresh`: each request has a connection of its own; `flow`: a flow keeps its connections.",
        pattern="^(fresh|flow)$",
    )
    follow_redirects: bool = Field(
        True, description="Follow redirects, ten at most. Headers with secrets stay with the host they are for."
    )
    max_body: int = Field(1_048_576, description="Largest body to read, bytes.", ge=1, le=100_000_000)
    http2: bool = Field(False, description="Offer HTTP/2.")
    proxy: Secret | None = Field(None, description="HTTP proxy.", examples=["http://proxy.internal:3128"])
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities to trust instead of the system's.",
        examples=["/etc/ssl/internal-ca.pem"],
    )
    cert_file: Path | None = Field(None, description="Client certificate.", examples=["/etc/ssl/vedette.pem"])
    key_file: Path | None = Field(
        None, description="Its private key, if it is in a file of its own.", examples=["/etc/ssl/vedette.key"]
    )
    verify: bool = Field(True, description="Check the server's certificate.")
    run_header: str = Field(
        "X-Synthetic-Run",
        description="Header that marks every request as synthetic, with the run's id. Empty: none.",
        pattern=r"^[A-Za-z0-9-]*$",
    )
    idempotency_header: str = Field(
        "Idempotency-Key",
        description="Header with the step's idempotency key, on requests that may change something. Empty: none.",
        pattern=r"^[A-Za-z0-9-]*$",
    )

    @field_validator("url", "base_url")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return value
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            raise ValueError("is no valid URL") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("must begin with http:// or https:// and a host")
        if url.userinfo:
            raise ValueError("must not hold a password; use `auth`")
        if has_blank(value):
            raise ValueError("has a space in it; write %20")
        if url.fragment or (url.query and info.field_name == "base_url"):
            raise ValueError("must end before # and ?")
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: Secret | None) -> Secret | None:
        if value and not re.match(r"https?://[^/\s]+", value.reveal()):
            raise ValueError("must look like http://user:password@host:port")
        return value

    @field_validator("variables")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError("has a name that is not letters, digits and _")
            if name in BUILT_IN:
                raise ValueError(f"sets {name}, which every flow has by itself")
        return value

    @model_validator(mode="after")
    def _one_or_many(self) -> SyntheticConfig:
        if bool(self.url) == bool(self.steps):
            raise ValueError("needs either `url` or `steps`")
        if self.url and (given := [name for name in ("base_url", "cleanup", "show") if getattr(self, name)]):
            raise ValueError(f"{', '.join(given)} go with `steps`, not with `url`")
        if self.steps and (given := [name for name in _ALONE if name in self.model_fields_set]):
            raise ValueError(f"{', '.join(given)} go with `url`; a step has its own")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`key_file` needs `cert_file`")
        if self.url and self.method not in METHODS:
            raise ValueError("method must be GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE")
        return self

    @model_validator(mode="after")
    def _sound(self) -> SyntheticConfig:
        check_flow(self)
        return self

    @property
    def flow(self) -> tuple[StepConfig, ...]:
        """The steps; of `url`, the one that it makes."""
        if self.steps:
            return self.steps
        request = {"name": "request", "request": f"{self.method} {self.url}", "expect": self.expect, "auth": self.auth}
        one = StepConfig.model_validate(request)
        return (one,)

    @property
    def patience(self) -> float:
        """Seconds that the steps may take together."""
        return super().deadline

    @property
    def deadline(self) -> float:
        """Seconds that a run may take: the steps' time, what an earlier run left to clean up, and its own cleanup."""
        return self.patience + _MARGIN + (2 * self.cleanup_timeout if self.cleanup else 0.0)

    @property
    def grace(self) -> float:
        """Seconds that a run may take to clean up once it is cancelled."""
        return _MARGIN + (self.cleanup_timeout if self.cleanup else 0.0)
