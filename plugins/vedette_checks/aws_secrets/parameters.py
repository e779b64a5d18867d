"""`${aws-ssm:/path}`: parameters of AWS Systems Manager, decrypted where they are SecureStrings.

Source: AWS Systems Manager API Reference, GetParameter: `name:version` and `name:label` are its own selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from vedette import Diagnosis, Login, SecretError, hookimpl
from vedette_checks.aws import print_policy
from vedette_checks.aws_secrets.doctor import KMS, introduced, parameter_grant
from vedette_checks.aws_secrets.options import Kept

_ARN = re.compile(r"arn:aws[a-z-]*:ssm:(?P<region>[a-z0-9-]+):\d{12}:parameter/\S+")
_NAME = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*(:[A-Za-z0-9_.-]+)?")


class ParameterStore(Kept):
    """Reads parameters of AWS Systems Manager."""

    name = "aws-ssm"
    service = "ssm"
    operation = "GetParameter"

    @classmethod
    def objection(cls, reference: str) -> str:
        """See `Resolver`."""
        if _NAME.fullmatch(reference) or _ARN.fullmatch(reference):
            return ""
        return "not the name of a parameter; write ${aws-ssm:/path/name} or ${aws-ssm:/path/name:version}"

    async def resolve(self, reference: str) -> str:
        """See `Resolver`."""
        what = f"parameter {reference}"
        answer = await self.reader.read(what, _region(reference), Name=reference, WithDecryption=True)
        value = answer.get("Parameter", {}).get("Value")
        if not isinstance(value, str):
            raise SecretError(f"{what}: has no value")
        return value

    async def diagnose(self, references: Mapping[str, Sequence[Login]], diagnosis: Diagnosis) -> None:
        """See `Resolver`."""
        async with introduced(self.config, map(_region, references), diagnosis) as (account, who):
            await super().diagnose(references, diagnosis)
            print_policy([parameter_grant(references, who)], account, diagnosis, KMS)


def _region(reference: str) -> str:
    """That of an ARN; empty with a name."""
    found = _ARN.fullmatch(reference)
    return found["region"] if found else ""


@hookimpl
def register_secrets(register: Callable[[type[ParameterStore]], None]) -> None:
    """Offer the resolver to vedette."""
    register(ParameterStore)
