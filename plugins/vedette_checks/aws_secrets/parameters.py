"""`${aws-ssm:/path}`: parameters of AWS Systems Manager, decrypted where they are SecureStrings.

Source: AWS Systems Manager API Reference, GetParameter: `name:version` and `name:label` are its own selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vedette import Resolver, SecretError, hookimpl
from vedette_checks.aws_secrets.options import AwsSecretsConfig, Reader

_ARN = re.compile(r"arn:aws[a-z-]*:ssm:(?P<region>[a-z0-9-]+):\d{12}:parameter/\S+")
_NAME = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*(:[A-Za-z0-9_.-]+)?")


class ParameterStore(Resolver[AwsSecretsConfig]):
    """Reads parameters of AWS Systems Manager."""

    name = "aws-ssm"

    def __init__(self, config: AwsSecretsConfig) -> None:
        super().__init__(config)
        self._reader: Reader | None = None

    @property
    def lasts(self) -> float:
        """See `Resolver`."""
        return self.config.refresh

    @classmethod
    def objection(cls, reference: str) -> str:
        """See `Resolver`."""
        if _NAME.fullmatch(reference) or _ARN.fullmatch(reference):
            return ""
        return "not the name of a parameter; write ${aws-ssm:/path/name} or ${aws-ssm:/path/name:version}"

    async def resolve(self, reference: str) -> str:
        """See `Resolver`."""
        if self._reader is None:
            self._reader = Reader(self.config, "ssm", "GetParameter")
        found = _ARN.fullmatch(reference)
        what, region = f"parameter {reference}", found["region"] if found else ""
        answer = await self._reader.read(what, region, Name=reference, WithDecryption=True)
        value = answer.get("Parameter", {}).get("Value")
        if not isinstance(value, str):
            raise SecretError(f"{what}: has no value")
        return value

    async def close(self) -> None:
        """See `Resolver`."""
        if self._reader is not None:
            await self._reader.close()


@hookimpl
def register_secrets(register: Callable[[type[ParameterStore]], None]) -> None:
    """Offer the resolver to vedette."""
    register(ParameterStore)
