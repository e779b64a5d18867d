"""The options of the tls check."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig
from vedette_checks.options import CaFile, CertFile, KeyFile

Version = Literal["TLSv1.2", "TLSv1.3"]


class TlsConfig(CheckConfig):
    """The options of one server, or of one file."""

    host: str | None = Field(None, description="Host name or IP address of a server.", examples=["api.example.com"])
    port: int = Field(443, description="Its TCP port.", ge=1, le=65535)
    server_name: str | None = Field(
        None, description="Name to ask for (SNI), which the certificate must have. Default: `host`.",
        examples=["api.example.com"],
    )  # fmt: skip
    cert_path: Path | None = Field(
        None, description="A file with certificates (PEM) on this machine, instead of a server.",
        examples=["/etc/ssl/api.pem"],
    )  # fmt: skip
    warning_days: float = Field(14.0, description="WARNING from so many days before the end on.", ge=0)
    critical_days: float = Field(7.0, description="CRITICAL from so many days before the end on.", ge=0)
    versions: tuple[Version, ...] = Field(
        ("TLSv1.2", "TLSv1.3"), description="Versions of TLS that the server may choose.", min_length=1
    )
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None

    @model_validator(mode="after")
    def _one_of_two(self) -> TlsConfig:
        if (self.host is None) == (self.cert_path is None):
            raise PydanticCustomError("vedette", "give either host or cert_path")
        if self.critical_days > self.warning_days:
            raise PydanticCustomError("vedette", "critical_days is more than warning_days")
        return self

    @property
    def patience(self) -> float:
        """Seconds that a connection may take: a little less than the run, which then says why it failed."""
        return 0.9 * self.deadline
