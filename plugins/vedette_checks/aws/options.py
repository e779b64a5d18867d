"""The options that every check of AWS has: where, and as whom."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Duration

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


@dataclass(frozen=True, slots=True)
class Access:
    """As whom AWS is called, and where it is; what is empty is left to the SDK's own environment and files.

    Attributes:
        profile: name of a profile of the SDK's configuration.
        role_arn: role to take on with the credentials found.
        external_id: what the role's trust policy may demand.
        endpoint_url: address of an emulator or a VPC endpoint, for every service.
        connect_timeout: seconds to wait for a connection.
    """

    profile: str = ""
    role_arn: str = ""
    external_id: str = ""
    endpoint_url: str = ""
    connect_timeout: float = 3.0


class AwsConfig(CheckConfig):
    """Options of an instance that talks to AWS."""

    region: str | None = Field(
        None,
        description="Region to ask. Default: the SDK's, from `AWS_REGION` or the profile.",
        examples=["eu-central-1"],
    )
    regions: tuple[str, ...] = Field(
        (), description="Several regions, instead of `region`.", examples=[["eu-central-1", "us-east-1"]]
    )
    profile: str | None = Field(
        None,
        description="Profile of `~/.aws/config`. Default: the SDK's chain: environment, web identity (IRSA), profile "
        "`default`, container, instance.",
        examples=["monitoring"],
    )
    role_arn: str | None = Field(
        None,
        description="Role to take on with the credentials found (`sts:AssumeRole`), anew before it expires.",
        examples=["arn:aws:iam::123456789012:role/vedette"],
    )
    external_id: str | None = Field(
        None, description="External id that the role's trust policy demands.", examples=["vedette-7f3a"]
    )
    endpoint_url: str | None = Field(
        None,
        description="Address of an emulator or a VPC endpoint, for every service. Default: AWS.",
        examples=["http://127.0.0.1:5000"],
    )
    connect_timeout: Duration = Field(3.0, description="Longest time for a connection to AWS.", gt=0)

    @field_validator("region")
    @classmethod
    def _region(cls, value: str | None) -> str | None:
        if value is not None and not _REGION.fullmatch(value):
            raise PydanticCustomError("vedette", "is not the name of a region, such as eu-central-1")
        return value

    @field_validator("regions")
    @classmethod
    def _regions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not _REGION.fullmatch(one) for one in value):
            raise PydanticCustomError("vedette", "holds something that is not a region, such as eu-central-1")
        if len(set(value)) < len(value):
            raise PydanticCustomError("vedette", "names a region twice")
        return value

    @field_validator("role_arn")
    @classmethod
    def _role(cls, value: str | None) -> str | None:
        if value is not None and not _ROLE.fullmatch(value):
            raise PydanticCustomError(
                "vedette", "is not the ARN of a role, such as arn:aws:iam::123456789012:role/vedette"
            )
        return value

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", value):
            raise PydanticCustomError("vedette", "must be a URL, such as http://127.0.0.1:5000")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> AwsConfig:
        if self.region is not None and self.regions:
            raise PydanticCustomError("vedette", "give either region or regions, not both")
        if self.external_id is not None and self.role_arn is None:
            raise PydanticCustomError("vedette", "external_id goes with role_arn")
        return self

    @property
    def access(self) -> Access:
        """As whom, and where."""
        return Access(
            self.profile or "",
            self.role_arn or "",
            self.external_id or "",
            self.endpoint_url or "",
            self.connect_timeout,
        )

    @property
    def places(self) -> tuple[str, ...]:
        """The regions to ask; an empty name is the SDK's default."""
        return self.regions or (self.region or "",)
