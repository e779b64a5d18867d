"""What the resolvers of AWS have in common: options under `secrets: {aws: …}` of agent.yaml, and calls."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckError, Duration, Resolver, ResolverConfig, SecretError
from vedette_checks.aws import Access, Account, AwsConfig

_PATIENCE = 8.0
"""Seconds for one call with its repetitions: less than a resolver has for one reference."""
_AT_ONCE = 10


class AwsSecretsConfig(ResolverConfig):
    """`secrets: {aws: …}` of agent.yaml, for `aws-sm`, `aws-ssm` and `aws-iam`. Without it: the SDK's own chain."""

    region: str | None = Field(
        None,
        description="Region of the secrets. Default: the SDK's, from `AWS_REGION` or the profile.",
        examples=["eu-central-1"],
    )
    profile: str | None = Field(None, description="Profile of `~/.aws/config`.", examples=["monitoring"])
    role_arn: str | None = Field(
        None,
        description="Role to take on with the credentials found.",
        examples=["arn:aws:iam::123456789012:role/vedette"],
    )
    external_id: str | None = Field(None, description="External id that the role's trust policy demands.")
    endpoint_url: str | None = Field(
        None,
        description="Address of an emulator or a VPC endpoint. Default: AWS.",
        examples=["http://127.0.0.1:5000"],
    )
    connect_timeout: Duration = Field(3.0, description="Longest time for a connection to AWS.", gt=0)
    refresh: Duration = Field(
        300.0, description="How long a secret holds: it is read again, in the background, after that time.", ge=1
    )

    @field_validator("region")
    @classmethod
    def _region(cls, value: str | None) -> str | None:
        return AwsConfig._region(value)

    @field_validator("role_arn")
    @classmethod
    def _role(cls, value: str | None) -> str | None:
        return AwsConfig._role(value)

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return AwsConfig._endpoint(value)

    @model_validator(mode="after")
    def _fitting(self) -> AwsSecretsConfig:
        if self.external_id is not None and self.role_arn is None:
            raise PydanticCustomError("vedette", "external_id goes with role_arn")
        return self

    def account(self) -> Account:
        """AWS as these options see it."""
        return Account(
            Access(
                self.profile or "",
                self.role_arn or "",
                self.external_id or "",
                self.endpoint_url or "",
                self.connect_timeout,
            )
        )


class Reader:
    """Reads secrets in one round: what several references name is asked for once.

    Args:
        config: the options.
        service: the SDK's name of the service.
        operation: the call.
    """

    def __init__(self, config: AwsSecretsConfig, service: str, operation: str) -> None:
        self._config = config
        self._call = (service, operation)
        self._account = config.account()
        self._answers: dict[tuple[tuple[str, Any], ...], asyncio.Task[Any]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, what: str, region: str = "", **parameters: Any) -> Any:
        """The answer to a call.

        Args:
            what: what is read, for errors.
            region: where, if not where the options say.
            parameters: of the call.

        Raises:
            SecretError: there is none; the text names the call, which is the IAM action too, and what it was about.
        """
        key = (("", region), *sorted(parameters.items()))
        if key not in self._answers:
            self._answers[key] = asyncio.create_task(self._ask(region or self._config.region or "", parameters))
        try:
            return await asyncio.shield(self._answers[key])
        except CheckError as error:
            raise SecretError(f"{what}: {spoken(error)}") from None

    async def _ask(self, region: str, parameters: dict[str, Any]) -> Any:
        async with self._turns:
            return await self._account.call(*self._call, region, until=monotonic() + _PATIENCE, **parameters)

    async def close(self) -> None:
        """Drop the connections."""
        for task in self._answers.values():
            task.cancel()
        await asyncio.gather(*self._answers.values(), return_exceptions=True)
        await self._account.close()


class Kept(Resolver[AwsSecretsConfig]):
    """Secrets that AWS keeps: one reader for a round of questions, and each answer holds for `refresh`."""

    service = ""
    operation = ""

    def __init__(self, config: AwsSecretsConfig) -> None:
        super().__init__(config)
        self._reader: Reader | None = None

    @property
    def lasts(self) -> float:
        """See `Resolver`."""
        return self.config.refresh

    @property
    def reader(self) -> Reader:
        """Made once it is needed: a resolver that is asked nothing opens nothing."""
        if self._reader is None:
            self._reader = Reader(self.config, self.service, self.operation)
        return self._reader

    async def close(self) -> None:
        """See `Resolver`."""
        if self._reader is not None:
            await self._reader.close()


def spoken(error: CheckError) -> str:
    """A finding and its hint in one sentence."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
